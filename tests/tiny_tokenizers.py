"""Tiny trained tokenizers of every kind that models come with: byte-level BPE, SentencePiece in its forms, WordPiece."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

TEXTS = [
    "def f(x):\n    return x + 1\n",
    "def add(a, b):\n    return a + b\n\n",
    "# exercise 12: write f, which adds one\n",
    "the quick brown fox. ",
    "x = [1, 2, 3]\n",
    "    if x > 0:\n        return x",
] * 20
SPECIAL = ["<unk>", "<s>", "</s>"]
END = 2
_BYTES = [f"<0x{i:02X}>" for i in range(256)]


def byte_level(*, prefix: bool = False, split: bool = True) -> Any:
    """Byte-level BPE; `prefix` puts a space in front of a text, `split` splits it by GPT-2's expression."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=split)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    return made


def sentencepiece(kind: str = "bpe", scheme: str = "always", *, split: bool = False, bytes_: bool = True) -> Any:
    """As SentencePiece converted: `kind` is bpe or unigram, `scheme` Metaspace's, or "legacy" for Llama's normalizers."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    made = Tokenizer.from_str(_pieces(kind, bytes_))
    strip = [] if scheme == "never" else [decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    if scheme == "legacy":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    return made


@cache
def _pieces(kind: str, bytes_: bool) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>") if kind == "bpe" else models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    if kind == "bpe":
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL + _BYTES, show_progress=False, max_token_length=6)
    else:
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=SPECIAL + _BYTES, unk_token="<unk>", show_progress=False
        )
    made.train_from_iterator([text.replace("\n", " ") for text in TEXTS], trainer)
    files = json.loads(made.to_str())
    files["pre_tokenizer"] = None
    files["model"]["byte_fallback"] = bytes_
    files["model"] |= {"fuse_unk": True} if kind == "bpe" else {"unk_id": 0}
    files["added_tokens"] = [token for token in files["added_tokens"] if token["content"] in SPECIAL]
    return json.dumps(files)


def words(*, suffix: bool) -> Any:
    """BERT's WordPiece, or with `suffix` the BPE of the first GPT, whose tokens say where a word ends: both lose line ends."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if suffix:
        made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        made.decoder = decoders.BPEDecoder("</w>")
        trainer: Any = trainers.BpeTrainer(
            vocab_size=200, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
        )
    else:
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(TEXTS, trainer)
    return made


def t5() -> Any:
    """Unigram as T5 has it: line ends and repeated spaces are lost, every word gets a space in front."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    made = sentencepiece("unigram", bytes_=False)
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    return made


def around(made: Any, *, front: bool, behind: bool) -> Any:
    """`made`, with `<s>` in front of a text and `</s>` behind it."""
    from tokenizers import processors

    template = " ".join(["<s>"] * front + ["$A"] + ["</s>"] * behind)
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", END)])
    return made


EXACT: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "byte-level prefix": lambda: byte_level(prefix=True),
    "byte-level whole": lambda: byte_level(split=False),
    "byte-level prefix whole": lambda: byte_level(prefix=True, split=False),
    **{
        f"{kind} {scheme}{' split' if split else ''}": (
            lambda kind=kind, scheme=scheme, split=split: sentencepiece(kind, scheme, split=split)
        )
        for kind in ("bpe", "unigram")
        for scheme in ("first", "always", "never")
        for split in (False, True)
    },
    "bpe legacy": lambda: sentencepiece("bpe", "legacy"),
    "unigram legacy": lambda: sentencepiece("unigram", "legacy"),
}
LOSSY: dict[str, Callable[[], Any]] = {
    "wordpiece": lambda: words(suffix=False),
    "suffix": lambda: words(suffix=True),
    "t5": t5,
}


def fast(made: Any, **options: Any) -> Any:
    """`made` as a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **options)
