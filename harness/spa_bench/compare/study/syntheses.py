"""The study `synthesize`: the same student on as many pairs of each method, and what the pairs of each are like.

Beside pass@1 of the students, which are runs like any others, the pairs of each point and seed are measured: the share of
drafts that fall, how like the pairs are to examples of the same kind that no method has seen, and, for methods that give a
density of texts, the negative log-likelihood of these examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.training import DataCard
from spa_bench.compare.leaderboard import number
from spa_bench.compare.leaderboard.tables import STYLES, cell, grid
from spa_bench.compare.study.claims import Claim, Part, more, sign
from spa_bench.compare.study.designs import Point
from spa_bench.compare.study.measured import MeasuredPoint, difference
from spa_bench.datasets import DataSet, of_examples, similarity
from spa_bench.datasets.likeness import BOUNDS
from spa_bench.datasets.likeness import NAMES as LIKENESS
from spa_bench.errors import DataError
from spa_bench.metrics.intervals import estimate
from spa_bench.metrics.student import t_quantile
from spa_bench.models.base import Model
from spa_bench.spa.data.sets import as_pairs, distinct, example_rows, query_rows
from spa_bench.spa.data.sources import WRITTEN, is_sampled
from spa_bench.spa.data.templates import Template
from spa_bench.spa.synthesize.stage import Synthesized, enough, order_of, synthesize
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.support.console import Reporter
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Estimate, Example, Problem

MIXED = 16  # z of targets over which the density of a soft prompt is mixed; the mean over few is an upper bound of its loss
LIKE = "mauve[frontier]"
_KEPT = "kept"  # of all drafts: those that became pairs
VALID = "valid"  # of the drafts that are a pair: those whose program does what is wanted
NATS = "nats a token"
MEASURES = (_KEPT, VALID, NATS, *LIKENESS)
_STEERED, _PLAIN, _GENERATOR = "softsrv", "sample", "template"


@dataclass(frozen=True, kw_only=True)
class PairsOfSeed:
    """What the pairs of one point and seed are like."""

    label: str
    seed: int
    pairs: int
    drafts: int = 0  # 0: nothing was drafted, the pairs are the targets
    shares: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # kept, valid: (how many, of how many)
    nats: Sequence[float] = ()  # a token, of each held-out example; empty where the method gives no density
    likeness: Mapping[str, Estimate] = field(default_factory=dict)  # empty where there are too few pairs


def measured_pairs(
    points: Sequence[Point],
    seeds: Sequence[int],
    model: Model,
    *,
    problems: Sequence[Problem],
    cache: Path,
    console: Reporter,
) -> list[PairsOfSeed]:
    """The measurements of all points and seeds; pairs come from the stage cache, where the runs have left them."""
    found: list[tuple[PairsOfSeed, DataSet, DataSet]] = []
    with console.stage("pairs of each method") as progress:
        for place, point in enumerate(points, 1):
            found += [_measured(point, seed, model, problems, cache) for seed in seeds]
            progress(place, len(points))
    # what depends on the number of pairs is compared at one number for all
    size = min(len(some.items) for _, pairs, held in found for some in (pairs, held)) // 2
    return [
        replace(one, likeness=similarity(pairs, held, size=size, seed=derive_seed(one.seed, "likeness")) if size > 1 else {})
        for one, pairs, held in found
    ]


def _measured(
    point: Point, seed: int, model: Model, problems: Sequence[Problem], cache: Path
) -> tuple[PairsOfSeed, DataSet, DataSet]:
    """(what the pairs are like but for their likeness, the pairs, the examples that are held out)."""
    card, label = point.card, point.series
    held = of_examples("held out", held_out(card))
    if not card.synthesizes:
        pairs = of_examples(label, _pairs(card.data.examples))
        return PairsOfSeed(label=label, seed=seed, pairs=len(pairs.items)), pairs, held
    order = order_of(card, model, seed, problems=problems)
    made = enough(synthesize(order, cache=cache, console=Reporter(quiet=True)), card.synthesize)
    pairs = of_examples(label, _pairs(str(made.file)))
    measured = PairsOfSeed(
        label=label,
        seed=seed,
        pairs=len(pairs.items),
        drafts=int(made.report["drafts"]),
        shares=_shares(made.report),
        nats=_nats(made, model, [item.example for item in held.items], read_targets(card.synthesize, card.data), seed),
    )
    return measured, pairs, held


def _pairs(source: str) -> list[Example]:
    return as_pairs(example_rows(DataCard(examples=source)).rows, Template("plain"), source)


def held_out(card: SamplerCard) -> list[Example]:
    """The examples that no method sees, by which pairs are measured: the card's queries, which are no training data here.

    Raises DataError for queries that are drawn from the targets, and for our own, which have no answers.
    """
    source = card.data.queries
    if is_sampled(source) or source in WRITTEN:
        raise DataError(
            f"the study synthesize measures pairs with examples that no method sees, and data.queries is {source!r}; give "
            "--queries SOURCE with such examples, beside --data SOURCE with the targets"
        )
    return distinct(as_pairs(query_rows(card.data).rows, Template("plain"), source))


def check_held_out(points: Sequence[Point]) -> None:
    """Raise DataError where there is nothing to measure pairs with: see held_out."""
    for point in points:
        held_out(point.card)


def _shares(report: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    by_name = {row["filter"]: row for row in report.get("filters", [])}
    if not by_name:
        return {}
    last = list(by_name.values())[-1]
    return {
        _KEPT: (int(last["kept"]), int(report["drafts"])),
        VALID: (int(by_name["code"]["kept"]), int(by_name["code"]["got"])),
    }


def _nats(made: Synthesized, model: Model, held: Sequence[Example], targets: Sequence[Example], seed: int) -> list[float]:
    """Nats a token of each held-out example, under the model as it is or behind its soft prompts; empty for other methods."""
    method = made.report["method"]
    if method not in {_STEERED, _PLAIN}:
        return []
    from spa_bench.models.hf.soft_prompt import SoftPrompts
    from spa_bench.spa.synthesize.softsrv import nll
    from spa_bench.spa.synthesize.softsrv.layout import layout_of
    from spa_bench.spa.synthesize.softsrv.saving import load_prompt
    from spa_bench.spa.synthesize.softsrv.steered import prompted

    network = prompted(model)
    layout = layout_of(made.report["prepared"]["layout"], ())
    texts = [layout.text(example) for example in held]
    if method == _PLAIN:
        found = nll.model_nll(network, texts)
    else:
        soft = SoftPrompts(network)
        prompt = load_prompt(made.folder / "prepared" / "soft-prompt", soft)
        some = np.random.default_rng(derive_seed(seed, "mixture")).permutation(len(targets))[:MIXED]
        z = prompt.z(soft, [layout.text(targets[i]) for i in sorted(some)])
        found = nll.mixture_nll(soft, prompt, texts, z)
    return [float(value) for value in found.nats / found.tokens]


# tables and claims ---------------------------------------------------------------------------------------------------


def measures_of(pairs: Sequence[PairsOfSeed]) -> dict[str, dict[str, Estimate]]:
    """Label -> measure -> its value over seeds, with a 95 % interval; a measure that a method does not have is missing."""
    return {label: _measures(list(of)) for label, of in _by_label(pairs).items()}


def _by_label(pairs: Sequence[PairsOfSeed]) -> dict[str, list[PairsOfSeed]]:
    found: dict[str, list[PairsOfSeed]] = {}
    for one in pairs:
        found.setdefault(one.label, []).append(one)
    return found


def _measures(of: Sequence[PairsOfSeed]) -> dict[str, Estimate]:
    values = {name: _share([one.shares[name] for one in of if name in one.shares]) for name in (_KEPT, VALID)}
    known = [one.nats for one in of if one.nats]
    values[NATS] = estimate(np.array(known)) if known else Estimate.missing("the method gives no density of texts")
    for name in LIKENESS:
        found = [one.likeness[name] for one in of if name in one.likeness]
        values[name] = _over_seeds(
            [one.value for one in found], found[0].reason if found else "too few pairs", BOUNDS.get(name)
        )
    return values


def _share(counts: Sequence[tuple[int, int]]) -> Estimate:
    """A share of drafts, over drafts and seeds."""
    if not counts:
        return Estimate.missing("nothing was drafted")
    table = np.full((len(counts), max(most for _, most in counts)), np.nan)
    for row, (kept, most) in zip(table, counts, strict=True):
        row[:most] = np.arange(most) < kept
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
    style, made = STYLES["md"], measures_of(pairs)
    shown = [name for name in MEASURES if any(values[name].value is not None for values in made.values())]
    body = []
    for label, values in made.items():
        of = _by_label(pairs)[label]
        counts = [str(round(float(np.mean([one.pairs for one in of])))), str(round(float(np.mean([one.drafts for one in of]))))]
        body.append([label, *counts, *(cell(values[name], style) for name in shown)])
    return ["## The pairs", grid(body, ["method", "pairs", "drafts", *shown], ready=True), _HOW]


_HOW = f"""kept: share of all drafts that became pairs. valid: share of the drafts that are a pair and fit whose program
runs. nats a token: mean negative log-likelihood of examples of the same kind that no method has seen, under the model as
it is (sample) or behind the soft prompts of {MIXED} targets, mixed, which errs on the high side. The others say how like
the pairs are to these examples, by TF-IDF's vectors of them (docs/how-to/describe-data.md): mauve[frontier] (1: the same)
is MAUVE's formula on our own vectors, frechet and mmd2 are distances (0: the same), auc is how often a classifier tells
them apart (0.5: never). Intervals are over examples and seeds, those of likeness over seeds alone (Student's t)."""


def claims_of_pairs(points: Sequence[MeasuredPoint], pairs: Sequence[PairsOfSeed]) -> list[Claim]:
    """SoftSRV's claim, for each of its forms: pairs nearer to the target and a better student than those of other methods."""
    students, found = {m.label: m for m in points}, _by_label(pairs)
    steered = [m for m in points if m.point.card.synthesize.method == _STEERED]
    others = [m for m in points if m.point.card.synthesize.method in {_PLAIN, _GENERATOR}]
    made = []
    for m in reversed(steered):  # the last form is the paper's best
        closer = {
            f"{LIKE} of {m.label} minus {other.label}": _nearer(found.get(m.label, []), found.get(other.label, []))
            for other in others
        }
        parts = tuple(Part(f"{words} {number(d)}", sign(d)) for words, d in closer.items())
        parts += more(
            {
                f"pass@1 of the student of {m.label} minus {other.label}": difference(students[m.label], other, "pass@1")
                for other in others
            }
        )
        states = f"pairs of {m.label} are nearer to the target, and a better student learns from them, than of the others"
        made.append(Claim(states, parts if others else (), papers=m is steered[-1]))
    return made


def _nearer(ours: Sequence[PairsOfSeed], theirs: Sequence[PairsOfSeed]) -> Estimate:
    """The difference of likeness, paired by seed."""
    there = {one.seed: one.likeness[LIKE].value for one in theirs if one.likeness}
    pairs = [(one.likeness[LIKE].value, there.get(one.seed)) for one in ours if one.likeness]
    return _over_seeds([a - b for a, b in pairs if a is not None and b is not None], "no likeness")


def pairs_as_json(pairs: Sequence[PairsOfSeed]) -> list[dict[str, object]]:
    """A row for each point and seed, without the values of single examples."""
    return [{**asdict(one), "nats": None if not one.nats else float(np.mean(one.nats))} for one in pairs]
