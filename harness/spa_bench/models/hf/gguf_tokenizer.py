"""The tokenizer of a GGUF file: how it splits text and whether it puts a space or a first token in front.

A GGUF has no tokenizer.json. It holds the vocabulary and names the way in which text is split before merges apply
(`tokenizer.ggml.pre`); the splits themselves are published in the tokenizers of the model families. transformers rebuilds
the vocabulary and takes GPT-2's split for names that it does not know, and so would put an indented number into other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spa_bench.errors import ModelError
from spa_bench.support.text import did_you_mean

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"  # values of tokenizer.ggml.model
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LLAMA_3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}"
_QWEN_2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_SYMBOLS}|{_SPACES}"
_QWEN_35 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
_CASES = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{{0}}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{{0}}"
_TEKKEN = _CASES.replace("{0}", "") + rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_O200K = _CASES.replace("{0}", f"{_CONTRACTIONS}?") + rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_DEEPSEEK_3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    rf"|{_SPACES}"
)
_HAN = "[一-龥ࠀ-一가-퟿]+"


@dataclass(frozen=True, kw_only=True)
class _Split:
    """How text is split before merges apply: `pieces` one after the other, then bytes; by GPT-2's rule with `words`."""

    pieces: tuple[str, ...] = ()  # regular expressions whose matches are pieces of their own; "digits": each digit is one
    words: bool = False  # whether GPT-2's expression splits what is left
    composed: bool = False  # whether text is first brought into the normal form NFC
    whole: bool = False  # whether a piece that is in the vocabulary is taken whole, without merges
    begins: bool = False  # whether a text begins with the first token where the file does not say so


_GPT_2, _DIGITS = _Split(words=True), _Split(pieces=("digits",), words=True)
_LLAMA = _Split(pieces=(_LLAMA_3,), whole=True, begins=True)
_QWEN = _Split(pieces=(_QWEN_2,), composed=True)
SPLITS: dict[str, _Split] = {
    **dict.fromkeys(("gpt-2", "phi-2", "jais", "gigachat", "exaone4", "trillion", "granite-docling"), _GPT_2),
    **dict.fromkeys(("mpt", "olmo"), _Split(words=True, composed=True)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"), _DIGITS),
    "command-r": _Split(pieces=("digits",), words=True, composed=True),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), _Split(pieces=(_LLAMA_3,))),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), _QWEN),
    "stablelm2": _Split(pieces=(_QWEN_2,)),
    "qwen35": _Split(pieces=(_QWEN_35,), composed=True),
    "tekken": _Split(pieces=(_TEKKEN,), whole=True, begins=True),
    **dict.fromkeys(("gpt-4o", "llama4"), _Split(pieces=(_O200K,))),
    "deepseek-coder": _Split(pieces=(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN, "digits")),
    "deepseek-v3": _Split(pieces=(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_3)),
}
"""The names of tokenizer.ggml.pre that are known, for byte-level BPE."""

_TRIED = ("    x = 1234\n", "\t\t1234\n    56", "def f(a, b=10):\n    return a[0]  # é, ß, 中文\n")


def check_tokenizer(stated: Mapping[str, object], where: str) -> None:
    """Raise ModelError unless the tokenizer that a file states, by its keys after `tokenizer.ggml.`, can be rebuilt."""
    kind, pre = stated.get("model"), stated.get("pre")
    if kind not in {BYTE_LEVEL, SENTENCEPIECE}:
        raise ModelError(
            f"{where}: its tokenizer is of kind {kind!r}, which cannot be rebuilt ({BYTE_LEVEL} and {SENTENCEPIECE} can); "
            "use the model's folder with safetensors"
        )
    if kind == BYTE_LEVEL and pre not in SPLITS:
        said = f"names the pre-tokenizer {pre!r}{did_you_mean(str(pre), SPLITS)}" if pre else "names no pre-tokenizer"
        raise ModelError(
            f"{where} {said}; how it splits text is not known here, and other tokens would be silently wrong: use the "
            "model's folder with safetensors"
        )
    if kind == SENTENCEPIECE and stated.get("remove_extra_whitespaces"):
        raise ModelError(
            f"{where}: its tokenizer removes spaces (remove_extra_whitespaces), which is not rebuilt here; use the model's "
            "folder with safetensors"
        )


def repair(tokenizer: Any, stated: Mapping[str, object], where: str) -> None:
    """Let a rebuilt `tokenizer` split text as the file states, in place; `stated` is as in check_tokenizer.

    Raises ModelError where a text does not come back from its tokens.
    """
    from tokenizers import decoders, normalizers

    backend = tokenizer.backend_tokenizer
    begins = stated.get("model") == SENTENCEPIECE
    if stated.get("model") == BYTE_LEVEL:
        split = SPLITS[str(stated["pre"])]
        backend.normalizer = normalizers.NFC() if split.composed else None
        backend.pre_tokenizer = _pre_tokenizer(split)
        backend.decoder = decoders.ByteLevel()
        backend.model.ignore_merges = split.whole
        begins = split.begins
    else:  # as SentencePiece does: a space in front of every text, those that begin with spaces too
        prefix = bool(stated.get("add_space_prefix", True))
        spaces = normalizers.Replace(" ", "▁")
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
        backend.pre_tokenizer = None
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    tokenizer.add_bos_token = bool(stated.get("add_bos_token", begins)) and tokenizer.bos_token is not None
    tokenizer.add_eos_token = bool(stated.get("add_eos_token", False)) and tokenizer.eos_token is not None
    tokenizer.clean_up_tokenization_spaces = False
    for text in _TRIED:
        came = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        if came != text:
            raise ModelError(
                f"{where}: its tokenizer cannot be rebuilt: {text!r} becomes {came!r}; use the model's folder with safetensors"
            )


def _pre_tokenizer(split: _Split) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    steps = [
        pre_tokenizers.Digits(individual_digits=True) if piece == "digits" else pre_tokenizers.Split(Regex(piece), "isolated")
        for piece in split.pieces
    ]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split.words)])
