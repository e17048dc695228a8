"""Student's t without scipy: the quantiles that intervals need, and the pooled error of two means."""

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

    Closed forms for df = 1 and 2; the expansion around the normal quantile (Abramowitz & Stegun 26.7.5) above 10 000; between
    them P(T > t) = I_x(df/2, 1/2) / 2, x = df / (df + t²), by the continued fraction of the incomplete beta function (DLMF
    8.17.22), solved by Newton's method in log t. It is accurate to about 1e-8. Raises ValueError outside the ranges above.
    """
    if not df > 0 or not 0 < p < 1:
        raise ValueError(f"Student's t needs df > 0 and 0 < p < 1, not df={df}, p={p}")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(df, 1 - p)
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    z = _NORMAL.inv_cdf(p)
    if df > 1e4:
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df * df)
    return _solve(df, 1 - p, z)


def _solve(df: float, tail: float, start: float) -> float:
    """The t with P(T > t) = `tail`. log P is concave in log t, so Newton's steps from the normal quantile converge."""
    density = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    t = start
    for _ in range(100):
        here = _upper_tail(t, df)
        slope = t * density * (1 + t * t / df) ** (-(df + 1) / 2) / here
        step = math.log(here / tail) / slope
        t *= math.exp(step)
        if abs(step) * min(t, 1.0) < 1e-11:
            return t
    raise ArithmeticError(f"the quantile of Student's t did not converge at df={df}, tail={tail}")


def _upper_tail(t: float, df: float) -> float:
    total = df + t * t
    return _incomplete_beta(df / total, t * t / total, df / 2, 0.5) / 2


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b); `rest` is 1 - x in full precision."""
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    if x > (a + 1) / (a + b + 2):  # there the fraction converges slowly
        return 1.0 - _incomplete_beta(rest, x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)) / a
    tiny = 1e-300
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d or tiny)
            c = 1.0 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            return front * fraction
    raise ArithmeticError(f"the incomplete beta function did not converge at x={x}, a={a}, b={b}")
