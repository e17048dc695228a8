"""`spa-bench demo`: six samplers on the embedded model and its tasks; prints a row after each one, then the leaderboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spa_bench.cli.options import GRADED, OUTPUT, Limit, a_path, option

if TYPE_CHECKING:
    from spa_bench.publish.series import Board, Series
    from spa_bench.runs.folder import RunFolder


def demo(
    *,
    out: Annotated[
        Path, a_path("where runs, leaderboard and page go; only a folder that a demo made is emptied", OUTPUT, metavar="DIR")
    ] = Path("runs/demo"),
    limit: Limit = None,
    sandbox: Annotated[str | None, option("as run", GRADED, metavar="NAME")] = None,
) -> None:
    """Six samplers on the embedded model and its tasks: the leaderboard and a page of them."""
    from spa_bench.publish.demo import SAMPLERS, make_demo
    from spa_bench.publish.series import Listeners

    began = time.monotonic()
    listeners = Listeners(ran=_print_rows(), board=print_board)
    made = make_demo(out, samplers=SAMPLERS, limit=limit, sandbox=sandbox, listeners=listeners)
    print_page(out, made)
    print(f"The demo took {time.monotonic() - began:.0f} seconds.", flush=True)


def _print_rows() -> Callable[[Sequence[RunFolder]], None]:
    """A function that prints the row of a run; the first time, the heads of the table as well."""
    from spa_bench.compare.leaderboard import build_rows, from_runs
    from spa_bench.compare.leaderboard.tables import table

    begun = False

    def print_row(folders: Sequence[RunFolder]) -> None:
        nonlocal begun
        lines = table(build_rows(from_runs(folders)), style="plain").splitlines()
        print("\n".join(lines[-1:] if begun else lines), flush=True)
        begun = True

    return print_row


def print_board(board: Board) -> None:
    """Print the leaderboard, and where it is."""
    print(f"\n{board.text}\n")
    print(f"The leaderboard: {board.path}")


def print_page(out: Path, made: Series) -> None:
    """Print where the page of the runs in `out` is, or how to make it once its packages are installed."""
    page = made.page
    if page.missing:
        print(f"No page of it: {page.missing}; then: spa-bench report {out} -o {page.path.parent}")
    else:
        print(f"The page, for any browser: {page.path.resolve().as_uri()}")
