"""Worker processes (worker.py) that each have one job at a time, and their answers as they come."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spa_bench.errors import SandboxError
from spa_bench.sandbox.cgroup import remove_of, remove_stale

_START = "import sys; sys.path.insert(0, sys.argv[1]); from spa_bench.grading.worker import main; main(sys.argv[2])"
_PACKAGE = str(Path(__file__).resolve().parents[2])
_HANGS_SECONDS = 1800.0  # a worker watches its sandbox; this limit is for a worker that itself hangs


def answers(
    jobs: Sequence[dict[str, Any]], workers: int, sandbox: str, config: Callable[[str], str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index of a job, the answer to it) as the answers come, from at most `workers` processes.

    `config` makes the worker's configuration of its scratch folder. `sandbox` is the name for the message. While the caller
    does not ask for the next answer, only the jobs already handed out run; closing the iterator ends the workers. Raises
    SandboxError when a sandbox does not start, and when a worker fails, ends or hangs.
    """
    waiting = deque(range(len(jobs)))
    sessions: list[_Session] = []
    with contextlib.ExitStack() as stack:
        if jobs:
            remove_stale()
        try:
            for _ in range(min(workers, len(jobs))):
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="spa-bench-", ignore_cleanup_errors=True))
                sessions.append(_Session(config(scratch)))
                sessions[-1].hand(waiting[0], jobs[waiting.popleft()])
            while sessions:
                for session in _ready(sessions):
                    index, answer = session.index, session.answer()
                    if answer is None:
                        continue
                    if waiting:
                        session.hand(waiting[0], jobs[waiting.popleft()])
                    else:
                        sessions.remove(session)
                        session.close()
                    if "error" in answer:
                        raise SandboxError(f"the {sandbox} sandbox did not start: {answer['error']}")
                    if "fault" in answer:
                        raise SandboxError(f"grading itself failed, please report it: {answer['fault']}")
                    yield index, answer
        finally:
            for session in sessions:
                session.close()


class _Session:
    """A worker and the program it has. Never blocks: a worker may be slow to read."""

    def __init__(self, config: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-sPc", _START, _PACKAGE, config],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            start_new_session=True,  # Ctrl-C reaches the harness alone, which then cleans up
        )
        assert self.process.stdin
        assert self.process.stdout
        self.to_worker, self.from_worker = self.process.stdin, self.process.stdout
        for pipe in (self.to_worker, self.from_worker):
            os.set_blocking(pipe.fileno(), False)
        self.index, self.unsent, self._answer = -1, b"", b""

    def hand(self, index: int, job: dict[str, Any]) -> None:
        """Give the idle worker a job."""
        self.index, self._answer = index, b""
        self.unsent = json.dumps(job).encode() + b"\n"
        self.deadline = time.monotonic() + _HANGS_SECONDS
        self.send()

    def send(self) -> None:
        """Send as many bytes as the pipe takes."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a broken pipe is reported by the next read
            while self.unsent:
                self.unsent = self.unsent[os.write(self.to_worker.fileno(), self.unsent) :]

    def answer(self) -> dict[str, Any] | None:
        """The answer to the current job, or None while there is none. Raises SandboxError when the worker is gone."""
        self.send()
        chunk = None
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self.from_worker.fileno(), 1 << 16)
        if chunk == b"":
            raise SandboxError(f"a grading process ended (status {self.process.wait()}); run the same command again")
        if chunk is None and time.monotonic() > self.deadline:
            raise SandboxError(f"a grading process has not answered for {_HANGS_SECONDS:g} s; run the same command again")
        self._answer += chunk or b""
        if not self._answer.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(self._answer)
        return answer

    def close(self) -> None:
        """End the worker, and with it its sandbox."""
        self.to_worker.close()
        try:
            self.process.wait(0.05)  # an idle worker removes its cgroup when its input ends
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        remove_of(self.process.pid)
        self.from_worker.close()


def _ready(sessions: Sequence[_Session]) -> list[_Session]:
    """The sessions that have an answer to read, or are late."""
    with selectors.DefaultSelector() as selector:
        for session in sessions:
            selector.register(session.from_worker, selectors.EVENT_READ, session)
            if session.unsent:
                selector.register(session.to_worker, selectors.EVENT_WRITE, session)
        wait = max(0.0, min(session.deadline for session in sessions) - time.monotonic()) + 0.01
        readable = [entry.data for entry, _ in selector.select(wait)]
    return list(dict.fromkeys([*readable, *(s for s in sessions if time.monotonic() > s.deadline)]))
