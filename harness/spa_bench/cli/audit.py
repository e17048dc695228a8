"""`spa-bench audit`: training pairs that overlap the problems of a task."""

from __future__ import annotations

import json
from typing import Annotated

from spa_bench.cli.options import OUTPUT, WHAT, Json, option, overrides

_SHOWN = 70  # characters of what is shared


def audit(
    task: Annotated[str, option("a task, as run takes it", metavar="TASK")],
    /,
    *,
    data: Annotated[
        str, option("training pairs: a file or the hub, as run takes them (docs/how-to/data.md)", WHAT, metavar="SOURCE")
    ],
    settings: Annotated[tuple[str, ...], overrides("override a key of the task or of [data], e.g. data.unusable=drop")] = (),
    most: Annotated[int, option("how many overlaps the table shows", OUTPUT, name="--most")] = 20,
    as_json: Json = False,
) -> None:
    """Training pairs that overlap a task's problems."""
    from tabulate import tabulate

    from spa_bench.runs.audit import audit_data
    from spa_bench.support.console import Reporter

    console = Reporter()
    found = audit_data(task, data, settings, console.note)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
        return
    rows = [[one.row, one.problem, one.way, one.shared[:_SHOWN]] for one in found.overlaps[:most]]
    print(found.line())
    if rows:
        print(
            "\n" + tabulate(rows, headers=["row", "problem", "way", "shared words, or the similarity"], disable_numparse=True)
        )
    if len(found.overlaps) > most:
        console.note(f"{len(found.overlaps) - most} more; --most {len(found.overlaps)} or --json has all")
