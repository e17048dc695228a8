"""The embedded model's tokenizer: byte-level BPE of 1,024 entries, trained on the corpus of both worlds.

Prompt and completion are encoded separately, here and wherever pairs are used: a prompt ends in a newline that must not merge
with the completion's indentation. Each digit is a token, and a newline may merge with the indentation after it. All 256 bytes
are in the vocabulary, so that any text can be encoded and decoded back exactly.
"""

from __future__ import annotations

import random
from pathlib import Path

from spa_bench.mini.corpus import TEXT, draw_pair

END = "<|endoftext|>"
VOCABULARY = 1024
CONTEXT = 256


def train_tokenizer(folder: Path, *, seed: int = 0, documents: int = 8000, text: float = TEXT) -> None:
    """Train on `documents` seeded pairs, a share `text` from the text world; write `tokenizer.json` and its config."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(f"tokenizer-{seed}")
    corpus = []
    for _ in range(documents):
        pair = draw_pair(rng, text=text)
        corpus += [pair.prompt, pair.answer + pair.rest]
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\n *| {2,}| ?[A-Za-z_]+|\d| ?[^\sA-Za-z0-9_]+|\s"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    folder.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(str(folder))
