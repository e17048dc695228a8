"""`spa_bench.run` and `spa_bench.score`: the commands of the same names, with objects where these take names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from spa_bench.api import objects, values
from spa_bench.api.runs import Run, Runs
from spa_bench.api.samples import given_samples
from spa_bench.cards.objects import GivenObject, giving
from spa_bench.errors import UsageError
from spa_bench.metrics.metric import Metric, Samples
from spa_bench.models.base import Model
from spa_bench.runs import perform
from spa_bench.runs.options import JudgeOptions, Rules, RunOptions, ScoreOptions
from spa_bench.runs.reopen import ModelOptions
from spa_bench.samplers.base import Sampler
from spa_bench.support.console import handler_line
from spa_bench.support.interrupt import patiently
from spa_bench.support.text import did_you_mean
from spa_bench.support.threads import still_threads
from spa_bench.tasks.base import Task
from spa_bench.types import Request

if TYPE_CHECKING:
    from spa_bench.api.samples import Given
    from spa_bench.models.hf.model import HFModel

Settings = Mapping[str, object]
AnyModel = str | Path | Model | Callable[[Request], str]
AnyMetric = str | Metric | Callable[[Samples], float | None]


class RunKeywords(TypedDict, total=False):
    """The keywords of `run` beside `seed`; `run` says what each is."""

    model: AnyModel | None
    n: int | None
    limit: int | None
    first: bool
    settings: Settings | None
    metrics: Sequence[AnyMetric]
    data: str | Path | None
    queries: str | Path | None
    engine: str | None
    device: str
    dtype: str
    threads: int | None
    batch_size: int | None
    context: int | None
    revision: str | None
    trust_remote_code: bool
    noise_floor: bool | None
    until: Literal["generate", "grade"]
    grading: Rules
    sandbox: str | None
    workers: int | None
    price_per_hour: float | None
    embedding: str | None
    out: str | Path
    quiet: bool


@overload
def run(sampler: str | Path | Sampler, task: str | Path | Task, *, seed: int = 0, **options: Unpack[RunKeywords]) -> Run: ...


@overload
def run(
    sampler: str | Path | Sampler, task: str | Path | Task, *, seed: Sequence[int], **options: Unpack[RunKeywords]
) -> Runs: ...


def run(
    sampler: str | Path | Sampler,
    task: str | Path | Task,
    *,
    model: AnyModel | None = None,
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    limit: int | None = None,
    first: bool = False,
    settings: Settings | None = None,
    metrics: Sequence[AnyMetric] = (),
    data: str | Path | None = None,
    queries: str | Path | None = None,
    engine: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
    context: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    noise_floor: bool | None = None,
    until: Literal["generate", "grade"] = "grade",
    grading: Rules = "default",
    sandbox: str | None = None,
    workers: int | None = None,
    price_per_hour: float | None = None,
    embedding: str | None = None,
    out: str | Path = "runs",
    quiet: bool = False,
) -> Run | Runs:
    """Draw answers with a sampler on a task, grade and measure them; the same call again resumes a run that was stopped.

    `sampler` and `task` are names (`spa-bench list`), paths of cards, or objects with the methods of `Sampler` and `Task`.
    `model` is a name or path (None: the embedded model for its own tasks, smollm2 for others), a model of `load_model`, an
    object with the methods of `Model`, or a function from a `Request` to a text. `n`: answers to each problem, a multiple of
    the sampler's members. `seed`: of training and sampling; several seeds give a run each. `limit`: how many problems, drawn
    with a seed, every tag in proportion; with `first` the first ones of the data.
    `settings` are keys of the cards, {"decoding.temperature": 0.5, "task.seconds": 5}, and `engine.KEY` of an engine.
    `metrics`: of your own, as names, `Metric`s, or functions of a problem's `Samples`. `data` and `queries`: the sources of
    training pairs. `engine`, `device`, `dtype`, `threads`, `batch_size`, `context` (tokens), `revision` and
    `trust_remote_code`: how a model of a name is loaded. `until="generate"` stops before grading. `sandbox`, `workers`: where
    programs run, and how many at once. `out`: the folder of run folders. `quiet`: nothing is printed on stderr.

    Raises a SpaBenchError, before anything is drawn, where a part cannot be used.
    """
    several, seeds = values.seeds_of(seed)
    _one_of("until", until, ("generate", "grade"))
    _one_of("grading", grading, ("default", "evalplus"))
    n, limit, threads, batch_size, context, workers = values.whole_or_none(
        n=n, limit=limit, threads=threads, batch_size=batch_size, context=context, workers=workers
    )
    values.check_flags(first=first, trust_remote_code=trust_remote_code, quiet=quiet)
    values.check_texts(engine=engine, revision=revision, sandbox=sandbox)
    if noise_floor is not None:
        values.check_flags(noise_floor=noise_floor)
    parts = _Parts(sampler, task, model, metrics)
    if parts.model is not None and (engine is not None or not isinstance(model, str | Path)):
        _check_unloaded(engine, device, dtype, threads, batch_size, context, revision)
    options = RunOptions(
        model=str(model) if isinstance(model, str | Path) else None,
        loading=ModelOptions(
            device=str(device),
            dtype=_dtype(dtype),
            threads=threads,
            batch_size="auto" if batch_size is None else str(batch_size),
            revision=revision,
            trust_remote_code=bool(trust_remote_code),
            context=context,
        ),
        engine=parts.model.name if isinstance(parts.model, GivenObject) else engine,
        n=n,
        seeds=seeds,
        limit=limit,
        first=bool(first),
        data=values.source("data", data),
        queries=values.source("queries", queries),
        settings=values.as_words(settings),
        noise_floor=None if noise_floor is None else bool(noise_floor),
        until=until,
        rules=grading,
        judge=JudgeOptions(
            sandbox=sandbox, workers=workers, price_per_hour=values.number_or_none("price_per_hour", price_per_hour)
        ),
        embedding=None if embedding is None else values.place("embedding", embedding),
        metrics=parts.metric_names,
        out=Path(values.place("out", out)),
        quiet=bool(quiet),
    )
    with parts.given():
        folders = perform.run(parts.sampler_name, parts.task_name, options, loaded=parts.loaded)
    return Runs(folders) if several else Run(folders[0])


def score(
    task: str | Path | Task,
    samples: Given,
    *,
    name: str | None = None,
    cut: bool = False,
    partial: bool = False,
    seed: int | None = None,
    settings: Settings | None = None,
    grading: Rules = "default",
    sandbox: str | None = None,
    workers: int | None = None,
    embedding: str | None = None,
    metrics: Sequence[AnyMetric] = (),
    out: str | Path = "runs",
    quiet: bool = False,
) -> Run:
    """The run of answers that somebody else drew, graded and measured.

    `samples`: a file or several, as `spa-bench score` takes them; {problem: [text, ...]}; a list of records
    {"problem": ..., "text": ...}; a pandas DataFrame with these columns; or a Series of texts by problem. A text of a code task
    continues its prompt where its first line is indented, and is a whole program otherwise; `completion` or `solution` in the
    place of `text` says which.
    `name` is what tables call them. `cut`: at the task's stop strings first. `partial`: problems may be without answers, and
    every metric is of the others alone. `seed` is the batch: batches of one name are seeds of one sampler. For the rest see
    `run`. Raises a SpaBenchError that names the first wrong record.
    """
    _one_of("grading", grading, ("default", "evalplus"))
    [workers, seed] = values.whole_or_none(workers=workers, seed=seed)
    values.check_flags(cut=cut, partial=partial, quiet=quiet)
    values.check_texts(name=name, sandbox=sandbox)
    parts = _Parts("", task, None, metrics)
    options = ScoreOptions(
        name=name,
        cut=bool(cut),
        partial=bool(partial),
        seed=seed,
        settings=values.as_words(settings),
        rules=grading,
        judge=JudgeOptions(sandbox=sandbox, workers=workers),
        embedding=None if embedding is None else values.place("embedding", embedding),
        metrics=parts.metric_names,
        out=Path(values.place("out", out)),
        quiet=bool(quiet),
    )
    with parts.given():
        return Run(perform.score(parts.task_name, given_samples(samples), options))


def load_model(
    name: str | Path = "embedded",
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
    context: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> HFModel:
    """A model by transformers, loaded once for several runs: `embedded`, a folder, a GGUF file, or a name on the hub.

    A run with it is the run with its name. `close()` frees its memory. Raises UsageError or ModelError where it cannot be had.
    """
    from spa_bench.runs.reopen import load_model as load

    threads, batch_size, context = values.whole_or_none(threads=threads, batch_size=batch_size, context=context)
    values.check_flags(trust_remote_code=trust_remote_code)
    values.check_texts(revision=revision)
    still_threads()
    return load(
        values.place("name", name),
        replace(
            ModelOptions(device=str(device), dtype=_dtype(dtype), threads=threads, context=context, revision=revision),
            batch_size="auto" if batch_size is None else str(batch_size),
            trust_remote_code=bool(trust_remote_code),
        ),
    )


class _Parts:
    """The parts of a call that may be objects, each checked."""

    def __init__(
        self,
        sampler: str | Path | Sampler,
        task: str | Path | Task,
        model: AnyModel | None,
        metrics: Iterable[AnyMetric] | AnyMetric | None,
    ):
        self.loaded = objects.as_loaded(model)
        self._sampler, self._task = objects.sampler_of(sampler), objects.task_of(task)
        by_name = model is None or self.loaded or isinstance(model, str | Path)
        self.model = self.loaded if by_name else objects.model_of(model)  # type: ignore[arg-type]  # no name, not None
        if metrics is None:
            metrics = []
        each = [metrics] if isinstance(metrics, str) or not isinstance(metrics, Iterable) else list(metrics)
        self._metrics = [objects.metric_of(one) for one in each]

    @property
    def sampler_name(self) -> str:
        return objects.name_of(self._sampler)

    @property
    def task_name(self) -> str:
        return objects.name_of(self._task)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(map(objects.name_of, self._metrics))

    @contextmanager
    def given(self) -> Iterator[None]:
        """Within the block the names lead to the objects, and Ctrl-C ends the work after the batch in hand."""
        still_threads()
        model = [self.model] if isinstance(self.model, GivenObject) else []
        with giving([*objects.objects_of([self._sampler, self._task, *self._metrics]), *model]), patiently(handler_line):
            yield


def _dtype(dtype: object) -> str:
    """The name of a dtype, which may be one of torch."""
    return str(dtype).removeprefix("torch.")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}{did_you_mean(str(value), known)}")


def _check_unloaded(engine: str | None, *loading: object) -> None:
    """Raises UsageError for options that say how a model is loaded, beside a model that is there already."""
    usual = ("auto", "auto", None, None, None, None)
    names = ("device", "dtype", "threads", "batch_size", "context", "revision")
    given = ["engine"] * (engine is not None)
    given += [name for name, value, default in zip(names, loading, usual, strict=True) if value != default]
    if given:
        raise UsageError(f"{given[0]} says how a model of a name is loaded, and the model is an object: leave {given[0]} out")
