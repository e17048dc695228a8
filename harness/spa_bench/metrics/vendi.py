"""The Vendi score: the effective number of different items, from a similarity kernel.

Friedman & Dieng 2023 (arXiv 2210.02410); its family of orders q: Pasarkar & Dieng 2024 (arXiv 2310.12952). Low orders count
rare items, high orders only the common ones. The score depends on the number of items: compare at equal n. All orders come
from one eigendecomposition, which takes most of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.kernels import ngram_kernel

__all__ = [
    "ORDERS",
    "SMALLEST_EIGENVALUE",
    "effective_numbers",
    "ngram_kernel",
    "unit_rows",
    "vendi_from_features",
    "vendi_score",
    "vendi_scores",
    "vendi_scores_from_features",
]

FloatArray = NDArray[np.float64]

ORDERS = (0.1, 0.5, 1.0, 2.0, math.inf)
"""The orders that the tables show."""

SMALLEST_EIGENVALUE = 1e-10
"""Eigenvalues of K/n below this are rounding noise: at q = 0.1 a hundred eigenvalues of size 1e-17 would count as two items."""


def vendi_score(kernel: NDArray[np.floating], *, order: float = 1.0) -> float:
    """The exponential of the Rényi entropy of order q of the eigenvalues of K/n, from 1 (all alike) to n (all unrelated).

    `kernel`, shape (n, n): similarities with 1 on the diagonal. With p the eigenvalues of K/n: q = 1 is Shannon,
    exp(-sum(p log p)); q = inf is 1 / max(p); otherwise sum(p ** q) ** (1 / (1 - q)). Eigenvalues under 1e-10 are dropped;
    these include the negative ones of a kernel that is not positive semi-definite.

    Raises ValueError for an order that is not positive, and for a kernel that is empty, not square, not finite, not symmetric
    or has a diagonal other than 1 (to 1e-6).
    """
    return vendi_scores(kernel, (order,))[0]


def vendi_scores(kernel: NDArray[np.floating], orders: Sequence[float] = ORDERS) -> list[float]:
    """`vendi_score` of every order, in their order, from one eigendecomposition. Raises ValueError as `vendi_score`."""
    matrix = np.asarray(kernel, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"a kernel is a square matrix over at least one item, not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the kernel has values that are not finite")
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-6):
        raise ValueError("the kernel is not symmetric")
    if not np.allclose(np.diagonal(matrix), 1.0, rtol=0, atol=1e-6):
        raise ValueError("every item must have similarity 1 with itself; divide K[i, j] by sqrt(K[i, i] * K[j, j]) first")
    return [float(score) for score in effective_numbers(np.linalg.eigvalsh(matrix / len(matrix)), orders)]


def vendi_from_features(features: NDArray[np.floating], *, order: float = 1.0) -> float:
    """The Vendi score of the cosine kernel of the rows of `features`, shape (n, d), without the n x n kernel if d < n.

    The rows are scaled to length 1. X X^T / n and X^T X / n have the same nonzero eigenvalues; the smaller is used.

    Raises ValueError for an order that is not positive, and for features that are empty, not 2-d or have a row that
    is zero or not finite.
    """
    return vendi_scores_from_features(features, (order,))[0]


def vendi_scores_from_features(features: NDArray[np.floating], orders: Sequence[float] = ORDERS) -> list[float]:
    """`vendi_from_features` of every order from one eigendecomposition. Raises ValueError as `vendi_from_features`."""
    rows = unit_rows(features)
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    return [float(score) for score in effective_numbers(np.linalg.eigvalsh(gram / len(rows)), orders)]


def unit_rows(features: NDArray[np.floating]) -> FloatArray:
    """The rows of `features`, shape (n, d), scaled to length 1.

    Raises ValueError for features that are empty, not 2-d or have a row that is zero or not finite.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"features have the shape (items, dimensions), not {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a row of the features is zero or not finite, so its cosine is undefined")
    return np.asarray(rows / lengths, dtype=np.float64)


def effective_numbers(eigenvalues: NDArray[np.floating], orders: Sequence[float]) -> FloatArray:
    """The effective number of every order, shape (len(orders), ...), from eigenvalues of K/n, shape (..., n).

    Eigenvalues under 1e-10 are dropped; where none is left (a kernel without items) the number is 0. Raises ValueError
    for an order that is not positive.
    """
    p = np.asarray(eigenvalues, dtype=np.float64)
    kept = p >= SMALLEST_EIGENVALUE
    some = kept.any(axis=-1)
    logs = np.log(np.where(kept, p, 1.0))
    largest = np.where(some, np.where(kept, p, 0.0).max(axis=-1), 1.0)
    scores = np.empty((len(orders), *p.shape[:-1]))
    for place, order in enumerate(orders):
        if not order > 0:
            raise ValueError(f"the order of a Vendi score must be positive (1, 2, inf, 0.1, ...), not {order}")
        if math.isinf(order):
            scores[place] = 1.0 / largest
        elif math.isclose(order, 1.0, rel_tol=0, abs_tol=1e-9):
            scores[place] = np.exp(-np.where(kept, p * logs, 0.0).sum(axis=-1))
        else:
            # relative to the largest: p ** q underflows at high orders
            top = np.log(largest)
            powers = np.where(kept, np.exp(np.where(kept, order * (logs - top[..., None]), 0.0)), 0.0).sum(axis=-1)
            scores[place] = np.exp((order * top + np.log(np.where(some, powers, 1.0))) / (1.0 - order))
    return np.asarray(np.where(some, scores, 0.0), dtype=np.float64)
