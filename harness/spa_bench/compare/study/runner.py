"""Makes the runs of a study as ordinary run folders, so that a stopped study resumes and every number can be verified.

Several processes may make one study in the same folder: each takes the next run that no other process holds, and at the end
waits for the runs of the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spa_bench.compare.study.at_once import make_at_once
from spa_bench.compare.study.designs import Point
from spa_bench.errors import StoreError
from spa_bench.models.base import Model
from spa_bench.models.spread import SpreadModel
from spa_bench.runs.folder import RunFolder, differences, folder_name, open_run, plain
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, check_draws, check_task, make_spec, run_name, sampler_spec
from spa_bench.runs.judging import graders_of
from spa_bench.spa.partition import needs_scores
from spa_bench.spa.synthesize.stage import made_sources
from spa_bench.spa.training_data import TrainingData, load_data, needs_queries
from spa_bench.support import lock
from spa_bench.support.console import Reporter
from spa_bench.support.interrupt import pause_point
from spa_bench.tasks.base import Task

_CLAIMS = ".claims"  # in the folder of runs: a lock for each run that a process is making
_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class StudySetup:
    """The folder and the settings that all runs of a study share."""

    task: Task
    model: Model
    out: Path
    cache: Path
    workers: int  # programs that run at once on this machine
    programs: int | None = None  # that run at once in each worker that holds the model; None: as many as it has cores
    price: float | None = None


@dataclass(frozen=True)
class StudyRun:
    """One run of a study, and the path of its folder, made or not."""

    point: Point
    job: Job
    path: Path

    @property
    def done(self) -> bool:
        """Whether the run is there and graded."""
        return (self.path / "metrics.json").exists()


def runs_of(jobs: Sequence[tuple[Point, Job]], setup: StudySetup) -> list[StudyRun]:
    """Each job with its folder. The data are read here, so that faults in them are reported before anything is computed."""
    known: dict[str, TrainingData] = {}
    runs = []
    for point, job in jobs:
        card = job.placed
        check_draws(card, job.n)
        asking = check_task(card, setup.task, setup.model, job.limit, kind=job.task.kind)
        parts = (card.trained, needs_queries(card)) if card.adapters == "parts" else ()
        key = repr((card.data, card.synthesize, card.adapters, parts, card.lora.length, job.seed))
        if key not in known:
            problems = setup.task.problems
            made = made_sources(card, setup.model, job.seed, problems=problems, cache=setup.cache, console=Reporter())
            known[key] = load_data(card, setup.model, job.seed, sources=made, problems=problems)
        spec = plain(make_spec(job, setup.task, asking, setup.model, known[key]))
        runs.append(StudyRun(point, job, setup.out / folder_name(run_name(job, setup.task), spec)))
    return runs


def make(runs: Sequence[StudyRun], setup: StudySetup, console: Reporter) -> None:
    """Make the missing runs, in order; those that another process is making come last.

    Work that a run shares with an earlier one is done once: stages come from the cache, and the divergence between the same
    adapters is copied. Where workers hold the model, as many runs as there are workers are made at once (at_once.py).
    """

    several = setup.model.count if isinstance(setup.model, SpreadModel) else 1
    shared = setup if setup.price is None else replace(setup, price=setup.price / several)  # an hour is of several runs

    def make_one(run: StudyRun) -> bool:
        """Make the run unless it is there; False where another process is making it."""
        pause_point()
        with _claimed(setup.out, run) as mine:
            if mine and not run.done:
                _make(run, runs, shared, console)
            return mine or run.done

    left, told = list(runs), False
    while left:
        if several > 1:
            busy = make_at_once(left, make_one, several, console, shares=shares_of)
        else:
            busy = [run for run in left if not make_one(run)]
        if busy and len(busy) == len(left):
            if not told:
                # a file system that cannot lock keeps the claim of another machine's process that has ended
                held = [file for run in busy if (file := _claim(setup.out, run) / ".lock-owner").exists()]
                stale = f"; if it is not there any more, remove {held[0]}" if held else ""
                console.note(f"waiting for another process, which makes {len(busy)} of these runs{stale}")
                told = True
            time.sleep(_LOOK_AGAIN_SECONDS)
        left = busy


def shares_of(run: StudyRun) -> frozenset[str]:
    """What the run shares with others that have the same: scores, and adapters with the divergence between them."""
    card, seed = run.job.sampler, run.job.seed
    if not card.trains:
        return frozenset()
    data = (card.data, card.synthesize)
    scores = (*data, card.attribution) if card.adapters == "parts" and needs_scores(card.partition.method) else ()
    parts = (card.partition,) if card.adapters == "parts" else ()
    adapters = f"adapters {(seed, *data, card.adapters, card.trained, card.lora, *parts, *scores)!r}"
    return frozenset({adapters, f"scores {(seed, *scores)!r}"} if scores else {adapters})


def _make(run: StudyRun, runs: Sequence[StudyRun], setup: StudySetup, console: Reporter) -> None:
    began, number = time.monotonic(), runs.index(run) + 1
    setting = "" if run.point.x is None else f" at {run.point.x:g}"
    console.note(f"[{number}/{len(runs)}] {run.point.series}{setting}, seed {run.job.seed}")
    # each run has a new one, whose seconds become the run's timings
    quiet = Reporter(quiet=True)
    siblings = [folder for other in runs if other.path != run.path for folder in _opened(other, run.job.seed)]
    folder = generate(
        run.job, setup.task, setup.model, out=setup.out, cache=setup.cache, console=quiet, price=setup.price, siblings=siblings
    )
    assert folder.path == run.path, f"{folder.path} is not where {run.path} was looked for"
    graders = graders_of(setup.model, setup.programs)
    grade(folder, setup.task, quiet, sandbox=None, workers=setup.workers, price=setup.price, graders=graders)
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in quiet.seconds.items() if seconds >= 1)
    console.note(
        f"[{number}/{len(runs)}] {time.monotonic() - began:.0f} s ({stages or 'less than a second a stage'}): {run.path}"
    )


def _opened(run: StudyRun, seed: int) -> Iterator[RunFolder]:
    """The folder of the run with that seed, if it exists."""
    if run.job.seed == seed and (run.path / "spec.json").exists():
        yield open_run(run.path)


@contextmanager
def _claimed(out: Path, run: StudyRun) -> Iterator[bool]:
    """Whether this process may make the run. If so, no other process may until the block ends or this process dies."""
    folder = _claim(out, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror}; use another --out") from error
    held = lock.hold(folder)
    try:
        held.__enter__()
    except StoreError as error:
        if error.__cause__ is not None and not isinstance(error.__cause__, BlockingIOError):
            raise
        yield False
        return
    try:
        yield True
    finally:
        held.__exit__(None, None, None)


def _claim(out: Path, run: StudyRun) -> Path:
    return out / _CLAIMS / run.path.name


def runs_there(
    points: Sequence[Point], seeds: Sequence[int], out: Path, expected: Mapping[str, object]
) -> dict[int, list[RunFolder]]:
    """Place of a point -> its finished runs in `out`: runs of its sampler and n, of `seeds`, and with the `expected` values.

    `expected` maps dotted keys of specs, such as `task.name`, to values. Raises StoreError when two runs of one point have one
    seed: then they differ in something else, such as the code.
    """
    wanted = {_identity(sampler_spec(p.card), p.n): i for i, p in enumerate(points)}
    by_place: dict[int, dict[int, RunFolder]] = {}
    for file in sorted(out.glob("*/metrics.json")):
        run = open_run(file.parent)
        place = wanted.get(_identity(run.spec["sampler"], run.spec["n"]))
        if place is None or run.spec["seed"] not in seeds or any(_value(run.spec, k) != v for k, v in expected.items()):
            continue
        other = by_place.setdefault(place, {}).setdefault(run.spec["seed"], run)
        if other is not run:
            raise StoreError(
                f"{other.path} and {run.path} are of one sampler and seed ({differences(other.spec, run.spec)}); move one of "
                "them away, or leave out --table-only: then the runs of this code are taken"
            )
    return {place: [by_seed[s] for s in sorted(by_seed)] for place, by_seed in sorted(by_place.items())}


def _identity(sampler: Mapping[str, object], n: int) -> str:
    return json.dumps([sampler, n], sort_keys=True)


def _value(spec: Mapping[str, Any], key: str) -> object:
    value: object = spec
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
