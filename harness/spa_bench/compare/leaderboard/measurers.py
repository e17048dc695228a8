"""Who measured a result: one line of free text, such as a name, an affiliation or a URL, that its sender writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spa_bench.compare.leaderboard.pooled import LONGEST_LINE, UNSAID
from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.errors import UsageError


def marked(results: Sequence[dict[str, Any]], measured_by: str) -> list[dict[str, Any]]:
    """The results with that line. Raises UsageError for no printable line, or where a result says that others measured it."""
    if fault := line_fault(measured_by):
        raise UsageError(f"--measured-by is {measured_by[:60]!r}; {fault}")
    for result in results:
        if result["measured_by"] not in {"", measured_by}:
            raise UsageError(
                f"{result['sampler']} on {result['task']} was measured by {result['measured_by']!r}; "
                "--measured-by is for results of your own runs"
            )
    return [{**result, "measured_by": measured_by} for result in results]


def line_fault(text: str) -> str:
    """Why `text` cannot say who measured; "" where it can."""
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_LINE:
        return f"it takes one line of printable text, of at most {LONGEST_LINE} characters"
    return ""


def measurers(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The different measurers of the rows, in their order."""
    return list(dict.fromkeys(row.measured_by or UNSAID for row in rows))


def mixed(rows: Sequence[LeaderboardRow]) -> bool:
    """Whether the rows have different measurers, so that a table shows who measured each."""
    return len(measurers(rows)) > 1


def measured_line(rows: Sequence[LeaderboardRow]) -> str:
    """A sentence that says who measured all rows; "" where nobody says, or where a column of the table does."""
    [first, *others] = measurers(rows)
    return "" if others or first == UNSAID else f"Measured by {first}."
