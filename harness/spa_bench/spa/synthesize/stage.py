"""The stage `synthesize`: the pairs of a card, made once and kept in the stage cache under the hash of all they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.source import source_hash
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.cards.training import ColumnsCard, DataCard
from spa_bench.errors import DataError, StoreError
from spa_bench.models.base import Model, PairModel
from spa_bench.spa.data.sets import example_rows, hash_examples
from spa_bench.spa.data.sources import named
from spa_bench.spa.kept import recall
from spa_bench.spa.synthesize import report
from spa_bench.spa.synthesize.base import Setting, SynthesisKind, synthesis_kind
from spa_bench.spa.synthesize.filters import Filters, Limits
from spa_bench.spa.synthesize.pipeline import make_pairs, write_pairs
from spa_bench.spa.synthesize.programs import CodeFilter, are_programs, in_sandbox
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.spa.training_data import Sources, most_tokens, sources_of, tokens_at_most
from spa_bench.support import provenance
from spa_bench.support.console import Reporter
from spa_bench.support.files import replace_file
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Example, Problem

FORMAT = 1  # raise when the meaning of the files changes
PAIRS, REPORT = "pairs.jsonl", "report.json"
_CODE = ("cards", "grading", "mini", "models", "samplers", "sandbox", "spa")  # what pairs follow from


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made, and of what."""

    card: SynthesisCard
    model: Model  # that writes
    seed: int  # of the run
    problems: Sequence[Problem] | None = None  # of the task, with which pairs are compared; None: no task is known
    length: int = 0  # [tokens] the most of a pair; 0: the model's context
    data: DataCard = field(default_factory=DataCard)  # how the targets are read: columns, labels, unusable
    sandbox: str | None = None  # in which programs run; None: the first that works here

    @property
    def kind(self) -> SynthesisKind:
        """The kind of the method."""
        return synthesis_kind(self.card.method)


@dataclass(frozen=True, kw_only=True)
class Synthesized:
    """The folder of a synthesis, and its report."""

    folder: Path
    report: dict[str, Any]

    @property
    def file(self) -> Path:
        """The pairs, as JSON lines."""
        return self.folder / PAIRS


def synthesize(order: Order, *, cache: Path, console: Reporter) -> Synthesized:
    """The pairs of `order`, from the stage cache or made; how many there are is not checked: see `enough`.

    Raises DataError for targets that cannot be used, ModelError for a model that the method cannot use, SandboxError where
    programs must run and no sandbox works, StoreError for a report that cannot be read, and what the method raises.
    """
    card = order.card
    targets = read_targets(card, order.data)
    order.kind.check_model(card, order.model)
    limits = _limits(order)
    code = CodeFilter(level=card.code, programs=are_programs(targets), run=in_sandbox(order.sandbox))
    problems = order.problems if card.decontaminate else None
    told = {
        "method": card.method,
        "wanted": card.pairs,
        "targets": named(DataCard(examples=card.targets)).examples,
        "targets_n": len(targets),
        "targets_hash": hash_examples(targets),
        "model": order.model.name,
        "seed": order.seed,
        "code": code.said,
        "limit": limits.said or f"unknown: model {order.model.name!r} has no tokenizer here",
        "compared_with": _compared(order),
    }

    def make(to: Path) -> None:
        setting = Setting(card=card, model=order.model, targets=targets, seed=derive_seed(order.seed, "synthesis"))
        filters = Filters(targets=targets, code=code, near=card.near, limits=limits, problems=problems)
        made = make_pairs(order.kind, setting, filters, to, console)
        written = report.of(made, told)
        write_pairs(to / PAIRS, made.pairs, order.kind.shape)
        replace_file(to / REPORT, (json.dumps(written, indent=1, default=str) + "\n").encode())
        replace_file(to / "report.md", report.markdown(written).encode())

    folder = recall("synthesis", _recipe(order, targets, limits, problems), make, cache=cache, console=console)
    try:
        said = json.loads((folder / REPORT).read_bytes())
        # the same pairs under another name are the same stage, whose report has the name of whoever made it
        return Synthesized(folder=folder, report={**said, "targets": told["targets"]})
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {folder / REPORT} ({error}); remove {folder}, and it is made again") from error


