"""How like a target one set of pairs is: on random subsets of m pairs of each, from a vector of each pair.

The vectors are those of our encoder, reduced to at most 64 dimensions. MAUVE as published uses GPT-2's hidden states; the
package mauve-text, where it is installed, gets our vectors too, so that its number can be compared with our own formula's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from spa_bench.datasets.pool import FloatArray, IntArray
from spa_bench.errors import UsageError
from spa_bench.metrics.jackknife import over_subsets
from spa_bench.metrics.two_samples import classifier_auc, clustered, frechet_distance, frontier_area, mmd2
from spa_bench.types import Estimate

GET_MAUVE = "mauve-text is not installed: pip install 'spa-bench[mauve]' (its licence is the GPL, version 3)"
NAMES = ("mauve[frontier]", "mauve[mauve-text]", "frechet", "mmd2", "auc")
SUBSETS, _MAUVE_SUBSETS = 32, 8  # of each set; the package takes longest
BOUNDS = {"mauve[frontier]": (0.0, 1.0), "mauve[mauve-text]": (0.0, 1.0), "frechet": (0.0, math.inf), "auc": (0.0, 1.0)}
Mauve = Callable[[FloatArray, FloatArray, int], float]


def likeness(
    vectors: FloatArray, ours: IntArray, target: IntArray, *, size: int, seed: int, subsets: int = SUBSETS
) -> dict[str, Estimate]:
    """Name -> how like the pairs at `target` those at `ours` are; both are places of rows of `vectors` (U, d).

    Each subset has `size` pairs of either set. A set that is the target itself is compared by two parts of it without a common
    pair, which shows what the measures give for two samples of one set. An interval is that of the smaller set, so it errs on
    the wide side. Raises ValueError unless 1 < size <= half of either set.
    """
    same = np.array_equal(ours, target)
    fewest = min(len(ours), len(target))
    if not 1 < size <= fewest // 2:
        raise ValueError(f"subsets of {size} of sets of {len(ours)} and {len(target)}: from 2 to half of either")
    mauve = find_mauve()
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(subsets):
        rng = np.random.default_rng([seed, number])
        first, second = rng.permutation(ours), rng.permutation(target)
        places = (first[:size], first[size : 2 * size]) if same else (first[:size], second[:size])
        x, y = (vectors[some] for some in places)
        histograms = clustered(x, y, clusters=max(2, round(size / 10)), seed=seed + number)
        found["mauve[frontier]"].append(frontier_area(*histograms))
        found["frechet"].append(frechet_distance(x, y))
        found["mmd2"].append(mmd2(x, y))
        names = np.concatenate(places).tolist()
        found["auc"].append(_or_nan(classifier_auc(x, y, names, seed=seed + number)))
        if mauve is not None and number < _MAUVE_SUBSETS:
            found["mauve[mauve-text]"].append(mauve(x, y, seed + number))
    table = {
        name: over_subsets(values, fewest, size, bounds=BOUNDS.get(name, (-math.inf, math.inf)))
        for name, values in found.items()
    }
    return table if mauve is not None else table | {"mauve[mauve-text]": Estimate.missing(GET_MAUVE)}


def find_mauve() -> Mauve | None:
    """MAUVE by the package mauve-text, of two sets of vectors and a seed; None where it is not installed."""
    with suppress(ImportError):
        import mauve

        def value(x: FloatArray, y: FloatArray, seed: int) -> float:
            found = mauve.compute_mauve(p_features=x, q_features=y, seed=seed % (1 << 30), verbose=False)
            return float(found.mauve)

        return value
    return None


def reduced(vectors: object, *, dimensions: int = 64, seed: int = 0) -> FloatArray:
    """Vectors (U, d), dense or sparse, along their at most `dimensions` largest directions: (U, at most dimensions)."""
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    shape: Sequence[int] = vectors.shape  # type: ignore[attr-defined]
    count = min(dimensions, shape[0] - 1, shape[1] - 1)
    if count < 1:
        return np.ones((shape[0], 1))
    with threadpool_limits(1), np.errstate(invalid="ignore", divide="ignore"):  # no variance to explain where all are equal
        model = TruncatedSVD(count, random_state=seed % (1 << 32), n_iter=10)
        return np.asarray(model.fit_transform(vectors), dtype=np.float64)


def check_size(size: int | None) -> None:
    """Raise UsageError for a size of subsets that cannot be."""
    if size is not None and size < 2:
        raise UsageError(f"--at is {size}; a subset has at least 2 pairs")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
