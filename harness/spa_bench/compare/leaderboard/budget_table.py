"""The table of rows at an equal budget: Markdown, LaTeX, lines of CSV, JSON."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from spa_bench.compare.leaderboard.budget import ANY, CLASSES, DISTINCT, SAID, UTILITY, Budget, BudgetRow
from spa_bench.compare.leaderboard.ranges import VENDI
from spa_bench.compare.leaderboard.schema import as_stored
from spa_bench.compare.leaderboard.tables import STYLES, Measured, cell
from spa_bench.types import Estimate

HEADS = {"pass@1": "pass@1", ANY: "any of n'", DISTINCT: "different right programs"}
HEADS |= {UTILITY: "utility_k", CLASSES: "distinct_k", VENDI: "vendi"}
LEGEND = (
    "n' is the number of answers a problem, on average over a draw between the two nearest sizes that results keep, that the "
    "budget buys; different right programs and vendi are counts among these. Training is not in the budget: "
    "*prepared* has the seconds of warm-up, attribution, partition and training, 0 where the stage cache had them."
)


def said(budget: Budget) -> str:
    """What the budget is, where it comes from, and for which rows it is not the whole truth, in plain text."""
    unlike = (
        " The rows are of different machines or settings, so that their seconds are hardly comparable."
        if budget.what == "seconds" and budget.machines > 1
        else ""
    )
    chosen = (
        f" {', '.join(budget.together)}: the answers are chosen together, and n' is a part of those that n answers' worth of "
        "budget gave; a run at a smaller n would give others."
        if budget.together
        else ""
    )
    whole = f"{budget.amount:.4g} {SAID[budget.what]}"
    return f"Budget of a problem: {whole}: what the cheapest sampler spends at its n.{unlike}{chosen}"


def budget_table(budget: Budget, *, style: str = "md") -> str:
    """The table of the rows; metrics that no row has are left out."""
    how = STYLES[style]
    shown = [name for name in HEADS if any(name in r.estimates and r.estimates[name].value is not None for r in budget.rows)]
    body = [
        [
            how.escape(r.row.label),
            f"{r.n:.4g}",
            *(cell(r.estimates.get(name, Estimate.missing("n' is below 2")), how) for name in shown),
            f"{r.cost:.4g}",
            r.row.result["size"],
            f"{r.prepared:.0f}",
        ]
        for r in budget.rows
    ]
    head = ["sampler", "n'", *(HEADS[name] for name in shown), f"{budget.what} an answer", "n", "prepared (s)"]
    return tabulate(body, [how.escape(h) for h in head], tablefmt=how.tablefmt, disable_numparse=True)


def measured(one: BudgetRow) -> Measured:
    """The estimates of a row at the budget, and the n that each is at."""
    return {name: (e, None if name == "pass@1" else one.n) for name, e in one.estimates.items()}


def budget_json(budget: Budget, one: BudgetRow) -> dict[str, Any]:
    """A row at the budget, for `--json`: `n` answers a problem; `at_n` is that of each metric."""
    metrics = {name: {**as_stored(e), "at_n": n} for name, (e, n) in measured(one).items()}
    return {
        "what": budget.what, "budget": budget.amount, "cost": one.cost, "n": one.n, "prepared_seconds": one.prepared,
        "metrics": metrics,
    }  # fmt: skip
