"""The part of an interval that comes from training seeds: a standard error with its degrees of freedom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.student import pooled_error, t_quantile

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SeedPart:
    """The training seeds' part of an interval: a standard error with its degrees of freedom."""

    error: float
    df: float

    def half(self, alpha: float) -> float:
        """Half the width of the interval of confidence 1 - alpha, by Student's t."""
        return t_quantile(self.df, 1 - alpha / 2) * self.error if self.error else 0.0


def one_side(seed_means: FloatArray) -> SeedPart | None:
    """The standard error over training seeds; None with fewer than 2."""
    s = len(seed_means)
    if s < 2:
        return None
    return SeedPart(float(seed_means.std(ddof=1)) / math.sqrt(s), s - 1)


def apart(a: FloatArray, b: FloatArray) -> SeedPart | None:
    """The standard error of the difference of two means over seeds (Welch); None if either has fewer than 2."""
    if min(len(a), len(b)) < 2:
        return None
    parts = [float(side.var(ddof=1)) / len(side) for side in (a, b)]
    total = sum(parts)
    if total == 0:
        return SeedPart(0.0, math.inf)
    df = total**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    return SeedPart(math.sqrt(total), df)


def alike(a: FloatArray, b: FloatArray) -> SeedPart | None:
    """The standard error of the difference of two means over seeds of one spread; None with one seed on both sides."""
    error, df = pooled_error(a, b)
    return SeedPart(error, df) if df else None
