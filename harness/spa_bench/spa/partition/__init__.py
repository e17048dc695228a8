"""K disjoint parts that cover the data: by scores (SPA, arXiv 2411.06722, section 3), by embeddings, by chance, from a file.

A method is a function in a module of its own, registered by name; `package.module:function` on the import path works too:

    def method(scores, examples, k, card, seed) -> labels

with `scores` (N, M) or None, N `examples`, `card` a PartitionCard, and a label 0 .. k - 1 for each example as the result. A
module that says NEEDS_SCORES = False gets None: nothing is attributed for it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from spa_bench.cards import guard
from spa_bench.cards.registry import beside, load
from spa_bench.cards.source import source_hash
from spa_bench.cards.training import PartitionCard
from spa_bench.errors import DataError
from spa_bench.spa import encoders
from spa_bench.spa.partition.labels import read_bytes
from spa_bench.spa.partition.scaling import Scores, check_scores
from spa_bench.support.provenance import hash_bytes
from spa_bench.types import Example


class Partitioner(Protocol):
    """Gives each of N examples one of k parts."""

    def __call__(
        self, scores: Scores | None, examples: Sequence[Example], k: int, card: PartitionCard, seed: int
    ) -> Sequence[int]:
        """Labels 0 .. k - 1, in the order of the examples. The same arguments give the same labels."""
        ...


# the keys of the card that a method reads, beside `least`; one of the user's own may read all
_READS: dict[str, tuple[str, ...]] = {
    "argmax": ("scale",),
    "balanced": ("scale", "capacity"),
    "kmeans": ("scale",),
    "kmeans-embedding": (),
    "random": (),
    "file": (),
}
_SEEDED = {"kmeans", "kmeans-embedding", "random"}


def needs_scores(method: str) -> bool:
    """Whether examples must be attributed for this method."""
    return bool(beside("partition", method, "NEEDS_SCORES", True))


def identity(card: PartitionCard, seed: int) -> dict[str, object]:
    """What the parts depend on beside scores, examples and K: the card's keys that count, hashes of files, the seed."""
    if card.method not in _READS:
        return {**asdict(card), "source": source_hash(card.method), "seed": seed}
    found: dict[str, object] = {"method": card.method, "least": card.least}
    found |= {key: getattr(card, key) for key in _READS[card.method]}
    if card.method in _SEEDED:
        found["seed"] = seed
    if card.method == "kmeans-embedding":
        found["encoder"] = encoders.identity(card.encoder)
    if card.method == "file":
        found["file"] = hash_bytes(read_bytes(Path(card.file)))
    if card.method.startswith("kmeans"):
        found["scikit-learn"] = version("scikit-learn")
    return found


def partition(card: PartitionCard, k: int, *, examples: Sequence[Example], scores: Scores | None, seed: int) -> list[int]:
    """The part 0 .. k - 1 of each of N examples; `scores` (N, M) where the method needs them.

    Raises DataError when k > N, a score is not finite, there are too few queries, or a part is smaller than `card.least`.
    """
    if k > len(examples):
        raise DataError(f"{k} parts from {len(examples)} examples: give more examples or have fewer members")
    if scores is not None:
        check_scores(scores)
    method: Partitioner = load("partition", card.method)
    if ":" in card.method:
        with guard.guarded(f"partition.method {card.method!r}"):
            given = [operator.index(label) for label in method(scores, examples, k, card, seed)]
    else:
        given = list(method(scores, examples, k, card, seed))
    labels = _plain(card.method, given, len(examples), k)
    sizes = [labels.count(part) for part in range(k)]
    if min(sizes) < card.least:
        part = sizes.index(min(sizes))
        size = "is empty" if not sizes[part] else f"has {sizes[part]} example{'s' * (sizes[part] > 1)}"
        raise DataError(
            f"part {part} {size}, and partition.least is {card.least} (sizes {', '.join(map(str, sizes))}): "
            f'use partition.method = "balanced", fewer members{" or a lower partition.least" * (card.least > 1)}'
        )
    return labels


def _plain(method: str, labels: Sequence[int], n: int, k: int) -> list[int]:
    """`labels` as Python's integers. Raises DataError where a method of the user's own gave others than it should."""
    found = list(labels)
    if len(found) != n:
        raise DataError(f"partition.method {method!r} gave {len(found)} labels for {n} examples")
    for i, label in enumerate(found):
        if not 0 <= label < k:
            raise DataError(
                f"partition.method {method!r} gave example {i} the part {label}; with {k} members it is 0 to {k - 1}"
            )
    return found
