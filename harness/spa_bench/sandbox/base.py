"""The sandbox seam: what goes in, what comes out, and the pool that both sandboxes here run on.

A pool keeps one runner (`_runner.py`) a worker alive and hands it one program at a time, as a line of JSON; the answer is
a line of JSON. A runner that dies or hangs costs the program in flight its verdict and is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from spa_bench.errors import SandboxError, UsageError
from spa_bench.types import Verdict

RUNNER = Path(__file__).with_name("_runner.py")
# All that a runner inherits. Fixed hashing makes the order of sets, and so verdicts, repeatable; threads of BLAS would
# eat the address space and do not survive a fork.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
_START_SECONDS = 60.0  # a busy machine may take its time to start an interpreter
_ANSWER_BYTES = 1 << 16
_GRACE_SECONDS = 5.0  # the runner enforces the limit itself; past this it hangs


@dataclass(frozen=True)
class Program:
    """One sample to execute."""

    source: str  # full program text: prompt and completion
    tests: str  # source that defines check(candidate)
    entry_point: str  # name in the program that is handed to check


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 3.0  # by the clock, and of CPU
    memory_mb: int = 512  # address space of each process, and resident memory of all together
    file_mb: int = 8  # the largest file, and all files together
    processes: int = 32  # at one time


@dataclass(frozen=True)
class Outcome:
    """How one program ended."""

    verdict: Verdict
    message: str = ""  # one line of at most 200 characters; empty when passed


DEFAULT_LIMITS = Limits()
Outcomes = Iterator[tuple[int, Outcome]]  # index into the programs, and how that one ended


class Sandbox(Protocol):
    """A place to run untrusted programs."""

    name: str

    def run(self, programs: Sequence[Program], *, limits: Limits = DEFAULT_LIMITS, workers: int = 2) -> Outcomes:
        """Run the programs; yields outcomes as they come, with every index exactly once.

        An outcome depends on its program alone. Nothing runs while the iterator waits to be asked, but the programs already
        handed out; closing it ends them, and so does the end of the thread that asked. Raises SandboxError when a sandbox
        does not start.
        """
        ...


class _Session:
    """A runner and at most one program in flight. It never blocks: a runner may be stopped or slow to read."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,  # a ^C reaches the harness alone, which then cleans up
        )
        self.pipes = [pipe for pipe in (self.process.stdin, self.process.stdout, self.process.stderr) if pipe]
        self.to_runner, self.from_runner, self.errors = (pipe.fileno() for pipe in self.pipes)
        for pipe in self.pipes:
            os.set_blocking(pipe.fileno(), False)
        self.index: int | None = None  # of the program in flight
        self.started = self.dead = False
        self.unsent = b""
        self.answer = b""
        self.seconds = _START_SECONDS  # that it may take
        self.deadline = time.monotonic() + self.seconds

    def hand(self, index: int, program: Program, seconds: float) -> None:
        """Give the idle runner a program."""
        self.index, self.answer, self.seconds = index, b"", seconds + _GRACE_SECONDS
        self.deadline = time.monotonic() + self.seconds
        self.unsent = json.dumps(asdict(program)).encode() + b"\n"
        self._send()

    def step(self) -> Outcome | None:
        """What became of the program in flight, or None while there is nothing to tell."""
        self._send()
        chunk = None
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self.from_runner, _ANSWER_BYTES)
        self.answer += chunk or b""
        # an answer or a death counts, however late it is seen: the caller may have been away for longer than the limit
        late = chunk is None and time.monotonic() > self.deadline
        if self.answer.endswith(b"\n"):
            if self.started:
                reply = json.loads(self.answer)
                return Outcome(Verdict(reply["verdict"]), reply["message"])
            self.started = True
        elif chunk == b"" or late or len(self.answer) > _ANSWER_BYTES:
            self.dead = True
            if not self.started:
                raise SandboxError(f"the sandbox did not start: {self._last_error() or 'it says not why'}")
            if late:
                return Outcome(Verdict.TIMEOUT, "the sandbox stopped answering and was killed")
            return Outcome(Verdict.CRASHED, "the sandbox ended while the program ran")
        return None

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a broken pipe shows when reading
            if self.unsent:
                self.unsent = self.unsent[os.write(self.to_runner, self.unsent) :]
                self.deadline = time.monotonic() + self.seconds  # it cannot start before it has all

    def _last_error(self) -> str:
        with contextlib.suppress(BlockingIOError):
            return last_line(os.read(self.errors, 1 << 16))
        return ""

    def close(self) -> None:
        """Kill the runner, and with it what it runs."""
        self.process.kill()
        self.process.wait()
        for pipe in self.pipes:
            pipe.close()


def runner_command(runner: str, limits: Limits, scratch: str) -> list[str]:
    """The command that starts the runner at that path, in this interpreter and with its packages."""
    return [sys.executable, "-sPB", runner, json.dumps(asdict(limits)), scratch]


def last_line(errors: bytes) -> str:
    """The last line of what a process wrote to standard error, where it says why it gave up."""
    return (errors.decode(errors="replace").strip().splitlines() or [""])[-1]


def execute(command: Callable[[], Sequence[str]], programs: Sequence[Program], *, limits: Limits, workers: int) -> Outcomes:
    """Run the programs in runners started with `command()`, as Sandbox.run says."""
    if workers < 1:
        raise UsageError(f"workers={workers}; at least 1 is needed")
    waiting = deque(range(len(programs)))
    sessions: list[_Session] = []
    try:
        while waiting or sessions:
            # one that is starting already has its program: no more sessions than programs to run in them
            while len(sessions) < workers and len(waiting) > sum(session.index is None for session in sessions):
                sessions.append(_Session(command()))
            _wait(sessions)
            for session in list(sessions):
                outcome, index = session.step(), session.index
                if session.started and (outcome or index is None):
                    if session.dead or not waiting:
                        sessions.remove(session)
                        session.close()
                    else:
                        following = waiting.popleft()
                        session.hand(following, programs[following], limits.seconds)
                if outcome and index is not None:
                    yield index, outcome
    finally:
        for session in sessions:
            session.close()


def _wait(sessions: Sequence[_Session]) -> None:
    """Return when a session can go on or is late."""
    with selectors.DefaultSelector() as selector:
        for session in sessions:
            selector.register(session.from_runner, selectors.EVENT_READ)
            if session.unsent:
                selector.register(session.to_runner, selectors.EVENT_WRITE)
        selector.select(max(0.0, min(session.deadline for session in sessions) - time.monotonic()) + 0.01)
