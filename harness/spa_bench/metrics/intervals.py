"""From scores a problem to a value with its 95 % interval.

Scores come as an array of shape (S seeds, P problems), or (P,) for one seed; NaN marks a problem for which the metric has
no value. Two things vary, and each is treated as what it is:

- Problems: a benchmark is a sample of problems, and the samples of one problem are not independent, so whole problems
  are resampled, with all their seeds (cluster bootstrap, percentile).
- Training seeds: too few for a bootstrap (over 3 seeds a percentile interval covers 75 %, not 95), so Student's t
  with S - 1 degrees of freedom on the seed means.

The half-widths of the two are added in quadrature, each side by itself. That errs on the wide side: the noise of
single draws is in both.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from spa_bench.types import Estimate

FloatArray = NDArray[np.float64]

PROBLEMS_ONLY = "interval over problems only"

_TAILS = (0.025, 0.975)
_CHUNK = 1 << 22  # resampled problems drawn at once


def estimate(scores: NDArray[np.floating], *, rate: bool = False, seed: int = 0, resamples: int = 2000) -> Estimate:
    """The mean over problems of the mean over seeds, with its interval over problems and, from 2 seeds on, training seeds.

    `scores`, shape (S, P) or (P,); NaN: no value there. `n` of the result counts the problems with a value. `rate` says
    that scores lie in [0, 1]: the interval is then clipped to it, and when the value is exactly 0 or 1, where a bootstrap
    has no width, the problems' part is Wilson's with n problems. `seed` and `resamples` fix the bootstrap. Seed means are
    taken over the problems a seed has values for; where these differ between seeds, the interval gets wider.

    `reason` says what the interval leaves out (one seed: problems only; one problem: no interval). Without any value, or
    with infinite ones, the result is `Estimate.missing`. Raises ValueError for another shape, resamples < 1, or a rate
    outside [0, 1].
    """
    table = _table(scores)
    if rate and ((table < 0) | (table > 1)).any():
        raise ValueError(f"a rate lies in [0, 1], but scores reach from {np.nanmin(table)} to {np.nanmax(table)}")
    if infinite := _infinite(table):
        return Estimate.missing(infinite)
    return _summarise(table, _seed_part(_seed_means(table)), rate=rate, seed=seed, resamples=resamples)


def paired_difference(a: NDArray[np.floating], b: NDArray[np.floating], *, seed: int = 0, resamples: int = 2000) -> Estimate:
    """The mean of a - b over the problems that have a value in both, with its interval, as in `estimate`.

    Shapes (S, P) or (P,), the same problems in the same order. Always paired by problem. With equally many seeds, row s of a is
    paired with row s of b too, and the seeds' part is t with S - 1 degrees of freedom on the S differences. With
    different numbers, seeds are independent: sqrt(var_a / S_a + var_b / S_b) with the degrees of freedom of Welch and
    Satterthwaite; if one side has a single seed, the interval is over problems only and `reason` says so.

    Raises ValueError when the numbers of problems differ, for another shape, or resamples < 1.
    """
    first, second = _table(a), _table(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"cannot pair {first.shape[1]} problems with {second.shape[1]}: compare runs on the same problems")
    if infinite := _infinite(np.concatenate([first, second])):
        return Estimate.missing(infinite)
    if len(first) == len(second):
        table = first - second
        return _summarise(table, _seed_part(_seed_means(table)), rate=False, seed=seed, resamples=resamples)
    per_problem = _problem_means(first) - _problem_means(second)
    shared = ~np.isnan(per_problem)
    seeds = _welch_part(_seed_means(first[:, shared]), _seed_means(second[:, shared]))
    return _summarise(per_problem[None, :], seeds, rate=False, seed=seed, resamples=resamples)


def equivalent(estimate: Estimate, margin: float) -> bool:
    """Whether the whole interval lies within [-margin, margin]; False without an interval. Raises ValueError if margin <= 0."""
    if not margin > 0:
        raise ValueError(f"a margin of equivalence must be positive, not {margin}")
    if estimate.low is None or estimate.high is None:
        return False
    return -margin <= estimate.low and estimate.high <= margin


def resolved(estimate: Estimate) -> bool:
    """Whether the interval excludes 0; False without an interval."""
    if estimate.low is None or estimate.high is None:
        return False
    return estimate.low > 0 or estimate.high < 0


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a binomial rate, within [0, 1] and of positive width also at 0 and n.

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = successes / n (Wilson 1927). Raises ValueError unless n >= 1,
    0 <= successes <= n and 0 < confidence < 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Exactly 0 and 1 at the ends, where centre and half differ by rounding alone.
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


@lru_cache(maxsize=1024)
def t_quantile(df: float, p: float = 0.975) -> float:
    """The quantile of Student's t with `df` > 0 degrees of freedom (need not be whole; inf is the normal) at `p` in (0, 1).

    Closed forms for df = 1 and 2; the expansion around the normal quantile (Abramowitz & Stegun 26.7.5) above 10 000; between
    them P(T > t) = I_x(df/2, 1/2) / 2, x = df / (df + t²), inverted by bisection, with the continued fraction of the
    incomplete beta function (DLMF 8.17.22). Good to about 1e-8. Raises ValueError outside the ranges above.
    """
    if not df > 0 or not 0 < p < 1:
        raise ValueError(f"Student's t needs df > 0 and 0 < p < 1, not df={df}, p={p}")
    if p < 0.5:
        return -t_quantile(df, 1 - p)
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    if df > 1e4:
        z = NormalDist().inv_cdf(p)
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df * df)
    low, high = 0.0, 1.0
    while _t_upper_tail(high, df) > 1 - p:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_upper_tail(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def _table(scores: NDArray[np.floating]) -> FloatArray:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 1:
        table = table[None, :]
    if table.ndim != 2:
        raise ValueError(f"scores have the shape (seeds, problems) or (problems,), not {table.shape}")
    return table


def _infinite(table: FloatArray) -> str:
    """Why there is no estimate, if some scores are infinite; else empty."""
    count = int(np.isinf(table).any(axis=0).sum())
    return f"infinite for {count} of {table.shape[1]} problems" if count else ""


def _problem_means(table: FloatArray) -> FloatArray:
    """The mean over seeds of each problem, shape (P,); NaN where no seed has a value."""
    return _nanmean(table, axis=0)


def _seed_means(table: FloatArray) -> FloatArray:
    """The mean over problems of each seed that has a value, shape (S or fewer,)."""
    means = _nanmean(table, axis=1)
    return means[~np.isnan(means)]


def _nanmean(table: FloatArray, axis: int) -> FloatArray:
    there = ~np.isnan(table)
    counts = there.sum(axis=axis)
    sums = np.where(there, table, 0.0).sum(axis=axis)
    means: FloatArray = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means


def _seed_part(seed_means: FloatArray) -> float | None:
    """Half the width of the t interval over training seeds; None with fewer than 2."""
    s = len(seed_means)
    if s < 2:
        return None
    return t_quantile(s - 1) * float(seed_means.std(ddof=1)) / math.sqrt(s)


def _welch_part(a: FloatArray, b: FloatArray) -> float | None:
    """Half the width of Welch's interval for the difference of two means over seeds; None if either has fewer than 2."""
    if min(len(a), len(b)) < 2:
        return None
    parts = [float(side.var(ddof=1)) / len(side) for side in (a, b)]
    total = sum(parts)
    if total == 0:
        return 0.0
    df = total**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    return t_quantile(df) * math.sqrt(total)


