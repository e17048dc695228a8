"""Runs of several samplers on one task, then the leaderboard and the page about them: what `demo` and `real` make."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.compare import leaderboard
from spa_bench.errors import UsageError
from spa_bench.publish.report.write import ReportOptions, write_report
from spa_bench.runs import perform
from spa_bench.runs.find import run_paths
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.options import RunOptions
from spa_bench.support.console import Reporter
from spa_bench.support.files import write_text


@dataclass(frozen=True, kw_only=True)
class Board:
    """The leaderboard of a series."""

    text: str  # Markdown
    path: Path  # of the file with this text


@dataclass(frozen=True, kw_only=True)
class Page:
    """The page of a series."""

    path: Path
    missing: str = ""  # why it could not be made, in a sentence; "": it is at `path`


@dataclass(frozen=True, kw_only=True)
class Series:
    """What was made."""

    options: RunOptions  # of each run
    folders: tuple[RunFolder, ...]  # in the order of the samplers
    board: Board
    page: Page


def _ignore(_: object) -> None:
    """Does nothing."""


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """Functions that are called with each part as soon as it is made."""

    ran: Callable[[Sequence[RunFolder]], None] = _ignore
    board: Callable[[Board], None] = _ignore


NOBODY = Listeners()
"""The listeners of a caller that waits for the result."""


def make_series(
    samplers: Sequence[str],
    task: str,
    options: RunOptions,
    *,
    reference: str | None,
    title: str,
    remark: str = "",
    listeners: Listeners = NOBODY,
) -> Series:
    """Run each sampler with `options`, and write leaderboard and page of these runs into the folder `options.out`.

    `reference` is the row that the leaderboard compares others with; `title` is the page's. `remark` ends the line on stderr
    that begins a run. Raises as `perform.run`.
    """
    folders: list[RunFolder] = []
    for sampler in samplers:
        Reporter().note(f"\n{sampler} on {task}{remark}")
        made = perform.run(sampler, task, options)
        listeners.ran(made)
        folders += made
    places = _places(options.out, folders)
    board = write_board(options.out, places, reference)
    listeners.board(board)
    return Series(options=options, folders=tuple(folders), board=board, page=write_page(options.out, places, title))


def _places(out: Path, folders: Sequence[RunFolder]) -> list[Path]:
    """What holds these runs and no others: `out`, or each of `folders` where `out` has runs of other options too."""
    mine = dict.fromkeys(folder.path for folder in folders)
    return [out] if {path.resolve() for path in run_paths(out)} == {path.resolve() for path in mine} else [*mine]


def write_board(out: Path, runs: Sequence[Path], reference: str | None) -> Board:
    """Write the leaderboard of `runs` into the folder `out`."""
    command = shlex.join(["spa-bench", "leaderboard", *map(str, runs), *(["--reference", reference] if reference else [])])
    rows = leaderboard.build_rows(leaderboard.find_results(runs))
    text = leaderboard.markdown(rows, reference=reference, command=command).rstrip()
    write_text(out / "leaderboard.md", text + "\n")
    return Board(text=text, path=out / "leaderboard.md")


def write_page(out: Path, runs: Sequence[Path], title: str) -> Page:
    """Write the page of `runs` into the folder `out`, unless the packages that draw it are missing."""
    page = out / "report" / "index.html"
    try:
        write_report(runs, ReportOptions(out=page.parent, title=title), Reporter().note)
    except UsageError as error:
        return Page(path=page, missing=str(error))
    return Page(path=page)
