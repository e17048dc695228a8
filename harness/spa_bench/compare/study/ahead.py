"""Which samplers are ahead, and in what, and who is on the front of quality and diversity: at equal answers and equal tokens.

Only resolved differences count, by the rule of metrics/best.py. A sampler is ahead in a metric where it is the best or is not
resolved from the best, and at least one other sampler is resolved below the best; where none is, the metric shows no sampler
ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Literal

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.compare.leaderboard.budget import ANY, CLASSES, DISTINCT, Budget, at_equal
from spa_bench.compare.leaderboard.budget_front import BudgetFront, fronts_at
from spa_bench.compare.leaderboard.budget_table import HEADS, LEGEND, budget_json, budget_table
from spa_bench.compare.leaderboard.budget_table import said as said_budget
from spa_bench.compare.leaderboard.compare import (
    AXES,
    OPEN_AXES,
    best,
    front_scores,
    paired_columns,
    rivals,
)
from spa_bench.compare.leaderboard.ranges import VENDI
from spa_bench.compare.leaderboard.rows import common_size
from spa_bench.compare.leaderboard.tables import STYLES, grid
from spa_bench.errors import UsageError
from spa_bench.metrics.best import below_best
from spa_bench.metrics.quality_diversity import front_shares
from spa_bench.metrics.suite import is_rate

_escape = STYLES["md"].escape
_AT_TOKENS = (ANY, DISTINCT, VENDI, CLASSES)
_RULE = (
    "A sampler is ahead where it is the best, or no difference from the best is resolved, and at least one other sampler is "
    "resolved below. Differences are paired by problem and seed, at 95 %, and corrected for every pair of samplers, because "
    "any of them could have come out best."
)


@dataclass(frozen=True, kw_only=True)
class Lead:
    """Who is ahead in a metric. The samplers of each list are in the order of the rows."""

    at: Literal["answers", "tokens"]  # what is equal
    metric: str
    best: str  # with the highest value; of several the first
    ahead: tuple[str, ...]  # empty where nobody is resolved below the best
    below: tuple[str, ...]  # resolved below the best
    without: tuple[str, ...]  # rows without a value, or with one of another k: the others are compared without them


def leads_of(rows: Sequence[LeaderboardRow]) -> list[Lead]:
    """Who is ahead in each metric at equal answers and, where the cost of an answer is known, at equal tokens."""
    if len(rows) < 2:
        return []
    leads = [_lead_at_answers(rows, column) for column in paired_columns(rows)]
    try:
        return [*leads, *_leads_at_tokens(at_equal(rows, "tokens"))]
    except UsageError:
        return leads


def said_ahead(leads: Sequence[Lead]) -> list[str]:
    """A line for each metric at equal answers, in plain text."""
    said = [f"ahead in {one.metric}: {', '.join(one.ahead) or 'nobody is resolved'}" for one in leads if one.at == "answers"]
    return said or ["No claim: there is nothing to compare."]


def ahead_sections(rows: Sequence[LeaderboardRow], leads: Sequence[Lead]) -> list[str]:
    """The sections of a page on who is ahead, in Markdown; empty for fewer than two rows."""
    if len(rows) < 2:
        return []
    table = grid(
        [
            [one.metric, _said_lead(one, "no difference is resolved", lack="a value to compare")]
            for one in leads
            if one.at == "answers"
        ],
        ["metric", "ahead"],
        ready=True,
    )
    right = [_RULE, *_right(rows), table]
    return ["## Who is ahead at equal answers", *right, *_front(rows), *_tokens(rows, leads)]


def _lead_at_answers(rows: Sequence[LeaderboardRow], column: str) -> Lead:
    metric, size = paired_columns(rows)[column], common_size(rows)
    there = {row.label for row in rivals(rows, column)}
    values = {row.label: row.estimate(metric, size).value if row.label in there else None for row in rows}
    return _lead("answers", column, values, best(rows, column))


def _leads_at_tokens(budget: Budget) -> list[Lead]:
    """Who is ahead in what the budget buys, where two rows have a value."""
    leads = []
    for name in _AT_TOKENS:
        means = {one.row.label: one.estimates[name].value if name in one.scores else None for one in budget.rows}
        known = {label: value for label, value in means.items() if value is not None}
        if len(known) < 2:
            continue
        worse = _below(budget, name, max(known, key=lambda label: known[label]))
        leads.append(_lead("tokens", name, means, known.keys() - worse if worse else set()))
    return leads


def _below(budget: Budget, name: str, top: str) -> set[str]:
    """Who is resolved below `top`, also where its answers cost the most and those of the others the least that they may."""
    there = {one.row.label: one for one in budget.rows if name in one.scores}
    if name not in there[top].fewest:
        return set()
    likely = {label: one.scores[name] for label, one in there.items()}
    unlucky = {label: one.fewest[name] if label == top else one.most[name] for label, one in there.items()}
    below = below_best(likely, top, rate=is_rate(name))
    return below & below_best(unlucky, top, rate=is_rate(name)) if below else set()


def _lead(at: Literal["answers", "tokens"], metric: str, values: Mapping[str, float | None], ahead: AbstractSet[str]) -> Lead:
    known = {label: value for label, value in values.items() if value is not None}
    return Lead(
        at=at,
        metric=metric,
        best=max(known, key=lambda label: known[label], default=""),
        ahead=tuple(label for label in values if label in ahead),
        below=tuple(label for label in known if ahead and label not in ahead),
        without=tuple(label for label in values if label not in known),
    )


def _right(rows: Sequence[LeaderboardRow]) -> list[str]:
    """How many answers are right, because most metrics of diversity count the wrong ones too; nothing for open-ended tasks."""
    shares = [value for row in rows if (value := row.estimate("pass@1").value) is not None]
    if not shares:
        return []
    return [
        f"Of a sampler's answers {100 * min(shares):.3g} to {100 * max(shares):.3g} % are right; diversity score and Vendi "
        "score count the wrong ones too, effective diversity and different right programs do not."
    ]


def _front(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The front of quality and diversity, with the chance of each sampler to lie on it where problems are drawn again."""
    found = _front_shares(rows)
    if not found:
        return []
    axes = OPEN_AXES if any(row.open_ended for row in rows) else AXES
    said = (
        f"On the front of {axes.quality} and {axes.said}, with the share of resampled sets of problems in which they "
        f"are{_SEEDS}: "
    )
    return ["## The front", said + _listed(found["shares"]) + _as_often(found["shares"], found["others"]) + "."]


