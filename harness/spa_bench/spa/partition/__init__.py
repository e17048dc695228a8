"""K disjoint parts that cover the data: by scores (SPA, arXiv 2411.06722, section 3), by embeddings, by chance, from a file.

A method is a PartitionKind in a module of its own, registered by name; `package.module:KIND` on the import path works too, and
so does a function:

    def method(scores, examples, k, card, seed) -> labels

with `scores` (N, M) or None, N `examples`, `card` a PartitionCard, and a label 0 .. k - 1 for each example as the result. One
that needs no scores gets None: nothing is attributed for it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import asdict

from spa_bench.cards import guard
from spa_bench.cards.registry import is_ours
from spa_bench.cards.source import source_hash
from spa_bench.cards.training import PartitionCard
from spa_bench.errors import DataError
from spa_bench.spa.partition.base import partition_kind
from spa_bench.spa.partition.scaling import Scores, check_scores
from spa_bench.types import Example


def needs_scores(method: str) -> bool:
    """Whether examples must be attributed for this method."""
    return bool(partition_kind(method).needs_scores)


def identity(card: PartitionCard, seed: int) -> dict[str, object]:
    """What the parts depend on beside scores, examples and K: the card's keys that count, hashes of files, the seed."""
    kind = partition_kind(card.method)
    found = {key: value for key, value in asdict(card).items() if key in {"method", "least", *kind.reads}}
    source = {} if is_ours("partition", card.method) else {"source": source_hash(card.method)}
    return found | kind.depends_on(card) | source | ({"seed": seed} if kind.seeded else {})


def partition(card: PartitionCard, k: int, *, examples: Sequence[Example], scores: Scores | None, seed: int) -> list[int]:
    """The part 0 .. k - 1 of each of N examples; `scores` (N, M) where the method needs them.

    Raises DataError when k > N, a score is not finite, there are too few queries, or a part is smaller than `card.least`.
    """
    if k > len(examples):
        raise DataError(f"{k} parts from {len(examples)} examples: give more examples or have fewer members")
    if scores is not None:
        check_scores(scores)
    method = partition_kind(card.method).build
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
