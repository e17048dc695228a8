"""Decides by rule, from intervals, whether the paper's statements hold here; none is written by hand.

A claim is a list of parts, each of which holds, does not hold, or is not resolved. The claim holds when all of its parts hold,
does not hold when one of them does not, and is not resolved otherwise.

- "A is more than B" holds when the paired difference is resolved above 0 (Holm over the differences of one metric in the
  claim); it does not when the difference is resolved below 0, or is not resolved and its interval lies inside ±MARGIN: then
  there is no difference that would matter (in a rate: for Vendi scores and KL it is unknown which difference matters).
- "A is equal to B" holds when the paired 95 % interval lies inside ±MARGIN, and does not when it lies wholly outside.
- "A is no worse than B" is the same with one side: all of the interval above -MARGIN, or all of it below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard import number
from spa_bench.compare.leaderboard.compare import MARGIN
from spa_bench.compare.study.judged import Judged, judged_of
from spa_bench.compare.study.measured import MeasuredPoint, Test, by_series, change, difference
from spa_bench.metrics.intervals import equivalent
from spa_bench.metrics.multiple import Decision, resolve
from spa_bench.metrics.quality_diversity import frontier, problems_everywhere
from spa_bench.metrics.suite import is_rate, value_bounds
from spa_bench.types import Estimate

DIVERSITY = "diversity_score[exact]"
PAPERS_TEMPERATURES = 0.5  # the paper's figure ends here
PAPERS_MEMBERS = (8, 12)  # between which the paper sees no change
PAPERS_SHARE = 0.15


class Outcome(StrEnum):
    """The outcome of a claim or a part."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "is not resolved"


@dataclass(frozen=True)
class Part:
    """One comparison of a claim."""

    words: str  # with its numbers
    outcome: Outcome


@dataclass(frozen=True)
class Claim:
    """A statement and the comparisons that decide it."""

    states: str
    parts: tuple[Part, ...]
    papers: bool = True  # whether the paper states it; otherwise it is an additional question

    @property
    def outcome(self) -> Outcome:
        """The outcome of all parts together; not resolved without parts."""
        outcomes = {part.outcome for part in self.parts}
        if Outcome.FAILS in outcomes:
            return Outcome.FAILS
        return Outcome.HOLDS if outcomes == {Outcome.HOLDS} else Outcome.OPEN

    def sentence(self, where: str) -> str:
        """The verdict with its numbers; `where` names task, model and seeds."""
        whose = "The paper's claim that" if self.papers else "That"
        parts = "; ".join(f"{part.words} {_MARKS[part.outcome]}" for part in self.parts) or "there is nothing to compare"
        return f"{whose} {self.states} **{self.outcome}** {where}: {parts}."


_MARKS = {Outcome.HOLDS: "(holds)", Outcome.FAILS: "(does not hold)", Outcome.OPEN: "(not resolved)"}


# rules ---------------------------------------------------------------------------------------------------------------


def more(tests: Mapping[str, Test], margin: float | None = MARGIN) -> tuple[Part, ...]:
    """A part "is more" for each of `tests` (words -> difference, p), with Holm over all of them.

    `margin` is None where no difference is known to be too small to matter.
    """
    return tuple(Part(f"{words} {number(d.difference)}", _more(d, margin)) for words, d in resolve(tests).items())


def _more(decision: Decision, margin: float | None) -> Outcome:
    value = decision.difference.value
    if decision.resolved and value is not None:
        return Outcome.HOLDS if value > 0 else Outcome.FAILS
    small = margin is not None and equivalent(decision.difference, margin)
    return Outcome.FAILS if small else Outcome.OPEN


def equal(words: str, found: Estimate, margin: float = MARGIN) -> Part:
    """A part "is equal" for the difference `found`."""
    return Part(f"{words} {number(found)}", _within(found, -margin, margin))


def no_worse(words: str, found: Estimate, margin: float = MARGIN) -> Part:
    """A part "is no worse" for the difference `found`."""
    return Part(f"{words} {number(found)}", _within(found, -margin, np.inf))


