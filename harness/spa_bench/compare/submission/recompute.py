"""The metrics of a result file recomputed from its samples, so that nobody has to trust the numbers of a sender.

The samples are those of the archive beside the file; their hashes are in the file. Texts, seeds and problems are checked as
`spa-bench verify` does it. Metrics follow from texts, verdicts and behaviours; the last two are the sender's, unless they are
made again in a sandbox here. Nothing that a sender names is imported: tasks are ours, and metrics of the sender's own are left
out. What cannot be seen is whether the model that the spec names gave these texts, and how long it took.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spa_bench.cards.reading import card_names
from spa_bench.cards.registry import is_ours
from spa_bench.cards.task import load_task_card
from spa_bench.compare.leaderboard.check import close
from spa_bench.compare.leaderboard.results import OTHER_LOGS, Result, from_runs, read_all
from spa_bench.compare.submission.archive import archive_of, unpack
from spa_bench.errors import SpaBenchError, StoreError, with_message
from spa_bench.metrics.suite import known
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.measure import measure
from spa_bench.runs.reopen import task_of
from spa_bench.runs.verify import sample_faults
from spa_bench.sandbox import choose
from spa_bench.support import provenance
from spa_bench.support.console import Reporter
from spa_bench.support.text import one_line, shortened, visible
from spa_bench.tasks.base import Task
from spa_bench.types import Grade, Json, Key

_FIXED = ("kind", "problems", "suites", "seconds", "memory_mb", "packages", "one_process")
"""Keys of a task card that decide what counts as right, so that a board allows no others than those of its task."""
_FIXED_OPTIONS = (
    "task",
    "folder",
    "include",
    "filter",
    "hash",
    "prompts",
    "classes",
    "scores",
    "same_template",
    "quality_template",
)
_MOST_FAULTS = 8  # that are listed of one run
_SLOW = {"timeout", "memory"}  # verdicts that depend on the machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recomputed:
    """What came of it."""

    faults: tuple[str, ...]  # a sentence each
    notes: tuple[str, ...]  # what was recomputed, and what could not be


@dataclasses.dataclass(frozen=True, kw_only=True)
class _UnpackedRun:
    """One run of a result, unpacked."""

    entry: Mapping[str, Any]  # of the result
    folder: RunFolder
    task: Task

    @property
    def name(self) -> str:
        """How sentences call it."""
        return f"{self.folder.spec['sampler']['name']}, seed {self.entry['seed']}"


def recompute(path: Path, *, regrade: bool = False, task_file: Path | None = None) -> Recomputed:
    """Recompute the result file at `path`, which `check` has found consistent, from the samples beside it.

    With `regrade` every program runs again, in the strongest sandbox of this machine. `task_file` has the problems of a task
    from a file. Raises UsageError or DataError where the problems are not found here, and SandboxError where no sandbox works.
    """
    archive = archive_of(path)
    if not archive.is_file():
        return Recomputed(faults=(f"its samples are missing: {archive} is not there; `--save --samples` writes it",), notes=())
    faults: list[str] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="spa-bench-submission-") as folder:
        try:
            unpack(archive, Path(folder))
            for result in read_all(path):
                faults += _result_faults(result, Path(folder), task_file, notes, regrade=regrade)
        except StoreError as error:
            faults.append(str(error))
        except SpaBenchError as error:
            raise with_message(error, str(error).replace(f"{folder}/", "")) from error
        cut = [_line(line.replace(f"{folder}/", "")) for line in faults]
    return Recomputed(faults=tuple(cut), notes=tuple(map(_line, notes)))


def _line(text: str) -> str:
    """A sentence that quotes what a sender wrote, as one line of printable text that is not too long."""
    return one_line(visible(text), 500)


def _result_faults(result: Result, folder: Path, task_file: Path | None, notes: list[str], *, regrade: bool) -> Iterator[str]:
    if fault := _task_fault(result["spec"], own_file=task_file is not None):
        yield fault
        return
    runs: list[_UnpackedRun] = []
    for entry in result["runs"]:
        there = open_run(folder / result["group_hash"] / str(entry["seed"]))
        if faults := list(_hash_faults(entry, there)):
            yield from faults
            return
        runs.append(_UnpackedRun(entry=entry, folder=there, task=runs[0].task if runs else task_of(there, task_file)))
    for run in runs:
        found = [f"{run.name}: {line}" for line in sample_faults(run.folder, run.task)]
        if found:
            yield from found[:_MOST_FAULTS]
            return
        run.folder.write_json("metrics.json", measure(run.folder, run.task, own=False))
    [again] = from_runs([run.folder for run in runs])
    yield from list(_differences(result, again))[:_MOST_FAULTS]
    notes.append(_said(result, again))
    if regrade and runs[0].task.runs_code:
        for run in runs:
            yield from _verdict_faults(run, notes)


def _said(result: Result, again: Result) -> str:
    own = sorted(name for name in result["metrics"] if name not in again["metrics"] and not known(name))
    skipped = f"; not those of the sender's own: {', '.join(own)}" if own else ""
    count = sum(name in again["metrics"] for name in result["metrics"])
    samples = sum(run["counts"]["samples"] for run in again["runs"])
    return f"{result['sampler']}: {count} metrics recomputed from {samples} samples of {len(again['runs'])} runs{skipped}"


def _task_fault(spec: Json, *, own_file: bool) -> str:
    """Why the task of a spec is none of ours, or not as our card has it; "" where it is. Nothing that it names is imported."""
    task, name = spec["task"], spec["task"]["name"]
    if not is_ours("task", str(task.get("kind"))) or not is_ours("problems", str(task.get("problems"))):
        return (
            f"task {name!r} is of a kind of somebody's own, which is not imported here; only tasks of spa-bench are recomputed"
        )
    if not is_ours("sanitiser", str(task.get("sanitiser"))):
        return f"task {name!r} has the sanitiser {task.get('sanitiser')!r}, which is none of ours"
    if name not in card_names("tasks"):
        return "" if own_file else f"task {name!r} is none of ours; only tasks of spa-bench are recomputed without --task-file"
    card = dataclasses.asdict(load_task_card(name))
    ours = {key: card[key] for key in _FIXED} | {f"options.{k}": card["options"].get(k) for k in _FIXED_OPTIONS}
    options = task.get("options", {})
    theirs = {key: task.get(key) for key in _FIXED} | {f"options.{k}": options.get(k) for k in _FIXED_OPTIONS}
    for key, value in ours.items():
        plain = list(value) if isinstance(value, tuple) else value
        if theirs[key] != plain:
            return f"its task has {key} = {theirs[key]!r}, and the card of {name} has {plain!r}"
    return ""


def _hash_faults(entry: Mapping[str, Any], run: RunFolder) -> Iterator[str]:
    """Faults of the samples' hashes, and of their spec."""
    if run.hash != entry["spec_hash"]:
        yield f"seed {entry['seed']}: the samples are of the spec {run.hash}, the result of {entry['spec_hash']}"
    wanted = {"records.jsonl": entry["records"], "grades.jsonl": entry["grades"], **entry["logs"]}
    for name in ("records.jsonl", "grades.jsonl", *OTHER_LOGS):
        path = run.path / name
        there = provenance.hash_file(path) if path.exists() else None
        if there != wanted.get(name):
            yield f"seed {entry['seed']}: {name} of the samples has the hash {there}, and the result says {wanted.get(name)}"


