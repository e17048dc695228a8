"""Estimates against scipy: means, the ends of intervals, Wilson's interval, divergences over choices.

Two bootstraps of the same values differ by chance, so ends are compared as probabilities: an end of a percentile interval has
2.5 % of scipy's resampled means beyond it. Ours is stretched about the mean by t / z * sqrt(n / (n - 1)), which is undone
first. Each end of a rate reaches at least as far as Wilson's: one that is not Wilson's own is compared with the bootstrap, and
counts as wrong by Wilson too where it reaches less far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.problem_part import limits_of_few
from spa_bench.metrics.suite import ALIASES, is_rate, value_bounds
from spa_bench.runs.references.part import Comparison, Differences, Part, absent, relative
from spa_bench.support.seeds import derive_seed

FloatArray = NDArray[np.float64]
_TAIL = 0.025
_CHANCE = 0.02  # of a tail: five standard errors of 2,000 resamples beside scipy's 9,999
_RESAMPLES = 9_999
_NO_INTERVAL = "no metric has an interval over problems that differ"


@dataclass(frozen=True, kw_only=True)
class _Metric:
    """One metric of a run: its values and its kept estimate."""

    name: str
    values: FloatArray  # of the problems that have one
    value: float
    low: float | None
    high: float | None

    @property
    def rate(self) -> bool:
        return is_rate(self.name)


def means(part: Part) -> Comparison:
    """The value of each estimate: the mean of the kept values of all problems."""
    try:
        from scipy import stats
    except ImportError as error:
        return absent("means", "scipy", error, "scipy")
    found = Differences()
    for metric in _metrics(part):
        found.pair(metric.name, metric.value, float(stats.tmean(metric.values)))
    return found.outcome("means over problems", "scipy", tolerance=1e-9, unit="relative", none="no metric has a value")


def bootstrap(part: Part) -> Comparison:
    """The ends of intervals whose values differ between problems, but those that are Wilson's."""
    try:
        ends = [end for end in _ends(part) if not end.is_wilson]
        found = Differences()
        for end in ends:
            found.add(end.name, _off(end, part))
    except ImportError as error:
        return absent("intervals (bootstrap)", "scipy", error, "scipy")
    return found.outcome(
        "intervals (bootstrap)", "scipy", tolerance=_CHANCE, unit="of the 2.5 % beyond an end", none=_NO_INTERVAL
    )


def wilson(part: Part) -> Comparison:
    """The ends of rates: none reaches less far than Wilson's interval, and one without a spread is Wilson's."""
    what = "intervals (Wilson)"
    try:
        from scipy import stats

        ends = [end for end in _ends(part) if end.wilson is not None]
    except ImportError as error:
        return absent(what, "scipy", error, "scipy")
    found = Differences()
    for end in ends:
        assert end.wilson is not None
        short = end.wilson - end.at if end.upper else end.at - end.wilson
        found.add(end.name, relative(end.at, end.wilson) if short > 0 or end.is_wilson else 0.0)
    for metric in _metrics(part):
        n = len(metric.values)
        if metric.rate and n > 1 and np.ptp(metric.values) == 0 and metric.value in (0.0, 1.0):
            said = stats.binomtest(round(metric.value * n), n).proportion_ci(method="wilson")
            found.pair(f"low of {metric.name}", metric.low, float(said.low))
            found.pair(f"high of {metric.name}", metric.high, float(said.high))
    return found.outcome(what, "scipy", tolerance=1e-9, unit="relative", none="no rate has an interval")


def choices(part: Part) -> Comparison:
    """KL, JS and entropy over the choices of multiple-choice problems, from the kept log-probabilities."""
    what = "kl, js, entropy [choices]"
    try:
        from scipy import special, stats
        from scipy.spatial import distance
    except ImportError as error:
        return absent(what, "scipy", error, "scipy")
    found = Differences()
    for place in part.chosen:
        samples = part.samples[place]
        row = samples.preferences
        if row is None or not samples.choices:
            continue
        p = special.softmax(np.asarray(row.logprobs, dtype=np.float64)[:, : samples.choices], axis=1)
        for i, one in enumerate(p):
            of_member = f"of {samples.problem}, member {i}"
            found.pair(f"entropy {of_member}", row.members["entropy[choices]"][i], float(stats.entropy(one)))
            for j, other in enumerate(p):
                if i != j:
                    kl, js = float(special.rel_entr(one, other).sum()), float(distance.jensenshannon(one, other) ** 2)
                    found.pair(f"kl {of_member} to {j}", row.matrices["kl[choices]"][i][j], kl)
                    found.pair(f"js {of_member} to {j}", row.matrices["js[choices]"][i][j], js)
    return found.outcome(what, "scipy", tolerance=1e-6, unit="relative", none="no problem is multiple choice")


