"""`spa-bench demo`: six samplers on the embedded model and its tasks; prints a row after each one, then the leaderboard."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spa_bench.cli.options import GRADED, OUTPUT, Limit, a_path, option
from spa_bench.errors import UsageError
from spa_bench.support import lock
from spa_bench.support.files import put, write_text

if TYPE_CHECKING:
    from spa_bench.runs.options import RunOptions

TASK = "mini-code"
REFERENCE = "spa-influence"
SAMPLERS = ("single", "temperature", "nucleus", "spa-random", "spa-lexical", REFERENCE)
"""What is cheap comes first, so that there is soon something to see."""
_MARK = ".spa-bench-demo"  # a file in a folder that a demo made; it says whether that demo is finished
_BEGUN, _ENDED = b"begun\n", b"ended\n"


def demo(
    *,
    out: Annotated[
        Path, a_path("where runs, leaderboard and page go; only a folder that a demo made is emptied", OUTPUT, metavar="DIR")
    ] = Path("runs/demo"),
    limit: Limit = None,
    sandbox: Annotated[str | None, option("as run", GRADED, metavar="NAME")] = None,
) -> None:
    """Six samplers on the embedded model and its tasks: the leaderboard and a page of them."""
    make_demo(out, limit=limit, sandbox=sandbox)


def make_demo(
    out: Path,
    *,
    samplers: Sequence[str] = SAMPLERS,
    limit: int | None = None,
    sandbox: str | None = None,
) -> None:
    """Run the samplers, and write the leaderboard and a page about them. All files are in `out`, stage cache included.

    `out` is emptied first, unless it holds an unfinished demo, which is resumed. Raises UsageError for a folder that no demo
    made, and SpaBenchError for an option that no run takes; then nothing is emptied. `limit` is how many problems are drawn.
    `sandbox` None means the first that works here.
    """
    from spa_bench.runs import perform
    from spa_bench.runs.options import JudgeOptions, RunOptions

    began = time.monotonic()
    _check_folder(out)
    options = RunOptions(limit=limit, judge=JudgeOptions(sandbox=sandbox), out=out)
    for sampler in samplers:
        perform.check(sampler, TASK, options)
    with folder_of_demo(out), _stage_cache(out / ".cache"):
        for place, sampler in enumerate(samplers):
            _run(sampler, options, head=place == 0)
        write_leaderboard(out, REFERENCE if REFERENCE in samplers else None)
        write_page(out, "spa-bench demo")
    print(f"The demo took {time.monotonic() - began:.0f} seconds.", flush=True)


def _run(sampler: str, options: RunOptions, *, head: bool) -> None:
    """Make one run, and print its row of the table on stdout."""
    from spa_bench.compare.leaderboard import build_rows, from_runs
    from spa_bench.compare.leaderboard.tables import table
    from spa_bench.runs import perform
    from spa_bench.support.console import Reporter

    Reporter().note(f"\n{sampler} on {TASK}")
    folders = perform.run(sampler, TASK, options)
    lines = table(build_rows(from_runs(folders)), style="plain").splitlines()
    print("\n".join(lines if head else lines[-1:]), flush=True)


def write_leaderboard(out: Path, reference: str | None) -> None:
    """Write the leaderboard of the runs in `out` into that folder, and print it."""
    from spa_bench.compare import leaderboard as board

    command = f"spa-bench leaderboard {out}" + (f" --reference {reference}" if reference else "")
    text = board.markdown(board.build_rows(board.find_results([out])), reference=reference, command=command).rstrip()
    print(f"\n{text}\n")
    write_text(out / "leaderboard.md", text + "\n")
    print(f"The leaderboard: {out / 'leaderboard.md'}")


def write_page(out: Path, title: str) -> None:
    """Write the page of the runs in `out` into that folder.

    Where the packages that draw it are missing, print how to install them.
    """
    from spa_bench.publish.report.write import ReportOptions, write_report
    from spa_bench.support.console import Reporter

    page = out / "report" / "index.html"
    try:
        write_report([out], ReportOptions(out=page.parent, title=title), Reporter().note)
    except UsageError as error:
        print(f"No page of it: {error}; then: spa-bench report {out} -o {page.parent}")
        return
    print(f"The page, for any browser: {page.resolve().as_uri()}")


def _check_folder(out: Path) -> None:
    """Raises UsageError where `out` is there and no demo made it."""
    foreign = out.is_dir() and not (out / _MARK).is_file() and any(out.iterdir())
    if out.is_symlink() or foreign or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out {out} was not made by a demo and would be emptied; remove it, or use another --out")


@contextmanager
def folder_of_demo(out: Path) -> Iterator[None]:
    """Hold `out`; it is emptied first unless it holds an unfinished demo. Raises UsageError where no demo made it."""
    _check_folder(out)
    mark = out / _MARK
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not mark.is_file():
            put(mark, _BEGUN)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or out}: {error.strerror}; use another --out") from error
    with lock.hold(out):
        if mark.read_bytes() != _BEGUN:
            _empty(out)
            put(mark, _BEGUN)
        yield
        put(mark, _ENDED)


def _empty(folder: Path) -> None:
    """Remove everything in `folder` except the mark and the lock. If it is interrupted, it can be called again."""
    for entry in folder.iterdir():
        if entry.name in (_MARK, ".lock", ".lock-owner"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextmanager
def _stage_cache(folder: Path) -> Iterator[None]:
    """Within the block the stage cache is in `folder`: a demo trains its own adapters, so that it shows every step."""
    before = os.environ.get("SPA_BENCH_CACHE")
    os.environ["SPA_BENCH_CACHE"] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["SPA_BENCH_CACHE"]
        else:
            os.environ["SPA_BENCH_CACHE"] = before
