"""The content of a page: all readable runs and result files, and sentences about the unreadable ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spa_bench.compare.leaderboard import LeaderboardRow, LogFacts, build_rows, find_results, from_runs
from spa_bench.compare.leaderboard.pooled import Placed, pooled
from spa_bench.errors import SpaBenchError, StoreError, UsageError
from spa_bench.publish.report import questions
from spa_bench.publish.report.runs import RunView, read_run, task_key
from spa_bench.publish.report.samples import ProblemSamples, SampleBook
from spa_bench.runs.find import given_files, nothing_in, run_paths
from spa_bench.runs.folder import RESULTS, RunFolder, check_place, is_run, open_run
from spa_bench.support.cache import stage_cache

Result = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """One task; all its rows and runs have the same problems."""

    key: str  # see task_key
    title: str
    tables: tuple[tuple[LeaderboardRow, ...], ...]  # rows that may be compared are in one table
    runs: tuple[int, ...]  # indices in ReportData.runs

    @property
    def rows(self) -> tuple[LeaderboardRow, ...]:
        """The rows of all tables."""
        return tuple(row for table in self.tables for row in table)


@dataclass(frozen=True)
class ReportData:
    """The whole content of a page."""

    sections: tuple[Section, ...]
    runs: tuple[RunView, ...]
    problems: tuple[ProblemSamples, ...] = field(repr=False)
    said: tuple[str, ...]  # sentences about what is missing, damaged or left out

    def runs_of(self, row: LeaderboardRow) -> list[RunView]:
        """The available runs behind a row, by seed; none for a row from a result file."""
        return sorted((r for r in self.runs if r.group == row.result["group_hash"]), key=lambda r: r.seed)


@dataclass
class _Found:
    folders: dict[str, RunFolder] = field(default_factory=dict)  # by hash
    files: list[tuple[Path, Result]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def read(
    paths: Sequence[str | Path],
    *,
    ask: questions.Questions = questions.at_hand,
    stages: Path | None = None,
) -> ReportData:
    """The runs and results at `paths`: run folders, finished or not, result files, or folders of either.

    Unreadable runs and files are left out, with a sentence in `said`. `ask` gives prompts; `stages` is the stage cache
    (default: the user's). Raises StoreError when there is nothing to show.
    """
    inputs = _Found()
    for path in map(Path, paths):
        _look(path, inputs)
    if not inputs.folders and not inputs.files:
        raise StoreError(inputs.said[0] if inputs.said else "no runs and no results were named")
    book, place = SampleBook(), stages or stage_cache()
    folders = list(inputs.folders.values())
    runs = [read_run(folder, number, book, place) for number, folder in enumerate(folders)]
    for run in runs:
        inputs.said += run.said
    results = _results(folders, runs, inputs)
    rows = build_rows(results)
    _ask(folders, ask, book, inputs.said)
    return ReportData(_sections(rows, runs), tuple(runs), book.problems(), tuple(dict.fromkeys(inputs.said)))


def _look(path: Path, found: _Found) -> None:
    """Add the runs and results at `path` to `found`."""
    try:
        check_place(path, RESULTS)
    except UsageError as error:
        found.said.append(str(error))
        return
    if path.is_file():
        _file(path, found)
    elif is_run(path):
        _folder(path, found)
    else:
        inside, files = run_paths(path), given_files(path)
        if not inside and not files:
            found.said.append(nothing_in(path))
        for run in inside:
            _folder(run, found)
        for file in files:
            _file(file, found)


def _folder(path: Path, found: _Found) -> None:
    try:
        folder = open_run(path)
    except StoreError as error:
        found.said.append(str(error))
        return
    known = found.folders.setdefault(folder.hash, folder)
    if known.path.resolve() != folder.path.resolve():
        found.folders[folder.hash], said = _better(known, folder)
        found.said.append(said)


def _better(one: RunFolder, other: RunFolder) -> tuple[RunFolder, str]:
    """(the copy of a run to show, a sentence about the other copy); `one` is shown unless it alone has a fault."""
    faults = {folder.path: _fault(folder) for folder in (one, other)}
    shown, left = (other, one) if faults[one.path] and not faults[other.path] else (one, other)
    why = f" ({faults[left.path]})" if faults[left.path] else ""
    return shown, f"{left.path} is the same run as {shown.path}, which is shown{why}"


def _fault(folder: RunFolder) -> str:
    """Why a run cannot be shown whole; empty where it can."""
    try:
        if folder.read_json("metrics.json") is None:
            return "it is not finished or not graded"
        return next(iter([*folder.record_log.faults(), *folder.grade_log.faults()]), "")
    except StoreError as error:
        return str(error)


def _file(path: Path, found: _Found) -> None:
    try:
        found.files += [(path, result) for result in find_results([path])]
    except StoreError as error:
        found.said.append(str(error))


def _results(folders: Sequence[RunFolder], runs: Sequence[RunView], found: _Found) -> list[Result]:
    """One result for each sampler, from its finished runs or from a file. Copies of a result count once."""
    groups: dict[str, list[RunFolder]] = {}
    facts = {run.hash: LogFacts(run.samples, run.verdicts, run.fault) for run in runs}
    for folder, run in zip(folders, runs, strict=True):
        if run.finished:
            groups.setdefault(run.group, []).append(folder)
    results: dict[str, Result] = {}
    for group, members in groups.items():
        try:
            [results[group]] = from_runs(members, facts)
        except SpaBenchError as error:
            found.said.append(f"not in the tables: {error}")
    placed: dict[str, list[Placed]] = {group: [("the runs", result)] for group, result in results.items()}
    for path, result in found.files:
        placed.setdefault(result["group_hash"], []).append((str(path), result))
    for group, several in placed.items():
        try:
            results[group] = pooled(several)
        except StoreError as error:
            first, results[group] = several[0]
            found.said.append(f"{error}; {first} is shown")
    return list(results.values())


def _ask(folders: Sequence[RunFolder], ask: questions.Questions, book: SampleBook, said: list[str]) -> None:
    """Add the prompts of each task to `book`, from the first run that has them."""
    tried: dict[str, str] = {}
    for folder in folders:
        key = task_key(folder.spec)
        if tried.get(key) == "":
            continue
        try:
            book.ask(key, ask(folder))
            tried[key] = ""
        except SpaBenchError as error:
            tried[key] = f"{folder.spec['task']['name']}: questions are not shown: {error}"
    said += [reason for reason in tried.values() if reason]


def _sections(rows: Sequence[LeaderboardRow], runs: Sequence[RunView]) -> tuple[Section, ...]:
    """One section for each task; rows with other problems are in other tables."""
    tables: dict[str, dict[tuple[str, str], list[LeaderboardRow]]] = {}
    for row in rows:
        tables.setdefault(task_key(row.result["spec"]), {}).setdefault(row.table_key, []).append(row)
    keys = dict.fromkeys([*tables, *(run.task for run in runs)])
    specs: dict[str, Mapping[str, Any]] = {run.task: run.spec for run in runs}
    specs |= {task_key(row.result["spec"]): row.result["spec"] for row in rows}
    names = [str(specs[key]["task"]["name"]) for key in keys]
    sections = []
    for key in keys:
        task = specs[key]["task"]
        twin = f" ({key.rpartition('@')[2]})" if names.count(str(task["name"])) > 1 else ""
        version = f" {task['version']}" if task.get("version") else ""
        mine = tuple(number for number, run in enumerate(runs) if run.task == key)
        sections.append(Section(key, f"{task['name']}{version}{twin}", tuple(map(tuple, tables.get(key, {}).values())), mine))
    return tuple(sections)
