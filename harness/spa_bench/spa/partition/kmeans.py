"""k-means on the rows of the score matrix, the objective of the paper's argmax heuristic (arXiv 2411.06722)."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.cards.training import PartitionCard
from spa_bench.spa.partition.base import PartitionKind, of_scores
from spa_bench.spa.partition.clusters import cluster, library
from spa_bench.spa.partition.scaling import Scores, scaled
from spa_bench.types import Example


def kmeans(scores: Scores, examples: Sequence[Example], k: int, card: PartitionCard, seed: int) -> list[int]:
    """Clusters of the rows (M) of the scaled scores of all M queries, Euclidean. Parts belong to no query and may be unequal.

    The paper leaves this to future work; scaling and starts are this harness's choice: see docs/explanation/partition.md.
    """
    return cluster(scaled(scores, card.scale), k, seed, "rows of scores")


KIND = PartitionKind(build=of_scores(kmeans), reads=("scale",), depends_on=library)
