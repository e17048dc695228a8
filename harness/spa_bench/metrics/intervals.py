"""Values with intervals from scores of problems (95 % unless the caller says otherwise), and the test that belongs to them.

Scores come as an array of shape (S seeds, P problems), or (P,) for one seed; NaN marks a problem for which the metric has
no value. Two things vary, and each is treated as what it is:

- Problems: a benchmark is a sample of problems, and the samples of one problem are not independent, so whole problems
  are resampled, with all their seeds (cluster bootstrap, percentile). Both sides are stretched by t / z * sqrt(n / (n - 1)),
  without which a bootstrap over 5 problems covers 84 % of the time (Hesterberg 2015). For a rate, each side reaches at
  least as far as Wilson's interval, because a bootstrap cannot reach for what it has not seen.
- Training seeds: too few for a bootstrap (over 3 seeds a percentile interval covers 75 %, not 95), so Student's t
  with S - 1 degrees of freedom on the seed means.

The half-widths of the two are added in quadrature, each side by itself. That errs on the wide side: the noise of single draws
is in both (97 to 99 % with 2 to 5 seeds). By simulation (benchmarks/interval_coverage.py) one weakness remains: where the
values of the problems have a long tail (log-normal, sigma 1), an interval covers 90 % at 60 problems and 87 % at 20.

Resampled problems hardly ever say otherwise where few differ and all to one side: 7 of 60 give p = 0.0003, and a test by
signs 0.0156. After Holm over 13 samplers such differences would be resolved 2.4 times too often. So an interval of a difference
reaches 0 below the mid-p value of that test, 2^-m for m problems that differ, and of rates that differ on fewer than 10
problems it reaches at least as far as Wilson's intervals of gains and of losses, in quadrature (after Newcombe 1998).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics import seed_part
from spa_bench.metrics.problem_part import ALIKE, OF_DIFFERENCES, bootstrap_reach, limits_of_few, unseen_reach
from spa_bench.metrics.seed_part import SeedPart
from spa_bench.types import Estimate

FloatArray = NDArray[np.float64]
Seeds = Literal["paired", "apart", "alike"]
"""How training seeds of two sides belong together, for `paired_difference`:

paired: row s of one side belongs with row s of the other, where both have equally many; else as `apart`.
apart: the seeds are independent, and each side has a spread of its own (Welch).
alike: the seeds are independent, and both sides share one spread: a new run of the same sampler is compared with this. One
    seed is enough on one side.
