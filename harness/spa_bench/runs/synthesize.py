"""The commands `synthesize` and `spa synthesize` as functions of plain values: pairs into a file, or the stage of a card."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from spa_bench.cards.reading import Overrides, parse_overrides
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.cards.training import OF_READING, without_effect
from spa_bench.errors import CardError, UsageError
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.runs.engines import chosen_engine
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import ModelOptions, loaded_with
from spa_bench.runs.stages import StageOptions
from spa_bench.runs.values import check_sandbox, check_seeds
from spa_bench.spa.synthesize.base import synthesis_kind
from spa_bench.spa.synthesize.report import line
from spa_bench.spa.synthesize.stage import Order, Synthesized, enough, order_of, plan_line, synthesize
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.support.files import write_text
from spa_bench.types import Problem

_OTHERS = ("data.", "task.", "engine.")  # settings that are not of [synthesize]
_CARD = "single"  # the card whose table is filled: it trains, on any pairs


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """What pairs are made, and of what."""

    method: str
    targets: str = "mini"
    pairs: int | None = None  # None: the card's number
    model: str | None = None  # that writes; None: the embedded model
    loading: ModelOptions = field(default_factory=ModelOptions)
    engine: str | None = None
    task: str | None = None  # with whose problems pairs are compared; None: with none
    # KEY=VALUE of the table [synthesize], such as code=parse or options.temperature=1; data., task. and engine. as elsewhere
    settings: tuple[str, ...] = ()
    seed: int = 0
    sandbox: str | None = None  # None: the first that works here


def synthesize_file(options: SynthesisOptions, out: Path) -> Synthesized:
    """Write the pairs to `out`, and their report beside it; the folder of the stage has the drafts. Raises a SpaBenchError.

    Work that an earlier command with the same options did is not done again.
    """
    if out.suffix != ".jsonl":
        raise UsageError(f"--out is {out}; pairs are JSON lines, so name a file that ends in .jsonl")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file")
    check_seeds((options.seed,))
    check_sandbox(options.sandbox, used=True)
    given = parse_overrides([_of_table(setting) for setting in options.settings])
    if idle := without_effect(given.sampler, OF_READING):
        raise UsageError(f"--set {idle[0]} has no effect: of [data] the keys {', '.join(OF_READING)} say how targets are read")
    card = _card(options, given)
    engine = chosen_engine(options.engine, given.engine)
    console = Reporter()
    if note := engine.check_model(options.model):
        console.note(note)
    problems = _problems(options.task, given)
    targets = read_targets(card.synthesize, card.data)
    console.note(plan_line(card.synthesize, len(targets), compared=problems is not None))
    with closing(loaded_with(engine, options.model or EMBEDDED, options.loading)) as model:
        order = Order(
            card=card.synthesize,
            model=model,
            seed=options.seed,
            problems=problems,
            data=card.data,
            sandbox=options.sandbox,
        )
        made = synthesize(order, cache=stage_cache(), console=console)
    console.note(line(made.report))
    enough(made, card.synthesize)
    write_text(out, made.file.read_text(encoding="utf-8"))
    write_text(report_of(out), (made.folder / "report.json").read_text(encoding="utf-8"))
    return made


def report_of(out: Path) -> Path:
    """The place of the report beside a file of pairs."""
    return out.with_suffix(".report.json")


def synthesize_stage(sampler: str, options: StageOptions) -> Synthesized:
    """The stage of a sampler that makes its pairs. Raises UsageError for one that makes none, and what the synthesis raises."""
    check_seeds((options.seed,))
    found = parse_overrides(options.settings)
    for what, others in (("task", found.task), ("engine", found.engine)):
        if others:
            raise UsageError(f"spa has no {what}: --set takes keys of the sampler's card; got {what}.{next(iter(others))}")
    card = load_sampler_card(sampler, found.sampler)
    if not card.synthesizes:
        raise UsageError(
            f"the sampler {card.name!r} takes the pairs that it is given; use one with [synthesize], such as spa-synth, or "
            "--set synthesize.method=template"
        )
    console = Reporter()
    targets = read_targets(card.synthesize, card.data)
    problems = _problems(options.task, Overrides({}, {}, {}))
    console.note(plan_line(card.synthesize, len(targets), compared=problems is not None))
    with closing(loaded_with(chosen_engine(None, {}), options.model, options.loading)) as model:
        synthesis_kind(card.synthesize.method).check_model(card.synthesize, model)
        order = order_of(card, model, options.seed, problems=problems)
        made = synthesize(order, cache=stage_cache(), console=console)
    console.note(line(made.report))
    return enough(made, card.synthesize)


def _card(options: SynthesisOptions, given: Overrides) -> SamplerCard:
    values = {
        "synthesize.method": options.method,
        "synthesize.targets": options.targets,
        **({} if options.pairs is None else {"synthesize.pairs": options.pairs}),
        **given.sampler,
    }
    try:
        return load_sampler_card(_CARD, values)
    except CardError as error:
        raise CardError(str(error).replace(f"sampler {_CARD!r}: ", "").replace(f"sampler {_CARD!r}, ", "")) from error


def _of_table(setting: str) -> str:
    """A setting with the name of the table before its key, where it is a key of [synthesize]."""
    return setting if setting.startswith((*_OTHERS, "synthesize.")) else f"synthesize.{setting}"


def _problems(task: str | None, given: Overrides) -> list[Problem] | None:
    if task is None:
        if given.task:
            raise UsageError(f"--set task.{next(iter(given.task))} is of a task, and none is named; name it with --task")
        return None
    return list(load_task(load_task_card(task, given.task)).problems)