def _within(difference: Estimate, least: float, most: float) -> Outcome:
    if difference.low is None or difference.high is None:
        return Outcome.OPEN
    if least <= difference.low and difference.high <= most:
        return Outcome.HOLDS
    return Outcome.FAILS if difference.high < least or difference.low > most else Outcome.OPEN


# claims of each study ------------------------------------------------------------------------------------------------


def claims_of(study: str, points: Sequence[MeasuredPoint]) -> list[Claim]:
    """The claims of the study of that name; the first is the paper's main one."""
    if study in {"samplers", "synthesize"}:
        return []  # who is ahead is in ahead.py, where no paper says who should be; what pairs are like is in syntheses.py
    made = {"main": main, "temperature": temperature, "members": members, "data-fraction": data_fraction, "merge": merge}[study]
    return made(points)


_ORDER = ("influence", "lexical", "random", "single")
_COLUMNS = {
    DIVERSITY: "diversity score",
    "diversity_score[ast]": "diversity score by syntax tree",
    "effective_diversity[ast,correct]": "effective diversity",
    "vendi[ngram,q=1]": "Vendi score",
    "average_kl[i<j]": "average KL",
}


def main(points: Sequence[MeasuredPoint]) -> list[Claim]:
    """Table 1: diversity falls from influence over lexical and random to single, at about equal pass@1; then other metrics."""
    there = {m.point.role: m for m in points}
    ranked = [there[role] for role in _ORDER if role in there]
    if len(ranked) < 2:
        return []
    names = " > ".join(m.label for m in ranked)
    judged = judged_of(points)
    quality = [part for m in ranked[1:] for part in _equal_quality(f" of {_minus(ranked[0], m)}", ranked[0], m, judged)]
    claims = []
    for metric, called in {**_COLUMNS, **({judged.reach: judged.reach_called} if judged.open_ended else {})}.items():
        pairs = [p for p in pairwise(ranked) if metric != "average_kl[i<j]" or min(m.point.card.members for m in p) > 1]
        tests = {f"{called} of {_minus(a, b)}": difference(a, b, metric) for a, b in pairs}
        first = metric == DIVERSITY
        if not first and all(estimate.value is None for estimate, _ in tests.values()):
            continue  # no values, such as of syntax trees where answers are not programs
        states = f"{called} orders {names}" if metric != "average_kl[i<j]" else f"{called} has the same order"
        extra = f" at equal {judged.called} (±{judged.margin})" if first and quality else ""
        parts = more(tests, MARGIN if is_rate(metric) else None) + (tuple(quality) if first else ())
        papers = first and len(ranked) == len(_ORDER) and not judged.open_ended
        claims.append(Claim(f"the {states}{extra}", parts, papers))
    return claims


def _equal_quality(of: str, one: MeasuredPoint, other: MeasuredPoint, judged: Judged) -> Iterator[Part]:
    """The part "is equal" of the quality of `one` and `other`; none where nobody judged it."""
    if judged.quality:
        yield equal(f"{judged.called}{of}", difference(one, other, judged.quality)[0], judged.margin)


def temperature(points: Sequence[MeasuredPoint]) -> list[Claim]:
    """Figure 4: with the temperature pass@1 falls, and pass@K and diversity rise; and whether SPA lies beyond those points."""
    whole = by_series(points)
    papers = {name: [m for m in series if (m.point.x or 0) <= PAPERS_TEMPERATURES] for name, series in whole.items()}
    judged = judged_of(points)
    claims = [_trend(papers, judged, papers=not judged.open_ended)]
    if any(len(papers[name]) < len(series) for name, series in whole.items()):
        claims.append(_trend(whole, judged, papers=False))
    return claims + [claim for metric in _spread(judged) for claim in _beyond(points, metric, judged)]


def _spread(judged: Judged) -> tuple[str, str]:
    """The metrics of diversity in whose plane with the quality points are compared with a front."""
    return DIVERSITY, judged.reach if judged.open_ended else "effective_diversity[ast,correct]"


