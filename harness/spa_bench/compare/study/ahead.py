"""Which samplers are ahead, and in what, and who is on the front of quality and diversity: at equal answers and equal tokens.

Only resolved differences count. A sampler is ahead in a metric where it is the best or is not resolved from the best, and at
least one other sampler is resolved below the best; where none is, the metric shows no sampler ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.compare.leaderboard.budget import ANY, CLASSES, DISTINCT, Budget, at_equal
from spa_bench.compare.leaderboard.budget_front import BudgetFront, fronts_at
from spa_bench.compare.leaderboard.budget_table import HEADS, LEGEND, budget_json, budget_table
from spa_bench.compare.leaderboard.budget_table import said as said_budget
from spa_bench.compare.leaderboard.compare import best, front_of, paired_columns
from spa_bench.compare.leaderboard.ranges import VENDI
from spa_bench.compare.leaderboard.tables import grid
from spa_bench.errors import UsageError

_AT_TOKENS = (ANY, DISTINCT, VENDI, CLASSES)


def said_ahead(rows: Sequence[LeaderboardRow]) -> list[str]:
    """A line for each metric, in plain text."""
    if len(rows) < 2:
        return ["No claim: there is nothing to compare."]
    return [f"ahead in {metric}: {', '.join(names) or 'nobody is resolved'}" for metric, names in _ahead(rows).items()]


def ahead_sections(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The sections of a page on who is ahead, in Markdown; empty for fewer than two rows."""
    if len(rows) < 2:
        return []
    table = grid(
        [[metric, ", ".join(names) or "no difference is resolved"] for metric, names in _ahead(rows).items()],
        ["metric", "ahead"],
        ready=True,
    )
    how = (
        "A sampler is ahead where it is the best of a column, or no difference from the best is resolved (paired by problem "
        "and seed, Holm over the samplers), and at least one other sampler is resolved below."
    )
    return ["## Who is ahead at equal answers", how, table, *_front(rows), *_tokens(rows)]


def _ahead(rows: Sequence[LeaderboardRow]) -> dict[str, list[str]]:
    """Metric -> the samplers ahead in it, in the order of the rows; empty where nobody is resolved below the best."""
    tops = {column: best(rows, column) for column in paired_columns(rows)}
    return {column: [row.label for row in rows if row.label in top] for column, top in tops.items()}


def _front(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The front of quality and diversity, with the chance of each sampler to lie on it where problems are drawn again."""
    found = front_of(rows)
    if found is None:
        return []
    front, _ = found
    shares = {label: front.stays_on_front[label] for label, on in front.on_front.items() if on}
    listed = ", ".join(f"{label} ({share:.0%})" for label, share in sorted(shares.items(), key=lambda one: -one[1]))
    said = "On the front of pass@1 and diversity score, with the share of resampled sets of problems in which they are: "
    return ["## The front", said + listed + "."]


def _tokens(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The table at an equal budget of tokens, and who is ahead there by intervals that do not overlap."""
    try:
        budget = at_equal(rows, "tokens")
    except UsageError as error:
        return ["## Who is ahead at equal tokens", f"Not compared: {error}."]
    lines = [f"- {name}: {', '.join(labels) or 'nobody is resolved'}" for name, labels in _ahead_of(budget).items()]
    rule = (
        "Ahead: the best value, and those whose 95 % interval reaches that of the best, where at least one other's does not. "
        "Intervals of two rows are compared here, which is stricter than a paired test."
    )
    table = [said_budget(budget), budget_table(budget), LEGEND, rule, "\n".join(lines)]
    return ["## Who is ahead at equal tokens", *table, *_fronts(budget)]


def _fronts(budget: Budget) -> list[str]:
    """The section on the fronts at the budget; empty where there are none."""
    fronts = "\n".join(f"- {_said_front(front)}" for front in fronts_at(budget))
    if not fronts:
        return []
    said = (
        "The samplers that no other beats in both, at equal tokens, with the share of resampled sets of problems in which they "
        "are on the front. The table has the intervals of each."
    )
    return ["## The front at equal tokens", said, fronts]


def _said_front(front: BudgetFront) -> str:
    listed = ", ".join(f"{label} ({share:.0%})" for label, share in front.shares.items())
    without = f"; left out, without a value: {', '.join(front.without)}" if front.without else ""
    return f"{HEADS[front.quality]} and {HEADS[front.diversity]}: {listed}{without}"


def tokens_as_json(rows: Sequence[LeaderboardRow]) -> dict[str, list[dict[str, Any]]]:
    """The rows at an equal budget of tokens and the fronts there, for the JSON of a study; empty where there is no budget."""
    try:
        budget = at_equal(rows, "tokens")
    except UsageError:
        return {}
    return {
        "at_equal": [{"label": one.row.label, **budget_json(budget, one)} for one in budget.rows],
        "fronts_at_equal": [asdict(front) for front in fronts_at(budget)],
    }


def _ahead_of(budget: Budget) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in _AT_TOKENS:
        there = {r.row.label: r.estimates[name] for r in budget.rows if name in r.estimates}
        known = {
            label: (e.value, e.low, e.high)
            for label, e in there.items()
            if e.value is not None and e.low is not None and e.high is not None
        }
        if len(known) < 2:
            continue
        _, least, _ = max(known.values())
        below = {label for label, (_, _, high) in known.items() if high < least}
        found[name] = [label for label in known if label not in below] if below else []
    return found
