"""The property that every fuzz test asserts: a command works, or ends with one clear line and exit code 2.

No traceback, no hang, no write outside the folders it was given, no process, no network, no pickle: `Bench.call` runs a command
in this process and raises AssertionError where one of these does not hold.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, given, settings

from spa_bench.cli import main as cli

SECONDS = 60  # by the clock; half of it by the processor's, so that a busy machine is no hang
MOST_WAITS = 5  # times SECONDS for a command that does not compute
ROOM = 4 << 30  # bytes of address space that one command may add
EXAMPLES = int(os.environ.get("SPA_BENCH_FUZZ_EXAMPLES", "0"))  # of each test; 0: few, and the same ones each time
CODES = (0, 1, 2)  # 1: verify, check, leaderboard --submit or doctor found something
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_BAD = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork", "pickle.find_class", "socket.connect"}
_MOVES = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1}


_SETTINGS = settings(
    max_examples=EXAMPLES or 6,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=bool(EXAMPLES),
    suppress_health_check=list(HealthCheck),
)


def fuzzed(**strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`hypothesis.given` with few examples that are the same each time, or EXAMPLES random ones for `make fuzz`."""
    return lambda test: _SETTINGS(given(**strategies)(test))


class Hangs(BaseException):
    """A command took more than SECONDS of which it computed half, or MOST_WAITS times as many in which it did not."""


@dataclass
class _Watch:
    """What the audit hook saw while it was on."""

    allowed: tuple[Path, ...] = ()
    on: bool = False
    seen: list[str] = field(default_factory=list)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "subprocess.Popen" and arguments[0] == "git":
            return  # the revision of our own code
        if event in _BAD:
            self.seen.append(f"{event} {arguments[:1]!r}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self._place(event, arguments[0])
        elif event in _MOVES:
            for place in arguments[: _MOVES[event]]:
                self._place(event, place)

    def _place(self, event: str, place: object) -> None:
        if isinstance(place, int) or place is None:
            return
        where = os.path.realpath(os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else str(place))
        if where == "/dev/null" or where.endswith(".pyc") or ".pyc." in where or "__pycache__" in where:
            return
        if not any(Path(where).is_relative_to(one) for one in self.allowed):
            self.seen.append(f"{event} {where}")


_WATCH = _Watch()
sys.addaudithook(_WATCH.hook)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Bench:
    """Runs commands that may write into `allowed` alone."""

    def __init__(self, *allowed: Path):
        self._allowed = tuple(Path(os.path.realpath(one)) for one in allowed)

    def call(self, *words: object, codes: Sequence[int] = CODES, stdin: bytes = b"") -> Ended:
        """Run one command. Raises AssertionError where the property does not hold."""
        argv = [str(word) for word in words]
        out, err = io.StringIO(), io.StringIO()
        _WATCH.seen.clear()
        _WATCH.allowed = self._allowed
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _stdin(stdin), _limits(argv), _quiet():
            _WATCH.on = True
            try:
                code: object = cli.main(argv)
            except SystemExit as end:
                code = end.code
            finally:
                _WATCH.on = False
        ended = Ended(code if isinstance(code, int) else 0 if code is None else 1, out.getvalue(), err.getvalue())
        _check(argv, ended, codes)
        assert not _WATCH.seen, f"{argv}: {_WATCH.seen}"
        return ended


def _check(argv: Sequence[str], ended: Ended, codes: Sequence[int]) -> None:
    assert ended.code in codes, f"{argv}: exit code {ended.code}: {ended.err}"
    assert "Traceback" not in ended.err, f"{argv}: {ended.err}"
    for text in (ended.out, ended.err):
        assert not (odd := {c for c in text if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160}), (
            f"{argv}: {odd} in {text!r}"
        )
    lines = [line for line in ended.err.split("\n") if line.startswith("spa-bench: ")]
    if ended.code == 2:
        assert lines, f"{argv}: exit code 2 without a line: {ended.err!r}"
        assert argv[:1] == ["verify"] or len(lines) == 1, f"{argv}: {lines}"
        assert ended.err.endswith(lines[-1] + "\n"), f"{argv}: {ended.err!r}"
        assert len(lines[-1]) <= 4000, f"{argv}: a line of {len(lines[-1])} characters: {lines[-1][:400]}"
        assert len(lines[-1]) > len("spa-bench: ") + 5, f"{argv}: {lines}"
    else:
        assert not lines, f"{argv}: exit code {ended.code} and {lines}"


@contextlib.contextmanager
def _limits(argv: Sequence[str]) -> Iterator[None]:
    """A clock that ends a hang, and a limit on memory that makes a huge allocation fail.

    A report has no limit on memory: what draws its pictures reserves more address space than any machine has.
    """

    began, rounds = time.process_time(), itertools.count(1)

    def late(number: int, frame: FrameType | None) -> None:
        if time.process_time() - began < SECONDS / 2 and next(rounds) < MOST_WAITS:  # a busy machine, or it sleeps
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            return
        raise Hangs(f"more than {SECONDS} s, at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else "")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if argv[:1] != ["report"]:
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Warnings are printed, as they are for a user; the tests' filter makes errors of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _stdin(data: bytes) -> Iterator[None]:
    old, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = old