def _summarise(table: FloatArray, seeds: float | None, *, rate: bool, seed: int, resamples: int) -> Estimate:
    """The estimate from scores a problem and the half-width that training seeds add (None: unknown)."""
    if resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 resample, not {resamples}")
    means = _problem_means(table)
    means = means[~np.isnan(means)]
    n = len(means)
    if n == 0:
        return Estimate.missing("no problem has a value")
    value = float(means.mean())
    if n == 1:
        return Estimate(value, n=1, reason="one problem: no interval")
    reasons = [] if seeds is not None else [PROBLEMS_ONLY]
    if rate and value in (0.0, 1.0):
        low, high = wilson(value * n, n)
    else:
        low, high = _bootstrap(means, seed, resamples)
        if np.ptp(means) == 0:
            reasons.append("every problem has the same value: no width over problems")
    below = math.hypot(max(value - low, 0.0), seeds or 0.0)
    above = math.hypot(max(high - value, 0.0), seeds or 0.0)
    low, high = value - below, value + above
    if rate:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(value, low, high, n, "; ".join(reasons))


def _bootstrap(means: FloatArray, seed: int, resamples: int) -> tuple[float, float]:
    """The percentile interval of the mean over problems, each resample drawing as many problems as there are."""
    n = len(means)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    replicates = np.concatenate(
        [means[rng.integers(0, n, (min(step, resamples - start), n))].mean(axis=1) for start in range(0, resamples, step)]
    )
    low, high = np.quantile(replicates, _TAILS)
    return float(low), float(high)


def _t_upper_tail(t: float, df: float) -> float:
    return _incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # there the fraction converges slowly
        return 1.0 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
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
