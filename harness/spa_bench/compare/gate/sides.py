"""The two sides of a comparison: results read from places, the choice among several, and the problems that two share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard import build_rows, find_results
from spa_bench.compare.leaderboard.rows import LeaderboardRow, common_size
from spa_bench.errors import UsageError
from spa_bench.metrics.intervals import nan_means
from spa_bench.metrics.suite import depends_on_n, is_of_all
from spa_bench.runs.folder import RESULTS, check_place, from_elsewhere
from spa_bench.runs.partial import is_partial, whole_name
from spa_bench.tasks.shuffled import same_problems

Result = dict[str, Any]


def read_place(place: str | Path) -> tuple[list[LeaderboardRow], str]:
    """(rows at `place`, the sampler that it names or ""); a place may be `PLACE:SAMPLER`. Raises UsageError without any."""
    path, sampler = Path(place), ""
    if not path.exists():
        before, colon, after = str(place).rpartition(":")
        if colon and before and Path(before).exists():
            path, sampler = Path(before), after
        else:
            check_place(path, RESULTS)
    return build_rows(find_results([path])), sampler


def pick_two(a: str | Path, b: str | Path) -> tuple[LeaderboardRow, LeaderboardRow]:
    """The two samplers to compare. Raises UsageError when a place holds several and none is named, or both are one."""
    (first, name_a), (second, name_b) = read_place(a), read_place(b)
    one = _named(first, name_a, a) if name_a or len(first) == 1 else None
    two = _named(second, name_b, b) if name_b or len(second) == 1 else None
    # a side with one sampler decides which one is meant on a side with many
    one = one or _named(first, two.result["sampler"] if two else "", a)
    two = two or _named(second, one.result["sampler"], b)
    if _runs(one) == _runs(two):
        raise UsageError(
            f"{a} and {b} are the same {one.label}, seeds {_listed(one.seeds)}; a sampler does not differ from itself"
        )
    return one, two


def _runs(row: LeaderboardRow) -> set[tuple[str, str]]:
    return {(run["spec_hash"], run["records"]) for run in row.result["runs"]}


def _named(rows: Sequence[LeaderboardRow], name: str, place: str | Path) -> LeaderboardRow:
    there = ", ".join(row.label for row in rows)
    named_so = [row for row in rows if row.label == name] or [row for row in rows if row.result["sampler"] == name]
    if len(named_so) == 1:
        return named_so[0]
    if len(rows) == 1 and not name:
        return rows[0]
    where = str(place).removesuffix(f":{name}")
    if not named_so and name:
        raise UsageError(f"{where} has no sampler {name!r}; there are {there}")
    raise UsageError(f"{where} holds {there}; say which, as in {where}:{(named_so or rows)[0].label}")


def baseline_of(candidate: LeaderboardRow, baselines: Sequence[LeaderboardRow], place: object) -> LeaderboardRow:
    """The row of `baselines` to compare `candidate` with: its own group of runs, else the row of its sampler and task.

    Raises UsageError when there is none, or several.
    """
    if same := [row for row in baselines if row.result["group_hash"] == candidate.result["group_hash"]]:
        return same[0]
    named = [row for row in baselines if row.result["sampler"] == candidate.result["sampler"]]
    on_task = [row for row in named if row.task == candidate.task]
    if len(on_task) == 1:
        return on_task[0]
    there = ", ".join(f"{row.label} on {row.task}" for row in baselines)
    if named and not on_task:
        raise UsageError(
            f"{place} has {candidate.result['sampler']} on {named[0].task}, and these runs are on {candidate.task}"
        )
    if not named:
        _refuse_other_problems(candidate, baselines, place)
        raise UsageError(
            f"{place} has no sampler {candidate.result['sampler']!r} to check against; there are {there}; a check is between "
            "samplers of one name, and `spa-bench compare` takes any two"
        )
    labels = ", ".join(row.label for row in on_task)
    if from_elsewhere(on_task[0].result["spec"]):
        raise UsageError(
            f"{place} has {candidate.result['sampler']} {len(on_task)} times, each with other answers; "
            "score them with --seed 0, 1, ..., so that they are one sampler"
        )
    raise UsageError(
        f"{place} has {candidate.result['sampler']} {len(on_task)} times ({labels}) and none with the spec of these runs; "
        "give a baseline with one of them"
    )


def _refuse_other_problems(candidate: LeaderboardRow, baselines: Sequence[LeaderboardRow], place: object) -> None:
    """Raises UsageError where the baseline has answers of the same name to other problems: their number is in the name."""
    wanted = whole_name(candidate.result["spec"])
    for row in baselines:
        if row.task == candidate.task and from_elsewhere(row.result["spec"]) and whole_name(row.result["spec"]) == wanted:
            every = "" if is_partial(row.result["spec"]) else f" on all {len(row.result['problems'])} problems"
            raise UsageError(
                f"{place} has {row.result['sampler']}{every}, and these answers are {candidate.result['sampler']}; "
                "score the same problems on both sides"
            )


@dataclass(frozen=True)
class Shared:
    """Two rows and the problems that both have; `before` is the older side."""

    before: LeaderboardRow
    after: LeaderboardRow
    problems: list[str]
    size: int | None  # number of samples at which metrics that depend on n are compared; None: no number in common

    def partial(self, before: str, after: str) -> str:
        """What is left out, in words with these names of the sides; empty when both have the same problems."""
        counts = [len(row.result["problems"]) for row in (self.before, self.after)]
        if counts[0] == counts[1] == len(self.problems):
            return ""
        return f"compared on the {len(self.problems)} problems that both have; {before} {counts[0]} and {after} {counts[1]}"

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of answers to a problem of each side, of the fewest where it differs."""
        return int(self.before.result["size"]), int(self.after.result["size"])

    def lacks_n(self, metric: str) -> bool:
        """Whether a metric that a side has depends on n, and no n is known on both sides."""
        there = any(metric in row.result["runs"][0]["values"] for row in (self.before, self.after))
        return there and depends_on_n(metric) and self.size is None

    def at_other_n(self, metric: str) -> bool:
        """Whether a metric is of all answers to a problem together, which are not as many on both sides."""
        return is_of_all(metric) and self.sizes[0] != self.sizes[1]

    def scores(self, row: LeaderboardRow, metric: str) -> NDArray[np.float64] | None:
        """Scores (S, P) of one side on the shared problems; None where the metric or a common n is missing."""
        values = row.result["runs"][0]["values"]
        if metric not in values:
            return None
        if depends_on_n(metric) and self.size is None:
            return None
        place = {problem: i for i, problem in enumerate(row.result["problems"])}
        scores = row.scores(metric, self.size)[:, [place[p] for p in self.problems]]
        return None if np.isnan(scores).all() else scores


