"""Tables and verdicts of the study `synthesize`: what the pairs of each method are like, and where drafts fell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from spa_bench.compare.leaderboard import number
from spa_bench.compare.leaderboard.tables import STYLES, cell, grid
from spa_bench.compare.study.claims import Claim, Part, more, sign
from spa_bench.compare.study.designs import Point
from spa_bench.compare.study.judged import judged_of
from spa_bench.compare.study.measured import MeasuredPoint, difference
from spa_bench.compare.study.syntheses import KEPT, PLAIN, STEERED, VALID, PairsOfSeed
from spa_bench.datasets.likeness import BOUNDS
from spa_bench.datasets.likeness import NAMES as LIKENESS
from spa_bench.metrics.intervals import estimate
from spa_bench.metrics.student import t_quantile
from spa_bench.spa.synthesize.filters import FILTERS
from spa_bench.types import Estimate

LIKE = "mauve[frontier]"
NATS = "nats a token"
MEASURES = (KEPT, VALID, NATS, *LIKENESS)
_GENERATOR = "template"


def measures_of(pairs: Sequence[PairsOfSeed]) -> dict[str, dict[str, Estimate]]:
    """Label -> measure -> its value over seeds, with a 95 % interval; a measure that a method does not have is missing."""
    return {label: _measures(list(of)) for label, of in _by_label(pairs).items()}


def _by_label(pairs: Sequence[PairsOfSeed]) -> dict[str, list[PairsOfSeed]]:
    found: dict[str, list[PairsOfSeed]] = {}
    for one in pairs:
        found.setdefault(one.label, []).append(one)
    return found


def _measures(of: Sequence[PairsOfSeed]) -> dict[str, Estimate]:
    values = {name: _share([one.shares[name] for one in of if name in one.shares]) for name in (KEPT, VALID)}
    known = [one.nats for one in of if one.nats]
    values[NATS] = estimate(np.array(known)) if known else Estimate.missing("the method gives no density of texts")
    for name in LIKENESS:
        found = [one.likeness[name] for one in of if name in one.likeness]
        values[name] = (
            found[0]
            if len(of) == 1 and found
            else _over_seeds([one.value for one in found], found[0].reason if found else "too few pairs", BOUNDS.get(name))
        )
    return values


def _share(counts: Sequence[tuple[int, int]]) -> Estimate:
    """A share of the drafts of all seeds together, with its interval over drafts and seeds: no two seeds share a draft."""
    if not counts:
        return Estimate.missing("nothing was drafted")
    ends = np.cumsum([0, *(most for _, most in counts)])
    table = np.full((len(counts), ends[-1]), np.nan)
    for row, start, (kept, most) in zip(table, ends[:-1], counts, strict=True):
        row[start : start + most] = np.arange(most) < kept
    return estimate(table, rate=True)


def _over_seeds(values: Sequence[float | None], reason: str | None, bounds: tuple[float, float] | None = None) -> Estimate:
    """The mean over seeds with the interval of t, cut at `bounds`; without an interval for one seed."""
    known = [value for value in values if value is not None]
    if not known:
        return Estimate.missing(reason or "no value")
    mean, n = float(np.mean(known)), len(known)
    if n == 1:
        return Estimate(value=mean, low=None, high=None, n=1, reason="one seed: no interval")
    reach = t_quantile(n - 1) * float(np.std(known, ddof=1)) / math.sqrt(n)
    least, most = bounds or (-math.inf, math.inf)
    return Estimate(value=mean, low=max(mean - reach, least), high=min(mean + reach, most), n=n)


def pair_sections(pairs: Sequence[PairsOfSeed]) -> list[str]:
    """The section of a page on the pairs, in Markdown; empty for a study without them."""
    if not pairs:
        return []
    return [
        "## The pairs",
        table_of_pairs(pairs, style="md"),
        _HOW.format(mixed=max(one.mixed for one in pairs)),
        *_fallen(pairs),
    ]


def table_of_pairs(pairs: Sequence[PairsOfSeed], *, style: str = "plain") -> str:
    """A table with a row for each method: every measure with its interval."""
    how, made = STYLES[style], measures_of(pairs)
    shown = [name for name in MEASURES if any(values[name].value is not None for values in made.values())]
    body = []
    for label, values in made.items():
        of = _by_label(pairs)[label]
        counts = [str(round(float(np.mean([one.pairs for one in of])))), str(round(float(np.mean([one.drafts for one in of]))))]
        body.append([label, *counts, *(cell(values[name], how) for name in shown)])
    return grid(body, ["method", "pairs", "drafts", *shown], style=style, ready=True)


def _fallen(pairs: Sequence[PairsOfSeed]) -> list[str]:
    """The section on the drafts that became no pairs; empty where nothing was drafted."""
    style, body = STYLES["md"], []
    for one in pairs:
        if one.drafts:
            kept = [str(one.filters.get(name, "")) for name in FILTERS]
            body.append([one.label, one.seed, one.drafts, *kept, style.escape(one.ended), style.escape(one.fell)])
    if not body:
        return []
    head = ["method", "seed", "drafts", *FILTERS, "it ended because", "where drafts fell"]
    said = (
        "Each column has the drafts that are left behind that filter, in the order of the filters (docs/how-to/synthesize.md)."
    )
    return ["## The drafts", grid(body, head, ready=True), said]


_HOW = """kept: share of all drafts that became pairs. valid: share of the drafts that are a pair and fit whose program
runs, where the targets are programs. nats a token: mean negative log-likelihood of examples of the same kind that no
method has seen, under the model as it is (sample) or behind the soft prompts of {mixed} targets, mixed, which errs on the
high side. The others say how like the pairs are to these examples, by TF-IDF's vectors of them
(docs/how-to/describe-data.md): mauve[frontier] (1: the same) is MAUVE's formula on our own vectors and stands in for MAUVE
itself, which is mauve[mauve-text] where that package is installed; frechet and mmd2 are distances (0: the same); auc is how
often a classifier tells them apart (0.5: never). Intervals are over examples and seeds, those of likeness over seeds alone
(Student's t), or with one seed over subsets of the pairs."""


def claims_of_pairs(points: Sequence[MeasuredPoint], pairs: Sequence[PairsOfSeed]) -> list[Claim]:
    """SoftSRV's claim, for each of its forms: pairs nearer to the target and a better student than those of other methods.

    Where answers are neither right nor wrong a student is better by the judged quality; nothing is said of it without a judge.
    """
    students, found, judged = {m.label: m for m in points}, _by_label(pairs), judged_of(points)
    steered = [m for m in points if m.point.card.synthesize.method == STEERED]
    others = [m for m in points if m.point.card.synthesize.method in {PLAIN, _GENERATOR}]
    made = []
    for m in reversed(steered):  # the last form is the paper's best
        closer = {
            f"{LIKE} of {m.label} minus {other.label}": _nearer(found.get(m.label, []), found.get(other.label, []))
            for other in others
        }
        parts = tuple(Part(f"{words} {_said(d)}", sign(d)) for words, d in closer.items())
        if judged.quality:
            of = f"{judged.called} of the student of {m.label} minus"
            better = {f"{of} {other.label}": difference(students[m.label], other, judged.quality) for other in others}
            parts += more(better, judged.margin)
        learns = ", and a better student learns from them," if judged.quality else ""
        states = f"pairs of {m.label} are nearer to the target{learns} than of the others"
        papers = m is steered[-1] and not judged.open_ended
        made.append(Claim(states, parts if others else (), papers))
    return made


def _nearer(ours: Sequence[PairsOfSeed], theirs: Sequence[PairsOfSeed]) -> Estimate:
    """The difference of likeness: paired by seed, or for one seed with the interval that follows from those of both sides."""
    there = {one.seed: one.likeness[LIKE] for one in theirs if one.likeness}
    both = [(one.likeness[LIKE], there[one.seed]) for one in ours if one.likeness and one.seed in there]
    known = [(a, b) for a, b in both if a.value is not None and b.value is not None]
    if len(known) == 1:
        return _apart(*known[0])
    few = next((f"{of[0].label} has {of[0].pairs} pairs" for of in (ours, theirs) if of and not of[0].likeness), "")
    return _over_seeds([a.value - b.value for a, b in known], few or "no likeness")  # type: ignore[operator]


def _apart(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two values whose intervals are known (MOVER: Zou and Donner 2008), as if they were independent.

    Both are compared with the same examples, so that the interval errs on the wide side.
    """
    assert one.value is not None  # as the caller has seen
    assert other.value is not None
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value=one.value - other.value, low=None, high=None, n=1, reason="a side has no interval")
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value=value, low=low, high=high, n=1, reason="one seed: over pairs alone")


def claims_without_students(points: Sequence[Point], pairs: Sequence[PairsOfSeed]) -> list[Claim]:
    """What can be said of each form of softsrv without students: nearer to the target than others, and likelier than plain."""
    found = _by_label(pairs)
    steered = [p for p in points if p.card.synthesize.method == STEERED]
    others = [p for p in points if p.card.synthesizes and p not in steered]
    plain = next((p for p in others if p.card.synthesize.method == PLAIN), None)
    made = []
    for p in reversed(steered):
        ours = found[p.series]
        parts = tuple(
            Part(f"{LIKE} of {p.series} minus {other.series} {_said(d)}", sign(d))
            for other in others
            for d in [_nearer(ours, found[other.series])]
        )
        states = f"pairs of {p.series} are nearer to the target than those of the others"
        made.append(Claim(states, parts, papers=p is steered[-1] and bool(parts)))
        if plain is not None:
            less = _less(found[plain.series], ours)
            part = Part(f"{NATS} of {plain.series} minus {p.series} {_said(less)}", sign(less))
            made.append(Claim(f"what is held out is likelier behind {p.series} than under the model as it is", (part,), False))
    return made


def _less(ours: Sequence[PairsOfSeed], theirs: Sequence[PairsOfSeed]) -> Estimate:
    """The difference of nats a token, paired by held-out example and seed."""
    there = {one.seed: one.nats for one in theirs}
    return estimate(np.array([np.subtract(one.nats, there[one.seed]) for one in ours if one.seed in there]))


def _said(found: Estimate) -> str:
    return number(found) if found.value is not None else f"cannot be compared ({found.reason})"


def pairs_as_json(pairs: Sequence[PairsOfSeed]) -> list[dict[str, object]]:
    """A row for each point and seed, without the values of single examples."""
    return [{**asdict(one), "nats": None if not one.nats else float(np.mean(one.nats))} for one in pairs]
