"""The tokenizer of a GGUF file: how it splits text and whether it puts a space or a first token in front.

A GGUF has no tokenizer.json. It holds the vocabulary and names the way in which text is split before merges apply
(`tokenizer.ggml.pre`); the splits themselves are published in the tokenizers of the model families. transformers takes GPT-2's
split for names that it does not know, and leaves out control and user-defined tokens with letters that spell no byte, so the
tokenizer is built here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spa_bench.errors import ModelError
from spa_bench.models.chat import chat_ending
from spa_bench.models.hf.gguf_header import Header
from spa_bench.support.text import did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer
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
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type; such tokens are found in a text before it is split
_NORMAL, _BYTE = 1, 6
# the bytes of letters, digits, signs and line breaks in UTF-8; some vocabularies lack control characters and those above
_OF_TEXTS = sorted({9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1)})
_INSTEAD = "use the model's folder with safetensors"


def check_tokenizer(stated: Mapping[str, object], where: str) -> None:
    """Raise ModelError unless the tokenizer that a file states, by its keys after `tokenizer.ggml.`, can be rebuilt."""
    kind, pre = stated.get("model"), stated.get("pre")
    if kind not in (BYTE_LEVEL, SENTENCEPIECE):  # a file can state a list, which no set has
        raise ModelError(
            f"{where}: its tokenizer is of kind {kind!r}, which cannot be rebuilt ({BYTE_LEVEL} and {SENTENCEPIECE} can); "
            f"{_INSTEAD}"
        )
    if kind == BYTE_LEVEL and str(pre) not in SPLITS:
        said = f"names the pre-tokenizer {pre!r}{did_you_mean(str(pre), SPLITS)}" if pre else "names no pre-tokenizer"
        raise ModelError(
            f"{where} {said}; how it splits text is not known here, and other tokens would be silently wrong: {_INSTEAD}"
        )
    if kind == SENTENCEPIECE and stated.get("remove_extra_whitespaces"):
        raise ModelError(
            f"{where}: its tokenizer removes spaces (remove_extra_whitespaces), which is not rebuilt here; {_INSTEAD}"
        )
    _check_lists(stated, where)
    _check_coverage(stated, where)


def _check_lists(stated: Mapping[str, object], where: str) -> None:
    """Raise ModelError unless the vocabulary is whole, and every token that a key names is in it."""
    tokens = _strings(stated, "tokens", where)
    lists = ("token_type", "scores") if stated["model"] == SENTENCEPIECE and "merges" not in stated else ("token_type",)
    for key in lists:
        values = stated.get(key)
        found = len(values) if isinstance(values, list) else "no list"
        if found != len(tokens):
            raise ModelError(f"{where} states {len(tokens)} tokens and, in tokenizer.ggml.{key}, {found}; {_INSTEAD}")
    for key, value in stated.items():
        if key.endswith("_token_id") and not (isinstance(value, int) and 0 <= value < len(tokens)):
            raise ModelError(f"{where} states tokenizer.ggml.{key} = {value}, and it has {len(tokens)} tokens; {_INSTEAD}")
    first: dict[str, int] = {}
    for i, (token, kind) in enumerate(zip(tokens, _types(stated), strict=True)):
        if kind in {_NORMAL, _CONTROL, _USER_DEFINED, _BYTE} and first.setdefault(token, i) != i:
            raise ModelError(f"{where} states the token {token!r} twice, as {first[token]} and {i}; {_INSTEAD}")
    if stated["model"] == BYTE_LEVEL:
        for merge in _strings(stated, "merges", where):
            parts = merge.split(" ")
            if lost := [part for part in (*parts, "".join(parts)) if part not in first]:
                raise ModelError(f"{where}: its merge {merge!r} needs the token {lost[0]!r}, which it lacks; {_INSTEAD}")


def _check_coverage(stated: Mapping[str, object], where: str) -> None:
    """Raise ModelError where a text could hold a byte that no token stands for: it would be dropped, or become unknown."""
    spelled = _spelling()
    normal = {t for t, kind in zip(_strings(stated, "tokens", where), _types(stated), strict=True) if kind in {_NORMAL, _BYTE}}
    byte_level = stated["model"] == BYTE_LEVEL
    for byte in _OF_TEXTS:
        known = {spelled[byte]} if byte_level else {f"<0x{byte:02X}>", chr(byte).replace(" ", "▁") if byte < 0x80 else ""}
        if not known & normal:
            shown = f" ({chr(byte)!r})" if byte < 0x80 else ""
            raise ModelError(f"{where}: its vocabulary has no token for the byte 0x{byte:02X}{shown}; {_INSTEAD}")
    alphabet = set(spelled.values())
    if byte_level and (odd := next((t for t in sorted(normal) if not set(t) <= alphabet), None)) is not None:
        raise ModelError(
            f"{where}: its token {odd!r} is marked as normal and is not spelled in bytes, so that no text would reach it; "
            f"{_INSTEAD}"
        )


def build(header: Header, where: str) -> Any:
    """The tokenizer that a file states, with its chat template.

    It splits text as the file says; control and user-defined tokens are found in a text as they are spelled, before it is
    split. Raises ModelError where the vocabulary does not fit.
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    stated = header.tokenizer
    tokens = _strings(stated, "tokens", where)
    backend, begins = _byte_level(stated, where) if stated["model"] == BYTE_LEVEL else _sentencepiece(header, where)
    for kind, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        add([
            AddedToken(token, normalized=False, special=kind == _CONTROL)
            for token, its in zip(tokens, _types(stated), strict=True)
            if its == kind and token
        ])  # fmt: skip
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: stated.get(f"{key}_token_id") for name, key in named.items()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **{name: tokens[i] for name, i in ids.items() if isinstance(i, int)},
    )
    tokenizer.add_bos_token = bool(stated.get("add_bos_token", begins)) and tokenizer.bos_token is not None
    tokenizer.add_eos_token = bool(stated.get("add_eos_token", False)) and tokenizer.eos_token is not None
    tokenizer.chat_template = header.template
    return tokenizer


