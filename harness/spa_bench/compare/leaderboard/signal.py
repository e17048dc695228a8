"""Whether a task can tell samplers apart by quality at all: a model at the level of guessing answers nothing by itself."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.metrics.intervals import estimate

LEAD = "No signal"
_CHANCE = "any_of_n[chance]"
_KEPT = 1e-9  # a chance to miss that is smaller is lost among the 10 digits that values are kept with


def signal_line(rows: Sequence[LeaderboardRow]) -> str:
    """A line that marks the table of `rows` "no signal"; "" where some sampler is resolved from the level of guessing.

    The level is the mean over problems of right options by options, and 0 for a task without options. A table has no signal
    when the interval of pass@1 holds that level in every row; where a row has no interval, nothing is said. Intervals are at
    95 %, and for guessing at 95 % of all rows together (Bonferroni): of 14 samplers that guess, one would be resolved by luck
    in one table of three. Nothing is said either where so many answers are drawn that the level is not known (`_level`).
    """
    levels = [level for row in rows if (level := _level(row)) is not None]
    confidence = 1 - 0.05 / max(1, len(rows))
    if not rows or len(levels) < len(rows):
        return ""
    if not all(_holds(row, level, confidence) for row, level in zip(rows, levels, strict=True)):
        return ""
    level = max(levels)
    where = f"the level of guessing ({level:.3f})" if level else "0"
    return (
        f"**{LEAD}**: the interval of every sampler's pass@1 reaches {where}, so quality does not tell samplers apart here. "
        "What measures texts and distributions still can."
    )


def _level(row: LeaderboardRow) -> float | None:
    """The mean over problems with options of the chance that one guess is right; 0 without any.

    It follows from what n guesses get, and is None where these are sure to be right but for the digits that are kept.
    """
    n = row.result["spec"]["n"] or 1
    found = [value for run in row.result["runs"] for value in run["values"].get(_CHANCE, ()) if value is not None]
    if n > 1 and any(value > 1 - _KEPT for value in found):
        return None
    return sum(1 - (1 - value) ** (1 / n) for value in found) / len(found) if found else 0.0


def _holds(row: LeaderboardRow, level: float, confidence: float) -> bool:
    if not level:
        low = row.estimate("pass@1").low
        return low is not None and low <= 0
    one = estimate(row.scores("pass@1[mc]"), rate=True, confidence=confidence)
    return one.low is not None and one.high is not None and one.low <= level <= one.high
