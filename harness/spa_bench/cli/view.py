"""`spa-bench view`: shows runs in the browser while they grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import WHERE, a_count, a_path, name_runs


def view(
    runs: Annotated[Path, a_path("a folder of runs", metavar="RUNS_DIR", completer=name_runs)] = Path("runs"),
    /,
    *,
    port: Annotated[
        int | None, a_count("0: any that is free (default: 7677, or a free one where that is taken)", WHERE, metavar="P")
    ] = None,
) -> None:
    """Runs in the browser, on this machine alone, while they grow."""
    from spa_bench.publish.view import server

    server.view(runs, port)
