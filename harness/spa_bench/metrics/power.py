"""The difference between two samplers that n problems can show, before they are run.

The test is `intervals.paired_test`: the mean difference d over problems against half an interval, which is
hypot(t(n-1) s / sqrt(n), t(S-1) s_S / sqrt(S)) with s the standard deviation over problems and s_S over training seeds; the
second part is absent with one seed. Power is the chance that |d| exceeds it. For normal scores that is an integral over the
two estimated deviations (chi distributions), taken on a grid: with one seed, the power of the t-test.

Three things are left out: skew and values that are mostly 0, at few problems; the bounds of rates; and Holm's correction (for
one claim among m differences, use confidence 1 - 0.05 / m). With one seed "shown" means over problems only: for these adapters,
not for the next training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.student import t_quantile

FloatArray = NDArray[np.float64]

_GRID = 96  # points of each chi distribution
MOST_PROBLEMS = 10**7  # the most that `problems_needed` tries


def power_at(
    difference: float,
    problems: int,
    *,
    spread: float,
    confidence: float = 0.95,
    seeds: int = 1,
    seed_spread: float | None = None,
) -> float:
    """The chance that `problems` problems show a true mean difference, in [0, 1]; at most about 1 - `confidence` when it is 0.

    `spread` is the standard deviation over problems of the paired difference (of means over seeds): `spread_of_pilot` or
    `spread_of_rates`. `seed_spread` is the standard deviation over training seeds of the mean difference, needed from 2
    seeds on. Raises ValueError for fewer than 2 problems, negative spreads, seeds < 1, 2 seeds or more without
    `seed_spread`, or confidence outside (0, 1).
    """
    return _test(problems, spread, confidence, seeds, seed_spread).power(difference)


def smallest_difference(
    problems: int,
    *,
    spread: float,
    confidence: float = 0.95,
    power: float = 0.8,
    seeds: int = 1,
    seed_spread: float | None = None,
) -> float:
    """The smallest true mean difference that `problems` problems show with chance `power`: `power_at`, inverted.

    With one seed close to (t(n-1) + z(power)) spread / sqrt(n). Raises as `power_at`, and for a power outside
    (1 - confidence, 1).
    """
    _check_power(power, confidence)
    test = _test(problems, spread, confidence, seeds, seed_spread)
    if test.error == 0:
        return 0.0  # any difference at all is shown
    low, high = 0.0, test.error
    while test.power(high) < power:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if test.power(middle) < power else (low, middle)
    return high


def problems_needed(
    difference: float,
    *,
    spread: float,
    confidence: float = 0.95,
    power: float = 0.8,
    seeds: int = 1,
    seed_spread: float | None = None,
) -> int | None:
    """The fewest problems, 2 or more, that show `difference` with chance `power`; None if even 10 million do not.

    None comes from too few training seeds, which no number of problems makes up for, or from a tiny difference:
    `seeds_suffice` says which. Raises ValueError as `smallest_difference`, and for a difference of 0.
    """
    _check_power(power, confidence)
    if difference == 0:
        raise ValueError("no number of problems shows a difference of 0; give the smallest one that matters to you")

    def enough(problems: int) -> bool:
        return _test(problems, spread, confidence, seeds, seed_spread).power(difference) >= power

    if not enough(MOST_PROBLEMS):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def seeds_suffice(
    difference: float, *, confidence: float = 0.95, power: float = 0.8, seeds: int = 1, seed_spread: float | None = None
) -> bool:
    """Whether infinitely many problems would show `difference` with chance `power`, with these training seeds.

    The mean over all of them has no spread, and the t-test over seeds is left. With one seed or no spread over seeds
    the answer is always yes, unless the difference is 0. Raises as `smallest_difference`.
    """
    _check_power(power, confidence)
    return _test(2, 0.0, confidence, seeds, seed_spread).power(difference) >= power


def spread_of_pilot(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[float, float | None]:
    """`spread` and `seed_spread` of a paired difference from pilot scores, shapes (S, P) or (P,).

    `spread` is the standard deviation (ddof = 1) over problems of the mean over seeds of a - b. `seed_spread` is that over
    seeds of the mean over problems; None with one seed. Only problems that have a value everywhere count. The first shrinks a
    little with more seeds, because draws average out. Raises ValueError when the shapes differ, or fewer than 2 problems have
    a value everywhere.
    """
    first, second = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (a, b))
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"pilot scores of two samplers need one shape (seeds, problems), not {first.shape} and {second.shape}")
    table = first - second
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < 2:
        raise ValueError(f"a spread needs at least 2 problems with a value everywhere, and there are {table.shape[1]}")
    over_seeds = float(table.mean(axis=1).std(ddof=1)) if len(table) > 1 else None
    return float(table.mean(axis=0).std(ddof=1)), over_seeds


def spread_of_rates(rate: float = 0.5, *, correlation: float = 0.0, draws: int = 1, agreement: float | None = None) -> float:
    """`spread` of the difference of two samplers of equal rate, without a pilot: sqrt(2 p (1 - p) (a + (1 - a) / n - c)).

    `rate` is p, a share of right answers; `correlation` is c, between an answer of one sampler and an answer of the other on
    the same problem (hard problems are hard for both). `agreement` is a, the correlation between two answers of one sampler:
    with n = `draws` > 1 only chance averages out. It defaults to `correlation`, as if the draws of one sampler shared nothing
    but the problem. The defaults are the worst case of samplers that are not opposed: 0.71. Raises ValueError for a rate
    outside [0, 1], correlation or agreement outside [0, 1], agreement below correlation, or draws < 1.
    """
    shared = correlation if agreement is None else agreement
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate lies in [0, 1], not {rate}")
    if not 0 <= correlation <= shared <= 1:
        raise ValueError(f"0 <= correlation <= agreement <= 1 is needed, not correlation {correlation} and agreement {shared}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    return math.sqrt(2 * rate * (1 - rate) * (shared + (1 - shared) / draws - correlation))


@dataclass(frozen=True)
class _Test:
    """The paired test as numbers: the true standard error of d, and the half-widths of the interval with their chances."""

    error: float
    halves: FloatArray
    weights: FloatArray

    def power(self, difference: float) -> float:
        if self.error == 0:
            return float(difference != 0)
        from scipy.special import erfc  # imported here: it takes half of this module's import time

        scale = self.error * math.sqrt(2)
        near, far = (erfc((self.halves + sign * abs(difference)) / scale) for sign in (-1, 1))
        return min(1.0, float(self.weights @ (near + far)) / 2)


def _test(problems: int, spread: float, confidence: float, seeds: int, seed_spread: float | None) -> _Test:
    if problems < 2:
        raise ValueError(f"an interval needs at least 2 problems, not {problems}")
    if seeds < 1:
        raise ValueError(f"there is at least 1 seed, not {seeds}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    if seeds > 1 and seed_spread is None:
        raise ValueError(f"{seeds} seeds need seed_spread, the standard deviation over seeds of the mean difference")
    between = seed_spread if seeds > 1 and seed_spread is not None else 0.0
    if odd := [one for one in (spread, between) if not 0 <= one < math.inf]:
        raise ValueError(f"a standard deviation is finite and at least 0, not {odd[0]}")
    errors = spread / math.sqrt(problems), between / math.sqrt(seeds)
    half, weight = _half(errors[0], problems - 1, confidence)
    if between:
        other, often = _half(errors[1], seeds - 1, confidence)
        half, weight = np.hypot.outer(half, other).ravel(), np.outer(weight, often).ravel()
    return _Test(math.hypot(*errors), half, weight)


def _half(error: float, df: int, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Half-widths of a t interval whose standard error is estimated with `df` degrees of freedom, and their chances."""
    reach = 8 / math.sqrt(2 * df)
    low, high = max(0.0, 1 - reach), 1 + reach
    ratio = low + (np.arange(_GRID) + 0.5) * (high - low) / _GRID  # estimated over true deviation
    logs = (df - 1) * np.log(ratio) - df * ratio**2 / 2
    weights = np.exp(logs - logs.max())
    return t_quantile(df, (1 + confidence) / 2) * error * ratio, weights / weights.sum()


def _check_power(power: float, confidence: float) -> None:
    if not 1 - confidence < power < 1:
        raise ValueError(f"power lies between 1 - confidence = {1 - confidence:.3g} and 1, not {power}")
