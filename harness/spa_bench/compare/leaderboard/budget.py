"""Rows of a table at an equal budget a problem: of tokens that are drawn, or of seconds of generation.

The budget is what the cheapest sampler spends on a problem at its n. Every other sampler has n' = budget / cost of an answer,
at most its n. Results keep metrics that depend on n at 1, 2, 4, 8, ... and n answers. Between two of these sizes a row draws
the one or the other number of answers, so often that it has n' on average: its values are the means of both, weighted so.
Counts are compared, not shares of n, because n' differs from row to row. What training costs is not in the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard.ranges import EFFECTIVE, VENDI, runs_code
from spa_bench.compare.leaderboard.rows import LeaderboardRow, by_table
from spa_bench.errors import UsageError
from spa_bench.metrics.missing import with_none
from spa_bench.metrics.suite import ALIASES, estimates
from spa_bench.support.text import did_you_mean
from spa_bench.types import Estimate

FloatArray = NDArray[np.float64]
What = Literal["tokens", "seconds"]
ANY, DISTINCT, CLASSES, UTILITY = "any_of_n", "distinct_correct[ast]", "distinct_k[class]", "utility_k[class]"
SAID = {
    "tokens": "tokens that are drawn, those thrown away included (what is read, as prompts, is not)",
    "seconds": "seconds of generation, on the machine and at the batch size of each run",
}
PREPARES = ("warm-up", "attribution", "partition", "training")
"""The beginnings of the stages that a sampler is prepared in, before it can draw an answer."""
GENERATES = "generation"


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """One sampler at the budget."""

    row: LeaderboardRow
    n: float  # answers a problem, on average
    cost: float  # of one answer
    prepared: float  # seconds of the stages before the first answer, mean over seeds; from the stage cache they are 0
    estimates: Mapping[str, Estimate]  # any_of_n, distinct_correct[ast] and Vendi at n, and pass@1
    scores: Mapping[str, FloatArray] = field(default_factory=dict)  # (S, P) of the same at n
    # the same where an answer costs the most, and the least, of its 95 % interval
    fewest: Mapping[str, FloatArray] = field(default_factory=dict)
    most: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The rows of one table at an equal budget, in the order of their values."""

    what: What
    amount: float  # a problem
    rows: tuple[BudgetRow, ...]

    @property
    def machines(self) -> int:
        """How many kinds of machines and settings the rows were made with."""
        return len({str(sorted(r.row.result["spec"]["numerics"].items())) for r in self.rows})

    @property
    def together(self) -> list[str]:
        """Labels of the rows below their n whose answers are chosen together: with a smaller budget they would be others."""
        return [r.row.label for r in self.rows if r.n < r.row.result["size"] and "not exchangeable" in r.row.result["design"]]


def at_equal(rows: Sequence[LeaderboardRow], what: What, *, sort: str | None = None) -> Budget:
    """The rows of one table at the budget of the cheapest, by `sort`: a metric at the budget, or any other metric.

    Without `sort` they are in the order of different right programs or, where answers are not programs, of any_of_n; of
    distinct_k where answers are neither right nor wrong. Raises UsageError for a row without recorded costs, and for a metric
    that no row has.
    """
    costs = {row.label: _cost(row, what) for row in rows}
    amount = min(costs[row.label] * row.result["size"] for row in rows)
    found = [_at(row, costs[row.label], amount, what) for row in rows]
    programs = any(runs_code(row.result["spec"]) for row in rows)
    name = sort or (DISTINCT if programs else CLASSES if any(row.open_ended for row in rows) else ANY)
    name = ALIASES.get(name, name)
    _check_known(name, rows, {"seconds", ANY, DISTINCT, VENDI})
    values = {
        r.row.label: r.row.seconds if name == "seconds" else r.estimates.get(name, r.row.compared(name)[0]).value for r in found
    }
    return Budget(what=what, amount=amount, rows=tuple(sorted(found, key=lambda r: by_value(values[r.row.label], name))))


_OPEN = (CLASSES, UTILITY, VENDI)
LESS_FIRST = ("tokens", "tokens[spent]", "length", "seconds")
"""Metrics of which less is better: costs."""


def by_value(value: float | None, name: str) -> tuple[bool, float]:
    """The place of a value in a table that is sorted by the metric: the best first, what is missing last."""
    if value is None:
        return True, 0.0
    return False, value if name in LESS_FIRST else -value


def sort_rows(rows: Sequence[LeaderboardRow], name: str) -> list[LeaderboardRow]:
    """The rows of one table by a metric at the n of the table, the best first. Raises UsageError for one that no row has."""
    name = ALIASES.get(name, name)
    _check_known(name, rows, {"seconds"})
    values = {row.label: row.seconds if name == "seconds" else row.compared(name)[0].value for row in rows}
    return sorted(rows, key=lambda row: by_value(values[row.label], name))


