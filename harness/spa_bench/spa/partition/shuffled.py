"""Parts by chance: the paper's SPA-random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spa_bench.cards.training import PartitionCard
from spa_bench.spa.partition.base import PartitionKind
from spa_bench.spa.partition.scaling import Scores
from spa_bench.types import Example


def shuffled(scores: Scores | None, examples: Sequence[Example], k: int, card: PartitionCard, seed: int) -> list[int]:
    """The examples shuffled and cut into k pieces, of which the first N % k have one more than the others."""
    labels = np.zeros(len(examples), np.intp)
    pieces = np.array_split(np.random.default_rng(seed).permutation(len(examples)), k)
    for part, piece in enumerate(pieces):
        labels[piece] = part
    return [int(part) for part in labels]


KIND = PartitionKind(build=shuffled, needs_scores=False, reads=())
