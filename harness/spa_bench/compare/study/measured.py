"""The measurements of a study's runs: values problem by problem and seed by seed, at equal numbers of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard import LeaderboardRow, from_runs
from spa_bench.compare.leaderboard.compare import RESAMPLES
from spa_bench.compare.study.designs import Point, Study
from spa_bench.errors import StoreError, UsageError
from spa_bench.metrics.intervals import paired_test
from spa_bench.metrics.missing import with_nan, with_none
from spa_bench.metrics.suite import depends_on_n, estimates, is_rate
from spa_bench.runs.folder import RunFolder, differences
from spa_bench.types import Estimate

Test = tuple[Estimate, float | None]  # a difference with its interval, and its p-value


@dataclass(frozen=True)
class MeasuredPoint:
    """One point of a study over its seeds."""

    point: Point
    row: LeaderboardRow  # the point as a leaderboard's functions take it, with the point's label
    contents: tuple[Mapping[str, Any], ...]  # metrics.json of each seed

    @property
    def label(self) -> str:
        """The point's name in tables."""
        return self.row.label

    def scores(self, metric: str, size: int | None = None) -> NDArray[np.float64]:
        """Values (S, P) of any metric, NaN where missing; with `size`, a metric that depends on n is at that many answers."""
        tables = [self._table(content, metric, size) for content in self.contents]
        rows = [table.get(metric) or [None] * len(self.row.result["problems"]) for table in tables]
        return with_nan(rows)

    def estimate(self, metric: str, size: int | None = None) -> Estimate:
        """The mean of a metric over problems and seeds with its 95 % interval."""
        values = with_none(self.scores(metric, size))
        return estimates({metric: values}, size=size or self.row.result["size"])[metric]

    def _table(self, content: Mapping[str, Any], metric: str, size: int | None) -> Mapping[str, Any]:
        whole = size is None or not depends_on_n(metric) or size == content["size"]
        table: Mapping[str, Any] = content["values"] if whole else content["values_at"].get(str(size), {})
        return table


def measure_points(study: Study, points: Sequence[Point], runs: Mapping[int, Sequence[RunFolder]]) -> list[MeasuredPoint]:
    """The points that have runs, at the seeds that all these points have, so that seeds can be paired.

    `runs` maps the place of a point to its finished runs of different seeds. Raises UsageError without runs or a common seed,
    and StoreError when the runs of a point differ in more than the seed, or points are on other problems.
    """
    seeds = [{run.spec["seed"] for run in group} for group in runs.values() if group]
    if not seeds:
        raise UsageError("there are no finished runs of this study; leave out --table-only to make them, or name their --out")
    shared = set.intersection(*seeds)
    if not shared:
        raise UsageError("no seed is finished for every point that has runs; make the study again to finish it")
    measured = []
    for place, group in runs.items():
        chosen = [run for run in group if run.spec["seed"] in shared]
        if not chosen:
            continue
        results = from_runs(chosen)
        if len(results) > 1:
            other = next(run for run in chosen if {**run.spec, "seed": 0} != {**chosen[0].spec, "seed": 0})
            raise StoreError(f"{chosen[0].path} and {other.path} cannot be pooled: {differences(chosen[0].spec, other.spec)}")
        ordered = sorted(chosen, key=lambda run: int(run.spec["seed"]))
        label = points[place].label(study)
        measured.append(
            MeasuredPoint(points[place], LeaderboardRow(results[0], label), tuple(run.metrics() for run in ordered))
        )
    for before, after in pairwise(measured):
        _check_problems(before, after)
    return measured


def _check_problems(one: MeasuredPoint, other: MeasuredPoint) -> None:
    """Raise StoreError for points on other problems, as where those of a task have changed: they are paired by place."""
    here, there = one.row.result, other.row.result
    tasks = [{key: result["spec"]["task"].get(key) for key in ("version", "problems_hash")} for result in (here, there)]
    if here["problems"] != there["problems"] or tasks[0]["problems_hash"] != tasks[1]["problems_hash"]:
        how = differences({"task": tasks[0]}, {"task": tasks[1]}) or "the task is the same"
        raise StoreError(
            f"{one.label} and {other.label} cannot be paired, for they are on other problems ({how}): move the run "
            f"{here['runs'][0]['run']} or {there['runs'][0]['run']} away, or leave out --table-only to make what is missing"
        )


def difference(one: MeasuredPoint, other: MeasuredPoint, metric: str, size: int | None = None) -> Test:
    """`one` minus `other`, paired by problem and seed."""
    a, b = one.scores(metric, size), other.scores(metric, size)
    if np.isnan(a).all() or np.isnan(b).all():
        return Estimate.missing("no value to compare"), None
    return paired_test(a, b, rate=is_rate(metric), resamples=RESAMPLES)


def change(series: Sequence[MeasuredPoint], metric: str, *, falls: bool = False) -> Test:
    """How much `metric` grows (or falls, with `falls`) on the line fitted to a sampler's points, from the first x to the last.

    The slope by least squares is a weighted sum of the points' values, so it has a value for each problem and seed and an
    interval as any difference has. `series` is in the order of x, which takes at least two values.
    """
    x = np.array([m.point.x for m in series], float)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum() * (x[-1] - x[0]) * (-1 if falls else 1)
    scores = np.stack([m.scores(metric) for m in series])
    if np.isnan(scores).all():
        return Estimate.missing("no value to compare"), None
    # The weights add up to 0, so the slope is a multiple of the difference of two weighted means, which are rates where the
    # metric is one. So a change that is 0 for every problem still has an interval.
    total = float(weights[weights > 0].sum())
    gains, losses = (_mean(scores, np.clip(sign * weights, 0, None), metric) for sign in (1, -1))
    estimate, p = paired_test(gains, losses, rate=is_rate(metric), resamples=RESAMPLES)
    value, low, high = (None if v is None else v * total for v in (estimate.value, estimate.low, estimate.high))
    return Estimate(value=value, low=low, high=high, n=estimate.n, reason=estimate.reason), p


def _mean(scores: NDArray[np.float64], weights: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """The weighted mean over points, shape (S, P); that of rates stays within [0, 1] in spite of rounding."""
    mean: NDArray[np.float64] = np.tensordot(weights / weights.sum(), scores, 1)
    return np.clip(mean, 0.0, 1.0) if is_rate(metric) else mean


def by_series(points: Sequence[MeasuredPoint]) -> dict[str, list[MeasuredPoint]]:
    """Sampler -> its points in the order of the setting that varies."""
    series_of: dict[str, list[MeasuredPoint]] = {}
    for measured in points:
        series_of.setdefault(measured.point.series, []).append(measured)
    return {name: sorted(series, key=lambda m: m.point.x or 0.0) for name, series in series_of.items()}


def shared_size(points: Sequence[MeasuredPoint]) -> int:
    """The largest number of answers at which all `points` can be compared, by rarefaction where they drew more."""
    return max(set.intersection(*(m.row.sizes() for m in points)))
