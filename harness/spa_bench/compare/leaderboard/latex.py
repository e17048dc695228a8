"""A leaderboard as LaTeX tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from spa_bench.compare.leaderboard.budget import Budget
from spa_bench.compare.leaderboard.budget_table import budget_table
from spa_bench.compare.leaderboard.choices import choice_table, own_table
from spa_bench.compare.leaderboard.rows import LeaderboardRow, by_table
from spa_bench.compare.leaderboard.tables import table


def as_latex(rows: Sequence[LeaderboardRow], *, budgets: Mapping[tuple[str, str], Budget] = MappingProxyType({})) -> str:
    """A tabular without booktabs for each task; then those at an equal budget, of multiple choice, of own scores, if any."""
    parts = []
    for key, mine in by_table(rows).items():
        parts.append(f"% {mine[0].title}\n{table(mine, style='latex')}\n")
        if key in budgets:
            tabular = budget_table(budgets[key], style="latex")
            parts.append(f"% {mine[0].title}: at equal {budgets[key].what}\n{tabular}\n")
        if tabular := choice_table(mine, style="latex"):
            parts.append(f"% {mine[0].title}: multiple choice\n{tabular}\n")
        if tabular := own_table(mine, style="latex"):
            parts.append(f"% {mine[0].title}: own scores\n{tabular}\n")
    return "\n".join(parts)
