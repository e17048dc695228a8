"""The study `synthesize`: what the pairs of each method are like.

Of the pairs of each point and seed these are measured: the share of drafts that fall, how like the pairs are to examples of
the same kind that no method has seen, and, for methods that give a density of texts, the negative log-likelihood of these
examples. of_pairs.py has the tables and verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.cards.training import DataCard
from spa_bench.compare.study.designs import Point
from spa_bench.datasets import of_examples, similarity
from spa_bench.errors import DataError
from spa_bench.models.base import Model
from spa_bench.spa.data.sets import as_pairs, distinct, example_rows, hash_examples, query_rows
from spa_bench.spa.data.sources import WRITTEN, is_sampled
from spa_bench.spa.data.templates import Template
from spa_bench.spa.kept import recall
from spa_bench.spa.synthesize.programs import are_programs
from spa_bench.spa.synthesize.report import line
from spa_bench.spa.synthesize.stage import Synthesized, enough, order_of, synthesize
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.support import provenance
from spa_bench.support.console import Reporter
from spa_bench.support.files import replace_file
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Estimate, Example, Problem

if TYPE_CHECKING:
    from spa_bench.models.hf.soft_prompt import SoftPrompts
    from spa_bench.spa.synthesize.softsrv.encoding import Array
    from spa_bench.spa.synthesize.softsrv.nll import TextNLL
    from spa_bench.spa.synthesize.softsrv.saving import SoftPrompt

FEWEST = 16  # pairs of a set whose likeness is measured
MIXED = 16  # z of targets over which the density of a soft prompt is mixed; the mean over few is an upper bound of its loss
KEPT = "kept"  # of all drafts: those that became pairs
VALID = "valid"  # of the drafts that are a pair: those whose program does what is wanted
STEERED, PLAIN = "softsrv", "sample"
_VALUES = "nats.json"
_AT_ONCE = 8  # texts between two reports of progress


@dataclass(frozen=True, kw_only=True)
class PairsOfSeed:
    """What the pairs of one point and seed are like."""

    label: str
    seed: int
    pairs: int
    drafts: int = 0  # 0: nothing was drafted, the pairs are the targets
    shares: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # kept, valid: (how many, of how many)
    filters: Mapping[str, int] = field(default_factory=dict)  # filter -> drafts that it kept
    fell: str = ""  # where drafts fell, the most frequent first
    ended: str = ""  # why no more drafts were made
    nats: Sequence[float] = ()  # a token, of each held-out example; empty where the method gives no density
    mixed: int = 0  # z of targets over which `nats` are mixed; 0: they depend on no z
    likeness: Mapping[str, Estimate] = field(default_factory=dict)  # empty where there are too few pairs


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Where the pairs of a study come from and what is reported."""

    model: Model
    problems: Sequence[Problem] | None  # of the task, with which pairs were compared; None: with none
    cache: Path
    console: Reporter
    mixed: int = MIXED  # z of targets over which the likelihood behind a soft prompt is mixed
    least: bool = True  # whether fewer pairs than the card wants are refused; else they are measured as they are


def measured_pairs(points: Sequence[Point], seeds: Sequence[int], how: Measuring) -> list[PairsOfSeed]:
    """The measurements of all points and seeds. Pairs come from the stage cache, or are made.

    Likeness is compared at one number of pairs: half of the smallest set with enough (fewest_pairs).
    """
    found = [_measured(point, seed, how) for seed in seeds for point in points]
    found.sort(key=lambda one: [point.series for point in points].index(one[0].label))
    fewest = fewest_pairs(points)
    sizes = [len(some) for _, pairs, held in found if len(pairs) >= fewest for some in (pairs, held)]
    size = min(sizes, default=0) // 2
    made = []
    with how.console.stage("likeness of the pairs") as progress:
        for place, (one, pairs, held) in enumerate(found, 1):
            values = _likeness(pairs, held, size, one.seed) if len(pairs) >= fewest else {}
            made.append(replace(one, likeness=values))
            progress(place, len(found))
    return made


def fewest_pairs(points: Sequence[Point]) -> int:
    """The pairs from which on likeness is measured: a smaller set would take that of all others at its own small number."""
    return min([FEWEST, *(point.card.synthesize.pairs for point in points if point.card.synthesizes)])


def _likeness(pairs: Sequence[Example], held: Sequence[Example], size: int, seed: int) -> dict[str, Estimate]:
    if size < 2:
        return {}
    ours, theirs = of_examples("pairs", pairs), of_examples("held out", held)
    return similarity(ours, theirs, size=size, seed=derive_seed(seed, "likeness"))