def _trend(curves: Mapping[str, Sequence[MeasuredPoint]], judged: Judged, *, papers: bool) -> Claim:
    several = {name: series for name, series in curves.items() if len(series) > 1}
    spans = {name: (series[0].point.x or 0.0, series[-1].point.x or 0.0) for name, series in several.items()}
    whole = (min(low for low, _ in spans.values()), max(high for _, high in spans.values())) if spans else (0.0, 0.0)
    usable = {name if spans[name] == whole else name + _words_of(spans[name]): series for name, series in several.items()}
    span = _words_of(whole) if spans else ""
    parts = _falls(usable, judged)
    for metric, called in ((judged.reach, judged.reach_called), (DIVERSITY, "diversity score")):
        tests = {f"rise of {called} of {name}": change(series, metric) for name, series in usable.items()}
        parts += more(tests, MARGIN if is_rate(metric) else None)
    falls = f"{judged.called} falls, and " if judged.quality else ""
    return Claim(f"with the temperature{span} {falls}{judged.reach_called} and diversity rise, for all", parts, papers)


def _words_of(span: tuple[float, float]) -> str:
    return f" from {span[0]:g} to {span[1]:g}"


def _falls(curves: Mapping[str, Sequence[MeasuredPoint]], judged: Judged) -> tuple[Part, ...]:
    """A part "falls" for the quality along each curve; none where nobody judged it."""
    if not judged.quality:
        return ()
    tests = {f"fall of {judged.called} of {name}": change(c, judged.quality, falls=True) for name, c in curves.items()}
    return more(tests, judged.margin)


def _beyond(points: Sequence[MeasuredPoint], metric: str, judged: Judged) -> Iterator[Claim]:
    """Whether each SPA sampler at its lowest temperature lies outside the front that single draws with its temperatures."""
    sweep = [m for m in points if m.point.role == "single"]
    lowest = [series[0] for series in by_series(points).values() if series[0].point.role != "single"]
    if sweep:
        yield from _outside(_Front(sweep, f"{sweep[0].point.series} draws", judged), lowest, metric)


@dataclass(frozen=True)
class _Front:
    """The front of quality and diversity that some points draw, in words whose it is."""

    sweep: Sequence[MeasuredPoint]
    whose: str
    judged: Judged


def _outside(drawn: _Front, some: Sequence[MeasuredPoint], metric: str) -> Iterator[Claim]:
    """Whether each of `some` lies outside the front of quality and `metric`; nothing where nobody judged the quality."""
    sweep, quality = drawn.sweep, drawn.judged.quality
    if not quality or len(sweep) < 2 or not some:
        return
    scores = {m.label: (_of_most(m, quality), _of_most(m, metric)) for m in (*sweep, *some)}
    if problems_everywhere(scores) < 2:
        return
    front = frontier(scores, sweep=[m.label for m in sweep])
    for m in some:
        called = _COLUMNS.get(metric, drawn.judged.reach_called)
        states = f"{m.label} lies beyond the front of {drawn.judged.called} and {called} that {drawn.whose}"
        part = Part(f"signed distance {number(front.distance[m.label])}", sign(front.distance[m.label]))
        yield Claim(states, (part,), papers=False)


def _of_most(m: MeasuredPoint, metric: str) -> NDArray[np.float64]:
    """The scores of a metric as shares of the most that it can be, because a distance adds up quality and diversity."""
    bounds = value_bounds(metric, m.row.result["size"])
    assert bounds is not None
    return m.scores(metric) / bounds[1]


def sign(distance: Estimate) -> Outcome:
    """Whether a number is above 0 with its whole interval, below 0, or neither."""
    if distance.low is None or distance.high is None or distance.low <= 0 <= distance.high:
        return Outcome.OPEN
    return Outcome.HOLDS if distance.low > 0 else Outcome.FAILS


def members(points: Sequence[MeasuredPoint]) -> list[Claim]:
    """Figure 6: nothing changes from 8 to 12 adapters. Each sampler has a claim; metrics that depend on n are at n = 8."""
    places = {role: place for place, role in enumerate(_ORDER)}  # others, such as merge, come behind these
    ranked = sorted(by_series(points).items(), key=lambda kv: places.get(kv[1][0].point.role, len(places)))
    return [_flat(name, series, judged_of(points)) for name, series in ranked]


