"""`spa-bench show`: the samples of a run with their verdicts."""

from __future__ import annotations

from typing import Annotated

from spa_bench.cli.options import OUTPUT, RunFolders, TaskFile, option


def show(
    runs: RunFolders,
    /,
    *,
    problem: Annotated[str | None, option("one problem's samples side by side", OUTPUT, metavar="ID")] = None,
    task_file: TaskFile = None,
) -> None:
    """The samples of a run with their verdicts."""
    from spa_bench.publish import show as text
    from spa_bench.runs.folder import given_run
    from spa_bench.runs.reopen import task_of

    folders = [given_run(path) for path in runs]
    for folder in folders:
        if len(folders) > 1:
            print(f"== {folder.path}")
        print(text.show(folder, task_of(folder, task_file), problem))
