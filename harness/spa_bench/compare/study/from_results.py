"""The study main from result files: the samplers of a leaderboard as they were measured, and no run is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from spa_bench.compare.leaderboard import LeaderboardRow, find_results
from spa_bench.compare.leaderboard.pooled import Result, with_runs
from spa_bench.compare.study.designs import Point, Study, Wishes, points_of, roles_of
from spa_bench.compare.study.measured import MeasuredPoint
from spa_bench.compare.study.options import StudyOptions
from spa_bench.errors import UsageError
from spa_bench.runs.folder import differences
from spa_bench.runs.values import check_seeds

_USED = {"results", "samplers", "seeds", "task", "model", "recipe", "write"}  # of the options; the others say how runs are made
_OPTIONS = {
    "settings": "--set",
    "rules": "--grading",
    "loading": "an option on how a model is loaded",
    "judge": "an option of grading",
}
_EQUAL = ("task", "model", "n", "limit", "grading")  # parts of the specs in which the results of a study do not differ


def check_results(chosen: Study, a: StudyOptions) -> None:
    """Raise UsageError where `--results` stands beside an option that says how runs are made, or in another study than main."""
    if chosen.name != "main":
        raise UsageError(
            f"--results is of the study main; {chosen.name} {'varies a setting' if chosen.key else 'looks into runs'}, which "
            "takes runs of its own"
        )
    if not a.results:
        raise UsageError("--results names no file; give result files or run folders, or leave it out")
    check_seeds(a.seeds)
    plain = StudyOptions()
    given = [f.name for f in fields(a) if f.name not in _USED and getattr(a, f.name) != getattr(plain, f.name)]
    if given:
        named = _OPTIONS.get(given[0], f"--{given[0].replace('_', '-')}")
        raise UsageError(f"{named} and --results: the results say how they were made; leave one of them out")


@dataclass(frozen=True)
class PointsOfResults:
    """The points of a study that have a result."""

    points: list[MeasuredPoint]  # at the seeds that all have
    without: list[str]  # a line for each role that has no result
    left: str = ""  # which seeds are left out


def points_of_results(chosen: Study, a: StudyOptions) -> PointsOfResults:
    """The points of the roles that are played by a result: that of the sampler of that name.

    Raises UsageError for fewer than two, for results of several tasks or models of which `--task` and `--model` name none, for
    two of one sampler, for specs that differ in more than the sampler, and for no common seed, and StoreError as find_results.
    """
    points = points_of(chosen, Wishes(cards=roles_of(chosen, a.recipe, a.samplers)))
    found = find_results(list(a.results or ()))
    results = _of_one([r for r in found if r["sampler"] in {point.series for point in points}], a)
    by_name: dict[str, Result] = {}
    for result in results:
        known = by_name.setdefault(result["sampler"], result)
        if known is not result:
            raise UsageError(
                f"the results have two of {result['sampler']} ({differences(known['spec'], result['spec'])}); give files that "
                "have one"
            )
    if len(by_name) < 2:
        raise UsageError(
            f"the results have {', '.join(sorted({r['sampler'] for r in found}))}; the study main needs two of "
            f"{', '.join(point.series for point in points)}, or --samplers says who plays what"
        )
    _check_alike(results)
    there = [(point, by_name[point.series]) for point in points if point.series in by_name]
    return _at_shared_seeds(there, a, [f"{p.role}: no result of {p.series}" for p in points if p.series not in by_name])


def _of_one(results: Sequence[Result], a: StudyOptions) -> list[Result]:
    """The results of one task and model. Raises UsageError where none is of those that `--task` and `--model` name."""
    for option, key, wanted in (("--task", "task", a.task), ("--model", "model", a.model)):
        names = sorted({str(result[key]) for result in results})
        if wanted is None and len(names) > 1:
            raise UsageError(f"the results are of the {key}s {', '.join(names)}; {option} says of which")
        if wanted is not None and results:
            results = [result for result in results if result[key] == wanted]
            if not results:
                raise UsageError(f"{option} is {wanted}; the results are of {', '.join(names)}")
    return list(results)


def _check_alike(results: Sequence[Result]) -> None:
    """Raise UsageError unless the results are of the same problems, and their specs say the same of all but the sampler."""
    for one, other in pairwise(results):
        specs = [{key: result["spec"][key] for key in _EQUAL} for result in (one, other)]
        if specs[0] != specs[1] or any(one[key] != other[key] for key in ("problems", "size")):
            why = differences(specs[0], specs[1]) or "other problems"
            raise UsageError(f"{one['sampler']} and {other['sampler']} cannot be compared ({why}); give results of one table")


def _at_shared_seeds(there: Sequence[tuple[Point, Result]], a: StudyOptions, without: list[str]) -> PointsOfResults:
    wanted = None if a.seeds == StudyOptions().seeds else set(a.seeds)
    seeds = [{run["seed"] for run in result["runs"] if wanted is None or run["seed"] in wanted} for _, result in there]
    shared = set.intersection(*seeds)
    if not shared:
        of_these = "" if wanted is None else "of --seeds "
        raise UsageError(f"no seed {of_these}is there for every sampler of the study; --samplers leaves some out")
    more = sorted(set().union(*seeds) - shared)
    left = f"**Seeds that not all samplers have are left out**: {', '.join(map(str, more))}." if more else ""
    return PointsOfResults([_measured(point, result, shared) for point, result in there], without, left)


def _measured(point: Point, result: Result, seeds: set[int]) -> MeasuredPoint:
    runs = [run for run in result["runs"] if run["seed"] in seeds]
    row = LeaderboardRow(result if len(runs) == len(result["runs"]) else with_runs(result, runs), point.series)
    contents = tuple({**run, "size": result["size"]} for run in row.result["runs"])
    return MeasuredPoint(replace(point, n=result["n"]), row, contents)
