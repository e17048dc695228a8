"""The Vendi score: the effective number of different items, from a similarity kernel.

Friedman & Dieng 2023 (arXiv 2210.02410); its family of orders q: Pasarkar & Dieng 2024 (arXiv 2310.12952). Low orders
count rare items, high orders only the common ones. It depends on the number of items: compare at equal n.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SMALLEST_EIGENVALUE = 1e-10
"""Eigenvalues of K/n below this are rounding noise: at q = 0.1 a hundred of size 1e-17 would count as two items."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


def vendi_score(kernel: NDArray[np.floating], *, order: float = 1.0) -> float:
    """The exponential of the Rényi entropy of order q of the eigenvalues of K/n; from 1 (all alike) to n (all unrelated).

    `kernel`, shape (n, n): similarities with 1 on the diagonal. With p the eigenvalues of K/n: q = 1 is Shannon,
    exp(-sum(p log p)); q = inf is 1 / max(p); otherwise sum(p ** q) ** (1 / (1 - q)). Eigenvalues under 1e-10 are dropped,
    the negative ones of a kernel that is not positive semi-definite among them.

    Raises ValueError for an order that is not positive, and for a kernel that is empty, not square, not finite, not symmetric
    or has another diagonal than 1 (to 1e-6).
    """
    matrix = np.asarray(kernel, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"a kernel is a square matrix over at least one item, not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the kernel has values that are not finite")
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-6):
        raise ValueError("the kernel is not symmetric")
    if not np.allclose(np.diagonal(matrix), 1.0, rtol=0, atol=1e-6):
        raise ValueError("every item must have similarity 1 with itself; divide K[i, j] by sqrt(K[i, i] * K[j, j]) first")
    return _exponential_entropy(_eigenvalues(matrix, len(matrix)), order)


def vendi_from_features(features: NDArray[np.floating], *, order: float = 1.0) -> float:
    """The Vendi score of the cosine kernel of the rows of `features`, shape (n, d), without the n x n kernel if d < n.

    The rows are scaled to length 1. X X^T / n and X^T X / n have the same nonzero eigenvalues; the smaller is used.

    Raises ValueError for an order that is not positive, and for features that are empty, not 2-d or have a row that
    is zero or not finite.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"features have the shape (items, dimensions), not {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a row of the features is zero or not finite, so its cosine is undefined")
    rows = rows / lengths
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    return _exponential_entropy(_eigenvalues(gram, len(rows)), order)


def ngram_kernel(texts: Sequence[str], *, orders: Sequence[int] = (1, 2)) -> FloatArray:
    r"""The mean over `orders` of the cosine similarity of token n-gram counts, shape (n, n), in [0, 1].

    The kernel of `ngram_vendi_score` of the package vendi_score 0.0.3, except that tokens are matches of \w+|[^\w\s] instead
    of nltk's, and the default orders are 1 and 2 instead of 1 to 4. A text too short for an n-gram of some order has, in that
    order, similarity 1 with the other such texts and 0 with the rest, so equal texts have similarity exactly 1, empty
    ones too. Needs memory for distinct texts x distinct n-grams.

    Raises ValueError without texts, without orders, or for an order below 1.
    """
    if not texts:
        raise ValueError("no texts: there is no kernel")
    if not orders or min(orders) < 1:
        raise ValueError(f"orders must be one or more whole numbers from 1 on, not {tuple(orders)}")
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    tokens = [_TOKEN.findall(text) for text in place]
    kernel = np.mean([_cosine_of_counts(tokens, n) for n in orders], axis=0)
    np.fill_diagonal(kernel, 1.0)
    # Built over the distinct texts and then spread: copies get exactly the same row.
    index = [place[text] for text in texts]
    return np.asarray(kernel[np.ix_(index, index)], dtype=np.float64)


def _cosine_of_counts(tokens: Sequence[Sequence[str]], n: int) -> FloatArray:
    grams = [Counter(zip(*(row[i:] for i in range(n)), strict=False)) for row in tokens]
    # A text without n-grams gets one of its own kind, shared by all such texts: the empty tuple.
    grams = [row or Counter({(): 1}) for row in grams]
    column: dict[tuple[str, ...], int] = {}
    for row in grams:
        for gram in row:
            column.setdefault(gram, len(column))
    counts = np.zeros((len(grams), len(column)))
    for i, row in enumerate(grams):
        counts[i, [column[gram] for gram in row]] = list(row.values())
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    return np.asarray(np.minimum(counts @ counts.T, 1.0), dtype=np.float64)


def _eigenvalues(matrix: FloatArray, items: int) -> FloatArray:
    return np.asarray(np.linalg.eigvalsh(matrix / items), dtype=np.float64)


def _exponential_entropy(eigenvalues: FloatArray, order: float) -> float:
    if not order > 0:
        raise ValueError(f"the order of a Vendi score must be positive (1, 2, inf, 0.1, ...), not {order}")
    p = eigenvalues[eigenvalues >= SMALLEST_EIGENVALUE]
    if math.isinf(order):
        return float(1.0 / p.max())
    logs = np.log(p)
    if math.isclose(order, 1.0, rel_tol=0, abs_tol=1e-9):
        return float(np.exp(-(p * logs).sum()))
    # log-sum-exp: p ** q underflows at high orders
    top = order * logs.max()
    return float(np.exp((top + np.log(np.exp(order * logs - top).sum())) / (1.0 - order)))