def _measured(point: Point, seed: int, how: Measuring) -> tuple[PairsOfSeed, list[Example], list[Example]]:
    """(what the pairs are like but for their likeness, the pairs, the examples that are held out)."""
    card, label = point.card, point.series
    held = held_out(card)
    if not card.synthesizes:
        pairs = _pairs(card.data.examples)
        return PairsOfSeed(label=label, seed=seed, pairs=len(pairs)), pairs, held
    targets = read_targets(card.synthesize, card.data)
    if not how.least:
        how.console.note(f"{label}, seed {seed}")
    made = synthesize(order_of(card, how.model, seed, problems=how.problems), cache=how.cache, console=how.console)
    if how.least:
        enough(made, card.synthesize)
    else:
        how.console.note(f"{line(made.report)}; it ended because {made.report['ended']}")
    pairs = _pairs(str(made.file)) if made.report["pairs"] else []
    measured = PairsOfSeed(
        label=label,
        seed=seed,
        pairs=len(pairs),
        drafts=int(made.report["drafts"]),
        shares=_shares(made.report, wants_programs(card.synthesize, targets)),
        filters={row["filter"]: int(row["kept"]) for row in made.report["filters"]},
        fell=made.report["fell"],
        ended=made.report["ended"],
        mixed=how.mixed if made.report["method"] == STEERED else 0,
        nats=_nats(made, held, targets, seed, how),
    )
    return measured, pairs, held


def _pairs(source: str) -> list[Example]:
    return as_pairs(example_rows(DataCard(examples=source)), Template("plain"), source)


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
    return distinct(as_pairs(query_rows(card.data), Template("plain"), source))


def check_held_out(points: Sequence[Point]) -> None:
    """Raise DataError where there is nothing to measure pairs with: see held_out."""
    for point in points:
        held_out(point.card)


def wants_programs(card: SynthesisCard, targets: Sequence[Example]) -> bool:
    """Whether the code filter asks something of every draft."""
    return card.code not in {"auto", "none"} or (card.code == "auto" and are_programs(targets))


def _shares(report: Mapping[str, Any], programs: bool) -> dict[str, tuple[int, int]]:
    by_name = {row["filter"]: row for row in report.get("filters", [])}
    if not by_name:
        return {}
    last = list(by_name.values())[-1]
    found = {KEPT: (int(last["kept"]), int(report["drafts"]))}
    return {**found, VALID: (int(by_name["code"]["kept"]), int(by_name["code"]["got"]))} if programs else found


def _nats(made: Synthesized, held: Sequence[Example], targets: Sequence[Example], seed: int, how: Measuring) -> list[float]:
    """Nats a token of each held-out example, under the model as it is or behind its soft prompts; empty for other methods.

    They are kept in the stage cache.
    """
    if made.report["method"] not in {STEERED, PLAIN}:
        return []

    def make(to: Path) -> None:
        with how.console.stage("nats of what is held out") as progress:
            values = _computed(made, how, held, targets=targets, seed=seed, progress=progress)
        replace_file(to / _VALUES, (json.dumps(values) + "\n").encode())

    recipe = {
        "made": made.folder.name,
        "held_out": hash_examples(held),
        "targets": hash_examples(targets),
        "mixed": how.mixed,
        "seed": seed,
        "numerics": how.model.numerics(),
        "code": provenance.source_hash("models", "spa"),
    }
    folder = recall("nats", recipe, make, cache=how.cache, console=how.console)
    values: list[float] = json.loads((folder / _VALUES).read_bytes())
    return values


def _computed(
    made: Synthesized,
    how: Measuring,
    held: Sequence[Example],
    *,
    targets: Sequence[Example],
    seed: int,
    progress: Callable[[int, int], None],
) -> list[float]:
    """See _nats; `progress` is told texts."""
    from spa_bench.models.hf.soft_prompt import SoftPrompts
    from spa_bench.spa.synthesize.layout import layout_of
    from spa_bench.spa.synthesize.softsrv import nll
    from spa_bench.spa.synthesize.softsrv.saving import load_prompt
    from spa_bench.spa.synthesize.softsrv.steered import prompted

    network = prompted(how.model)
    layout = layout_of(made.report["prepared"]["layout"], ())
    texts = [layout.text(example) for example in held]
    if made.report["method"] == PLAIN:
        of = partial(nll.model_nll, network)
    else:
        soft = SoftPrompts(network)
        prompt = load_prompt(made.folder / "prepared" / "soft-prompt", soft)
        some = np.random.default_rng(derive_seed(seed, "mixture")).permutation(len(targets))[: how.mixed]
        z = prompt.z(soft, [layout.text(targets[i]) for i in sorted(some)])
        of = partial(_mixture, soft, prompt, z)
    values: list[float] = []
    for begin in range(0, len(texts), _AT_ONCE):
        found = of(texts[begin : begin + _AT_ONCE])
        values += [float(value) for value in found.nats / found.tokens]
        progress(len(values), len(texts))
    return values


def _mixture(soft: SoftPrompts, prompt: SoftPrompt, z: Array, texts: Sequence[str]) -> TextNLL:
    from spa_bench.spa.synthesize.softsrv import nll

    return nll.mixture_nll(soft, prompt, texts, z)
