"""`spa-bench verify`: check every byte of a run."""

from __future__ import annotations

import json

from spa_bench.cli.options import Json, RunFolders, TaskFile
from spa_bench.errors import SpaBenchError, StoreError


def verify(runs: RunFolders, /, *, task_file: TaskFile = None, as_json: Json = False) -> int:
    """Check every byte of a run: checksums, seeds, texts, metrics.

    The exit code is 0 where all are whole, 1 where something was found, 2 where something could not be checked.
    """
    from spa_bench.runs import verify as checks
    from spa_bench.runs.folder import given_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.support.cache import stage_cache
    from spa_bench.support.console import error_line

    faults_of: dict[str, list[str]] = {}
    unchecked = False
    for path in runs:
        notes: list[str] = []
        try:
            folder = given_run(path)
            faults = checks.verify(folder, task_of(folder, task_file), cache=stage_cache())
            notes = checks.notes(folder)
        except StoreError as error:  # a run that cannot be read must not hide the other runs
            faults = [str(error)]
        except SpaBenchError as error:  # something that the check needs is unavailable
            error_line(error)
            unchecked = True
            continue
        faults_of[str(path)] = faults
        if not as_json:
            print("\n".join([*(faults or [f"{path}: whole"]), *notes]))
    if as_json:
        print(json.dumps(faults_of, indent=1))
    return 2 if unchecked else 1 if any(faults_of.values()) else 0
