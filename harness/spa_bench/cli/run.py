"""`spa-bench run`: draw samples with a sampler on a task, grade and measure them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from spa_bench.cli.options import (
    GRADED,
    NOISE,
    OUTPUT,
    WHAT,
    Embedding,
    Engine,
    First,
    Json,
    Judge,
    Limit,
    Machine,
    Metrics,
    ModelOrDefault,
    NoiseFloor,
    Pairs,
    Price,
    Rules,
    Sampler,
    Subset,
    Task,
    Trackers,
    a_count,
    a_path,
    option,
    overrides,
    read_seeds,
)
from spa_bench.errors import UsageError


def run(
    *,
    sampler: Sampler,
    task: Task,
    model: ModelOrDefault = None,
    n: Annotated[
        int | None, a_count("answers a problem, a multiple of the sampler's members (default: the card's)", WHAT)
    ] = None,
    seed: Annotated[int | None, a_count("seed of training and sampling (default 0)", WHAT)] = None,
    seeds: Annotated[str | None, option("several seeds, one run each", WHAT, metavar="A,B,C")] = None,
    limit: Limit = None,
    first: First = False,
    subset: Subset = None,
    settings: Annotated[tuple[str, ...], overrides("override a card's key, e.g. lora.steps=100 or task.seconds=5")] = (),
    pairs: Pairs | None = None,
    machine: Machine | None = None,
    engine: Engine | None = None,
    noise_floor: NoiseFloor = "auto",
    until: Annotated[
        Literal["generate", "grade"], option("generate: stop before grading; see `spa-bench grade`", GRADED)
    ] = "grade",
    grading: Rules = "default",
    judge: Judge | None = None,
    embedding: Embedding = None,
    metrics: Metrics = (),
    out: Annotated[Path, a_path("where run folders go", OUTPUT, metavar="DIR", name="--out")] = Path("runs"),
    price_per_hour: Price = None,
    trackers: Trackers | None = None,
    as_json: Json = False,
) -> int:
    """Draw samples with a sampler on a task, grade and measure them.

    The same command resumes a run that was stopped.
    """
    from spa_bench.cli.summary import print_summary
    from spa_bench.publish.trackers.tracking import Tracking, names_of
    from spa_bench.runs import perform
    from spa_bench.runs.options import RunOptions
    from spa_bench.runs.values import subset_of
    from spa_bench.support.console import Reporter

    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds both say which seeds; give one of them")
    pairs, machine, judge, trackers = pairs or Pairs(), machine or Machine(), judge or Judge(), trackers or Trackers()
    limit, settings = subset_of(limit, subset, settings)
    engine = engine or Engine()
    options = RunOptions(
        model=model,
        loading=machine.options(),
        engine=engine.named,
        n=n,
        seeds=read_seeds(seed or 0, seeds),
        limit=limit,
        first=first,
        data=pairs.data,
        queries=pairs.queries,
        settings=settings + engine.settings + pairs.settings,
        noise_floor=NOISE[noise_floor],
        until=until,
        rules=grading,
        judge=judge.options(price_per_hour),
        embedding=embedding,
        metrics=metrics,
        out=out,
    )
    note = Reporter().note
    with Tracking(names_of(trackers.log), note, samples=trackers.log_samples) as tracking:
        folders = perform.run(sampler, task, options, follow=tracking)
    if until == "generate":
        paths = [str(folder.path) for folder in folders]
        print(json.dumps(paths) if as_json else "\n".join(paths))
        note("grade with: spa-bench grade " + " ".join(paths))
        return 0
    return print_summary(folders, as_json=as_json)
