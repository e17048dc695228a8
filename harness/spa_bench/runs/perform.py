"""The commands `run`, `grade` and `score` as functions of plain values: each returns the run folders that it made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.task import load_task_card
from spa_bench.errors import UsageError
from spa_bench.models.base import Model
from spa_bench.runs.appraise import check_appraisal
from spa_bench.runs.defaults import load_model_for, model_for
from spa_bench.runs.earlier import earlier_runs, is_drawn, spent_before
from spa_bench.runs.folder import RunFolder, given_run, problem_count
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples
from spa_bench.runs.job import load_task
from spa_bench.runs.judging import StartGraders, graders_of, own_graders
from spa_bench.runs.options import GradeOptions, RunOptions, ScoreOptions
from spa_bench.runs.origins import described_embedder
from spa_bench.runs.own_metrics import load_metrics
from spa_bench.runs.partial import is_partial
from spa_bench.runs.parts import LoadedParts, Parts, job_for, load_parts, plan_of, read_parts
from spa_bench.runs.plan import object_lines
from spa_bench.runs.reopen import embedder_of, load_embedder, task_of
from spa_bench.runs.sample_files import SampleFile
from spa_bench.runs.values import check_out, check_price, check_sandbox, check_seeds, checked_workers, label_of
from spa_bench.sandbox import NOT_NEEDED, choose
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.tasks.base import Task, TextsTask

if TYPE_CHECKING:
    from spa_bench.runs.embeddings import Embedder


class Follower(Protocol):
    """Is told of the progress of one run after another, as trackers are."""

    def reporter(self) -> Reporter:
        """The reporter to which the next run reports its stages."""
        ...

    def begin(self, folder: RunFolder) -> None:
        """The run in `folder` begins or resumes."""
        ...

    def finish(self, state: Literal["generated", "finished"]) -> None:
        """The run has reached `state`."""
        ...


class NoFollower:
    """Follows nothing; the user sees the stages on stderr, unless `quiet`."""

    def __init__(self, *, quiet: bool = False):
        self._quiet = quiet

    def reporter(self) -> Reporter:
        """See Follower."""
        return Reporter(quiet=self._quiet)

    def begin(self, folder: RunFolder) -> None:
        """See Follower."""

    def finish(self, state: Literal["generated", "finished"]) -> None:
        """See Follower."""


def run(
    sampler: str, task: str, options: RunOptions, *, loaded: Model | None = None, follow: Follower | None = None
) -> list[RunFolder]:
    """Draw, grade and measure; one run folder for each seed. Work that is already done is not done again.

    `sampler` and `task` are names or card files, or names of objects within cards.objects.giving. `loaded` is a model of the
    engine hf that the caller has loaded, and closes. Raises a SpaBenchError before drawing when a part cannot be used.
    """
    follow = follow or NoFollower(quiet=options.quiet)
    workers = checked_workers(options.judge.workers)
    console, read = Reporter(quiet=options.quiet), read_parts(sampler, task, options)
    if line := read.engine.check_model(options.model):
        console.note(line)
    embedder = load_embedder(options.embedding, device=options.loading.device) if options.embedding else None
    check_appraisal(read.task_card)
    earlier = _earlier(read, embedder, options)
    if (drawn := [folder for folder in earlier if folder and is_drawn(folder)]) and len(drawn) == len(options.seeds):
        console.note(f"every answer is there: engine {read.engine.name} is not asked, and nothing is spent")
        return [_drawn_run(folder, embedder, options, workers, follow) for folder in drawn]
    lent = loaded is not None or read.engine.lent
    model = loaded or load_model_for(read.task_card, options.model, options.loading, read.engine, spent_before(earlier))
    with nullcontext() if lent else closing(model):
        parts = load_parts(read, embedder, model, options)
        for line in plan_of(parts, options, lent=lent):
            console.note(line)
        return [_one_run(parts, options, seed, workers, follow) for seed in options.seeds]


def check(sampler: str, task: str, options: RunOptions) -> None:
    """Raises a SpaBenchError where `run` would, as far as this shows without the model. Nothing is written."""
    checked_workers(options.judge.workers)
    read_parts(sampler, task, options)


def _earlier(read: Parts, embedder: Embedder | None, options: RunOptions) -> list[RunFolder | None]:
    """For each seed the folder that an earlier command has begun; empty for an engine that is not paid by the call."""
    known = read.engine.known(model_for(read.task_card, options.model))
    if known is None:
        return []
    jobs = [job_for(read, embedder, options, seed) for seed in options.seeds]
    return earlier_runs(jobs, read.task_card, known, options.out)


def _one_run(parts: LoadedParts, options: RunOptions, seed: int, workers: int, follow: Follower) -> RunFolder:
    console, price, job = follow.reporter(), options.judge.price_per_hour, job_for(parts, parts.embedder, options, seed)
    folder = generate(
        job, parts.task, parts.model, out=options.out, cache=stage_cache(), console=console, price=price, begun=follow.begin
    )
    graders = graders_of(parts.model, options.judge.workers)
    return _finished(
        folder, parts.task, console, embedder=parts.embedder, options=options, workers=workers, follow=follow, graders=graders
    )


def _drawn_run(folder: RunFolder, embedder: Embedder | None, options: RunOptions, workers: int, follow: Follower) -> RunFolder:
    """A run that lacks nothing that a model gives."""
    console = follow.reporter()
    console.note(f"run folder: {folder.path}")
    follow.begin(folder)
    return _finished(folder, task_of(folder), console, embedder=embedder, options=options, workers=workers, follow=follow)


def _finished(
    folder: RunFolder,
    task: Task,
    console: Reporter,
    *,
    embedder: Embedder | None,
    options: RunOptions,
    workers: int,
    follow: Follower,
    graders: StartGraders | None = None,
) -> RunFolder:
    if options.until == "generate":
        follow.finish("generated")
        return folder
    load, price = ready(embedder), options.judge.price_per_hour
    grade(folder, task, console, sandbox=None, workers=workers, embedder=load, price=price, graders=graders)
    follow.finish("finished")
    return folder


def ready(embedder: Embedder | None) -> Callable[[], Embedder] | None:
    """A model that is loaded already, as `grade` takes one: a function that gives it; None without a model."""
    return None if embedder is None else lambda: embedder


def grade_runs(paths: Sequence[Path], options: GradeOptions, *, follow: Follower | None = None) -> list[RunFolder]:
    """Grade and measure runs that were generated elsewhere, or whose grading was stopped."""
    follow = follow or NoFollower()
    load_metrics(options.metrics)
    workers = checked_workers(options.judge.workers)
    check_price(options.judge.price_per_hour)
    check_sandbox(options.judge.sandbox, used=True)
    folders = [(folder := given_run(path), embedder_of(folder, options.embedding)) for path in paths]
    with own_graders(options.executor, options.judge.workers, Reporter().note) as graders:
        for folder, embedder in folders:
            task = task_of(folder, options.task_file)
            console = follow.reporter()
            follow.begin(folder)
            grade(
                folder,
                task,
                console,
                sandbox=options.judge.sandbox,
                workers=workers,
                embedder=embedder,
                metrics=options.metrics,
                price=options.judge.price_per_hour,
                graders=graders,
            )
            follow.finish("finished")
    return [folder for folder, _ in folders]


def score(
    task: str, samples: Sequence[Path | SampleFile], options: ScoreOptions, *, follow: Follower | None = None
) -> RunFolder:
    """The run folder of samples from files, graded and measured. Raises a SpaBenchError when a part cannot be used."""
    follow = follow or NoFollower(quiet=options.quiet)
    workers, label = checked_workers(options.judge.workers), label_of(options.name, samples)
    if options.seed is not None:
        check_seeds((options.seed,))
        if options.name is None:
            raise UsageError("--seed makes batches of one name seeds of one sampler; give --name too")
    check_out(options.out)
    load_metrics(options.metrics)
    found = parse_overrides(options.settings)
    if other := next(iter(found.sampler), "") or next((f"engine.{key}" for key in found.engine), ""):
        raise UsageError(f"score draws nothing: --set takes keys that begin with task.; got {other!r}")
    card = load_task_card(task, found.task)
    loaded = load_task(card)
    if not isinstance(loaded, TextsTask):
        raise UsageError(f"score takes texts, and {loaded.name} also asks for probabilities; use run")
    sandbox = choose(options.judge.sandbox, loaded.packages).name if loaded.runs_code else NOT_NEEDED
    embedder = load_embedder(options.embedding) if options.embedding else None
    console = Reporter(quiet=options.quiet)
    for line in object_lines("", card.kind, "", options.metrics):
        console.note(line)
    console.note(f"task: {loaded.name} {loaded.version}, {len(loaded.problems)} problems, found: {loaded.found}")
    folder = import_samples(
        samples,
        loaded,
        options.out,
        label=label,
        cut=options.cut,
        partial=options.partial,
        seed=options.seed,
        sandbox=sandbox,
        grading=options.rules,
        embedding=described_embedder(embedder, loaded, [p.id for p in loaded.problems]),
        metrics=options.metrics,
        card=card,
        note=console.note,
    )
    if is_partial(folder.spec):
        there = problem_count(folder.spec)
        console.note(
            f"partial: there are samples of {there} of {len(loaded.problems)} problems; every metric is of those alone"
        )
    console.note(f"run folder: {folder.path}")
    follow.begin(folder)
    with own_graders(options.executor, options.judge.workers, console.note) as graders:
        grade(folder, loaded, follow.reporter(), sandbox=None, workers=workers, embedder=ready(embedder), graders=graders)
    follow.finish("finished")
    return folder
