"""The plan that `spa-bench run` prints before it starts: model, task, data, samples and a rough cost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from spa_bench.cards.objects import PREFIX, given_object, is_object
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.training import LoraCard
from spa_bench.mini.embedded import pairs_name
from spa_bench.models.base import LoraTrainable, Model, StageModel
from spa_bench.models.spread import SpreadModel, Station
from spa_bench.runs.engines import Chosen
from spa_bench.runs.reopen import ModelOptions
from spa_bench.samplers.base import merging_of, sampler_kind
from spa_bench.spa.synthesize.stage import plan_line
from spa_bench.spa.training_data import Sources, compared, needs_queries
from spa_bench.support.provenance import numerics_line
from spa_bench.tasks.base import Task
from spa_bench.tasks.shuffled import how_drawn
from spa_bench.types import Problem

if TYPE_CHECKING:
    from spa_bench.spa.estimate import Estimate


def plan_lines(
    card: SamplerCard,
    task: Task,
    model: Model,
    *,
    n: int,
    seeds: list[int],
    limit: int | None,
    embedded: bool,
    chosen: bool = True,
    pairs: str = "",
    targets: int = 0,
) -> list[str]:
    """The lines of the plan; the cost counts forward passes over tokens, not seconds.

    `chosen`: whether the command named the model; `pairs`: why the pairs are these, where it named none;
    `targets`: how many a synthesis has, where one makes the pairs.
    """
    problems = len(task.problems[:limit])
    draws = problems * n * len(seeds)
    numerics = f": {said}" if (said := numerics_line(model.numerics())) else ""
    hints = ["the embedded 2.9 M parameter model; choose another with --model"] if embedded else []
    hints += [str(said) for said in (model.describe().get("weights"),) if said]
    hints += [] if chosen or embedded else ["no --model was given: choose another with it, or --model embedded"]
    hint = f" ({'; '.join(hints)})" if hints else ""
    order = "" if problems == len(task.problems) else how_drawn(task.describe())
    lines = [
        f"model: {model.name}{hint}{numerics}",
        *model.notes,
        f"task: {task.name} {task.version}, {problems} of {len(task.problems)} problems{order}, found: {task.found}",
        f"sampler: {card.name}: {card.description}",
        *_served_line(card),
        *_merged_line(card),
        f"samples: {problems} problems × n = {n} × {len(seeds)} seed{'s' * (len(seeds) > 1)} = {draws}",
    ]
    drawn = sampler_kind(card.kind).drawn(card, n)
    answers = f"{problems * n} answers" if drawn == n else f"{problems * drawn} answers, {problems * n} of them kept"
    lines += _training_lines(card, model, answers, pairs, targets)
    if choices := task.options(limit):
        options = sum(len(one.texts) for one in choices)
        lines.append(
            f"choices: {len(choices)} problems are multiple choice: {options} options, scored by all members in one pass; the "
            f"model continues writing after its choice"
        )
    if not task.runs_code:
        lines.append("verdicts: the answers are no programs: nothing is run, and no sandbox is needed")
    return lines


def _training_lines(card: SamplerCard, model: Model, answers: str, pairs: str, targets: int) -> list[str]:
    """What is trained, on which pairs, and what a seed costs, with its `answers`."""
    how = merging_of(card)
    trained = card.trained + (how is not None and how.anchor == "all")
    if not trained:
        return [f"cost a seed: no training, {answers}"]
    lines = []
    source = pairs_name(card.data.examples) + (f" ({pairs})" if pairs else "")
    if card.synthesizes:
        lines.append(plan_line(card.synthesize, targets))
        source = f"the pairs that {card.synthesize.method} makes"
    if isinstance(model, StageModel) and (note := model.lora_note(card.lora.targets)):
        lines.append(note)
    lines.append(f"data: {source}" + (f", queries: {card.data.queries}" if needs_queries(card) else ""))
    lines.append(f"cost a seed: {_gradient_passes(card)}{_rows_read(card.lora, trained)}, {answers}")
    return lines


def _gradient_passes(card: SamplerCard) -> str:
    """The warm-up of the attribution and its passes over the data, before a comma; "" where it takes no gradients."""
    if not needs_queries(card) or card.attribution.method != "influence":
        return ""
    points, last = len(card.attribution.checkpoints), max(card.attribution.checkpoints)
    warm_up = f"a warm-up of {last} step{'s' * (last > 1)} × {card.lora.batch * card.lora.accumulation} on all data, "
    passes = "one gradient pass" if points == 1 else f"{points} gradient passes"
    return f"{warm_up * bool(last)}{passes} over the data, "


def _rows_read(lora: LoraCard, trained: int) -> str:
    """How many pairs the training of `trained` adapters reads; of epochs, whose number hangs on the part, the rule."""
    if not lora.steps:
        return f"{trained} LoRA × {lora.epochs:g} epoch{'s' * (lora.epochs != 1)} of the pairs of each"
    a_step = lora.batch * lora.accumulation
    return f"{trained} LoRA × {lora.steps} steps × {a_step} = {trained * lora.steps * a_step} training rows"


def object_lines(sampler: str, task: str, engine: str, metrics: Sequence[str] = ()) -> list[str]:
    """A line on each part of a run that is an object of the user's program: what the spec says of its code."""
    named = [("sampler", sampler), ("task", task), ("engine", engine), *(("metric", name) for name in metrics)]
    lines = []
    for table, name in named:
        if is_object(name):
            source, what = given_object(table, name).source, "model" if table == "engine" else table
            known = f"its code is in the spec by the hash {source.hash}"
            unknown = f"its code is in no hash ({source.why}): this run cannot be resumed"
            lines.append(f"{what} object {name.removeprefix(PREFIX)}: {known if source.hash else unknown}")
    return lines


