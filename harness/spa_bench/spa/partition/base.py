"""The protocol of a partition, and what the harness asks of its kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from spa_bench.cards.kinds import Kind, beside
from spa_bench.cards.registry import kind_of
from spa_bench.cards.training import PartitionCard
from spa_bench.spa.partition.scaling import Scores
from spa_bench.types import Example


class Partitioner(Protocol):
    """Gives each of N examples one of k parts."""

    def __call__(
        self, scores: Scores | None, examples: Sequence[Example], k: int, card: PartitionCard, seed: int
    ) -> Sequence[int]:
        """Labels 0 .. k - 1, in the order of the examples. The same arguments give the same labels."""
        ...


def of_scores(method: Callable[[Scores, Sequence[Example], int, PartitionCard, int], list[int]]) -> Partitioner:
    """The partitioner of a method that cannot do without scores; its kind must say that it needs them."""

    def labels(scores: Scores | None, examples: Sequence[Example], k: int, card: PartitionCard, seed: int) -> list[int]:
        assert scores is not None  # PartitionKind.needs_scores
        return method(scores, examples, k, card, seed)

    return labels


def nothing_else(card: PartitionCard) -> dict[str, object]:
    """The card says all."""
    return {}


@dataclass(frozen=True, kw_only=True)
class PartitionKind(Kind[Partitioner]):
    """A kind of partition. `build` is the partitioner itself; of one of the user's own all of the card counts, and the seed."""

    table = "partition"
    # whether it gets scores; where not, nothing is attributed for it
    needs_scores: bool = field(default=True, metadata=beside("NEEDS_SCORES"))
    # the keys of the card that it reads, beside `method` and `least`
    reads: tuple[str, ...] = tuple(f.name for f in fields(PartitionCard))
    seeded: bool = True  # whether the seed plays a part
    # what else the parts depend on: hashes of files, versions of libraries
    depends_on: Callable[[PartitionCard], dict[str, object]] = nothing_else


def partition_kind(name: str) -> PartitionKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(PartitionKind, "partition", name)