def shared(before: LeaderboardRow, after: LeaderboardRow) -> Shared:
    """Both rows with the problems that they share. Raises UsageError for other tasks, other problems, or none in common."""
    one, other = (row.result["spec"]["task"] for row in (before, after))
    if before.task != after.task:
        raise UsageError(f"{before.label} is on {before.task} and {after.label} on {after.task}: other tasks cannot be paired")
    if not same_problems(one, other):
        versions = [
            f"version {t.get('version') or '-'}, hash {t['problems_hash']}"
            + (f", shuffle {t['shuffle']}{' by tags' if t.get('stratify') else ''}" if "shuffle" in t else "")
            for t in (one, other)
        ]
        raise UsageError(
            f"{before.label} and {after.label} are on other problems of {before.task} ({versions[0]}; {versions[1]}): "
            "run both on the same version, and draw a part of them in the same way"
        )
    have = set(after.result["problems"])
    problems = [p for p in before.result["problems"] if p in have]
    if not problems:
        raise UsageError(f"{before.label} and {after.label} have no problem of {before.task} in common")
    return Shared(before, after, problems, common_size([before, after]))


def shared_means(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The means of both sides, (S, P) each, over the problems where both have a value; None where there is no such problem."""
    sides = [nan_means(side, 0) for side in (one, other)]
    there = ~(np.isnan(sides[0]) | np.isnan(sides[1]))
    if not there.any():
        return None, None
    return float(sides[0][there].mean()), float(sides[1][there].mean())


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
