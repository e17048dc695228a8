"""The demo: six samplers on the embedded model and its tasks, in a folder of its own that is emptied before the next demo."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spa_bench.errors import UsageError
from spa_bench.publish.series import NOBODY, Listeners, Series, make_series
from spa_bench.runs import perform
from spa_bench.runs.options import JudgeOptions, RunOptions
from spa_bench.support import lock
from spa_bench.support.files import put

TASK = "mini-code"
REFERENCE = "spa-influence"
SAMPLERS = ("single", "temperature", "nucleus", "spa-random", "spa-lexical", REFERENCE)
"""What is cheap comes first, so that there is soon something to see."""
_MARK = ".spa-bench-demo"  # a file in a folder that a demo made; it says whether that demo is finished
_BEGUN, _ENDED = b"begun\n", b"ended\n"


def make_demo(
    out: Path,
    *,
    samplers: Sequence[str] = SAMPLERS,
    limit: int | None = None,
    sandbox: str | None = None,
    listeners: Listeners = NOBODY,
) -> Series:
    """Run the samplers, and write the leaderboard and a page about them. All files are in `out`, stage cache included.

    `out` is emptied first, unless it holds an unfinished demo, which is resumed. Raises UsageError for a folder that no demo
    made, and SpaBenchError for an option that no run takes; then nothing is emptied. `limit` is how many problems are drawn.
    `sandbox` None means the first that works here.
    """
    _check_folder(out)
    options = RunOptions(limit=limit, judge=JudgeOptions(sandbox=sandbox), out=out)
    for sampler in samplers:
        perform.check(sampler, TASK, options)
    reference = REFERENCE if REFERENCE in samplers else None
    with folder_of_demo(out), _stage_cache(out / ".cache"):
        return make_series(samplers, TASK, options, reference=reference, title="spa-bench demo", listeners=listeners)


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