def _flat(name: str, series: Sequence[MeasuredPoint], judged: Judged) -> Claim:
    by_k = {m.point.card.members: m for m in series}
    counts = sorted(by_k)
    if len(counts) < 2:
        return Claim(f"the number of adapters of {name} changes nothing", (), papers=False)
    few, many = PAPERS_MEMBERS if set(PAPERS_MEMBERS) <= by_k.keys() else counts[-2:]
    a, b = by_k[few], by_k[many]
    size = max(a.row.sizes() & b.row.sizes(), default=0)
    k = 5 if few >= 5 else few
    parts = [*_equal_quality("", b, a, judged), equal("diversity score", difference(b, a, DIVERSITY)[0])]
    if not judged.open_ended:
        parts.insert(1, equal(f"pass@{k}", difference(b, a, f"pass@{k}")[0]))
        metric = "effective_diversity[ast,correct]"
        parts.append(equal(f"effective diversity at n = {size}", difference(b, a, metric, size)[0]))
    in_quality = f", in {judged.called} ±{judged.margin}" if judged.quality and judged.margin != MARGIN else ""
    papers = (few, many) == PAPERS_MEMBERS and series[0].point.role == "influence" and not judged.open_ended
    other = (
        "" if (few, many) == PAPERS_MEMBERS else f" (the paper's {PAPERS_MEMBERS[0]} and {PAPERS_MEMBERS[1]} are not both here)"
    )
    return Claim(
        f"nothing changes (by more than ±{MARGIN}{in_quality}) from {few} to {many} adapters of {name}{other}",
        tuple(parts),
        papers,
    )


def data_fraction(points: Sequence[MeasuredPoint]) -> list[Claim]:
    """Figure 2: about 15 % of the data give the pass@1 of all data; then each other share by the same rule."""
    claims: list[Claim] = []
    judged = judged_of(points)
    if not judged.quality:
        return claims
    for name, series in by_series(points).items():
        whole = series[-1]
        if whole.point.x != 1.0 or len(series) < 2:
            continue
        near = min(series[:-1], key=lambda m: abs((m.point.x or 0) - PAPERS_SHARE))
        for m in sorted(series[:-1], key=lambda m: m is not near):
            words = f"{judged.called} with {100 * (m.point.x or 0):g} % minus that with all"
            part = no_worse(words, difference(m, whole, judged.quality)[0], judged.margin)
            of = f"{100 * (m.point.x or 0):g} % of the data give {name}"
            near_enough = m is near and abs((m.point.x or 0) - PAPERS_SHARE) < 0.051
            papers = near_enough and whole.point.role == "single" and not judged.open_ended
            states = f"{of} the {judged.called} of all of it, or no more than {judged.margin} less"
            claims.append(Claim(states, (part,), papers))
    return claims


def merge(points: Sequence[MeasuredPoint]) -> list[Claim]:
    """Along a dial pass@1 falls and diversity rises; and whether a point between its ends lies beyond the other samplers."""
    dials = {name: series for name, series in by_series(points).items() if series[0].point.x is not None}
    claims, judged = list[Claim](), judged_of(points)
    for name, series in dials.items():
        if len(series) > 1:
            parts = _falls({name: series}, judged)
            parts += more({f"rise of diversity score of {name}": change(series, DIVERSITY)})
            span = f"from λ = {series[0].point.x:g} to {series[-1].point.x:g}"
            falls = f"{judged.called} falls and " if judged.quality else ""
            claims.append(Claim(f"along the dial of {name} {span} {falls}diversity rises", parts, papers=False))
    others = [m for m in points if m.point.x is None]
    between = [m for series in dials.values() for m in series if 0 < (m.point.x or 0.0) < 1]
    for metric in _spread(judged):
        claims += _outside(_Front(others, "the other samplers draw", judged), between, metric)
    return claims


def _minus(a: MeasuredPoint, b: MeasuredPoint) -> str:
    return f"{a.label} minus {b.label}"