def _front_shares(rows: Sequence[LeaderboardRow]) -> dict[str, dict[str, float]]:
    """The shares of those on the front and of the others, by label; empty where there is no front."""
    scores = front_scores(rows)
    if not scores:
        return {}
    found = sorted(front_shares(scores).items(), key=lambda one: -one[1][1])
    parts = {"shares": True, "others": False}
    return {name: {label: share for label, (on, share) in found if on is wanted} for name, wanted in parts.items()}


_SEEDS = " (training seeds are not resampled)"


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{_escape(label)} ({share:.0%})" for label, share in sorted(shares.items(), key=lambda one: -one[1]))


def _as_often(on: Mapping[str, float], off: Mapping[str, float]) -> str:
    """Those that are not on the front, and in the resamples are there as often as one that is; "" for none."""
    often = {label: share for label, share in off.items() if share >= min(on.values(), default=2.0)}
    return f"; not on it, and in as many: {_listed(often)}" if often else ""


def _tokens(rows: Sequence[LeaderboardRow], leads: Sequence[Lead]) -> list[str]:
    """The table at an equal budget of tokens, and who is ahead there."""
    try:
        budget = at_equal(rows, "tokens")
    except UsageError as error:
        return ["## Who is ahead at equal tokens", _escape(f"Not compared: {error}.")]
    lines = [f"- {HEADS[one.metric]}: {_said_lead(one)}" for one in leads if one.at == "tokens"]
    rule = (
        "Ahead by the same rule, if the difference is resolved also where an answer of the best costs the most and those of "
        "the others the least of their 95 % intervals. The intervals in the table hold what an answer costs at its mean."
    )
    table = [_escape(said_budget(budget)), budget_table(budget), LEGEND, rule, "\n".join(lines)]
    return ["## Who is ahead at equal tokens", *table, *_fronts(budget)]


def _said_lead(lead: Lead, nobody: str = "nobody is resolved", *, lack: str = "a value") -> str:
    without = f"; left out, without {lack}: {', '.join(lead.without)}" if lead.without else ""
    return _escape(f"{', '.join(lead.ahead) or nobody}{without}")


def _fronts(budget: Budget) -> list[str]:
    """The section on the fronts at the budget; empty where there are none."""
    fronts = "\n".join(f"- {_said_front(front)}" for front in fronts_at(budget))
    if not fronts:
        return []
    said = (
        "The samplers that no other beats in both, at equal tokens, with the share of resampled sets of problems in which they "
        f"are on the front, at the mean of what an answer costs{_SEEDS}. The table has the intervals of each."
    )
    return ["## The front at equal tokens", said, fronts]


def _said_front(front: BudgetFront) -> str:
    without = _escape(f"; left out, without a value: {', '.join(front.without)}") if front.without else ""
    listed = _listed(front.shares) + _as_often(front.shares, front.others)
    return f"{HEADS[front.quality]} and {HEADS[front.diversity]}: {listed}{without}"


def ahead_as_json(rows: Sequence[LeaderboardRow], leads: Sequence[Lead]) -> dict[str, object]:
    """Who is ahead, the front, and the rows and fronts at an equal budget of tokens, for the JSON of a study.

    What a page does not have is left out: the budget where nobody knows what an answer costs.
    """
    found: dict[str, object] = {"ahead": [asdict(one) for one in leads]}
    if front := _front_shares(rows):
        found["front"] = front
    try:
        budget = at_equal(rows, "tokens")
    except UsageError:
        return found
    found["at_equal"] = [{"label": one.row.label, **budget_json(budget, one)} for one in budget.rows]
    return {**found, "fronts_at_equal": [asdict(front) for front in fronts_at(budget)]}
