"""Paired differences between samplers on one task, which of them are resolved, and the front of quality and diversity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard.rows import LeaderboardRow, common_size
from spa_bench.errors import UsageError
from spa_bench.metrics.best import below_best
from spa_bench.metrics.intervals import equivalent, paired_test
from spa_bench.metrics.multiple import Decision, resolve
from spa_bench.metrics.quality_diversity import Frontier, frontier, problems_everywhere
from spa_bench.metrics.suite import depends_on_n, is_of_all, is_rate
from spa_bench.support.rounding import fixed
from spa_bench.types import Estimate

MARGIN = 0.05  # pass@1 counts as equal where the paired interval lies inside ±MARGIN
PAIRED = {
    "pass@1": "pass@1",
    "pass@K": "pass@K",
    "diversity_score": "diversity_score[exact]",
    "effective_diversity": "effective_diversity[ast,correct]",
    "vendi": "vendi[ngram,q=1]",
}
"""Column -> metric, for the columns in which more is better; they are compared paired."""
OPEN_PAIRED = {
    "utility_k": "utility_k[class]",
    "distinct_k": "distinct_k[class]",
    "quality": "quality[judged]",
    "diversity_score": "diversity_score[exact]",
    "vendi": "vendi[ngram,q=1]",
}
"""The same where answers are neither right nor wrong."""
_OF_QUALITY = ("utility_k", "quality")
QUALITY_MARGIN = 0.5  # judged quality, 1 to 10, counts as equal where the paired interval lies inside ±QUALITY_MARGIN
CHOSEN = {"accuracy": "pass@1[mc]", "majority vote": "majority_vote[mc]", "any of n": "any_of_n[mc]"}
"""The same for multiple choice; the best are bold where differences are resolved."""
_METRICS = {**PAIRED, **OPEN_PAIRED, **CHOSEN}
RESAMPLES = 4000


@dataclass(frozen=True)
class Axes:
    """The columns of quality and of diversity in a table."""

    quality: str
    margin: float  # differences in quality within ± this count as none
    diversity: str
    said: str  # the diversity in words


AXES = Axes("pass@1", MARGIN, "diversity_score", "diversity score")
OPEN_AXES = Axes("quality", QUALITY_MARGIN, "distinct_k", "distinct_k")


def paired_columns(rows: Sequence[LeaderboardRow]) -> dict[str, str]:
    """Column -> metric, of the columns in which `rows`, all of one table, are compared paired.

    Where answers are neither right nor wrong and no row has a judged quality, the columns of quality are left out.
    """
    if not any(row.open_ended for row in rows):
        return PAIRED
    judged = any(row.estimate(OPEN_PAIRED[OPEN_AXES.quality]).value is not None for row in rows)
    return {column: metric for column, metric in OPEN_PAIRED.items() if judged or column not in _OF_QUALITY}


@dataclass(frozen=True)
class PairedComparison:
    """The reference minus another row, paired by problem, with Holm over all other rows of a column."""

    other: LeaderboardRow
    decisions: dict[str, Decision]  # column -> the difference and whether it is resolved

    @property
    def axes(self) -> Axes:
        """The columns that say whether quality is equal and diversity differs."""
        return AXES if AXES.quality in self.decisions else OPEN_AXES

    def sentence(self, reference: str) -> str:
        """A sentence that says whether quality is equal and whether diversity differs."""
        axes = self.axes
        quality, spread = self.decisions.get(axes.quality), self.decisions[axes.diversity]
        if quality is None:
            first = "no quality is judged"
        elif self.equal:
            first = f"{axes.quality} is equal within ±{axes.margin} ({number(quality.difference)})"
        elif quality.resolved:
            first = f"{axes.quality} differs ({number(quality.difference)})"
        else:
            first = f"{axes.quality} is not shown to be equal within ±{axes.margin} ({number(quality.difference)})"
        if not spread.resolved:
            second = f"no difference in {axes.said} is resolved ({number(spread.difference)})"
        else:
            how = "higher" if (spread.difference.value or 0) > 0 else "lower"
            second = f"{axes.said} is {how} ({number(spread.difference)})"
        return f"{reference} against {self.other.label}: {first}; {second}."

    @property
    def equal(self) -> bool:
        """Whether quality is shown to be equal."""
        quality = self.decisions.get(self.axes.quality)
        return quality is not None and equivalent(quality.difference, self.axes.margin)


def compare_with_reference(rows: Sequence[LeaderboardRow], reference: str) -> list[PairedComparison]:
    """`reference` compared with every other row, at equal n, paired by problem. Raises UsageError as `row_of`."""
    chosen = row_of(rows, reference)
    others = [r for r in rows if r is not chosen and r.table_key == chosen.table_key]
    decided = {column: _decide(column, chosen, others) for column in paired_columns([chosen, *others])}
    return [PairedComparison(other, {column: of[other.label] for column, of in decided.items()}) for other in others]


def row_of(rows: Sequence[LeaderboardRow], reference: str) -> LeaderboardRow:
    """The first row with the label `reference`. Raises UsageError where none has it, or several have it as their beginning."""
    chosen = next((r for r in rows if r.label == reference), None)
    if chosen is not None:
        return chosen
    there = sorted({r.label for r in rows})
    if alike := [label for label in there if label.startswith((f"{reference}[", f"{reference}@"))]:
        raise UsageError(f"{len(alike)} rows are of the reference {reference!r}: name one of {', '.join(alike)}")
    raise UsageError(f"no runs of the reference {reference!r} here; there are {', '.join(there)}")


def _decide(column: str, chosen: LeaderboardRow, others: Sequence[LeaderboardRow]) -> dict[str, Decision]:
    """`chosen` minus each of `others` in one column, after Holm."""
    return resolve({other.label: _test(column, chosen, other) for other in others})


def _test(column: str, one: LeaderboardRow, other: LeaderboardRow) -> tuple[Estimate, float | None]:
    metric, size = _METRICS[column], common_size([one, other])
    if column == "pass@K" and one.result["k"] != other.result["k"]:
        return Estimate.missing(f"k is {one.result['k']} and {other.result['k']}"), None
    if size is None and depends_on_n(metric):
        return Estimate.missing("no number of answers that both have"), None
    a, b = one.scores(metric, size), other.scores(metric, size)
    if np.isnan(a).all() or np.isnan(b).all():
        return Estimate.missing("no value to compare"), None
    return paired_test(a, b, rate=is_rate(metric), resamples=RESAMPLES)


def best(rows: Sequence[LeaderboardRow], column: str) -> set[str]:
    """Labels of the rows to print bold in a column: the best row, and those without a resolved difference from it.

    Differences are paired, and corrected for the best being chosen from the rows (below_best). The set is empty when no row
    differs from the best: then the column does not show which row is best. Rows that cannot be compared with the best are not
    in it (`rivals`).
    """
    size, metric, there = common_size(rows), _METRICS[column], rivals(rows, column)
    if len(there) < 2:
        return set()
    worse = below_best({r.label: r.scores(metric, size) for r in there}, there[0].label, rate=is_rate(metric))
    return {r.label for r in there} - worse if worse else set()


def rivals(rows: Sequence[LeaderboardRow], column: str) -> list[LeaderboardRow]:
    """The row with the highest value in a column, and after it those that it can be compared with; empty without a value.

    A pass@K of another k, and what all answers to a problem reach together at another n, is another number.
    """
    size, metric = common_size(rows), _METRICS[column]
    values = [(value, r) for r in rows if (value := r.estimate(metric, size).value) is not None]
    if not values:
        return []
    top = max(values, key=lambda one: one[0])[1]
    at_own_n = is_of_all(metric) or (size is None and depends_on_n(metric))
    same = "k" if column == "pass@K" else "size" if at_own_n else None
    return [top, *(r for _, r in values if r is not top and (same is None or r.result[same] == top.result[same]))]


def summary(comparisons: Sequence[PairedComparison], reference: str) -> str:
    """A sentence that says from which samplers of equal quality the reference differs in diversity."""
    axes = comparisons[0].axes if comparisons else AXES
    if comparisons and not any(axes.quality in c.decisions for c in comparisons):
        return "No quality is judged: nothing is said at equal quality."
    groups: dict[str, list[str]] = {"higher than": [], "lower than": [], "not resolved against": []}
    unequal = []
    for c in comparisons:
        spread = c.decisions[axes.diversity]
        if not c.equal:
            unequal.append(c.other.label)
        elif spread.resolved:
            groups["higher than" if (spread.difference.value or 0) > 0 else "lower than"].append(c.other.label)
        else:
            groups["not resolved against"].append(c.other.label)
    parts = ", ".join(f"{how} {_listed(names)}" for how, names in groups.items() if names)
    if not parts:
        return (
            f"No sampler's {axes.quality} is shown to equal that of {reference} within ±{axes.margin}: "
            "nothing is said at equal quality."
        )
    rest = f"; with {_listed(unequal)} {axes.quality} is not shown to be equal" if unequal else ""
    inside = f"paired 95 % interval inside ±{axes.margin}"
    return f"At equal {axes.quality} ({inside}), the {axes.said} of {reference} is {parts}{rest}."


def front_of(rows: Sequence[LeaderboardRow]) -> tuple[Frontier, list[str]] | None:
    """The front of (pass@1, diversity score) and the labels of the temperature sweep; None for fewer than 2 rows.

    Where answers are neither right nor wrong, its points are (judged quality / 10, classes / n).
    """
    usable = front_scores(rows)
    if not usable:
        return None
    swept = sweep_of([r for r in rows if r.label in usable])
    return frontier(usable, sweep=swept), swept


def front_scores(rows: Sequence[LeaderboardRow]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Label -> the scores of quality and diversity of front_of; empty where there is no front."""
    size = common_size(rows)
    if any(r.open_ended for r in rows):
        if size is None:
            return {}
        quality, spread = OPEN_PAIRED[OPEN_AXES.quality], OPEN_PAIRED[OPEN_AXES.diversity]
        scores = {r.label: (r.scores(quality) / 10, r.scores(spread, size) / size) for r in rows}
    else:
        scores = {r.label: (r.scores("pass@1"), r.scores("diversity_score[exact]")) for r in rows}
    usable = {k: v for k, v in scores.items() if not (np.isnan(v[0]).all() or np.isnan(v[1]).all())}
    return usable if len(usable) >= 2 and problems_everywhere(usable) >= 2 else {}


def sweep_of(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Labels of the temperature sweep: rows of one member that differ in the temperature alone; the longest such group."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        spec = row.result["spec"]
        sampler = spec["sampler"]
        decoding = sampler.get("decoding", {})
        cut = {key for key, off in (("top_p", 1), ("top_k", 0), ("min_p", 0)) if decoding.get(key, off) != off}
        whole = not cut and decoding.keys() <= {"temperature", "top_p", "top_k", "min_p"}  # others are said only where in use
        if sampler.get("kind") == "mixture" and sampler.get("members") == 1 and whole:
            rest = {k: v for k, v in sampler.items() if k not in {"name", "decoding", "draws"}}
            same = [spec[key] for key in ("model", "task", "data", "n", "grading")]
            groups.setdefault(json.dumps([rest, same], sort_keys=True), []).append(row.label)
    return max(groups.values(), key=len, default=[])


def number(estimate: Estimate, digits: int = 3) -> str:
    """`0.512 [0.44, 0.58]`, or a dash."""
    if estimate.value is None:
        return "-"
    value = fixed(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{fixed(estimate.low, digits)}, {fixed(estimate.high, digits)}]"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
