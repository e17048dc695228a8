"""Completions that somebody else generated, in evalplus' sample format, as a run."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from spa_bench.cards.source import code_of, hashes
from spa_bench.errors import DataError
from spa_bench.runs.folder import TASK_FILE, RunFolder, create
from spa_bench.runs.partial import PARTIAL, partial_entry, partial_name
from spa_bench.support import provenance
from spa_bench.support.files import unpacked
from spa_bench.support.text import did_you_mean
from spa_bench.support.user_json import read_json
from spa_bench.tasks.base import TextsTask
from spa_bench.types import Problem, Record, RunSpec


def read_samples(path: Path, task: TextsTask, *, cut: bool, partial: bool = False) -> list[Record]:
    """Records of a .jsonl(.gz) file whose rows have `task_id` and `completion` or `solution`; a problem's rows are its draws.

    A `solution` that begins with the prompt is stored without the prompt; any other `solution` is a whole program. `cut`
    cuts completions at the task's stop strings. `partial`: problems may be without samples. Raises DataError that names the
    line, the unknown id or the missing problem.
    """
    try:
        raw = unpacked(path)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"cannot read the samples in {path}: {error}") from error
    known = {p.id: p for p in task.problems}
    draws: dict[str, int] = {}
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        problem, answer, solution = _row(line, f"{path}, line {number}", known, task.name)
        draw = draws.get(problem.id, 0)
        draws[problem.id] = draw + 1
        begin = task.question(problem)
        whole = solution and not answer.lstrip("\n").startswith(begin.lstrip("\n"))
        graded = answer if whole or not solution else answer.lstrip("\n").removeprefix(begin.lstrip("\n"))
        graded = task.cut(graded) if cut and not whole else graded.rstrip()
        records.append(
            Record(
                problem=problem.id, member=0, draw=draw, raw=answer, graded=graded, finish="stop", tokens=0, seed=0, whole=whole
            )
        )
    if not records:
        raise DataError(f"{path} holds no samples")
    absent = [p.id for p in task.problems if p.id not in draws]
    if absent and not partial:
        raise DataError(
            f"{path} has no sample for {absent[0]} ({len(absent)} of {len(known)} problems are missing); "
            f"every problem needs one, or --partial measures the {len(draws)} that are there"
        )
    return records


def import_samples(
    path: Path,
    task: TextsTask,
    out: Path,
    *,
    label: str,
    cut: bool,
    partial: bool = False,
    sandbox: str,
    grading: str = "default",
    embedding: Mapping[str, object] | None = None,
    metrics: Sequence[str] = (),
) -> RunFolder:
    """A run folder that holds the samples of `path` as its records, ready to be graded. For the rest see runs.job.Job.

    Where `partial` and problems are without samples, spec and name say how many problems there are.
    """
    records = read_samples(path, task, cut=cut, partial=partial)
    counts: dict[str, int] = {}
    for record in records:
        counts[record.problem] = counts.get(record.problem, 0) + 1
    n = min(counts.values()) if len(set(counts.values())) == 1 else None
    digest = provenance.hash_bytes(path.read_bytes())
    sampler: dict[str, object] = {"name": label, "kind": "samples", "members": 1, "samples_hash": digest, "cut": cut}
    if len(counts) < len(task.problems):
        there = [p.id for p in task.problems if p.id in counts]
        sampler |= {
            "name": partial_name(label, len(there), len(task.problems)),
            PARTIAL: partial_entry(there),
        }
    spec = RunSpec(
        sampler=sampler,
        task=task.describe(),
        model={"name": label},
        data={},
        n=n,
        seed=0,
        limit=None,
        numerics={},
        sandbox=sandbox,
        grading=grading,
        versions=provenance.versions(),
        code=code_of(sampler, task.describe(), metrics),
        embedding=dict(embedding or {}),
        metrics=hashes(metrics),
    )
    folder = create(out, f"{task.name}-{label}", spec)
    if task.file:
        folder.write_json(TASK_FILE, {"file": task.file})
    with folder.locked():
        done = {r.key for r in folder.record_log.rows()}
        folder.record_log.append([r for r in records if r.key not in done])
    return folder


def _row(line: str, place: str, known: dict[str, Problem], task: str) -> tuple[Problem, str, bool]:
    row = read_json(line, place)
    if not isinstance(row, dict) or not isinstance(row.get("task_id"), str):
        raise DataError(f"{place} lacks a task_id")
    if row["task_id"] not in known:
        raise DataError(f"{place}: task {task} has no problem {row['task_id']!r}{did_you_mean_id(row['task_id'], known)}")
    for kind in ("solution", "completion"):
        if kind in row:
            if not isinstance(row[kind], str):
                raise DataError(
                    f"{place}: {kind} must be one text; got {type(row[kind]).__name__} (repeat the task_id for more samples)"
                )
            return known[row["task_id"]], row[kind], kind == "solution"
    raise DataError(f"{place} has neither completion nor solution")


def did_you_mean_id(name: str, known: dict[str, Problem]) -> str:
    """A close problem id, or the first and the last one."""
    hint = did_you_mean(name, known)
    ids = list(known)
    return hint if "did you mean" in hint else f"; its ids run from {ids[0]} to {ids[-1]}"
