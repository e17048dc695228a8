"""The output of commands about the runs that they made: a table for each task, or rows of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spa_bench.compare.leaderboard import build_rows, by_table, from_runs, table
from spa_bench.publish.show import choices_table, ending, nothing_judged
from spa_bench.runs.folder import RunFolder
from spa_bench.support.console import Reporter


def print_summary(folders: Sequence[RunFolder], *, as_json: bool) -> int:
    """Print the metrics of `folders` on stdout. The result is the exit code: 1 where no answer of a run could be judged."""
    _print(folders, as_json=as_json)
    empty = [folder for folder in folders if nothing_judged(folder)]
    for folder in empty:
        Reporter().note(
            f"{folder.path}: every answer was refused, so nothing was judged; see why: spa-bench show {folder.path}"
        )
    return 1 if empty else 0


def _print(folders: Sequence[RunFolder], *, as_json: bool) -> None:
    rows = build_rows(from_runs(folders))
    if as_json:
        print(json.dumps([row.to_json() for row in rows], indent=1))
        return
    for mine in by_table(rows).values():
        trained = sorted({row.pairs for row in mine} - {""})
        said = [f"trained on {', '.join(trained)}"] if trained else []
        models = ", ".join(sorted({row.model for row in mine}))
        print("\n".join([f"{mine[0].title}, model {models}", *said, table(mine, style="plain")]))
    if choices := choices_table(folders):
        print(f"\n{choices}\n")
    for folder in folders:
        print(ending(folder))
