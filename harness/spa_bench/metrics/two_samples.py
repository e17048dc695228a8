"""How alike two sets of items are, from a vector of each item: the area under a divergence frontier, distances, a classifier.

All depend on the number of items, so they are compared at equal sizes only. None of them sees more than the vectors do.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SCALE = 5.0
"""The constant c of MAUVE."""
VARIANCE = 0.9
"""The share of the variance that principal components keep before items are clustered, as in MAUVE."""
_POINTS = 25  # of the curve
_FOLDS = 5


def frontier_area(p: NDArray[np.number], q: NDArray[np.number], *, scale: float = SCALE) -> float:
    """The area under the divergence curve of two histograms, in (0, 1]; 1 for equal ones (MAUVE, arXiv 2102.01454).

    With R = w P + (1 - w) Q for w from 0 to 1, the curve has the points (exp(-c KL(Q || R)), exp(-c KL(P || R))) and the ends
    (1, 0) and (0, 1). Both are counts or shares (k,) over the same k bins. Raises ValueError for histograms that are empty,
    negative, or of different shapes.
    """
    ours, theirs = (np.asarray(one, dtype=np.float64) for one in (p, q))
    if ours.shape != theirs.shape or ours.ndim != 1 or min(ours.sum(), theirs.sum()) <= 0 or min(ours.min(), theirs.min()) < 0:
        raise ValueError("two histograms have the same bins, no negative count and at least one item each")
    ours, theirs = ours / ours.sum(), theirs / theirs.sum()
    points = [(1.0, 0.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, _POINTS):
        mixed = weight * ours + (1 - weight) * theirs
        points.append((np.exp(-scale * _kl(theirs, mixed)), np.exp(-scale * _kl(ours, mixed))))
    points.append((0.0, 1.0))
    x, y = np.array(points).T  # x falls from 1 to 0 and y rises, so the order of the weights is that of the curve
    return float(-(np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def clustered(x: NDArray[np.floating], y: NDArray[np.floating], *, clusters: int, seed: int) -> tuple[IntArray, IntArray]:
    """Histograms (k,), (k,) of two sets (n, d), (m, d) over clusters of their union, as MAUVE quantises them.

    The rows are scaled to length 1, principal components keep 90 % of the variance, and k-means makes the clusters, no more
    than there are different rows.
    """
    rows = np.vstack([x, y]).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1.0)
    centred = rows - rows.mean(0)
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    total = np.cumsum(scales**2)
    kept = int(np.searchsorted(total, VARIANCE * total[-1])) + 1 if total[-1] > 0 else 1
    labels, count = k_means(centred @ directions[:kept].T, clusters, seed=seed)
    return np.bincount(labels[: len(x)], minlength=count), np.bincount(labels[len(x) :], minlength=count)


def k_means(rows: FloatArray, clusters: int, *, seed: int) -> tuple[IntArray, int]:
    """(the cluster of each row, the number of clusters): k-means from three starts, at most as many as different rows."""
    from sklearn.cluster import KMeans

    count = max(1, min(clusters, len(np.unique(np.round(rows, 9), axis=0))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows that differ by rounding alone
        found = KMeans(count, n_init=3, random_state=seed % (1 << 32)).fit_predict(rows)
    return np.asarray(found, dtype=np.int64), count


def frechet_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """The squared Fréchet distance of two normal distributions fitted to the rows, at least 0; 0 for equal sets.

    |mean_x - mean_y|² + tr(C_x + C_y - 2 (C_x C_y)^(1/2)) (Heusel et al. 2017, arXiv 1706.08500). Finite sets of one
    distribution have more than 0, and the more so the fewer items they have.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    first, second = (np.cov(rows, rowvar=False, bias=True).reshape(rows.shape[1], -1) for rows in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    return max(0.0, float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * cross))


def mmd2(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy; about 0 for one distribution, also below 0.

    The kernel is exp(-|u - v|² / (2 s²)), s the median distance of different rows of both sets (Gretton et al. 2012, JMLR 13,
    lemma 6 and section 8). 0 where all rows are equal. Raises ValueError for fewer than two rows in a set.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"two sets of {n} and {m} rows; at least 2 are needed in each")
    rows = np.vstack([x, y]).astype(np.float64)
    squares = (rows**2).sum(1)
    apart = np.clip(squares[:, None] + squares - 2 * rows @ rows.T, 0, None)
    different = apart[np.triu_indices(n + m, 1)]
    different = different[different > 1e-12]
    if not len(different):
        return 0.0
    kernel = np.exp(-apart / (2 * max(float(np.median(different)), 1e-12)))
    np.fill_diagonal(kernel, 0.0)
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def classifier_auc(x: NDArray[np.floating], y: NDArray[np.floating], names: Sequence[object], *, seed: int) -> float | None:
    """How well a logistic regression tells the sets apart: its area under the ROC curve on rows that it did not see.

    0.5 for sets that cannot be told apart, 1 for sets that always can (Lopez-Paz and Oquab 2017, arXiv 1610.06545). Five folds;
    rows of equal `names` (n + m, in the order of both sets) are in one fold, because the same item on both sides would be
    learned with the wrong answer. Each fold has its share of both sets, and scores are compared within it: the model that has
    seen fewer of one set gives all its rows less of that set, so that scores of several models together would have 0.43 for
    two sets of 16 that are alike. None with fewer than five different names, where a fold leaves one set alone, or where none
    has rows of both.
    """
    from sklearn.linear_model import LogisticRegression

    rows = np.vstack([x, y]).astype(np.float64)
    side = np.repeat([0, 1], [len(x), len(y)])
    if len(set(names)) < _FOLDS:
        return None
    folds = _folds(names, side, seed)
    scale = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(scale > 1e-12, scale, 1.0)
    right, pairs = 0.0, 0
    for fold in range(_FOLDS):
        seen, held = folds != fold, folds == fold
        if len(set(side[seen])) < 2:
            return None
        model = LogisticRegression(C=0.1, max_iter=1000).fit(rows[seen], side[seen])
        scores = np.round(model.decision_function(rows[held]), 9)  # equal rows have one score
        apart = scores[side[held] == 1][:, None] - scores[side[held] == 0]
        right += float((apart > 0).sum() + (apart == 0).sum() / 2)
        pairs += apart.size
    return right / pairs if pairs else None


def _folds(names: Sequence[object], side: IntArray, seed: int) -> IntArray:
    """The fold of each row, by its name. Names of both sets, of the first and of the second alone are spread evenly."""
    sides: dict[object, set[int]] = {}
    for name, one in zip(names, side.tolist(), strict=True):
        sides.setdefault(name, set()).add(one)
    generator = np.random.default_rng(seed)
    ordered: list[object] = []
    for kind in ({0, 1}, {0}, {1}):
        alike = [name for name, there in sides.items() if there == kind]
        ordered += [alike[i] for i in generator.permutation(len(alike))]
    fold = {name: place % _FOLDS for place, name in enumerate(ordered)}
    return np.array([fold[name] for name in names], dtype=np.int64)


def _kl(p: FloatArray, q: FloatArray) -> float:
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())
