"""The study main from result files: the samplers of a leaderboard as they were measured, and no run is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from spa_bench.compare.leaderboard import LeaderboardRow, find_results
from spa_bench.compare.leaderboard.pooled import Result, with_runs
from spa_bench.compare.study.designs import Point, Study, Wishes, points_of, roles_of
from spa_bench.compare.study.measured import MeasuredPoint
from spa_bench.compare.study.options import StudyOptions
from spa_bench.errors import UsageError
from spa_bench.runs.folder import differences

_USED = {"results", "samplers", "seeds", "task", "model", "recipe", "write"}  # of the options; the others say how runs are made


def check_results(chosen: Study, a: StudyOptions) -> None:
    """Raise UsageError where `--results` stands beside an option that says how runs are made, or in another study than main."""
    if chosen.name != "main":
        raise UsageError(
            f"--results is of the study main; {chosen.name} {'varies a setting' if chosen.key else 'looks into runs'}, which "
            "takes runs of its own"
        )
    plain = StudyOptions()
    given = [f.name for f in fields(a) if f.name not in _USED and getattr(a, f.name) != getattr(plain, f.name)]
    if given:
        named = "--set" if given[0] == "settings" else f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{named} and --results: the results say how they were made; leave one of them out")


def points_of_results(chosen: Study, a: StudyOptions) -> tuple[list[MeasuredPoint], int, list[str]]:
    """(the points that have a result, at the seeds that all have; runs of all their seeds; a line for each role that has none).

    A role is played by the result of the sampler of that name. Raises UsageError for fewer than two, for results of several
    tasks or models of which `--task` and `--model` name none, and for no common seed, and StoreError as find_results.
    """
    results = _of_one(find_results(list(a.results)), a)
    points = points_of(chosen, Wishes(cards=roles_of(chosen, a.recipe, a.samplers)))
    by_name: dict[str, Result] = {}
    for result in results:
        known = by_name.setdefault(result["sampler"], result)
        if known is not result:
            raise UsageError(
                f"the results have two of {result['sampler']} ({differences(known['spec'], result['spec'])}); leave one out"
            )
    there = [(point, by_name[point.series]) for point in points if point.series in by_name]
    if len(there) < 2:
        raise UsageError(
            f"the results have {', '.join(sorted(by_name))}; the study main needs two of "
            f"{', '.join(point.series for point in points)}, or --samplers says who plays what"
        )
    seeds = [{run["seed"] for run in result["runs"]} & set(a.seeds) for _, result in there]
    shared = set.intersection(*seeds)
    if not shared:
        raise UsageError("no seed is there for every sampler of the study; --samplers leaves some out")
    left = [f"{point.role}: no result of {point.series}" for point in points if point.series not in by_name]
    return [_measured(point, result, shared) for point, result in there], sum(map(len, seeds)), left


def _of_one(results: Sequence[Result], a: StudyOptions) -> list[Result]:
    """The results of one task, model and set of problems. Raises UsageError where there are several, or none."""
    for option, key, wanted in (("--task", "task", a.task), ("--model", "model", a.model)):
        names = sorted({str(result[key]) for result in results})
        if wanted is None and len(names) > 1:
            raise UsageError(f"the results are of the {key}s {', '.join(names)}; {option} says of which")
        if wanted is not None:
            results = [result for result in results if result[key] == wanted]
            if not results:
                raise UsageError(f"{option} is {wanted}; the results are of {', '.join(names)}")
    first = results[0]
    for other in results:
        if (other["problems"], other["n"]) != (first["problems"], first["n"]):
            raise UsageError(
                f"{other['sampler']} has other problems, or another number of answers, than {first['sampler']}; give results "
                "of one table"
            )
    return list(results)


def _measured(point: Point, result: Result, seeds: set[int]) -> MeasuredPoint:
    runs = [run for run in result["runs"] if run["seed"] in seeds]
    row = LeaderboardRow(result if len(runs) == len(result["runs"]) else with_runs(result, runs), point.series)
    contents = tuple({**run, "size": result["size"]} for run in row.result["runs"])
    return MeasuredPoint(replace(point, n=result["n"]), row, contents)
