"""`spa-bench verify`: check every byte of a run, and with --references its numbers by other people's code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from spa_bench.cli.options import OUTPUT, Json, RunFolders, TaskFile, option

if TYPE_CHECKING:
    from spa_bench.runs.references import Comparison
    from spa_bench.runs.verify import Checked


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
    from spa_bench.runs.verify import check_run
    from spa_bench.support.console import error_line

    checked: dict[str, Checked] = {}
    unchecked = False
    for path in runs:
        one = check_run(path, references=references, task_file=task_file)
        if one.unchecked is not None:
            error_line(one.unchecked)
            unchecked = True
            continue
        checked[str(path)] = one
        if not as_json:
            print("\n".join([*(one.faults or [f"{path}: whole"]), *one.notes]))
            _print_rows(one.compared)
    if as_json:
        print(json.dumps(_plain(checked, references=references), indent=1))
    return 2 if unchecked else 1 if any(one.wrong for one in checked.values()) else 0


def _plain(checked: Mapping[str, Checked], *, references: bool) -> dict[str, object]:
    """The faults of each run, and with `references` its comparisons, as JSON."""
    if not references:
        return {path: one.faults for path, one in checked.items()}
    return {
        path: {
            "faults": one.faults,
            "references": [{**asdict(row), "reference": row.reference, "ok": row.ok} for row in one.compared],
        }
        for path, one in checked.items()
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