def check_built(tokenizer: Any, stated: Mapping[str, object], rows: int, where: str) -> None:
    """Raise ModelError unless a rebuilt `tokenizer` gives every token that the file states its own id, and texts back.

    `rows` is the number of tokens that the network can read.
    """
    tokens = _strings(stated, "tokens", where)
    if len(tokenizer) > max(len(tokens), rows) or len(tokens) > rows:
        most = max(len(tokenizer), len(tokens))
        raise ModelError(f"{where}: its tokenizer has {most} tokens and its network reads {rows}; {_INSTEAD}")
    for i, (token, kind) in enumerate(zip(tokens, _types(stated), strict=True)):
        if kind not in {_CONTROL, _USER_DEFINED} or not token:
            continue
        text = token.replace("▁", " ") if kind == _USER_DEFINED and stated["model"] == SENTENCEPIECE else token
        ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        came = tokenizer.decode([i], skip_special_tokens=True) if kind == _USER_DEFINED else text
        if ids != [i] or came != text:
            which = f"the {'control' if kind == _CONTROL else 'user-defined'} token {i}, {text!r}"
            wrong = f"read as {ids[:8]}" if ids != [i] else f"written as {came!r}"
            raise ModelError(f"{where}: its tokenizer cannot be rebuilt: {which}, would be {wrong}; {_INSTEAD}")
    for text in _TRIED:
        came = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        if came != text:
            raise ModelError(f"{where}: its tokenizer cannot be rebuilt: {text!r} becomes {came!r}; {_INSTEAD}")


def closing_token(tokenizer: Any, stated: Mapping[str, object], where: str) -> int | None:
    """The control token by which the chat template of a rebuilt `tokenizer` ends an answer; None where it has none.

    Many files state one end token alone, such as Gemma's <eos>, and a model that is asked by the template ends its turn with
    another.
    """
    try:
        ids = tokenizer(chat_ending(tokenizer, where), add_special_tokens=False)["input_ids"]
    except ModelError:  # no template, or one that fails: what asks by it says so
        return None
    types = _types(stated)
    return next((i for i in ids if i < len(types) and types[i] == _CONTROL), None)


def _byte_level(stated: Mapping[str, object], where: str) -> tuple[Tokenizer, bool]:
    """(tokenizer of byte-level BPE with the tokens as the file spells them, whether a text begins with the first token)."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    split = SPLITS[str(stated["pre"])]
    vocabulary = {token: i for i, token in enumerate(_strings(stated, "tokens", where))}
    merges = [(first, second) for first, _, second in (m.partition(" ") for m in _strings(stated, "merges", where))]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole))
    if split.composed:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(split)
    backend.decoder = decoders.ByteLevel()
    return backend, split.begins


def _sentencepiece(header: Header, where: str) -> tuple[Tokenizer, bool]:
    """(tokenizer with the merges that the scores stand for, True).

    It puts a space in front of every text, those that begin with spaces too, as SentencePiece does.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    stated = header.tokenizer
    tokens = _strings(stated, "tokens", where)
    unknown = stated.get("unknown_token_id")
    unknown = tokens[unknown] if isinstance(unknown, int) else "<unk>" if "<unk>" in tokens else None
    backend = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)}, merges=_merges(header, where), unk_token=unknown,
            fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    prefix = bool(stated.get("add_space_prefix", True))
    spaces = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    return backend, True


def _merges(header: Header, where: str) -> list[tuple[str, str]]:
    """The merges of a SentencePiece vocabulary: the file's, else all pairs of normal tokens that make one, best score first."""
    stated = header.tokenizer
    if "merges" in stated:
        return [(first, second) for first, _, second in (m.partition(" ") for m in _strings(stated, "merges", where))]
    scores = stated["scores"]
    assert isinstance(scores, list)  # checked before
    tokens = _strings(stated, "tokens", where)
    by_place = header.architecture.startswith("gemma")  # whose scores are not in the order of its merges
    normal = {
        token: (i, -i if by_place else score)
        for i, (token, kind, score) in enumerate(zip(tokens, _types(stated), scores, strict=True))
        if kind == _NORMAL
    }
    found: list[tuple[str, str]] = []
    for token in normal:
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        both = [pair for pair in pairs if pair[0] in normal and pair[1] in normal]
        found += sorted(both, key=lambda pair: (normal[pair[0]][0], normal[pair[1]][0]))
    # as transformers' generate_merges
    return sorted(found, key=lambda pair: (normal["".join(pair)][1], len(pair[0]), len(pair[1])), reverse=True)


def _strings(stated: Mapping[str, object], key: str, where: str) -> list[str]:
    values = stated.get(key)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ModelError(f"{where} has no list of words in tokenizer.ggml.{key}; {_INSTEAD}")
    return values


def _types(stated: Mapping[str, object]) -> list[int]:
    values = stated["token_type"]
    assert isinstance(values, list)  # checked before
    return values


def _spelling() -> dict[int, str]:
    """The letter by which byte-level BPE spells each byte."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return dict(bytes_to_unicode())


def _pre_tokenizer(split: _Split) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    steps = [
        pre_tokenizers.Digits(individual_digits=True) if piece == "digits" else pre_tokenizers.Split(Regex(piece), "isolated")
        for piece in split.pieces
    ]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split.words)])
