"""`spa-bench export`: the samples of a run as files that evalplus or lm-eval read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from spa_bench.cli.options import OUTPUT, RunFolder, TaskFile, a_path, option


def export(
    run: RunFolder,
    /,
    *,
    to: Annotated[Literal["evalplus", "lm-eval"], option("whose files", OUTPUT)],
    out: Annotated[Path, a_path("a new or empty folder, or an earlier export", OUTPUT, metavar="DIR")],
    task_file: TaskFile = None,
) -> None:
    """The samples of a run as files that evalplus or lm-eval read."""
    from spa_bench.publish import export as files
    from spa_bench.runs.folder import given_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.support.console import Reporter

    folder = given_run(run)
    console = Reporter()
    for line in files.export(folder, task_of(folder, task_file), to=to, out=out):
        console.note(line)
    console.note(f"how to use it: {out / 'README.md'}")
    print(out)
