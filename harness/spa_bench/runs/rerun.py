"""`spa-bench rerun`: repeat a run from its spec, and report what differs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from spa_bench.cards.reading import parse_overrides
from spa_bench.errors import UsageError
from spa_bench.executors.options import ExecutorOptions
from spa_bench.runs.folder import RunFolder, differences, given_run
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.judging import graders_of
from spa_bench.runs.options import JudgeOptions
from spa_bench.runs.perform import ready
from spa_bench.runs.reopen import ModelOptions, check_data, device_of, embedder_of, job_of, model_of, task_of
from spa_bench.runs.values import check_sandbox, checked_workers
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.types import Key


@dataclass(frozen=True, kw_only=True)
class RerunOptions:
    """How a run is repeated."""

    out: Path | None = None  # None: a folder `reruns` beside the folder of runs
    use_cache: bool = False  # take adapters from the stage cache instead of training them again
    task_file: Path | None = None  # the files of the run on this machine
    data: Path | None = None
    queries: Path | None = None
    batch_size: str = "auto"
    trust_remote_code: bool = False
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)  # which workers hold the model
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    embedding: str | None = None
    settings: tuple[str, ...] = ()  # engine.KEY=VALUE of options that no spec has, such as where a server is


def rerun(path: Path, options: RerunOptions) -> tuple[RunFolder, RunDifference]:
    """(the repetition of a run, its comparison with that run). Device, type and threads are those of the run.

    Raises UsageError where `options.out` is the folder of the run itself, and a SpaBenchError where a part cannot be used.
    """
    workers = checked_workers(options.judge.workers)
    check_sandbox(options.judge.sandbox, used=True)
    settings = _engine_settings(options.settings)
    there = given_run(path)
    load = embedder_of(there, options.embedding, device=device_of(there))
    job = job_of(there, options.task_file, data=options.data, queries=options.queries)
    task = task_of(there, options.task_file)
    loading = ModelOptions(
        batch_size=options.batch_size, trust_remote_code=options.trust_remote_code, executor=options.executor
    )
    out = options.out or there.path.resolve().parent.parent / "reruns"
    if out.resolve() in (there.path.resolve(), there.path.resolve().parent):
        raise UsageError(f"--out {out} is where the run itself lies; name another folder for its repetition")
    console, fresh = Reporter(), tempfile.TemporaryDirectory(prefix="spa-bench-rerun-")
    with fresh as folder, closing(model_of(there, loading, settings)) as model:
        # a missing file is reported now, not after hours of work
        embedder = load() if job.embedding else None
        check_data(there, job, model, task)
        console.note(f"repeating {there.path} in {out}")
        cache = stage_cache() if options.use_cache else Path(folder)
        here = generate(job, task, model, out=out, cache=cache, console=console, again=True)
        graders = graders_of(model, options.judge.workers)
        grade(here, task, console, sandbox=options.judge.sandbox, workers=workers, embedder=ready(embedder), graders=graders)
    return here, difference_of(there, here)


def _engine_settings(settings: Sequence[str]) -> dict[str, object]:
    """The options of the engine in `settings`. Raises UsageError for other keys: the spec has them."""
    found = parse_overrides(settings)
    if other := next(iter([*found.sampler, *(f"task.{key}" for key in found.task)]), ""):
        raise UsageError(f"rerun keeps the cards of the run: --set takes keys that begin with engine.; got {other!r}")
    return found.engine


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """How the repetition of a run differs from that run."""

    spec: str  # the keys of the spec that differ, with both values; "" when none does
    samples: int
    other_texts: list[Key]  # samples whose graded text differs
    other_verdicts: list[Key]  # samples of equal text with another verdict
    other_metrics: dict[str, tuple[float | None, float | None]]  # estimates that differ: (there, here)

    @property
    def same(self) -> bool:
        """Whether texts, verdicts and metrics are the same."""
        return not (self.other_texts or self.other_verdicts or self.other_metrics)

    def lines(self) -> list[str]:
        """The comparison in lines for a reader."""
        lines = [f"spec: {self.spec}" if self.spec else "spec: the same"]
        lines.append(_counted("texts", self.other_texts, self.samples))
        lines.append(_counted("verdicts on equal texts", self.other_verdicts, self.samples))
        for name, (there, here) in self.other_metrics.items():
            lines.append(f"{name}: {there} there, {here} here")
        return [*lines, "metrics: the same"] if not self.other_metrics else lines


def difference_of(there: RunFolder, here: RunFolder) -> RunDifference:
    """The run `there` compared with `here`, its repetition."""
    ours, theirs = there.records(), here.records()
    grades, again = there.grades(), here.grades()
    texts = [k for k in ours if k not in theirs or (theirs[k].graded, theirs[k].failure) != (ours[k].graded, ours[k].failure)]
    texts += [k for k in theirs if k not in ours]
    other = set(texts)
    verdicts = [k for k in grades if k not in other and k in again and again[k].verdict != grades[k].verdict]
    a, b = (_values(folder) for folder in (there, here))
    metrics = {name: (a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)}
    return RunDifference(
        spec=differences(there.spec, here.spec),
        samples=len(ours),
        other_texts=texts,
        other_verdicts=verdicts,
        other_metrics=metrics,
    )


def _values(folder: RunFolder) -> dict[str, float | None]:
    """The estimates of a run by name, without their intervals."""
    estimates = (folder.read_json("metrics.json") or {}).get("estimates", {})
    return {name: estimate["value"] for name, estimate in estimates.items()}


def _counted(what: str, keys: list[Key], total: int) -> str:
    if not keys:
        return f"{what}: all {total} the same"
    first = keys[0]
    return f"{what}: {len(keys)} of {total} differ, the first is {first.problem}, member {first.member}, draw {first.draw}"
