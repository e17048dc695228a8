"""Chooses n of N relevant and different items, from a similarity kernel and the relevance of each; there is no randomness.

Ties go to the earlier item everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NOTHING_NEW = 1e-10
"""Below this share of an item's own square the rest is rounding: the item lies in the span of the chosen items."""


def maximal_marginal_relevance(
    kernel: NDArray[np.float64], relevance: NDArray[np.float64], count: int, *, trade: float
) -> list[int]:
    """`count` places, each the one with the highest trade · relevance − (1 − trade) · (highest similarity to one chosen).

    Carbonell & Goldstein 1998. `kernel`: (N, N) similarities; `relevance`: (N,), on the kernel's scale, so that the trade-off
    has a meaning. trade = 1 ranks by relevance; trade = 0 by difference, from item 0 on. Raises ValueError unless 0 <= count
    <= N.
    """
    _check(kernel, relevance, count)
    chosen: list[int] = []
    nearest = np.zeros(len(kernel))  # nothing is chosen yet, so nothing is similar to it
    free = np.ones(len(kernel), dtype=bool)
    for _ in range(count):
        value = trade * relevance - (1 - trade) * nearest
        best = int(np.argmax(np.where(free, value, -np.inf)))
        nearest = kernel[best].copy() if not chosen else np.maximum(nearest, kernel[best])
        chosen.append(best)
        free[best] = False
    return chosen


def greedy_dpp(kernel: NDArray[np.float64], relevance: NDArray[np.float64], count: int) -> list[int]:
    """`count` places, each the one that raises the determinant of L most, L_ij = relevance_i · kernel_ij · relevance_j.

    Greedy MAP inference of a determinantal point process (Kulesza & Taskar 2012) by incremental Cholesky rows (Chen, Zhang
    & Zhou 2018, arXiv 1709.05135), O(count² · N). Once no item raises the determinant (copies of chosen items, or
    relevance 0), the rest is chosen by relevance. Raises ValueError unless 0 <= count <= N.
    """
    _check(kernel, relevance, count)
    matrix = kernel * np.outer(relevance, relevance)
    gain = np.diagonal(matrix).copy()  # of the determinant, as a factor
    rows = np.zeros((count, len(kernel)))
    chosen: list[int] = []
    free = np.ones(len(kernel), dtype=bool)
    while len(chosen) < count:
        new = free & (gain > _NOTHING_NEW * matrix.diagonal())
        if not new.any():
            break
        best = int(np.argmax(np.where(new, gain, -np.inf)))
        step = len(chosen)
        rows[step] = (matrix[best] - rows[:step, best] @ rows[:step]) / np.sqrt(gain[best])
        gain = gain - rows[step] ** 2
        chosen.append(best)
        free[best] = False
    rest = sorted(np.flatnonzero(free).tolist(), key=lambda i: -relevance[i])
    return chosen + rest[: count - len(chosen)]


def _check(kernel: NDArray[np.float64], relevance: NDArray[np.float64], count: int) -> None:
    if kernel.shape != (len(relevance), len(relevance)) or not 0 <= count <= len(relevance):
        raise ValueError(f"cannot choose {count} of {len(relevance)} items with a kernel of shape {kernel.shape}")