def enough(made: Synthesized, card: SynthesisCard) -> Synthesized:
    """`made` where it has as many pairs as the card wants. Raises DataError with the counts; what is there is kept."""
    have = int(made.report["pairs"])
    if have >= card.wanted:
        return made
    why = f"{report.line(made.report)}; it ended because {made.report['ended']}"
    if not have:
        raise DataError(f"{why}; the drafts are in {made.folder}: give other targets, or a model that can write such pairs")
    raise DataError(
        f"{why}; these pairs are in {made.file}: --set synthesize.least={have} uses them, and a larger "
        "synthesize.drafts makes more"
    )


def made_sources(
    card: SamplerCard,
    model: Model,
    seed: int,
    *,
    problems: Sequence[Problem] | None,
    cache: Path,
    console: Reporter,
    sandbox: str | None = None,
) -> Sources | None:
    """The pairs of a card that makes them, with its queries; None for a card whose pairs are given. Raises as synthesize."""
    if not card.synthesizes:
        return None
    order = order_of(card, model, seed, problems=problems, sandbox=sandbox)
    made = enough(synthesize(order, cache=cache, console=console), card.synthesize)
    own = replace(card.data, examples=str(made.file), columns=ColumnsCard(), labels="auto")
    read = replace(example_rows(own), told=report.line(made.report))
    return replace(sources_of(card, read, f"the pairs of {card.synthesize.method}"), made=made.report)


def order_of(
    card: SamplerCard, model: Model, seed: int, *, problems: Sequence[Problem] | None, sandbox: str | None = None
) -> Order:
    """What a card that makes its pairs wants made for a run."""
    return Order(
        card=card.synthesize,
        model=model,
        seed=seed,
        problems=problems,
        length=card.lora.length,
        data=card.data,
        sandbox=sandbox,
    )


def plan_line(card: SynthesisCard, targets: int, *, compared: bool = True) -> str:
    """What will be made, in one line of a plan; `compared`: a task is named, with whose problems pairs can be compared."""
    code = f"code: {card.code}" + " (tests where a draft has some; else run, where the targets are programs)" * (
        card.code == "auto"
    )
    clean = "compared with the task" if compared else "compared with no task, as none is named"
    clean = clean if card.decontaminate else "not compared with the task"
    return (
        f"synthesis: {card.pairs} pairs by {card.method} from {targets} targets of {card.targets}, of at most {card.most} "
        f"drafts a seed; {code}; near-duplicates from {card.near:g}; {clean}"
    )


def _recipe(order: Order, targets: Sequence[Example], limits: Limits, problems: Sequence[Problem] | None) -> dict[str, object]:
    card = order.card
    own = {"source": source_hash(card.method)} if ":" in card.method else {}
    return {
        "format": FORMAT,
        "card": {k: v for k, v in asdict(card).items() if k not in {"least", "targets"}},
        "targets": hash_examples(targets),
        "model": order.model.describe(),
        "numerics": order.model.numerics(),
        "seed": order.seed,
        "problems": None if problems is None else _problems_hash(problems),
        "limit": limits.said,
        "code": provenance.source_hash(*_CODE),
        "versions": {k: v for k, v in provenance.versions().items() if k in {"torch", "transformers", "numpy", "python"}},
        **own,
        **order.kind.depends_on(card),
    }


def _problems_hash(problems: Sequence[Problem]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for problem in problems:
        digest.update(json.dumps([problem.id, problem.prompt, problem.reference]).encode())
    return digest.hexdigest()


def _limits(order: Order) -> Limits:
    model = order.model
    if not isinstance(model, PairModel):
        return Limits()
    most, said = most_tokens(order.length, model)
    return Limits(fits=lambda pair: tokens_at_most(model, pair, most) <= most, said=said)


def _compared(order: Order) -> str:
    if not order.card.decontaminate:
        return "nothing: synthesize.decontaminate is false"
    if order.problems is None:
        return "nothing: no task is named"
    return f"{len(order.problems)} problems of the task"