"""

PROBLEMS_ONLY = "interval over problems only"
TOO_FEW_TO_EXCLUDE = "every problem has the same difference, and they are too few to exclude anything: no interval"

_NO_WIDTH = "every problem has the same value: no width over problems"


def estimate(
    scores: NDArray[np.floating],
    *,
    rate: bool = False,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """The mean over problems of the mean over seeds, with its interval over problems and, from 2 seeds on, training seeds.

    `scores` has the shape (S, P) or (P,); NaN marks a missing value. `n` of the result counts the problems with a value. `rate`
    says that scores lie in [0, 1]: the interval is then clipped to [0, 1] and is nowhere narrower than Wilson's for as many
    problems as the spread of the scores is worth. When the value is exactly 0 or 1, where a bootstrap has no width, the
    problems' part is Wilson's with n problems. `bounds` (least, most; infinite where there is none) are the limits of a score
    that is not a rate: the interval is cut there, and it always contains the value, even where scores lie outside. Where fewer
    than 10 problems differ from all others, how many do is a rate, and gets Wilson's interval: of a Vendi score that is 1 on 29
    of 30 problems, resampling sees too little. `confidence` is the chance to cover. `seed` and `resamples` fix the bootstrap. A
    seed's mean is taken over the problems for which the seed has values; where these differ between seeds, the interval gets
    wider.

    `reason` says what the interval leaves out (one seed: problems only; one problem: no interval). Without any value, or
    with infinite ones, the result is `Estimate.missing`. Raises ValueError for another shape, resamples < 1, confidence
    outside (0, 1), or a rate outside [0, 1].
    """
    _check(confidence, resamples)
    table = _table(scores)
    if rate and ((table < 0) | (table > 1)).any():
        raise ValueError(f"a rate lies in [0, 1], but scores reach from {np.nanmin(table)} to {np.nanmax(table)}")
    if infinite := _infinite(table):
        return Estimate.missing(infinite)
    limits = (0.0, 1.0) if rate else None
    if bounds is not None and not rate:
        limits = limits_of_few(_known(_problem_means(table)), bounds)
    evidence = _evidence(table, seed_part.one_side(_seed_means(table)), limits, seed, resamples)
    if isinstance(evidence, Estimate):
        return evidence
    if bounds is not None and not rate:
        evidence = replace(evidence, bounds=(min(bounds[0], evidence.value), max(bounds[1], evidence.value)))
    return evidence.estimate(confidence)


def paired_difference(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    rate: bool = False,
    seeds: Seeds = "paired",
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """The mean of a - b over the problems that have a value in both, with its interval, as in `estimate`.

    The shapes are (S, P) or (P,), for the same problems in the same order. The sides are always paired by problem. With
    equally many seeds, row s of a is paired with row s of b too, and the seeds' part is t with S - 1 degrees of freedom on the
    S differences. With different numbers, or `seeds` "apart", seeds are independent: sqrt(var_a / S_a + var_b / S_b) with the
    degrees of freedom of Welch and Satterthwaite; if one side has a single seed, the interval is over problems only and
    `reason` says so. With `seeds` "alike" the sides share one variance s², estimated with S_a + S_b - 2 degrees of freedom
    (pooled): sqrt(s² (1 / S_a + 1 / S_b)). With a single seed in a that is the interval in which a new seed of b's sampler
    lies.

    `rate` says that both lie in [0, 1], so that differences lie in [-1, 1]. It matters when all problems differ by the same
    d (identical runs: 0), where a bootstrap has no width: up to a share u of problems, Wilson's upper end of 0 in n, may
    still differ otherwise, so the interval goes from d - u (1 + d) to d + u (1 - d). Without `rate` it has no width there,
    and `reason` says so. Where m problems differ and others do not, an interval of a confidence above 1 - 2^-m reaches 0:
    that is the smallest mid-p value of a test by signs. One case has no interval: d is not 0, and 2^(1 - n), the smallest p
    of any test by signs, is above 1 - `confidence`.

    Raises ValueError when the numbers of problems differ, for another shape, resamples < 1, confidence outside (0, 1), or a
    rate outside [0, 1].
    """
    _check(confidence, resamples)
    evidence = _paired(a, b, rate, seeds=seeds, seed=seed, resamples=resamples)
    return evidence if isinstance(evidence, Estimate) else evidence.estimate(confidence)


def paired_test(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    rate: bool = False,
    seeds: Seeds = "paired",
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[Estimate, float | None]:
    """`paired_difference(...)`, and the p-value that belongs to it; the bootstrap is drawn once.

    p is the smallest alpha whose interval of confidence 1 - alpha excludes 0 (the interval, inverted): p <= 1 - confidence
    exactly when the interval excludes 0. It is two-sided and at least 1 / resamples, because a bootstrap cannot tell smaller
    values apart: p = 0.0005 from 2000 resamples means "0.0005 or less". None where there is no difference or only one problem.
    """
    _check(confidence, resamples)
    evidence = _paired(a, b, rate, seeds=seeds, seed=seed, resamples=resamples)
    if isinstance(evidence, Estimate):
        return evidence, None
    return evidence.estimate(confidence), evidence.p_value(1.0 / resamples)


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


def _check(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    if resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 resample, not {resamples}")


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """A value, and how far its interval reaches to each side at any confidence."""

    value: float
    n: int
    problems: Callable[[float], tuple[float, float]] | None  # alpha -> reach below and above; None: one problem
    seeds: SeedPart | None
    bounds: tuple[float, float] | None  # limits of the value
    least: float = 0.0  # below this alpha no interval excludes anything
    to_zero: float = 0.0  # below this alpha every interval reaches 0
    reasons: tuple[str, ...] = ()

    def interval(self, alpha: float) -> tuple[float, float]:
        assert self.problems is not None
        seeds = self.seeds.half(alpha) if self.seeds else 0.0
        below, above = self.problems(alpha)
        low, high = self.value - math.hypot(below, seeds), self.value + math.hypot(above, seeds)
        if alpha < self.to_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        return (low, high) if self.bounds is None else (max(low, self.bounds[0]), min(high, self.bounds[1]))

    def estimate(self, confidence: float) -> Estimate:
        if self.problems is None:
            return Estimate(value=self.value, n=self.n, reason="one problem: no interval")
        alpha = 1 - confidence
        if alpha < self.least:
            return Estimate(value=self.value, n=self.n, reason=TOO_FEW_TO_EXCLUDE)
        low, high = self.interval(alpha)
        return Estimate(value=self.value, low=low, high=high, n=self.n, reason="; ".join(self.reasons))

    def p_value(self, floor: float) -> float | None:
        """The smallest alpha whose interval excludes 0, at least `floor`; 1 where none does. Intervals are nested in alpha."""
        if self.problems is None:
            return None

        def excludes(alpha: float) -> bool:
            low, high = self.interval(alpha)
            return low > 0 or high < 0

        no, yes = max(floor, self.least), 1.0
        if no >= 1.0 or not excludes(yes * (1 - 1e-12)):
            return 1.0
        if excludes(no):
            return no
        while yes > no * (1 + 1e-7):
            middle = math.sqrt(no * yes)
            no, yes = (no, middle) if excludes(middle) else (middle, yes)
        return yes


def _paired(
    a: NDArray[np.floating], b: NDArray[np.floating], rate: bool, *, seeds: Seeds, seed: int, resamples: int
) -> _Evidence | Estimate:
    """The mean of a - b with the reach of its interval; an Estimate that says why where it is missing."""
    first, second = _table(a), _table(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"cannot pair {first.shape[1]} problems with {second.shape[1]}: compare runs on the same problems")
    both = np.concatenate([first, second])
    if rate and ((both < 0) | (both > 1)).any():
        raise ValueError(f"a rate lies in [0, 1], but scores reach from {np.nanmin(both)} to {np.nanmax(both)}")
    if infinite := _infinite(both):
        return Estimate.missing(infinite)
    bounds = OF_DIFFERENCES if rate else None
    if len(first) == len(second) and seeds == "paired":
        table = first - second
        per_problem = _problem_means(table)
        evidence = _evidence(table, seed_part.one_side(_seed_means(table)), bounds, seed, resamples, differences=rate)
    else:
        per_problem = _problem_means(first) - _problem_means(second)
        shared = ~np.isnan(per_problem)
        part = seed_part.alike if seeds == "alike" else seed_part.apart
        over_seeds = part(_seed_means(first[:, shared]), _seed_means(second[:, shared]))
        evidence = _evidence(per_problem[None, :], over_seeds, bounds, seed, resamples, differences=rate)
    if isinstance(evidence, Estimate):
        return evidence
    if np.ptp(_known(per_problem)) <= ALIKE < abs(evidence.value):
        # of a rate, the interval says by itself what was not seen
        return evidence if rate else replace(evidence, least=2.0 ** (1 - evidence.n))
    return replace(evidence, to_zero=2.0 ** -int((np.abs(per_problem) > ALIKE).sum()))


def _evidence(
    table: FloatArray,
    seeds: SeedPart | None,
    bounds: tuple[float, float] | None,
    seed: int,
    resamples: int,
    *,
    differences: bool = False,
) -> _Evidence | Estimate:
    """The mean of the scores with the reach of its interval, from the seeds' part (None: unknown) and the scores' bounds.

    `differences`: the scores are differences between rates.
    """
    means = _known(_problem_means(table))
    n = len(means)
    if n == 0:
        return Estimate.missing("no problem has a value")
    value = float(means.mean())
    if n == 1:
        return _Evidence(value=value, n=n, problems=None, seeds=seeds, bounds=bounds)
    reasons = () if seeds is not None else (PROBLEMS_ONLY,)
    if np.ptp(means) > (0.0 if bounds is None else ALIKE):  # where a scale is known, a smaller spread is rounding
        return _Evidence(
            value=value,
            n=n,
            problems=bootstrap_reach(means, bounds, seed, resamples, differences=differences),
            seeds=seeds,
            bounds=bounds,
            reasons=reasons,
        )
    value = float(means[0])  # the mean of equal numbers may be off by rounding
    if bounds is not None and (bounds != (0.0, 1.0) or value in bounds):
        return _Evidence(value=value, n=n, problems=unseen_reach(value, n, bounds), seeds=seeds, bounds=bounds, reasons=reasons)
    return _Evidence(value=value, n=n, problems=lambda _: (0.0, 0.0), seeds=seeds, bounds=bounds, reasons=(*reasons, _NO_WIDTH))


def _table(scores: NDArray[np.floating]) -> FloatArray:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 1:
        table = table[None, :]
    if table.ndim != 2:
        raise ValueError(f"scores have the shape (seeds, problems) or (problems,), not {table.shape}")
    return table


def _infinite(table: FloatArray) -> str:
    """The reason why there is no estimate, where some scores are infinite; else empty."""
    count = int(np.isinf(table).any(axis=0).sum())
    return f"infinite for {count} of {table.shape[1]} problems" if count else ""


def _problem_means(table: FloatArray) -> FloatArray:
    """The mean over seeds of each problem, shape (P,); NaN where no seed has a value."""
    return nan_means(table, axis=0)


def _seed_means(table: FloatArray) -> FloatArray:
    """The mean over problems of each seed that has a value, shape (S or fewer,)."""
    return _known(nan_means(table, axis=1))


def _known(values: FloatArray) -> FloatArray:
    return values[~np.isnan(values)]


def nan_means(table: FloatArray, axis: int) -> FloatArray:
    """Means along `axis` where there is a value; NaN where there is none."""
    there = ~np.isnan(table)
    counts = there.sum(axis=axis)
    sums = np.where(there, table, 0.0).sum(axis=axis)
    means: FloatArray = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means