def _differences(result: Result, again: Result) -> Iterator[str]:
    """What the samples do not give: counts, values, estimates."""
    for key in ("n", "k", "members", "design", "size", "problems", "spec"):
        if result[key] != again[key]:
            yield f"{key} is not that of the samples"
    for entry, run in zip(result["runs"], again["runs"], strict=True):
        where = f"seed {entry['seed']}"
        for key in ("counts", "verdicts", "judged"):
            if entry[key] != run[key]:
                yield f"{where}: {key} is {_short(entry[key])}, and the samples give {_short(run[key])}"
        tables = {"": (entry["values"], run["values"])}
        tables |= {f" at {at}": (entry["values_at"][at], table) for at, table in run["values_at"].items()}
        for at, (theirs, ours) in tables.items():
            yield from _value_differences(f"{where}{at}", theirs, ours, result["problems"])
    for name, stored in result["metrics"].items():
        if name in again["metrics"]:
            for key, value in again["metrics"][name].items():
                if not close(stored[key], value):
                    yield f"metrics: {key} of {name} is {_short(stored[key])}, and the samples give {_short(value)}"
        elif known(name) or name.startswith("own["):
            yield f"metrics: {name} is not what the samples give: they have no such metric"


def _value_differences(
    where: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], problems: Sequence[str]
) -> Iterator[str]:
    for name, column in theirs.items():
        if name not in ours:
            yield f"{where}: values of {name}, which the samples do not give"
            continue
        if name == "any_of_n" and all(v is None for v in column):  # of schema 2
            continue
        other = [i for i, (a, b) in enumerate(zip(column, ours[name], strict=True)) if not close(a, b)]
        if other:
            first = other[0]
            yield (
                f"{where}: {name} of {problems[first]} is {_short(column[first])}, and the samples give "
                f"{_short(ours[name][first])}{f' ({len(other)} problems differ)' if len(other) > 1 else ''}"
            )


