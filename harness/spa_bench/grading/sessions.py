"""Worker processes (worker.py): each has one job at a time, and those that have none end or wait for the next."""

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
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from spa_bench.errors import SandboxError
from spa_bench.sandbox.cgroup import remove_of, remove_stale

_START = "import sys; sys.path.insert(0, sys.argv[1]); from spa_bench.grading.worker import main; main(sys.argv[2])"
_PACKAGE = str(Path(__file__).resolve().parents[2])
_HANGS_SECONDS = 1800.0  # a worker watches its sandbox; this limit is for a worker that itself hangs
Answers = Generator[tuple[int, dict[str, Any]]]
Config = Callable[[str], str]


class Sessions:
    """Hands jobs to worker processes, and gives their answers.

    A worker and its sandbox take a third of a CPU second to start. Inside `kept`, those that are idle wait for the next jobs.
    """

    def __init__(self) -> None:
        self._idle: list[_Session] = []
        self._keepers = 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the block idle workers wait; at its end they end."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            while not self._keepers and self._idle:
                self._idle.pop().close()

    def answers(self, jobs: Sequence[dict[str, Any]], workers: int, sandbox: str, config: Config) -> Answers:
        """(index of a job, the answer to it) as the answers come, from at most `workers` processes.

        `config` makes the worker's configuration of its scratch folder. `sandbox` is the name for the message. While the caller
        does not ask for the next answer, only the jobs already handed out run; closing the iterator ends the workers that have
        one. Raises SandboxError when a sandbox does not start, and when a worker fails, ends or hangs.
        """
        waiting = deque(range(len(jobs)))
        busy: list[_Session] = []
        if jobs:
            remove_stale()
        try:
            for _ in range(min(workers, len(jobs))):
                busy.append(self._one(config))
                busy[-1].hand(waiting[0], jobs[waiting.popleft()])
            while busy:
                for session in _ready(busy):
                    index, answer = session.index, session.answer()
                    if answer is None:
                        continue
                    if waiting:
                        session.hand(waiting[0], jobs[waiting.popleft()])
                    else:
                        busy.remove(session)
                        self._release(session)
                    if "error" in answer:
                        raise SandboxError(f"the {sandbox} sandbox did not start: {answer['error']}")
                    if "fault" in answer:
                        raise SandboxError(f"grading itself failed, please report it: {answer['fault']}")
                    yield index, answer
        finally:
            for session in busy:
                session.close()

    def _one(self, config: Config) -> _Session:
        while self._idle:
            session = self._idle.pop()
            if session.process.poll() is None:
                return session
            session.close()
        return _Session(config)

    def _release(self, session: _Session) -> None:
        if self._keepers:
            self._idle.append(session)
        else:
            session.close()


class _Session:
    """A worker and the job it has. Never blocks: a worker may be slow to read."""

    def __init__(self, config: Config) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="spa-bench-", ignore_cleanup_errors=True)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-sPc", _START, _PACKAGE, config(self._scratch.name)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
                start_new_session=True,  # Ctrl-C reaches the harness alone, which then cleans up
            )
        except BaseException:
            self._scratch.cleanup()
            raise
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
        self._scratch.cleanup()


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
