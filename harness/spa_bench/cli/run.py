"""The commands that make and grade runs: `spa-bench run`, `grade`, `score` and `rerun`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from spa_bench.cli.values import check_out, check_sandbox, data_of, label_of, price_of, seeds_of, workers_of
from spa_bench.errors import UsageError
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.runs.job import check_limit

if TYPE_CHECKING:
    from spa_bench.cards.sampler import SamplerCard
    from spa_bench.cards.task import TaskCard
    from spa_bench.runs.folder import RunFolder
    from spa_bench.tasks.base import Task
    from spa_bench.tasks.code import CodeTask


@dataclass(frozen=True)
class _Order:
    """What a run is made of, checked and loaded: what is wrong is said before anything is computed."""

    card: SamplerCard
    task_card: TaskCard
    n: int
    sandbox: str
    task: Task
    model: Any
    embedder: Any  # None: not asked for


def _order(a: argparse.Namespace) -> _Order:
    from spa_bench.cards.reading import parse_overrides
    from spa_bench.cards.sampler import load_sampler_card
    from spa_bench.cards.task import load_task_card
    from spa_bench.runs.job import check_draws, check_model, check_task, load_task
    from spa_bench.runs.reopen import load_embedder, load_model
    from spa_bench.sandbox import choose
    from spa_bench.spa.training_data import read_sources

    sampler_settings, task_settings = parse_overrides(a.settings)
    sampler_settings |= data_of(a)
    card, task_card = load_sampler_card(a.sampler, sampler_settings), load_task_card(a.task, task_settings)
    n = card.draws if a.n is None else a.n
    if a.n is None and n % card.members:
        n = card.members
    check_draws(card, n)
    read_sources(card)  # for their errors alone
    task = load_task(task_card)
    sandbox = a.sandbox or "bwrap"
    if a.until != "generate" and task.runs_code:
        sandbox = choose(a.sandbox, task_card.packages).name
    model = load_model(a.model, a)
    check_task(card, task, model, a.limit)
    check_model(card, model, task)
    return _Order(card, task_card, n, sandbox, task, model, load_embedder(a.embedding, a) if a.embedding else None)


def _run(a: argparse.Namespace) -> None:
    from spa_bench.publish.trackers.tracking import Tracking, names_of
    from spa_bench.runs.generate import generate
    from spa_bench.runs.grade import grade
    from spa_bench.runs.job import Job
    from spa_bench.runs.own_metrics import load_metrics
    from spa_bench.runs.plan import plan_lines
    from spa_bench.support.cache import stage_cache
    from spa_bench.support.console import Reporter

    trackers = names_of(a.log)
    seeds, workers, price = seeds_of(a), workers_of(a), price_of(a)
    check_limit(a.limit)
    check_out(a.out)
    check_sandbox(a.sandbox, used=False)
    load_metrics(a.metrics)
    noise = {"auto": None, "yes": True, "no": False}[a.noise_floor]
    order = _order(a)
    task, model, embedder = order.task, order.model, order.embedder
    embedding = embedder.describe() if embedder else {}
    console = Reporter()
    for line in plan_lines(order.card, task, model, n=order.n, seeds=seeds, limit=a.limit, embedded=a.model == EMBEDDED):
        console.note(line)
    if embedder:
        console.note(f"embedding: {embedder.name}, the first {embedder.limit} tokens of a text")
    folders = []
    with Tracking(trackers, console.note, samples=a.log_samples) as tracking:
        for seed in seeds:
            reporter = tracking.reporter()
            metrics = tuple(a.metrics)
            job = Job(order.card, order.task_card, order.n, seed, a.limit, order.sandbox, a.grading, noise, embedding, metrics)
            folder = generate(job, task, model, a.out, stage_cache(), reporter, price=price, begun=tracking.begin)
            if a.until != "generate":
                load = (lambda: embedder) if embedder else None
                grade(folder, task, reporter, sandbox=None, workers=workers, embedder=load, price=price)
            tracking.finish("generated" if a.until == "generate" else "finished")
            folders.append(folder)
    if a.until == "generate":
        paths = [str(f.path) for f in folders]
        print(json.dumps(paths) if a.json else "\n".join(paths))
        console.note("grade with: spa-bench grade " + " ".join(str(f.path) for f in folders))
    else:
        _summary(folders, as_json=a.json)


def _grade(a: argparse.Namespace) -> None:
    from spa_bench.compare.leaderboard import number
    from spa_bench.publish.trackers.tracking import Tracking, names_of
    from spa_bench.runs.folder import ADDED, open_run
    from spa_bench.runs.grade import grade
    from spa_bench.runs.own_metrics import load_metrics
    from spa_bench.runs.reopen import embedder_of, task_of
    from spa_bench.support.console import Reporter
    from spa_bench.types import Estimate

    own, trackers = load_metrics(a.metrics), names_of(a.log)
    workers, price = workers_of(a), price_of(a)
    check_sandbox(a.sandbox, used=True)
    folders = [(folder := open_run(path), embedder_of(folder, a)) for path in a.runs]
    with Tracking(trackers, Reporter().note, samples=a.log_samples) as tracking:
        for folder, load in folders:
            task = task_of(folder, a.task_file)
            console = tracking.reporter()
            tracking.begin(folder)
            grade(folder, task, console, sandbox=a.sandbox, workers=workers, embedder=load, metrics=a.metrics, price=price)
            tracking.finish("finished")
            found = (folder.read_json(ADDED) or {}).get("estimates", {})
            for name in (metric.name for metric in own if metric.name in found):
                console.note(f"{name}: {number(Estimate(**found[name]))}  ({folder.path / ADDED})")
    _summary([folder for folder, _ in folders], as_json=a.json)


def _score(a: argparse.Namespace) -> None:
    from spa_bench.cards.reading import parse_overrides
    from spa_bench.cards.task import load_task_card
    from spa_bench.publish.trackers.tracking import Tracking, names_of
    from spa_bench.runs.grade import grade
    from spa_bench.runs.import_samples import import_samples
    from spa_bench.runs.job import load_task
    from spa_bench.runs.own_metrics import load_metrics
    from spa_bench.runs.reopen import load_embedder
    from spa_bench.sandbox import NOT_NEEDED, choose
    from spa_bench.support.console import Reporter

    trackers = names_of(a.log)
    if a.samples.is_dir():
        raise UsageError(f"--samples is {a.samples}, a folder; give a file of samples")
    workers, label = workers_of(a), label_of(a.name, a.samples)
    check_out(a.out)
    load_metrics(a.metrics)
    sampler_settings, task_settings = parse_overrides(a.settings)
    if sampler_settings:
        raise UsageError(f"score has no sampler: --set takes keys that begin with task.; got {next(iter(sampler_settings))!r}")
    task = cast("CodeTask", load_task(load_task_card(a.task, task_settings)))
    if not hasattr(task, "question"):
        raise UsageError(f"score takes texts, and {task.name} also asks for probabilities; use run")
    sandbox = choose(a.sandbox, task.packages).name if task.runs_code else NOT_NEEDED
    embedder = load_embedder(a.embedding, a) if a.embedding else None
    embedding = embedder.describe() if embedder else {}
    console = Reporter()
    console.note(f"task: {task.name} {task.version}, {len(task.problems)} problems, found: {task.found}")
    folder = import_samples(
        a.samples,
        task,
        a.out,
        label=label,
        cut=a.cut,
        sandbox=sandbox,
        grading=a.grading,
        embedding=embedding,
        metrics=a.metrics,
    )
    console.note(f"run folder: {folder.path}")
    load = (lambda: embedder) if embedder else None
    with Tracking(trackers, console.note, samples=a.log_samples) as tracking:
        tracking.begin(folder)
        grade(folder, task, tracking.reporter(), sandbox=None, workers=workers, embedder=load)
        tracking.finish("finished")
    _summary([folder], as_json=a.json)


def _rerun(a: argparse.Namespace) -> int:
    import tempfile

    from spa_bench.runs.folder import open_run
    from spa_bench.runs.generate import generate
    from spa_bench.runs.grade import grade
    from spa_bench.runs.reopen import check_data, embedder_of, job_of, model_of, task_of
    from spa_bench.runs.rerun import compare
    from spa_bench.support.cache import stage_cache
    from spa_bench.support.console import Reporter

    workers = workers_of(a)
    check_sandbox(a.sandbox, used=True)
    there = open_run(a.run)
    load = embedder_of(there, a)
    job = job_of(there, a.task_file, data=a.data, queries=a.queries)
    task = task_of(there, a.task_file)
    model, embedder = model_of(there, a), load() if job.embedding else None  # what is not here is missed before hours of work
    check_data(there, job, model)
    out = a.out or there.path.resolve().parent.parent / "reruns"
    if out.resolve() in (there.path.resolve(), there.path.resolve().parent):
        raise UsageError(f"--out {out} is where the run itself lies; name another folder for its repetition")
    console = Reporter()
    console.note(f"repeating {there.path} in {out}")
    with tempfile.TemporaryDirectory(prefix="spa-bench-rerun-") as fresh:
        cache = stage_cache() if a.use_cache else Path(fresh)
        here = generate(job, task, model, out, cache, console, again=True)
        grade(here, task, console, sandbox=a.sandbox, workers=workers, embedder=(lambda: embedder) if embedder else None)
    found = compare(there, here)
    if a.json:
        print(json.dumps({"same": found.same, "run": str(here.path), **asdict(found)}, indent=1))
    else:
        print("\n".join(found.lines()))
    return 0 if found.same else 1


def _summary(folders: Sequence[RunFolder], *, as_json: bool) -> None:
    from spa_bench.compare.leaderboard import build_rows, from_runs, table
    from spa_bench.publish.show import choices_table, ending

    rows = build_rows(from_runs(folders))
    if as_json:
        print(json.dumps([r.to_json() for r in rows], indent=1))
        return
    for key in dict.fromkeys(r.table_key for r in rows):
        mine = [r for r in rows if r.table_key == key]
        print(f"{mine[0].title}\n{table(mine, style='plain')}")
    if found := choices_table(folders):
        print(f"\n{found}\n")
    for folder in folders:
        print(ending(folder))


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "run": _run,
    "grade": _grade,
    "score": _score,
    "rerun": _rerun,
}
