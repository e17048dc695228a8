"""The paper's partition, its "ranking heuristic" (arXiv 2411.06722, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.cards.training import PartitionCard
from spa_bench.spa.partition.base import PartitionKind, of_scores
from spa_bench.spa.partition.scaling import Scores, kept_columns
from spa_bench.types import Example


def argmax(scores: Scores, examples: Sequence[Example], k: int, card: PartitionCard, seed: int) -> list[int]:
    """Each example goes to the kept query that scores it highest, of equal ones to the first."""
    return [int(part) for part in kept_columns(scores, k, card.scale).argmax(1)]


KIND = PartitionKind(build=of_scores(argmax), reads=("scale",), seeded=False)