def arrange(
    rows: Sequence[LeaderboardRow], *, sort: str | None, what: What | None
) -> tuple[list[LeaderboardRow], dict[tuple[str, str], Budget]]:
    """(the rows, sorted within their tables; key of a table -> its budget, where `what` is to be equal).

    A table whose rows do not have the metric `sort` keeps its order. Raises UsageError where no table has it, and as at_equal.
    """
    ordered: list[LeaderboardRow] = []
    budgets = {}
    everywhere = {"seconds", ANY, DISTINCT, VENDI} if what else {"seconds"}
    if sort:
        _check_known(ALIASES.get(sort, sort), rows, everywhere)
    for key, mine in by_table(rows).items():
        there = everywhere.union(*(row.metrics for row in mine))
        name = sort if sort and ALIASES.get(sort, sort) in there else None
        if what:
            budgets[key] = at_equal(mine, what, sort=name)
            mine = [r.row for r in budgets[key].rows]
        elif name:
            mine = sort_rows(mine, name)
        ordered += mine
    return ordered, budgets


def _check_known(name: str, rows: Sequence[LeaderboardRow], others: AbstractSet[str]) -> None:
    known = {*others, *(metric for row in rows for metric in row.metrics)}
    if name not in known:
        near = did_you_mean(name, [*known, *(short for short, whole in ALIASES.items() if whole in known)])
        raise UsageError(f"--sort is {name!r}, which no row of {', '.join(dict.fromkeys(r.task for r in rows))} has{near}")


def _cost(row: LeaderboardRow, what: What) -> float:
    """Tokens or seconds of an answer, mean over problems and seeds. Raises UsageError where that is not recorded."""
    if what == "tokens":
        cost, why = row.estimate("tokens[spent]").value, row.estimate("tokens[spent]").reason
    else:
        each = [run["cost"].get("stages", {}).get(GENERATES) for run in row.result["runs"]]
        counts = [run["counts"]["samples"] for run in row.result["runs"]]
        known = all(each)
        cost = float(np.mean([a / n for a, n in zip(each, counts, strict=True)])) if known else None
        why = "no time of generation is recorded"
    if not cost:
        raise UsageError(f"--at-equal {what}: nobody knows what an answer of {row.label} costs ({why}); leave its runs out")
    return float(cost)


def _at(row: LeaderboardRow, cost: float, amount: float, what: What) -> BudgetRow:
    size, curves = float(row.result["size"]), _curves(row)
    n, (least, most) = min(size, amount / cost), _ends(row, cost, what)
    tables = _tables(curves, n)
    values = {name: with_none(table) for name, table in tables.items()}
    found = estimates(values, size=max(1.0, n))
    prepared = [
        sum(s for name, s in run["cost"].get("stages", {}).items() if name.startswith(PREPARES)) for run in row.result["runs"]
    ]
    return BudgetRow(
        row=row,
        n=n,
        cost=cost,
        prepared=float(np.mean(prepared)),
        estimates={"pass@1": row.estimate("pass@1"), **{name: e for name, e in found.items() if name not in ALIASES}},
        scores=tables,
        fewest=_tables(curves, min(size, amount / most)),
        most=_tables(curves, min(size, amount / least) if least > 0 else size),
    )


def _ends(row: LeaderboardRow, cost: float, what: What) -> tuple[float, float]:
    """The least and the most that an answer costs, by its 95 % interval; the cost twice where there is none, as of seconds."""
    spent = row.estimate("tokens[spent]")
    if what == "seconds" or spent.low is None or spent.high is None:
        return cost, cost
    return spent.low, spent.high


def _tables(curves: Mapping[str, Mapping[int, FloatArray]], n: float) -> dict[str, FloatArray]:
    """The values of each metric at n answers on average; a metric that is not known there is left out."""
    return {name: mixed for name, sizes in curves.items() if (mixed := _between(sizes, n)) is not None}


def _curves(row: LeaderboardRow) -> dict[str, dict[int, FloatArray]]:
    """Metric -> size -> values (S, P), as far as they are known.

    Those of no answer and of one follow from pass@1, where there is one.
    """
    share, whole = row.scores("pass@1"), row.result["size"]
    if row.open_ended:
        several = {name: {size: row.scores(name, size) for size in sorted(row.sizes()) if size > 1} for name in _OPEN}
        return {name: {m: t for m, t in sizes.items() if not np.isnan(t).all()} for name, sizes in several.items()}
    ends = {0: np.zeros_like(share), 1: share}
    sizes = sorted(row.sizes())
    anyone = {size: (share > 0).astype(float) if size == whole else row.scores(ANY, size) for size in sizes}
    curves = {ANY: {**ends, **anyone}, VENDI: {size: row.scores(VENDI, size) for size in sizes if size > 1}}
    if runs_code(row.result["spec"]):
        curves[DISTINCT] = {**ends, **{size: size * row.scores(EFFECTIVE, size) for size in sizes}}
    return {name: {m: t for m, t in sizes.items() if not np.isnan(t).all()} for name, sizes in curves.items()}


def _between(sizes: Mapping[int, FloatArray], n: float) -> FloatArray | None:
    """The values at n answers on average, from those at the sizes on both sides of it; None where a side is missing."""
    below, above = max((m for m in sizes if m <= n), default=None), min((m for m in sizes if m >= n), default=None)
    if below is None or above is None:
        return None
    share = 0.0 if below == above else (n - below) / (above - below)
    mixed: FloatArray = (1 - share) * sizes[below] + share * sizes[above]
    return mixed