def _short(value: object) -> str:
    return shortened(str(value), 120)


def _verdict_faults(run: _UnpackedRun, notes: list[str]) -> Iterator[str]:
    """Verdicts that a sandbox here does not give again; those that go by time or memory are notes, as machines differ."""
    from spa_bench.runs.grade import grade
    from spa_bench.runs.values import checked_workers

    sandbox = choose(packages=run.task.packages).name  # never the one that the sender's spec names
    fresh = RunFolder(run.folder.path.with_name(f"{run.folder.path.name}-again"), run.folder.spec)
    gone = shutil.ignore_patterns("grades.jsonl", "behaviours.jsonl", "judged.json", "metrics.json")
    shutil.copytree(run.folder.path, fresh.path, ignore=gone)
    grade(fresh, run.task, Reporter(), sandbox=sandbox, workers=checked_workers(None), own=False)
    theirs, ours = run.folder.grades(), fresh.grades()
    other = [key for key in theirs if ours[key].verdict != theirs[key].verdict]
    slow = [key for key in other if {str(theirs[key].verdict), str(ours[key].verdict)} & _SLOW]
    if wrong := [key for key in other if key not in slow]:
        yield f"{run.name}: {_listed(wrong, theirs, ours)} when graded again in {sandbox}"
    acts, again = ({b.key: b for b in folder.behaviour_log.rows()} for folder in (run.folder, fresh))
    if odd := [key for key in acts if key not in other and acts[key] != again[key]]:
        yield f"{run.name}: {len(odd)} of {len(acts)} behaviours are others when programs run again in {sandbox}: {odd[0]}"
    if slow:
        notes.append(f"{run.name}: {_listed(slow, theirs, ours)} when graded again: time and memory depend on the machine")
    if not other and not odd:
        notes.append(f"{run.name}: all {len(theirs)} verdicts and behaviours are the same when graded again in {sandbox}")


def _listed(keys: Sequence[Key], theirs: Mapping[Key, Grade], ours: Mapping[Key, Grade]) -> str:
    first = keys[0]
    return (
        f"{len(keys)} of {len(theirs)} verdicts are others, the first is {first.problem}, member {first.member}, "
        f"draw {first.draw}: {theirs[first].verdict} there, {ours[first].verdict} here,"
    )
