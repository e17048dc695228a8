"""The worker's end of the channel to a zygote: start it, send it commands, read its answers."""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import select
import shutil
import struct
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from spa_bench.sandbox.base import ENVIRONMENT, last_line
from spa_bench.sandbox.cgroup import Cgroup, make

_START_SECONDS = 60.0
_LONGEST = 20  # as inside/idle.py has it
_GRACE_SECONDS = 10.0  # the zygote enforces the limits itself; later than this it hangs
_PIPE = 1 << 20  # bytes that a pipe is to hold; the kernel may allow fewer
_HEAD = struct.Struct("<sI")  # of an answer: its kind and its size
_KEPT_SUITES = 4  # as inside/zygote.py keeps

_ENDED = "the sandbox ended"


class SandboxGone(Exception):
    """The sandbox ended or hangs."""


class _Silent(SandboxGone):
    """It ended while it started, and said nothing."""


class Zygote:
    """The process inside the sandbox, started when it is first needed and again after it is gone."""

    def __init__(self, config: dict[str, Any]):
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup = Cgroup(())
        self._suites: set[str] = set()
        self._buffer, self._used = b"", 0  # what was read, and how much of it was handed on

    def start(self) -> None:
        """Start the process, a second time where it ended without a word, as one that was killed does.

        Raises SandboxGone with the reason when it does not start.
        """
        if self._process:
            return
        try:
            self._begin()
        except _Silent:
            self._begin()

    def _begin(self) -> None:
        limits = self._config["limits"]
        if self._config["cgroup"]:
            room = limits["memory_mb"] + limits["file_mb"] + 512  # the zygote, the suites it holds, and a child
            self._cgroup = make(str(time.monotonic_ns()), memory_mb=room, processes=3 * limits["threads"])
        self._process = subprocess.Popen(
            self._cgroup.wrap(self._config["command"]),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if self._config["inherit_environment"] else ENVIRONMENT,
            cwd="/",
        )
        self._suites, self._buffer, self._used = set(), b"", 0
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)  # type: ignore[arg-type]
        try:
            kind, _ = self.receive(time.monotonic() + _START_SECONDS)
        except SandboxGone as gone:
            reason = last_line(os.read(self._process.stderr.fileno(), 1 << 16)) if self._process.stderr else ""
            self.close()
            if reason:
                raise SandboxGone(reason) from None
            raise (_Silent if str(gone) == _ENDED else SandboxGone)("it says not why") from None
        assert kind == b"H"

    def _running(self) -> subprocess.Popen[bytes]:
        """The process. Raises SandboxGone where there is none."""
        if self._process is None:
            raise SandboxGone(_ENDED)
        return self._process

    def send(self, header: dict[str, Any], *payloads: dict[str, Any]) -> None:
        """Send a command, and for each of its processes the payload that only this process may see."""
        parts = [marshal.dumps(payload, 2) for payload in payloads]
        message = marshal.dumps({**header, "sizes": [len(part) for part in parts]}, 2)
        stream = self._running().stdin
        assert stream
        data = b"".join([struct.pack("<I", len(message)), message, *parts])
        try:
            while data:
                data = data[os.write(stream.fileno(), data) :]
        except BrokenPipeError:
            raise SandboxGone(_ENDED) from None

    def send_suite(self, name: str, inputs: Iterable[bytes], limits: list[float]) -> None:
        """Send a suite, unless the zygote has it already."""
        if name not in self._suites:
            self.send({"do": "suite", "suite": name, "frames": list(inputs), "limits": limits})
            if len(self._suites) >= _KEPT_SUITES:
                self._suites.clear()  # it keeps this many; tracking which ones is not worth the effort
            self._suites.add(name)

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        """The next answer. Raises SandboxGone when there is none by the deadline."""
        kind, size = self._head(deadline)
        parts = list(self._pieces(size, deadline))
        return kind, parts[0] if len(parts) == 1 else b"".join(parts)

    def _head(self, deadline: float) -> tuple[bytes, int]:
        """(kind, size) of the next answer."""
        head = b"".join(self._pieces(_HEAD.size, deadline))
        kind, size = _HEAD.unpack(head)
        return kind, size

    def _pieces(self, size: int, deadline: float) -> Iterator[bytes]:
        """So many bytes, as they come."""
        stream = self._running().stdout
        assert stream
        source = stream.fileno()
        while size:
            if self._used == len(self._buffer):
                ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
                self._buffer, self._used = os.read(source, _PIPE) if ready else b"", 0
                if not self._buffer:
                    raise SandboxGone("the sandbox stopped answering" if not ready else _ENDED)
            piece = self._buffer[self._used : self._used + size]
            self._used += len(piece)
            size -= len(piece)
            yield piece

    def answers(self, seconds: float) -> Generator[tuple[bytes, bytes], None, None]:
        """The answers of the current job, its end last and the rest in pieces; closing the generator early stops the job.

        Raises SandboxGone.
        """
        deadline = time.monotonic() + _LONGEST * seconds + 5 + _GRACE_SECONDS
        kind, size = b"", 0
        try:
            while kind != b"E":
                kind, size = self._head(deadline)
                if kind != b"D":
                    yield kind, b"".join(self._pieces(size, deadline))
                else:
                    for piece in self._pieces(size, deadline):
                        size -= len(piece)
                        yield kind, piece
        except GeneratorExit:
            if kind == b"E":
                return
            for _ in self._pieces(size if kind == b"D" else 0, time.monotonic() + _GRACE_SECONDS):
                pass  # what is left of the answer in hand
            self.send({"do": "stop"})
            while self.receive(time.monotonic() + _GRACE_SECONDS)[0] != b"E":
                pass

    def memory_kills(self) -> int:
        """Processes that the kernel has killed for memory so far."""
        return self._cgroup.out_of_memory()

    def close(self) -> None:
        """Kill the zygote, and with it the programs that it runs."""
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe:
                    pipe.close()
            self._process = None
        self._cgroup.remove()
        self._cgroup = Cgroup(())
        if self._config["scratch"]:
            for entry in os.listdir(self._config["scratch"]):
                shutil.rmtree(os.path.join(self._config["scratch"], entry), ignore_errors=True)
