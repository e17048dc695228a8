"""Student's t: the quantiles that intervals need, and the pooled error of two means."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_NORMAL = NormalDist()


def normal_quantile(p: float) -> float:
    """The quantile of the standard normal at `p` in (0, 1)."""
    return _NORMAL.inv_cdf(p)


def pooled_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, int]:
    """(standard error of mean(a) - mean(b), its degrees of freedom) for seed means, shapes (S,), that share one spread.

    The error is s sqrt(1 / S_a + 1 / S_b), where s² is the sum of squares about each side's mean / (S_a + S_b - 2). The result
    is (0, 0) where that divisor is 0 or less.
    """
    df = len(a) + len(b) - 2
    if df < 1 or not len(a) or not len(b):
        return 0.0, 0
    squares = sum(float(((side - side.mean()) ** 2).sum()) for side in (a, b))
    return math.sqrt(squares / df * (1 / len(a) + 1 / len(b))), df


@lru_cache(maxsize=8192)
def t_quantile(df: float, p: float = 0.975) -> float:
    """The quantile of Student's t with `df` > 0 degrees of freedom (need not be whole; inf is the normal) at `p` in (0, 1).

    Raises ValueError outside these ranges.
    """
    if not df > 0 or not 0 < p < 1:
        raise ValueError(f"Student's t needs df > 0 and 0 < p < 1, not df={df}, p={p}")
    from scipy.special import stdtrit  # here: it takes 0.2 s to import, which a command without intervals need not wait for

    return float(stdtrit(df, p))
