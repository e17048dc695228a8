"""evaluate(): sampler × task -> run folder, in resumable steps: generate, grade, measure."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.cards import SamplerCard, TaskCard
from spa_bench.console import Reporter
from spa_bench.errors import DataError, UsageError
from spa_bench.grading import Grader, Grading
from spa_bench.metrics.divergence import kl_matrix
from spa_bench.metrics.suite import Samples, estimates, per_problem
from spa_bench.models.base import Model
from spa_bench.registry import load
from spa_bench.samplers.base import Sampler
from spa_bench.sandbox import choose
from spa_bench.spa.data import hash_examples
from spa_bench.spa.stages import Stages, TrainingData, default_cache, load_data
from spa_bench.store import TASK_FILE, RunFolder, create
from spa_bench.tasks.base import Judge, Task
from spa_bench.types import Example, Grade, Key, Record, RunSpec

Progress = Callable[[int, int], None]  # called with (done, total)
_BATCH = 64  # completions or grades written and synced together
_VERSIONS = ("spa-bench", "torch", "transformers", "peft", "evalplus")


@dataclass(frozen=True)
class Job:
    """One run to do."""

    sampler: SamplerCard
    task: TaskCard
    n: int
    seed: int
    limit: int | None = None
    sandbox: str = "bwrap"
    grading: str = "default"


def load_task(card: TaskCard) -> Task:
    """The task of `card`, its problems loaded."""
    task: Task = load("task", card.kind)(card)
    return task


def check_draws(card: SamplerCard, n: int) -> None:
    """Raises UsageError unless `n` is a positive multiple of the members."""
    if n < 1 or n % card.members:
        raise UsageError(f"n is {n}, but {card.name} has {card.members} members: n must be a multiple of {card.members}")


def make_spec(job: Job, task: Task, model: Model, data: TrainingData) -> RunSpec:
    """Everything that can change a number of this run."""
    sampler = {k: v for k, v in asdict(job.sampler).items() if k != "description"}
    if job.sampler.adapters == "none":
        sampler = {k: v for k, v in sampler.items() if k not in {"lora", "attribution", "partition", "data"}}
    versions = {"python": platform.python_version(), **{name: v for name in _VERSIONS if (v := _version(name))}}
    described = data.describe(job.sampler) if data.examples else {}
    return RunSpec(
        sampler,
        task.describe(),
        model.describe(),
        described,
        job.n,
        job.seed,
        job.limit,
        model.numerics(),
        job.sandbox,
        job.grading,
        versions,
    )


def generate(job: Job, task: Task, model: Model, out: Path, cache: Path, console: Reporter) -> RunFolder:
    """Train what is missing, draw what is missing, measure divergence. Goes on where an earlier call stopped."""
    check_draws(job.sampler, job.n)
    if job.limit is not None and job.limit < 1:
        raise UsageError(f"limit is {job.limit}; it must be at least 1")
    data = load_data(job.sampler, model, job.seed)
    spec = make_spec(job, task, model, data)
    folder = create(out, f"{task.name}-{job.sampler.name}-s{job.seed}", spec)
    console.note(f"run folder: {folder.path}")
    if job.task.file:
        folder.write_json(TASK_FILE, str(Path(job.task.file).resolve()))
    if data.skipped:
        console.note(
            f"{data.skipped} of {data.skipped + len(data.examples)} training pairs "
            f"do not fit the context of {model.context} tokens and are left out"
        )
    began, known = time.time(), folder.read_json("timings.json") or {}
    with folder.locked():
        prompts = task.prompts(job.limit)
        done = folder.records()
        total = len(prompts) * job.n
        kl_wanted = job.sampler.members > 1 and folder.read_json("divergence.json") is None
        if len(done) < total or kl_wanted:
            needed = Stages(job.sampler, data, model, job.seed, cache, console).adapters() if data.examples else []
            sampler: Sampler = load("sampler", job.sampler.kind)(job.sampler, needed)
            if len(done) < total:
                with console.stage("generation") as progress:
                    completions = sampler.sample(model, prompts, job.n, job.seed, task=task.name, done=done.keys())
                    _append(folder, map(task.record, completions), len(done), total, progress)
            if kl_wanted:
                with console.stage("divergence") as progress:
                    folder.write_json("divergence.json", measure_divergence(task, model, sampler, len(prompts), progress))
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        stages = known.get("stages", {})
        for name, took in console.seconds.items():
            stages[name] = round(stages.get(name, 0.0) + took, 3)
        seconds = known.get("seconds", 0.0) + time.time() - began
        folder.write_json(
            "timings.json", {"stages": stages, "seconds": round(seconds, 3), "host": platform.node(), "finished": stamp}
        )
    return folder


def _append(folder: RunFolder, rows: Iterable[Record] | Iterable[Grade], start: int, total: int, progress: Progress) -> None:
    """Append `rows` in synced batches; what has come is kept when the next one fails or the user interrupts."""
    waiting: list[Any] = []
    try:
        for done, row in enumerate(rows, start + 1):
            waiting.append(row)
            if len(waiting) >= _BATCH:
                batch, waiting = waiting, []
                folder.append(batch)
            progress(done, total)
    finally:
        folder.append(waiting)


def measure_divergence(task: Task, model: Model, sampler: Sampler, count: int, progress: Progress) -> dict[str, Any]:
    """KL matrices (K, K) between members, problem by problem, on the task's reference continuations."""
    problems = [p for p in task.problems[:count] if p.reference]
    matrices: dict[str, list[list[float]]] = {}
    answers = model.next_token_logprobs([(p.prompt, p.reference) for p in problems], sampler.members)
    for i, (problem, logprobs) in enumerate(zip(problems, answers, strict=True)):
        if logprobs is not None:
            matrices[problem.id] = np.round(kl_matrix(logprobs), 9).tolist()
        progress(i + 1, len(problems))
    context = "teacher-forced on the task's reference solution, temperature 1, no truncation, mean over tokens, nats"
    references = hash_examples([Example(p.prompt, p.reference) for p in problems])
    return {"context": context, "references_hash": references, "problems": len(matrices), "of": count, "kl": matrices}