def unused_loading(engine: Chosen, options: ModelOptions) -> list[str]:
    """A line on options that have no effect because `engine` loads no model into this machine; else none."""
    if engine.loads or not (given := options.given()):
        return []
    return [f"engine {engine.name} loads no model here: {', '.join(given)} {'has' if len(given) == 1 else 'have'} no effect"]


def _served_line(card: SamplerCard) -> list[str]:
    """A line on members that a server has; none for other cards."""
    said = f"members: {', '.join(card.served)}, which the server has: what they were trained on is unknown, and in no hash"
    return [said] * bool(card.served)


def _merged_line(card: SamplerCard) -> list[str]:
    """A line on members that are sums of adapters; none for other cards."""
    how = merging_of(card)
    if how is None:
        return []
    sources = [f"{card.trained} that {'is' if card.trained == 1 else 'are'} trained ({card.adapters})"] * card.trains
    sources += [f"those in {place}" for place in how.given]
    anchor = {"all": "one on all data, ", "base": "the base, ", "none": ""}.get(how.anchor, f"that in {how.anchor}, ")
    return [f"members: {card.members} weighted sum{'s' * (card.members > 1)} of adapters: {anchor}{', '.join(sources)}"]


def estimate_line(
    card: SamplerCard, model: Model, sources: Sources, problems: Sequence[Problem] | None = None, *, trained: bool = True
) -> str:
    """The line of the plan on time and memory of attribution and training, from a short pass through `model`; else "".

    `problems` are those of the task: pairs that data.decontaminate leaves out do not count. `trained` says whether adapters
    are wanted, beside the scores of the data.
    """
    if not card.trains or not isinstance(model, LoraTrainable) or not sources.examples.rows:
        return ""  # where pairs are to be made, nobody knows yet how long they are
    scored = needs_queries(card) and card.attribution.method == "influence"
    if not scored and not trained:
        return ""
    from spa_bench.spa.estimate import plan_estimates  # with torch: a run that trains nothing does without

    if card.data.decontaminate:
        sources, _ = compared(card, sources, problems)
    how = merging_of(card)
    anchored = how is not None and how.anchor == "all"
    if isinstance(model, SpreadModel):
        act = partial(_estimates, card=card, sources=sources, scored=scored, anchored=anchored, workers=model.count)
        [(_, found)] = model.spread([act])
    else:
        found = plan_estimates(card, model, sources, scored=scored, anchored=anchored)
    stages = [one for one in found if trained or one.stage != "training"]
    peak = "at the peak of a worker" if isinstance(model, SpreadModel) else "at the peak"
    return f"estimate a seed, from a short pass, within a factor of 2: {'; '.join(map(str, stages))} {peak}"


def _estimates(
    at: Station, *, card: SamplerCard, sources: Sources, scored: bool, anchored: bool, workers: int
) -> list[Estimate]:
    """`plan_estimates` in a worker, whose speed and memory stand for those of all."""
    from spa_bench.spa.estimate import plan_estimates

    return plan_estimates(card, at.model, sources, scored=scored, anchored=anchored, workers=workers)
