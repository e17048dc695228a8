"""k-means on embeddings of the examples, as Diversify and Conquer clusters instruction data (arXiv 2409.11378)."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.cards.training import PartitionCard
from spa_bench.spa import encoders
from spa_bench.spa.partition.base import PartitionKind
from spa_bench.spa.partition.clusters import cluster, library
from spa_bench.spa.partition.scaling import Scores
from spa_bench.types import Example


def kmeans_embedding(scores: Scores | None, examples: Sequence[Example], k: int, card: PartitionCard, seed: int) -> list[int]:
    """Clusters of the examples' vectors from `card.encoder`, scaled to length 1."""
    vectors, _ = encoders.encode(card.encoder, [encoders.text_of(e) for e in examples])
    return cluster(vectors, k, seed, "embeddings")


def _depends_on(card: PartitionCard) -> dict[str, object]:
    return {"encoder": encoders.identity(card.encoder), **library(card)}


KIND = PartitionKind(build=kmeans_embedding, needs_scores=False, reads=(), depends_on=_depends_on)
