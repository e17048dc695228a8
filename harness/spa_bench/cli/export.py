"""`spa-bench export`: runs as files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from spa_bench.cli.options import OUTPUT, RunFolders, TaskFile, a_path, option

To = Literal["evalplus", "lm-eval", "lm-eval-results", "inspect", "every-eval-ever", "noveltybench", "parquet", "hub"]


def export(
    runs: RunFolders,
    /,
    *,
    to: Annotated[To, option("the format of the files (docs/how-to/export.md)", OUTPUT)],
    out: Annotated[Path, a_path("a new or empty folder, or an earlier export", OUTPUT, metavar="DIR")],
    license: Annotated[  # noqa: A002  # the option is --license
        str | None, option("of a dataset on the hub: apache-2.0, cc-by-4.0, ... (default: unknown)", OUTPUT, metavar="ID")
    ] = None,
    organization: Annotated[
        str | None, option("who measured, for every-eval-ever (default: unknown)", OUTPUT, metavar="NAME")
    ] = None,
    task_file: TaskFile = None,
) -> None:
    """Runs as files that other tools read."""
    from spa_bench.publish import export as files
    from spa_bench.runs.folder import given_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.support.console import Reporter

    folders = [given_run(run) for run in runs]
    console = Reporter()
    said = files.Said(license=license, organization=organization)
    for line in files.export_runs([(f, task_of(f, task_file)) for f in folders], to=to, out=out, said=said):
        console.note(line)
    console.note(f"how to use it: {out / 'README.md'}")
    print(out)
