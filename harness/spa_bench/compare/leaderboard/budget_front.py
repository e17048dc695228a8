"""The front of quality and diversity at an equal budget: who is on it, and in how many resampled sets of problems.

Values are those that the budget buys (budget.py): any of n' right against the Vendi score and against different right programs
of the n' answers; where answers are neither right nor wrong, utility_k against distinct_k and against the Vendi score. What an
answer costs is held at its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spa_bench.compare.leaderboard.budget import ANY, CLASSES, DISTINCT, UTILITY, Budget
from spa_bench.compare.leaderboard.ranges import VENDI
from spa_bench.metrics.quality_diversity import front_shares, problems_everywhere

AXES_AT = ((ANY, VENDI), (ANY, DISTINCT), (UTILITY, CLASSES), (UTILITY, VENDI))
"""(quality, diversity) of the fronts; those that a table does not have are left out."""


@dataclass(frozen=True, kw_only=True)
class BudgetFront:
    """The rows that no other beats in both quality and diversity at the budget."""

    quality: str  # the metric
    diversity: str
    shares: Mapping[
        str, float
    ]  # row on the front -> share of resampled sets of problems in which it is there; the surest first
    others: Mapping[str, float]  # the same of rows that are not on it
    without: tuple[str, ...]  # rows that lack one of the metrics there, as the Vendi score of fewer than two answers


def fronts_at(budget: Budget) -> list[BudgetFront]:
    """The fronts of the rows of a budget; none of metrics that fewer than two rows have."""
    found = [_front(budget, quality, diversity) for quality, diversity in AXES_AT]
    return [front for front in found if front is not None]


def _front(budget: Budget, quality: str, diversity: str) -> BudgetFront | None:
    scores = {
        r.row.label: (r.scores[quality], r.scores[diversity]) for r in budget.rows if {quality, diversity} <= r.scores.keys()
    }
    if len(scores) < 2 or problems_everywhere(scores) < 2:
        return None
    found = sorted(front_shares(scores).items(), key=lambda one: -one[1][1])
    return BudgetFront(
        quality=quality,
        diversity=diversity,
        shares={label: share for label, (on, share) in found if on},
        others={label: share for label, (on, share) in found if not on},
        without=tuple(r.row.label for r in budget.rows if r.row.label not in scores),
    )
