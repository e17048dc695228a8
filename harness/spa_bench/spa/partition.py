"""From a score matrix to K disjoint parts that cover the data (SPA, arXiv 2411.06722, section 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import DataError
from spa_bench.registry import load
from spa_bench.spa_cards import PartitionCard

Scores = NDArray[np.float32]


def partition(scores: Scores, k: int, card: PartitionCard) -> list[int]:
    """Part of each of N examples, from scores (N, M): keep K queries, scale, assign.

    Raises DataError when K > N, M < K, a score is not finite, or a part stays empty.
    """
    n, m = scores.shape
    if k > n:
        raise DataError(f"{k} parts from {n} examples: give more examples or fewer members")
    if m < k:
        raise DataError(f"{k} parts need at least {k} queries; there are {m}")
    if not np.isfinite(scores).all():
        raise DataError(f"the score of example {int(np.argwhere(~np.isfinite(scores))[0][0])} is not finite")
    columns = select_columns(scores, k, card.scale)
    parts: list[int] = load("partition", card.method)(columns)
    sizes = np.bincount(parts, minlength=k)
    if (sizes == 0).any():
        raise DataError(
            f"part {int(sizes.argmin())} is empty (sizes {sizes.tolist()}); use partition.method=balanced or fewer members"
        )
    return parts


def zscore(scores: Scores) -> Scores:
    """Each column with mean 0 and standard deviation 1; a constant column becomes 0."""
    deviation = scores.std(0, keepdims=True)
    scaled: Scores = (scores - scores.mean(0, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    return scaled


def select_columns(scores: Scores, k: int, scale: str) -> Scores:
    """(N, K): the K queries whose unscaled scores vary most over the examples, as the paper keeps them; then scaled."""
    kept: Scores = scores[:, np.sort(np.argsort(-scores.var(0), kind="stable")[:k])]
    return zscore(kept) if scale == "zscore" else kept


def argmax(columns: Scores) -> list[int]:
    """Each example goes to the column that scores it highest: the paper's ranking heuristic."""
    return [int(i) for i in columns.argmax(1)]


def balanced(columns: Scores) -> list[int]:
    """As argmax with parts of N // K or one more: examples that lose most by their second choice choose first."""
    n, k = columns.shape
    room, extra = np.full(k, n // k), n % k
    ordered = np.sort(columns, axis=1)
    regret = ordered[:, -1] - ordered[:, -2] if k > 1 else ordered[:, -1]
    parts = [0] * n
    for i in np.argsort(-regret, kind="stable"):
        # a part takes one more than its n // k while there are extra places left
        choice = next(int(c) for c in np.argsort(-columns[i], kind="stable") if room[c] > 0 or (room[c] == 0 and extra > 0))
        parts[int(i)] = choice
        extra -= int(room[choice] == 0)
        room[choice] -= 1
    return parts
