"""The output that a user sees during a run: a progress bar on a terminal, plain lines in a log. All of it goes to stderr."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from spa_bench.support.text import one_line, visible

_LINE_SECONDS = 60.0  # the least time between two lines of a stage in a log


class Reporter:
    """Reports stages and keeps their times: `seconds` maps a stage to its duration in seconds."""

    def __init__(self, *, quiet: bool = False):
        self._console = RichConsole(stderr=True, highlight=False, emoji=False)
        self._quiet = quiet
        self._bars = self._console.is_terminal and not quiet
        self.seconds: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Print one line for the user."""
        if not self._quiet:
            self._console.print(visible(text), markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Time and show a named piece of work; the caller reports progress by calling the value with (done, total)."""
        began = time.monotonic()
        try:
            if self._bars:
                columns = (
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TimeRemainingColumn(),
                )
                with Progress(*columns, console=self._console, transient=True) as bar:
                    task = bar.add_task(name, total=None)
                    yield lambda done, total: bar.update(task, completed=done, total=total)
            else:
                yield self._lines(name, began)
        finally:
            took = time.monotonic() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + took
        self.note(f"{name}: {took:.1f} s")

    def _lines(self, name: str, began: float) -> Callable[[int, int], None]:
        """A progress function for a log, which prints a line now and then."""
        said = began

        def report(done: int, total: int) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= _LINE_SECONDS:
                said = now
                self.note(f"{name}: {done} of {total}, {now - began:.0f} s")

        return report


def speakable() -> None:
    """Let stdout and stderr print `?` for a character that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, TextIOWrapper):
            continue  # a stand-in for the stream, in a notebook or a test
        whole = stream.encoding.lower() in {"utf-8", "utf8"}
        if stream.errors == "strict" or (stream.errors == "surrogateescape" and not whole):
            stream.reconfigure(errors="replace")


class _Outliving(FileIO):
    """A pipe or socket; once its reader has ended, what is written to it is lost and nothing fails."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


class _Messages(_Outliving):
    """Where messages go: those that cannot be written, to a log on a full disk, are lost and nothing fails."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def keep_exit_code() -> None:
    """Let a command go on to its own exit code where its output or its messages cannot be written.

    The reader of a pipe may end first (`check ... | head -1`), and the disk of a log may be full: neither is a red check.
    What the command prints on stdout is another matter: there a full disk is an error.
    """
    sys.stdout, sys.stderr = _outliving(sys.stdout, _Outliving), _outliving(sys.stderr, _Messages)


def _outliving(stream: TextIO, kind: type[_Outliving]) -> TextIO:
    """`stream`, or one of `kind` in its place: of a pipe or a socket, and of messages wherever they go but to a terminal."""
    if not isinstance(stream, TextIOWrapper):
        return stream
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # a stand-in for the stream, in a test
        return stream
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (kind is _Messages and not stream.isatty())):
        return stream
    pipe = BufferedWriter(kind(stream.fileno(), "w", closefd=False))
    return TextIOWrapper(
        pipe,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def error_line(message: object) -> None:
    """Print `spa-bench: message` on stderr, on one line."""
    print(_said(message), file=sys.stderr)


def handler_line(message: object) -> None:
    """`error_line` for what handles a signal: it may stand above a write to stderr, which takes no other one within it."""
    try:
        error_line(message)
    except RuntimeError:  # a reentrant call
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), f"{_said(message)}\n".encode())


def _said(message: object) -> str:
    return "spa-bench: " + visible(one_line(message))
