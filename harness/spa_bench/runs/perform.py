"""The commands `run`, `grade` and `score` as functions of plain values: each returns the run folders that it made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.task import TaskCard, load_task_card
from spa_bench.errors import UsageError
from spa_bench.executors.options import ExecutorOptions
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.base import Model
from spa_bench.runs.appraise import check_appraisal
from spa_bench.runs.defaults import Pairs, load_model_for, model_for, pairs_for
from spa_bench.runs.earlier import earlier_runs, is_drawn, spent_before
from spa_bench.runs.engines import Chosen, chosen_engine
from spa_bench.runs.folder import RunFolder, given_run, problem_count
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples
from spa_bench.runs.job import Job, asked_card, check_draws, check_limit, check_task, crowded, load_task, task_for
from spa_bench.runs.judging import StartGraders, graders_of, own_graders
from spa_bench.runs.own_metrics import load_metrics
from spa_bench.runs.partial import is_partial
from spa_bench.runs.plan import estimate_line, object_lines, plan_lines, unused_loading
from spa_bench.runs.reopen import ModelOptions, check_workers, embedder_of, load_embedder, task_of
from spa_bench.runs.sample_files import SampleFile
from spa_bench.runs.values import (
    check_out,
    check_price,
    check_sandbox,
    check_seeds,
    check_sources,
    checked_workers,
    data_settings,
    label_of,
    unread_sources,
)
from spa_bench.sandbox import NOT_NEEDED, choose
from spa_bench.spa.synthesize.base import synthesis_kind
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.spa.training_data import Sources, read_sources
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.tasks.base import Asking, Task, TextsTask

if TYPE_CHECKING:
    from spa_bench.runs.embeddings import Embedder

Rules = Literal["default", "evalplus"]  # the rules by which verdicts are given


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


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How answers are judged on this machine."""

    sandbox: str | None = None  # a name of spa_bench.sandbox.SANDBOXES; None: the first that works here
    workers: int | None = None  # programs that run at once, in each worker where there are some; None: as many as it has cores
    price_per_hour: float | None = None  # the cost of an hour of this machine, for timings.json; None: unknown


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run beside its sampler and its task."""

    model: str | None = None  # a name or a path; None: the embedded model for its own tasks, smollm2 for others
    loading: ModelOptions = field(default_factory=ModelOptions)
    engine: str | None = None  # NAME or STAGE=NAME, as chosen_engine takes it; None: hf
    n: int | None = None  # answers to each problem; None: the card's number
    seeds: tuple[int, ...] = (0,)  # one run for each seed
    limit: int | None = None  # how many problems, drawn with a seed, every tag in proportion; None: all
    first: bool = False  # `limit` takes the first problems of the data instead
    data: str | None = None  # the source of training pairs; None: the card's source, or what runs.defaults takes
    queries: str | None = None  # the source of attribution queries, likewise
    settings: tuple[str, ...] = ()  # KEY=VALUE, as --set takes them
    noise_floor: bool | None = None  # None: measured where numerics can change a text
    until: Literal["generate", "grade"] = "grade"
    rules: Rules = "default"
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    embedding: str | None = None  # the model behind the embedding kernel
    metrics: tuple[str, ...] = ()  # metrics of the user's own
    out: Path = Path("runs")
    quiet: bool = False  # whether nothing is told while the run is made


@dataclass(frozen=True, kw_only=True)
class _Read:
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
class _Loaded(_Read):
    """The parts of a run, loaded and checked before anything is computed."""

    asking: Asking
    chat: bool  # whether the prompts go by a chat template because the model has one
    model: Model
    embedder: Embedder | None


def run(
    sampler: str, task: str, options: RunOptions, *, loaded: Model | None = None, follow: Follower | None = None
) -> list[RunFolder]:
    """Draw, grade and measure; one run folder for each seed. Work that is already done is not done again.

    `sampler` and `task` are names or card files, or names of objects within cards.objects.giving. `loaded` is a model of the
    engine hf that the caller has loaded, and closes. Raises a SpaBenchError before drawing when a part cannot be used.
    """
    follow = follow or NoFollower(quiet=options.quiet)
    workers = checked_workers(options.judge.workers)
    console, read = Reporter(quiet=options.quiet), _read(sampler, task, options)
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
        parts = _load(read, embedder, model, options)
        for line in _plan(parts, options, lent=lent):
            console.note(line)
        return [_one_run(parts, options, seed, workers, follow) for seed in options.seeds]


def check(sampler: str, task: str, options: RunOptions) -> None:
    """Raises a SpaBenchError where `run` would, as far as this shows without the model. Nothing is written."""
    checked_workers(options.judge.workers)
    _read(sampler, task, options)


def _read(sampler: str, task: str, options: RunOptions) -> _Read:
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
    pairs = pairs_for(card, task_card, model_for(task_card, options.model), sampler_settings)
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
    sandbox = options.judge.sandbox or "bwrap"
    if options.until != "generate" and loaded.runs_code:
        sandbox = choose(options.judge.sandbox, task_card.packages).name
    return _Read(
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


def _earlier(read: _Read, embedder: Embedder | None, options: RunOptions) -> list[RunFolder | None]:
    """For each seed the folder that an earlier command has begun; empty for an engine that is not paid by the call."""
    known = read.engine.known(model_for(read.task_card, options.model))
    if known is None:
        return []
    jobs = [_job(read, embedder, options, seed) for seed in options.seeds]
    return earlier_runs(jobs, read.task_card, known, options.out)


def _load(read: _Read, embedder: Embedder | None, model: Model, options: RunOptions) -> _Loaded:
    settled, loaded = task_for(read.task_card, read.task, model)
    asking = check_task(read.card, loaded, model, options.limit)
    if read.card.synthesizes:
        synthesis_kind(read.card.synthesize.method).check_model(read.card.synthesize, model)
    return _Loaded(
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


def _plan(parts: _Loaded, options: RunOptions, *, lent: bool) -> list[str]:
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
    lines += object_lines(parts.card.kind, parts.task_card.kind, parts.engine.name, options.metrics)
    lines += crowded(parts.asking, parts.model)
    lines += unused_loading(parts.engine, options.loading)
    lines += unread_sources(parts.card, options.data, options.queries)
    if estimate := estimate_line(parts.card, parts.model, parts.sources, parts.task.problems):
        lines.append(estimate)
    if parts.embedder:
        lines.append(f"embedding: {parts.embedder.name}, the first {parts.embedder.limit} tokens of a text")
    return lines


def _job(read: _Read, embedder: Embedder | None, options: RunOptions, seed: int) -> Job:
    return Job(
        sampler=read.card,
        task=read.task_card,
        n=read.n,
        seed=seed,
        limit=options.limit,
        sandbox=read.sandbox,
        grading=options.rules,
        noise_floor=options.noise_floor,
        embedding=embedder.describe() if embedder else {},
        metrics=options.metrics,
        engine=read.engine.spec(),
    )


def _one_run(parts: _Loaded, options: RunOptions, seed: int, workers: int, follow: Follower) -> RunFolder:
    console, price, job = follow.reporter(), options.judge.price_per_hour, _job(parts, parts.embedder, options, seed)
    folder = generate(job, parts.task, parts.model, options.out, stage_cache(), console, price=price, begun=follow.begin)
    graders = graders_of(parts.model, options.judge.workers)
    return _finished(folder, parts.task, console, parts.embedder, options, workers, follow, graders)


def _drawn_run(folder: RunFolder, embedder: Embedder | None, options: RunOptions, workers: int, follow: Follower) -> RunFolder:
    """A run that lacks nothing that a model gives."""
    console = follow.reporter()
    console.note(f"run folder: {folder.path}")
    follow.begin(folder)
    return _finished(folder, task_of(folder), console, embedder, options, workers, follow)


def _finished(
    folder: RunFolder,
    task: Task,
    console: Reporter,
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


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """How existing runs are graded."""

    judge: JudgeOptions = field(default_factory=JudgeOptions)
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)  # which workers grade
    task_file: Path | None = None  # the file of a jsonl task's problems on this machine
    embedding: str | None = None  # the place of the runs' embedding model on this machine
    metrics: tuple[str, ...] = ()  # metrics of the user's own, beside those of the runs


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


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How samples from a file are scored."""

    name: str | None = None  # the name of the samples in tables; None: the file's name
    cut: bool = False  # cut completions at the task's stop strings first
    partial: bool = False  # problems may be without samples: the metrics are of those that have some
    settings: tuple[str, ...] = ()  # KEY=VALUE of the task's card, as --set takes them
    rules: Rules = "default"
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)  # which workers grade
    embedding: str | None = None
    metrics: tuple[str, ...] = ()
    out: Path = Path("runs")
    quiet: bool = False  # whether nothing is told meanwhile


def score(
    task: str, samples: Sequence[Path | SampleFile], options: ScoreOptions, *, follow: Follower | None = None
) -> RunFolder:
    """The run folder of samples from files, graded and measured. Raises a SpaBenchError when a part cannot be used."""
    follow = follow or NoFollower(quiet=options.quiet)
    workers, label = checked_workers(options.judge.workers), label_of(options.name, samples)
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
        sandbox=sandbox,
        grading=options.rules,
        embedding=embedder.describe() if embedder else {},
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
