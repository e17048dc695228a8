"""A study from result files: the samplers of leaderboards as they were measured, and no run is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from spa_bench.cards.sampler import SamplerCard
from spa_bench.compare.leaderboard import LeaderboardRow, find_results
from spa_bench.compare.leaderboard.pooled import Result, with_runs
from spa_bench.compare.study.designs import Point, Study, Wishes, points_of, roles_of
from spa_bench.compare.study.measured import MeasuredPoint
from spa_bench.compare.study.options import StudyOptions, grid_of
from spa_bench.errors import UsageError
from spa_bench.runs.folder import differences
from spa_bench.runs.values import check_seeds

# Of the options; the others say how runs are made.
_USED = {"results", "samplers", "seeds", "task", "model", "recipe", "grid", "write"}
_OPTIONS = {
    "settings": "--set",
    "rules": "--grading",
    "loading": "an option on how a model is loaded",
    "judge": "an option of grading",
}
_EQUAL = ("task", "model", "n", "limit", "grading")  # parts of the specs in which the results of a study do not differ


def check_results(chosen: Study, a: StudyOptions) -> None:
    """Raise UsageError where `--results` stands beside an option that says how runs are made, or in a study that needs runs."""
    if chosen.made or chosen.key == "members":
        why = "looks into the pairs of runs" if chosen.made else "has another number of answers at each K"
        raise UsageError(f"--results: the study {chosen.name} {why}, and takes runs of its own; leave it out")
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
    left: str = ""  # sentences on which seeds and samplers are left out


def points_of_results(chosen: Study, a: StudyOptions) -> PointsOfResults:
    """The points of the roles that are played by a result: that of the sampler of that name.

    In a study that varies a setting a sampler has a point for each result, at the value that its spec has for the setting.
    Raises UsageError for fewer than two, for results of several tasks or models of which `--task` and `--model` name none, for
    two of one point, for specs that differ in more than the sampler, and for no common seed, and StoreError as find_results.
    """
    found = find_results(list(a.results or ()))
    names = _names(chosen, a, found)
    results = _of_one([result for result in found if result["sampler"] in names], a)
    there = _placed(chosen, a, names, results)
    if len(there) < 2:
        wanted = "different samplers" if chosen.free and a.samplers is None else ", ".join(names)
        raise UsageError(
            f"the results have {_listed({r['sampler'] for r in found})}; the study {chosen.name} needs two "
            f"{'points ' if chosen.key else ''}of {wanted}, or --samplers says who plays what"
        )
    _check_alike([result for _, result in there])
    _check_series(chosen, there)
    with_result = {point.series for point, _ in there}
    without = [f"{role}: no result of {name}" for name, role in names.items() if name not in with_result]
    return _at_shared_seeds(chosen, there, a, without)


def _names(chosen: Study, a: StudyOptions, found: Sequence[Result]) -> dict[str, str]:
    """The names of the samplers that take part, each with its role. A study of any cards takes all that have a result."""
    if chosen.free and a.samplers is None:
        return {name: name for name in sorted({result["sampler"] for result in found})}
    if chosen.free:
        return {name.strip(): name.strip() for name in a.samplers.split(",")} if a.samplers else {}
    return {point.series: point.role for point in points_of(chosen, Wishes(cards=roles_of(chosen, a.recipe, a.samplers)))}


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


def _placed(chosen: Study, a: StudyOptions, names: Mapping[str, str], results: Sequence[Result]) -> list[tuple[Point, Result]]:
    """The point of each result, in the order of roles and values; `--grid` leaves out other values."""
    grid, _ = grid_of(chosen, a)
    by_place: dict[tuple[str, float | None], Result] = {}
    for result in results:
        name = result["sampler"]
        x = _value(result, chosen.key) if chosen.key and names[name] not in chosen.fixed else None
        if grid and x is not None and x not in grid:
            continue
        known = by_place.setdefault((name, x), result)
        if known is not result:
            at = "" if x is None else f" at {chosen.axis} {x:g}"
            why = differences(known["spec"], result["spec"])
            raise UsageError(f"the results have two of {name}{at} ({why}); give files that have one")
    order = {name: place for place, name in enumerate(names)}
    ordered = sorted(by_place.items(), key=lambda one: (order[one[0][0]], one[0][1] or 0.0))
    return [
        (Point(names[name], x, SamplerCard(name=name, description="", members=result["members"]), result["n"]), result)
        for (name, x), result in ordered
    ]


def _value(result: Result, key: str) -> float:
    """The value of a setting, such as decoding.temperature, in the spec of a result. Raises UsageError where it has none."""
    value = result["spec"]["sampler"]
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(
            f"the result of {result['sampler']} has no {key}, which this study varies; leave it out with --samplers"
        )
    return float(value)


def _check_alike(results: Sequence[Result]) -> None:
    """Raise UsageError unless the results are of the same problems, and their specs say the same of all but the sampler."""
    for one, other in pairwise(results):
        specs = [{key: result["spec"][key] for key in _EQUAL} for result in (one, other)]
        if specs[0] != specs[1] or any(one[key] != other[key] for key in ("problems", "size")):
            why = differences(specs[0], specs[1]) or "other problems"
            raise UsageError(f"{one['sampler']} and {other['sampler']} cannot be compared ({why}); give results of one table")


def _check_series(chosen: Study, there: Sequence[tuple[Point, Result]]) -> None:
    """Raise UsageError where two points of one sampler differ in more than the setting that the study varies."""
    for (point, result), (other, another) in pairwise(there):
        if point.series != other.series:
            continue
        specs = [_without(one["spec"], chosen.key) for one in (result, another)]
        if specs[0] != specs[1]:
            raise UsageError(
                f"{point.label(chosen)} and {other.label(chosen)} differ in more than the {chosen.axis} "
                f"({differences(specs[0], specs[1])}); give results of one recipe"
            )


def _without(spec: Mapping[str, object], key: str) -> dict[str, object]:
    """What a spec says of sampler and data, but for one setting; of the data nothing where the setting is about them."""
    parts = ["sampler"] if key.startswith("data.") else ["sampler", "data"]
    return _left({name: spec[name] for name in parts}, ["sampler", *key.split(".")])


def _left(table: Mapping[str, object], path: Sequence[str]) -> dict[str, object]:
    """`table` without what lies at `path`."""
    inner = table.get(path[0])
    rest = {name: value for name, value in table.items() if name != path[0]}
    return {**rest, path[0]: _left(inner, path[1:])} if isinstance(inner, Mapping) and len(path) > 1 else rest


def _at_shared_seeds(
    chosen: Study, there: Sequence[tuple[Point, Result]], a: StudyOptions, without: list[str]
) -> PointsOfResults:
    wanted = None if a.seeds == StudyOptions().seeds else set(a.seeds)
    seeds = [{run["seed"] for run in result["runs"] if wanted is None or run["seed"] in wanted} for _, result in there]
    shared = set.intersection(*seeds)
    if not shared:
        of_these = "" if wanted is None else "of --seeds "
        raise UsageError(f"no seed {of_these}is there for every sampler of the study; --samplers leaves some out")
    more = sorted(set().union(*seeds) - shared)
    left = f"**Seeds that not all samplers have are left out**: {', '.join(map(str, more))}." if more else ""
    lines = [left, _not_compared(chosen, a, there)]
    points = [_measured(point, result, shared, chosen) for point, result in there]
    return PointsOfResults(points, without, "\n\n".join(line for line in lines if line))


def _not_compared(chosen: Study, a: StudyOptions, there: Sequence[tuple[Point, Result]]) -> str:
    """A sentence on our cards that have no result, where all that have one are compared."""
    if not chosen.free or a.samplers is not None:
        return ""
    missing = [name for name in roles_of(chosen, a.recipe, None) if name not in {point.series for point, _ in there}]
    return f"**Not compared**, for they have no result: {', '.join(missing)}." if missing else ""


def _measured(point: Point, result: Result, seeds: set[int], chosen: Study) -> MeasuredPoint:
    runs = [run for run in result["runs"] if run["seed"] in seeds]
    row = LeaderboardRow(result if len(runs) == len(result["runs"]) else with_runs(result, runs), point.label(chosen))
    contents = tuple({**run, "size": result["size"]} for run in row.result["runs"])
    return MeasuredPoint(point, row, contents)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "no sampler"
