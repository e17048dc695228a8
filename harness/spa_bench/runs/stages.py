"""SPA's stages by themselves: the stages of a sampler's card on a model and data, in the same cache as those of whole runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import UsageError
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.base import Model, trainable
from spa_bench.runs.engines import Chosen
from spa_bench.runs.job import load_task
from spa_bench.runs.plan import estimate_line
from spa_bench.runs.reopen import ModelOptions, loaded_with
from spa_bench.runs.values import check_seeds, check_sources, data_settings, unread_sources
from spa_bench.samplers.base import merging_of
from spa_bench.spa.merge import member_adapters
from spa_bench.spa.partition import needs_scores
from spa_bench.spa.stages import Stages
from spa_bench.spa.synthesize.stage import made_sources
from spa_bench.spa.training_data import load_data, read_sources
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.types import Problem


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """The options of a stage beside its sampler."""

    model: str = EMBEDDED
    loading: ModelOptions = field(default_factory=ModelOptions)
    data: str | None = None  # the source of training pairs; None: the card's source
    queries: str | None = None
    task: str | None = None  # the task with whose problems the pairs are compared; None: with none
    settings: tuple[str, ...] = ()  # KEY=VALUE of the sampler's card, as --set takes them
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class OpenStages:
    """The stages of a sampler, ready to be computed."""

    stages: Stages
    adapters: Callable[[], list[Path]]  # of the members: those of the stages, or sums of them
    console: Reporter
    row: dict[str, object]  # what --json prints of them: sampler, model, seed, examples, skipped


@contextmanager
def open_stages(
    sampler: str, options: StageOptions, *, last: Literal["attribute", "partition", "adapt"]
) -> Iterator[OpenStages]:
    """The stages of `sampler` up to the `last` one; the model is closed behind the block.

    Raises UsageError for a sampler without that stage.
    """
    check_seeds((options.seed,))
    found = parse_overrides(options.settings)
    for what, others in (("task", found.task), ("engine", found.engine)):
        if others:
            raise UsageError(f"spa has no {what}: --set takes keys of the sampler's card; got {what}.{next(iter(others))}")
    card = load_sampler_card(sampler, found.sampler | data_settings(options.data, options.queries))
    _check_has(card, last)
    check_sources(card, options.data, options.queries)
    problems = None if options.task is None else load_task(load_task_card(options.task)).problems
    console = Reporter()
    with closing(loaded_with(Chosen(), options.model, options.loading)) as model:
        yield _opened(card, options, model, problems, console, trained=last == "adapt")


def _opened(
    card: SamplerCard,
    options: StageOptions,
    model: Model,
    problems: Sequence[Problem] | None,
    console: Reporter,
    *,
    trained: bool,
) -> OpenStages:
    seed, cache = options.seed, stage_cache()
    made = made_sources(card, model, seed, problems=problems, cache=cache, console=console)
    sources = made or read_sources(card)
    data = load_data(card, model, seed, sources=sources, problems=problems)
    for line in (*unread_sources(card, options.data, options.queries), *data.told, *data.notes(card)):
        console.note(line)
    if estimate := estimate_line(card, model, sources, problems, trained=trained):
        console.note(estimate)
    row: dict[str, object] = {
        "sampler": card.name,
        "model": model.name,
        "seed": options.seed,
        "examples": len(data.examples),
        "skipped": data.skipped,
    }
    able = trainable(model)
    return OpenStages(
        stages=Stages(card, data, able, seed=seed, cache=cache, console=console),
        adapters=lambda: member_adapters(card, merging_of(card), data, able, seed, cache=cache, console=console),
        console=console,
        row=row,
    )


def _check_has(card: SamplerCard, last: str) -> None:
    if last == "adapt" and merging_of(card):
        return
    if not card.trains or (card.adapters != "parts" and last != "adapt"):
        trains = "trains nothing" if not card.trains else "trains on all data and has no parts"
        raise UsageError(f'the sampler {card.name!r} {trains}; use one with adapters = "parts", such as spa-influence')
    if last == "attribute" and not needs_scores(card.partition.method):
        raise UsageError(
            f"partition.method {card.partition.method!r} of {card.name!r} looks at no scores: there is nothing to attribute; "
            "--set partition.method=argmax has some"
        )
