"""Grading a run: verdicts, behaviours and metrics for the samples that are on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from spa_bench.cards.guard import judged
from spa_bench.cards.source import hashes
from spa_bench.errors import DataError, StoreError
from spa_bench.grading import Grader, Grading
from spa_bench.runs import embeddings, sanitisers
from spa_bench.runs.appraise import RunAppraiser
from spa_bench.runs.folder import ADDED, RunFolder
from spa_bench.runs.judging import StartGraders, spread_judge
from spa_bench.runs.log import Row, append
from spa_bench.runs.measure import measure, measure_added
from spa_bench.runs.timing import timed
from spa_bench.sandbox import NOT_NEEDED, choose
from spa_bench.support import provenance
from spa_bench.support.cache import own_cache
from spa_bench.support.console import Reporter
from spa_bench.support.interrupt import pause_point
from spa_bench.tasks.base import Judge, Task
from spa_bench.types import Behaviour, Grade


def _pausing(rows: Iterator[Row]) -> Iterator[Row]:
    """`rows`; the iteration stops between two rows when the user asked to stop."""
    for row in rows:
        yield row
        pause_point()


def make_judge(task: Task, sandbox: str, grading: str, workers: int, console: Reporter) -> Grader:
    """The judge of the programs of `task`: the sandbox of that name, with that many workers. Raises SandboxError."""

    def progress(done: int, total: int) -> None:
        if done == 1:
            console.note(f"running {total} reference solutions, once on this machine, for expected outputs and time limits")

    return Grader(
        sandbox=choose(sandbox),
        cache=own_cache(),
        grading=Grading(grading),
        workers=workers,
        limits=task.limits,
        packages=task.packages,
        progress=progress,
        tell=console.note,
    )


class _Pausing(Protocol):
    """Rows, with the places at which Ctrl-C stops their iteration."""

    def __call__(self, rows: Iterator[Row], /) -> Iterator[Row]: ...


@contextmanager
def _judge(
    folder: RunFolder, task: Task, sandbox: str, *, workers: int, console: Reporter, graders: StartGraders | None
) -> Iterator[tuple[Judge, _Pausing]]:
    """(the judge of the programs of `task`, or of its answers; what lets Ctrl-C stop its rows)."""
    grading = str(folder.spec["grading"])
    if not task.runs_code:
        with closing(RunAppraiser(folder, console)) as appraiser:
            yield appraiser, _pausing
    elif graders is None:
        with make_judge(task, sandbox, grading, workers, console).kept() as judge:
            yield judge, _pausing
    else:
        with spread_judge(task, sandbox, grading, graders(), console.note) as judge:
            yield judge, iter  # it stops by itself, when the shards in hand are finished


def grade(
    folder: RunFolder,
    task: Task,
    console: Reporter,
    *,
    sandbox: str | None,
    workers: int,
    embedder: Callable[[], embeddings.Embedder] | None = None,
    metrics: Sequence[str] = (),
    price: float | None = None,
    graders: StartGraders | None = None,
    own: bool = True,
) -> None:
    """Grade the samples that are not graded yet, in `sandbox` or in the spec's sandbox, then write metrics.json.

    `workers` programs run at once on this machine or, where there are `graders`, in their workers instead. `embedder` is called
    where the spec asks for embeddings that are missing. `metrics` of the user's own that are not in the spec are written to
    added.json; without `own` those of the spec are left out. `price` is the cost of an hour. Raises DataError, before anything
    is graded, where samples are missing.
    """
    chosen = (sandbox or str(folder.spec["sandbox"])) if task.runs_code else NOT_NEEDED
    with folder.locked(instead="grade a copy of it elsewhere"), timed(folder, console, {}, price):
        if missing := folder.unfinished():
            raise DataError(missing)
        _judge_missing(folder, task, console, chosen=chosen, workers=workers, graders=graders)
        place = {p.id: i for i, p in enumerate(task.problems)}
        folder.grade_log.settle(place)
        folder.behaviour_log.settle(place)
        if embedder is not None and embeddings.missing(folder):
            model = embedder()
            with console.stage("embeddings") as progress:
                embeddings.embed(folder, model, progress)
        with console.stage("metrics"):
            measured = measure(folder, task, own=own)
            folder.write_json("metrics.json", measured)
            if new := hashes(name for name in metrics if name not in folder.spec.get("metrics", {})):
                before = (folder.read_json(ADDED) or {}).get("metrics", {})
                folder.write_json(ADDED, measure_added(folder, task, {**before, **new}))
        for line in dict.fromkeys(measured.get("own_scores", {}).get("failed", {}).values()):
            console.note(f"no value: {line}; the other metrics are complete")


def _judge_missing(
    folder: RunFolder, task: Task, console: Reporter, *, chosen: str, workers: int, graders: StartGraders | None
) -> None:
    """Append the verdicts and behaviours that are missing, by programs that run in the sandbox `chosen`."""
    kind = str(folder.spec["task"]["kind"])
    records = folder.record_log.rows()
    graded, behaved = set(folder.grade_log.keys()), set(folder.behaviour_log.keys())
    ungraded, unknown = ([r for r in records if r.key not in keys] for keys in (graded, behaved))
    if graded and folder.read_json("judged.json") is None:
        raise StoreError(
            f"{folder.path / 'judged.json'} is missing, so nobody knows which sandbox judged; remove grades.jsonl and "
            "behaviours.jsonl too and grade again"
        )
    both = sanitisers.to_compare(folder)
    if ungraded or unknown or both:
        remember_judge(folder, chosen, fresh=not graded)
        with _judge(folder, task, chosen, workers=workers, console=console, graders=graders) as (judge, pausing):
            choices = folder.choice_log.rows()
            if ungraded:
                with console.stage("grading") as progress:
                    verdicts = judged(kind, "score", lambda: task.score(ungraded, judge, choices), Grade)
                    append(folder.grade_log, pausing(verdicts), 0, len(ungraded), progress)
            if unknown:
                with console.stage("behaviours") as progress:
                    done = judged(kind, "behave", lambda: task.behave(unknown, judge, choices), Behaviour)
                    append(folder.behaviour_log, pausing(done), 0, len(unknown), progress)
            if both:
                with console.stage("evalplus' sanitiser"):
                    sanitisers.compare_sanitisers(folder, task, judge)


def remember_judge(folder: RunFolder, sandbox: str, *, fresh: bool) -> None:
    """Write which sandboxes judged, and with which Python and code."""
    now = {"sandbox": sandbox, "versions": provenance.versions(), "code": provenance.code()}
    before = [] if fresh else (folder.read_json("judged.json") or {}).get("by", [])
    folder.write_json("judged.json", {"by": [*before, now] if now not in before else before})
