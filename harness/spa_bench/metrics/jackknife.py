"""Measures of a whole set that depend on its size, at one size for all sets, with intervals: the delete-d jackknife.

A measure such as the Vendi score grows with the number of items, so sets are compared at an equal number m of them. The value
of a set of n is the mean of the measure over random subsets of m, drawn without replacement. A bootstrap would draw items
twice, which looks like less diversity; subsets do not.

The interval is that of the delete-d jackknife (Shao and Wu 1989, Ann. Statist. 17, 1176) with d = n - m: the variance over
subsets times m / (n - m), to which the noise of having drawn finitely many subsets is added. It is for m <= n / 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.student import t_quantile
from spa_bench.types import Estimate

IntArray = NDArray[np.int64]

_NO_WIDTH = "every subset has the same value: no width"
SUBSETS = 64
"""Random subsets of each set: their noise in the value is an eighth of the spread of one subset."""


def subsets(items: int, size: int, *, seed: int, count: int = SUBSETS) -> IntArray:
    """Places of `count` random subsets of `size` of the `items`, shape (count, size), each in ascending order.

    Raises ValueError unless 1 <= size <= items / 2, where the interval below has a meaning.
    """
    if not 1 <= size <= items // 2:
        raise ValueError(f"subsets of {size} of {items} items: a subset has 1 to half of them")
    generator = np.random.default_rng(seed)
    return np.array([np.sort(generator.permutation(items)[:size]) for _ in range(count)], dtype=np.int64)


def over_subsets(
    values: Sequence[float], items: int, size: int, *, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """The mean over subsets with its 95 % interval, cut at `bounds` (least, most of the measure).

    `values` are the measure of each subset of `size` of the `items`; NaN where it has none. `n` of the result is `items`.
    """
    table = np.asarray(values, dtype=np.float64)
    if not len(table) or not np.isfinite(table).all():
        return Estimate.missing("a subset has no value")
    value = float(table.mean())
    if np.ptp(table) == 0:
        return Estimate(value=float(table[0]), low=float(table[0]), high=float(table[0]), n=items, reason=_NO_WIDTH)
    spread = float(table.var(ddof=1))
    error = math.sqrt(spread * (size / (items - size) + 1 / len(table)))
    half = t_quantile(len(table) - 1) * error
    low, high = max(value - half, min(bounds[0], value)), min(value + half, max(bounds[1], value))
    return Estimate(value=value, low=low, high=high, n=items)
