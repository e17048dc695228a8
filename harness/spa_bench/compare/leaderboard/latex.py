"""A leaderboard as LaTeX tables."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.compare.leaderboard.choices import choice_table, own_table
from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.compare.leaderboard.tables import table


def as_latex(rows: Sequence[LeaderboardRow]) -> str:
    """A tabular without booktabs for each task, followed by those of multiple choice and of own scores where there are any."""
    parts = []
    for key in dict.fromkeys(r.table_key for r in rows):
        mine = [r for r in rows if r.table_key == key]
        parts.append(f"% {mine[0].title}\n{table(mine, style='latex')}\n")
        if tabular := choice_table(mine, style="latex"):
            parts.append(f"% {mine[0].title}: multiple choice\n{tabular}\n")
        if tabular := own_table(mine, style="latex"):
            parts.append(f"% {mine[0].title}: own scores\n{tabular}\n")
    return "\n".join(parts)
