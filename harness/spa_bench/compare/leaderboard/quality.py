"""Whether the rows of a table differ in quality: then a difference in diversity can be one of wrong answers alone."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.compare.leaderboard.compare import best
from spa_bench.compare.leaderboard.rows import LeaderboardRow

LEAD = "Different quality"
_NAMED = 6  # rows that are named


def quality_line(rows: Sequence[LeaderboardRow]) -> str:
    """The warning of a table whose rows differ in quality, in plain text without its LEAD; "" where none is resolved.

    Rows differ where pass@1 of one is resolved below the best (paired by problem; see `best`).
    """
    top = best(rows, "pass@1")
    below = [row.label for row in rows if top and row.label not in top]
    if not below:
        return ""
    more = [f"{len(below) - _NAMED} more"] if len(below) > _NAMED else []
    names = [*below[:_NAMED], *more]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return (
        f"pass@1 of {listed} is resolved below the best, so that what sets their diversity apart can be wrong answers alone. "
        "diversity_score and vendi count wrong answers too; compare them between samplers of equal pass@1."
    )
