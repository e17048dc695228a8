"""The parts of a run: cards, data, task and model, read and checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import SamplerCard, load_sampler_card, said_of_data
from spa_bench.cards.task import TaskCard
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.base import Model
from spa_bench.runs.defaults import Pairs, model_for, pairs_for
from spa_bench.runs.engines import Chosen, chosen_engine
from spa_bench.runs.job import Job, asked_card, check_draws, check_limit, check_task, crowded, load_task, task_for
from spa_bench.runs.options import RunOptions
from spa_bench.runs.origins import check_apart, described_embedder, embedding_mark, similarity_line
from spa_bench.runs.own_metrics import load_metrics
from spa_bench.runs.plan import estimate_line, object_lines, plan_lines, unused_loading
from spa_bench.runs.reopen import check_workers
from spa_bench.runs.values import (
    check_out,
    check_price,
    check_sandbox,
    check_seeds,
    check_sources,
    data_settings,
    unread_sources,
)
from spa_bench.sandbox import choose
from spa_bench.spa.synthesize.base import synthesis_kind
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.spa.training_data import Sources, read_sources
from spa_bench.tasks.base import Asking, Task

if TYPE_CHECKING:
    from spa_bench.runs.embeddings import Embedder


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a run but its model, read and checked."""

    card: SamplerCard
    pairs: Pairs
    sources: Sources
    task_card: TaskCard
    n: int
    engine: Chosen
    sandbox: str
    task: Task
    targets: int  # of the synthesis that makes the pairs; 0: they are given


@dataclass(frozen=True, kw_only=True)
class LoadedParts(Parts):
    """The parts of a run, loaded and checked before anything is computed."""

    asking: Asking
    chat: bool  # whether the prompts go by a chat template because the model has one
    model: Model
    embedder: Embedder | None


def read_parts(sampler: str, task: str, options: RunOptions) -> Parts:
    """The parts that need no model. Raises a SpaBenchError when one of them cannot be read or does not fit the others."""
    check_seeds(options.seeds)
    check_price(options.judge.price_per_hour)
    check_limit(options.limit, first=options.first)
    check_out(options.out)
    check_sandbox(options.judge.sandbox, used=False)
    load_metrics(options.metrics)
    given = parse_overrides(options.settings)
    sampler_settings, task_settings = given.sampler | data_settings(options.data, options.queries), given.task
    engine = chosen_engine(options.engine, given.engine)
    check_workers(engine, options.loading.executor)
    card = load_sampler_card(sampler, sampler_settings)
    task_card = asked_card(task, task_settings, limit=options.limit, first=options.first, rules=options.rules)
    pairs = pairs_for(card, task_card, model_for(task_card, options.model), said_of_data(sampler) | sampler_settings)
    if pairs.settings:
        card = load_sampler_card(sampler, {**sampler_settings, **pairs.settings})
    n = card.draws if options.n is None else options.n
    if options.n is None and n % card.members:
        n = card.members
    check_draws(card, n)
    check_sources(card, options.data, options.queries)
    sources = read_sources(card)  # an unreadable one raises now, before anything is loaded
    targets = len(read_targets(card.synthesize, card.data)) if card.synthesizes else 0
    loaded = load_task(task_card)
    check_apart(card, loaded, [p.id for p in loaded.problems[: options.limit]])
    sandbox = options.judge.sandbox or "bwrap"
    if options.until != "generate" and loaded.runs_code:
        sandbox = choose(options.judge.sandbox, task_card.packages).name
    return Parts(
        card=card,
        pairs=pairs,
        sources=sources,
        task_card=task_card,
        n=n,
        engine=engine,
        sandbox=sandbox,
        task=loaded,
        targets=targets,
    )


def load_parts(read: Parts, embedder: Embedder | None, model: Model, options: RunOptions) -> LoadedParts:
    """The parts with the model. Raises a SpaBenchError when the model cannot do what they ask."""
    settled, loaded = task_for(read.task_card, read.task, model)
    asking = check_task(read.card, loaded, model, options.limit, kind=settled.kind)
    if read.card.synthesizes:
        synthesis_kind(read.card.synthesize.method).check_model(read.card.synthesize, model)
    return LoadedParts(
        card=read.card,
        pairs=read.pairs,
        sources=read.sources,
        task_card=settled,
        asking=asking,
        chat=read.task_card.prompt == "auto" and settled.prompt == "instruct",
        n=read.n,
        engine=read.engine,
        sandbox=read.sandbox,
        task=loaded,
        targets=read.targets,
        model=model,
        embedder=embedder,
    )


def plan_of(parts: LoadedParts, options: RunOptions, *, lent: bool) -> list[str]:
    """What the user is told before anything is drawn, a line each; `lent`: the caller has given the model."""
    lines = plan_lines(
        parts.card,
        parts.task,
        parts.model,
        n=parts.n,
        seeds=list(options.seeds),
        limit=options.limit,
        embedded=parts.model.name == EMBEDDED,
        chosen=options.model is not None or lent,
        pairs=parts.pairs.said,
        targets=parts.targets,
    )
    if parts.chat:
        lines.append(
            f"prompts: by the model's chat template{', as evalplus asks where there is one' * parts.task.runs_code} (or --set "
            "task.prompt=completion)"
        )
    lines += similarity_line(parts.card)
    lines += object_lines(parts.card.kind, parts.task_card.kind, parts.engine.name, options.metrics)
    lines += crowded(parts.asking, parts.model)
    lines += unused_loading(parts.engine, options.loading)
    lines += unread_sources(parts.card, options.data, options.queries)
    if estimate := estimate_line(parts.card, parts.model, parts.sources, parts.task.problems):
        lines.append(estimate)
    if parts.embedder:
        lines.append(f"embedding: {parts.embedder.name}, the first {parts.embedder.limit} tokens of a text")
        if mark := embedding_mark(job_for(parts, parts.embedder, options, options.seeds[0]).embedding):
            lines.append(f"embedding: {mark}")
    return lines


def job_for(read: Parts, embedder: Embedder | None, options: RunOptions, seed: int) -> Job:
    """The run of one seed."""
    return Job(
        sampler=read.card,
        task=read.task_card,
        n=read.n,
        seed=seed,
        limit=options.limit,
        sandbox=read.sandbox,
        grading=options.rules,
        noise_floor=options.noise_floor,
        embedding=described_embedder(embedder, read.task, [p.id for p in read.task.problems[: options.limit]]),
        metrics=options.metrics,
        engine=read.engine.spec(),
    )