@dataclass(frozen=True, kw_only=True)
class _End:
    """One end of an interval of values that differ."""

    metric: _Metric
    upper: bool
    at: float
    cut: bool  # whether a limit of the metric cuts the interval there
    wilson: float | None  # where Wilson's interval ends of a rate, or of how many problems differ where few do; None: neither

    @property
    def name(self) -> str:
        return f"{'high' if self.upper else 'low'} of {self.metric.name}"

    @property
    def is_wilson(self) -> bool:
        return self.wilson is not None and math.isclose(self.at, self.wilson, rel_tol=1e-9, abs_tol=1e-12)


def _metrics(part: Part) -> Iterator[_Metric]:
    """The metrics with a finite value, each under its whole name."""
    for name, column in part.content["values"].items():
        kept = part.content["estimates"].get(name)
        values = np.array([v for v in column if v is not None], dtype=np.float64)
        if name not in ALIASES and kept and kept["value"] is not None and len(values) and np.isfinite(values).all():
            yield _Metric(name=name, values=values, value=float(kept["value"]), low=kept["low"], high=kept["high"])


def _ends(part: Part) -> Iterator[_End]:
    """The ends of all intervals of values that differ."""
    for metric in _metrics(part):
        if len(metric.values) < 2 or metric.low is None or metric.high is None or np.ptp(metric.values) == 0:
            continue
        limits = value_bounds(metric.name, part.size) or (-math.inf, math.inf)
        between = (0.0, 1.0) if metric.rate else limits_of_few(metric.values, limits)
        for upper, end in ((False, metric.low), (True, metric.high)):
            cut = math.isclose(end, limits[upper], abs_tol=1e-12)
            yield _End(metric=metric, upper=upper, at=end, cut=cut, wilson=_wilson(metric, upper, between) if between else None)


def _wilson(metric: _Metric, upper: bool, between: tuple[float, float]) -> float | None:
    """An end of Wilson's interval (Wilson 1927), for as many values at the limits as the spread of the values is worth.

    None where that is less than one.
    """
    from scipy import special

    least, width = between[0], between[1] - between[0]
    z, p = float(special.ndtri(1 - _TAIL)), (metric.value - least) / width
    worth = len(metric.values) * p * (1 - p) / float(np.var(metric.values / width))
    if worth < 1:
        return None
    centre, half = p + z * z / (2 * worth), z * math.sqrt(p * (1 - p) / worth + z * z / (4 * worth * worth))
    return least + width * (centre + half if upper else centre - half) / (1 + z * z / worth)


def _off(end: _End, part: Part) -> float:
    """How far the share of scipy's resampled means beyond an end is from 2.5 %.

    Resampled means have atoms, so an end may stand for a range of shares. Beyond an end that a limit cuts more may lie.
    """
    from scipy import stats

    values, mean = end.metric.values, end.metric.value
    generator = np.random.default_rng(derive_seed("references", part.folder.hash, end.name))
    drawn = stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, method="percentile", vectorized=True, random_state=generator
    ).bootstrap_distribution
    n = len(values)
    stretch = float(stats.t.ppf(1 - _TAIL, n - 1) / stats.norm.ppf(1 - _TAIL)) * math.sqrt(n / (n - 1))
    at = mean + (end.at - mean) / stretch
    beyond, slack = (drawn - at) * (1 if end.upper else -1), 1e-9 * max(1.0, abs(at))
    least, most = float((beyond > slack).mean()), float((beyond >= -slack).mean())
    return max(0.0, _TAIL - most, 0.0 if end.cut else least - _TAIL)
