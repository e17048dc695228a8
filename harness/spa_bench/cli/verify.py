"""`spa-bench verify`: check every byte of a run, and with --references its numbers by other people's code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from spa_bench.cli.options import OUTPUT, Json, RunFolders, TaskFile, option
from spa_bench.errors import SpaBenchError, StoreError

if TYPE_CHECKING:
    from spa_bench.runs.folder import RunFolder as Run
    from spa_bench.runs.references import Comparison
    from spa_bench.tasks.base import Task


def verify(
    runs: RunFolders,
    /,
    *,
    references: Annotated[
        bool,
        option(
            "also compare a seeded part of the numbers with vendi-score, sacrebleu, evalplus, lm-eval and scipy "
            "(docs/reference/reliability.md)",
            OUTPUT,
        ),
    ] = False,
    task_file: TaskFile = None,
    as_json: Json = False,
) -> int:
    """Check every byte of a run: checksums, seeds, texts, metrics.

    The exit code is 0 where all are whole, 1 where something was found, 2 where something could not be checked.
    """
    from spa_bench.runs import verify as checks
    from spa_bench.runs.folder import given_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.support.cache import stage_cache
    from spa_bench.support.console import error_line

    faults_of: dict[str, list[str]] = {}
    compared_of: dict[str, Sequence[Comparison]] = {}
    unchecked = False
    for path in runs:
        notes: list[str] = []
        rows: Sequence[Comparison] = ()
        try:
            folder = given_run(path)
            task = task_of(folder, task_file)
            faults = checks.verify(folder, task, cache=stage_cache())
            notes = checks.notes(folder)
            if references:
                rows, why = _compared(folder, task)
                faults += [why] if why and why not in faults else []
        except StoreError as error:  # a run that cannot be read must not hide the other runs
            faults = [str(error)]
        except SpaBenchError as error:  # something that the check needs is unavailable
            error_line(error)
            unchecked = True
            continue
        faults_of[str(path)], compared_of[str(path)] = faults, rows
        if not as_json:
            print("\n".join([*(faults or [f"{path}: whole"]), *notes]))
            _print_rows(rows)
    if as_json:
        print(json.dumps(_with_rows(faults_of, compared_of) if references else faults_of, indent=1))
    wrong = any(faults_of.values()) or any(not row.ok for rows in compared_of.values() for row in rows)
    return 2 if unchecked else 1 if wrong else 0


def _compared(folder: Run, task: Task) -> tuple[Sequence[Comparison], str]:
    """The comparisons of a run with references, and why there are none; what `verify` found stays beside that."""
    from spa_bench.runs.references import compared

    try:
        return compared(folder, task), ""
    except SpaBenchError as error:
        return (), str(error)


def _with_rows(faults: dict[str, list[str]], compared: dict[str, Sequence[Comparison]]) -> dict[str, object]:
    """The faults and the comparisons of each run, as JSON."""
    return {
        path: {
            "faults": said,
            "references": [{**asdict(row), "reference": row.reference, "ok": row.ok} for row in compared[path]],
        }
        for path, said in faults.items()
    }


def _print_rows(rows: Sequence[Comparison]) -> None:
    """A table of what was compared, and a line for all else."""
    if not rows:
        return
    from tabulate import tabulate

    from spa_bench.runs.references import NOT_COMPARED, table

    head, *cells = table(rows)
    print(tabulate(cells, headers=head))
    for line in [*(f"{row.what}: {row.why}" for row in rows if row.why), *NOT_COMPARED]:
        print(f"not compared: {line}")