def make_judge(task: Task, sandbox: str, grading: str, workers: int, console: Reporter) -> Judge:
    """What judges the programs of `task`: the sandbox of that name, with that many workers. Raises SandboxError."""

    def progress(done: int, total: int) -> None:
        if done == 1:
            console.note(f"running {total} reference solutions, once on this machine, for expected outputs and time limits")

    cache = default_cache().parent
    return Grader(choose(sandbox), cache, Grading(grading), workers, task.limits, task.packages, progress)


def grade(folder: RunFolder, task: Task, console: Reporter, *, sandbox: str | None, workers: int) -> None:
    """Grade what is not graded yet, in `sandbox` or the one of the spec, then write metrics.json."""
    chosen = sandbox or str(folder.spec["sandbox"])
    began = time.monotonic()
    with folder.locked():
        graded = folder.grades()
        missing = [r for key, r in folder.records().items() if key not in graded]
        if missing:
            used = (folder.read_json("sandboxes.json") or []) if graded else []
            with console.stage("grading") as progress:
                folder.write_json("sandboxes.json", sorted({*used, chosen}))
                judge = make_judge(task, chosen, str(folder.spec.get("grading", "default")), workers, console)
                _append(folder, task.score(missing, judge), 0, len(missing), progress)
        with console.stage("metrics"):
            folder.write_json("metrics.json", measure(folder, task))
        timings = folder.read_json("timings.json") or {"stages": {}, "seconds": 0.0}
        for name in ("grading", "metrics"):
            timings["stages"][name] = round(timings["stages"].get(name, 0.0) + console.seconds.get(name, 0.0), 3)
        timings["seconds"] = round(timings["seconds"] + time.monotonic() - began, 3)
        folder.write_json("timings.json", timings)


def measure(folder: RunFolder, task: Task) -> dict[str, Any]:
    """Content of metrics.json: values problem by problem, estimates over problems, and counts of what went wrong."""
    records, grades = folder.records(), folder.grades()
    spec = folder.spec
    samples = collect_samples(
        task,
        list(records.values()),
        {k for k, g in grades.items() if g.verdict == "passed"},
        spec,
        folder.read_json("divergence.json"),
    )
    values = per_problem(samples)
    verdicts = Counter(str(result.verdict) for result in grades.values())
    marks = Counter(result.mark for result in grades.values() if result.mark)
    finishes = Counter(record.finish for record in records.values())
    first = next(iter(samples.values()))
    return {
        "n": spec["n"],
        "k": first.k,
        "members": first.members,
        "problems": list(samples),
        "sandboxes": folder.read_json("sandboxes.json"),
        "verdicts": dict(sorted(verdicts.items())),
        "marks": dict(sorted(marks.items())),
        "finish": dict(sorted(finishes.items())),
        "values": values,
        "estimates": {name: asdict(e) for name, e in estimates({m: [v] for m, v in values.items()}).items()},
    }


def collect_samples(
    task: Task, records: Sequence[Record], passed: set[Key], spec: dict[str, Any], divergence: dict[str, Any] | None
) -> dict[str, Samples]:
    """Samples by problem in the task's order. Raises DataError when a problem has another number of samples than n."""
    grouped: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.member, r.draw)):
        grouped.setdefault(record.problem, []).append(record)
    members = int(spec["sampler"].get("members", 1))
    n = spec["n"]
    least = min((len(grouped.get(p.id, [])) for p in task.problems[: spec["limit"]]), default=0)
    kl = (divergence or {}).get("kl", {})
    samples = {}
    for problem in task.problems[: spec["limit"]]:
        mine = grouped.get(problem.id, [])
        if not mine or (n is not None and len(mine) != n):
            raise DataError(
                f"problem {problem.id} has {len(mine)} samples, the run has n = {n}; run the same command again to finish it"
            )
        samples[problem.id] = Samples(
            [r.graded.strip() for r in mine],
            [task.program(r) for r in mine],
            [r.key in passed for r in mine],
            members,
            members if members > 1 else least,
            np.array(kl[problem.id]) if problem.id in kl else None,
        )
    return samples


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
