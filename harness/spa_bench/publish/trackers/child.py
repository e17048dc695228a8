"""The run's side of a tracker that is in a process of its own: it sends messages, and waits only at the end.

A slow tracker misses progress. A tracker that fails, dies or does not answer in time is given up with one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_SECONDS = 60.0  # time to import the package and to reach a server
FINISH_SECONDS = 60.0  # time to send the rest after the run
LATER_SECONDS = 600.0  # the same for `spa-bench log`, where no run has to wait
_GO_SECONDS = 10.0  # time to end after the last answer
_UNANSWERED = 4  # the most unanswered progress messages; more are not sent, so that the pipe never fills


class Child:
    """The tracker `name` for the run in `folder`. `tell` gets a line with the tracker's place, and one when it fails.

    Raises OSError where the system has no room for its process.
    """

    def __init__(self, name: str, folder: Path, tell: Callable[[str], None], *, samples: bool, patience: float | None = None):
        self.name, self._folder, self._tell = name, folder, tell
        self._start_by = time.monotonic() + (patience or START_SECONDS)
        self._finish_seconds = patience or FINISH_SECONDS
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        # the import path of this process; -P leaves out the working folder, where trackers make folders of their own names
        path = os.pathsep.join(p for p in sys.path if p)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "spa_bench.publish.trackers.worker", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C reaches the run alone, which then tells the tracker how it ended
            )
        except OSError:
            self._said.close()
            raise
        self._given_up = False
        self._sent, self._answered = 0, 0
        self._changed = threading.Condition()
        self._where: str | None = None
        self._failed, self._ended, self._over = "", False, False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send({"do": "start", "folder": str(folder.resolve()), "samples": samples})

    def progress(self, stage: str, done: int, total: int, seconds: float) -> None:
        """Send the progress if the tracker is available and not too slow."""
        self._look()
        with self._changed:
            behind = self._sent - self._answered
        if self._where is not None and behind < _UNANSWERED:
            self._send({"do": "progress", "stage": stage, "done": done, "total": total, "seconds": round(seconds, 3)})

    def finish(self, state: str) -> bool:
        """Send the results and wait a limited time for the end; returns whether all went well."""
        self._send({"do": "finish", "state": state})
        until = max(time.monotonic() + self._finish_seconds, self._start_by)
        with self._changed:
            while not (self._ended or self._over or self._failed) and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.5))
        ended = self._ended
        if not ended:
            self._give_up(self._failed or "it did not answer in time")
        self.close()
        return ended

    def close(self) -> None:
        """End the process and the processes that it has started, at the latest after some seconds."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._given_up else _GO_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(_GO_SECONDS)
        if self._process.stdout:
            self._process.stdout.close()
        self._said.close()

    def _look(self) -> None:
        if self._given_up:
            return
        if self._failed:
            self._give_up(self._failed)
        elif self._where is None and time.monotonic() > self._start_by:
            self._give_up("it did not answer in time")

    def _give_up(self, reason: str) -> None:
        if not self._given_up:
            self._given_up = True
            self._tell(
                f"{self.name}: {reason}; the run is not touched by that, and can be logged later: "
                f"spa-bench log {shlex.quote(str(self._folder))} --to {self.name}"
            )
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _send(self, message: dict[str, Any]) -> None:
        if self._given_up or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):  # the process is dead: the reader reports it
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            with self._changed:
                self._sent += 1

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._changed:
                self._answered += 1
                # lost progress costs one point of a curve; only the results matter
                if answer["to"] != "progress" and "failed" in answer:
                    self._failed = self._failed or answer["failed"]  # where the start failed, its reason is kept
                elif answer["to"] == "start":
                    self._where = answer["where"]
                elif answer["to"] == "finish":
                    self._ended = True
                self._changed.notify_all()
            if answer["to"] == "start" and "where" in answer:
                self._tell(f"{self.name}: {answer['where']}")
        with self._changed:
            self._over = True
            if not self._ended and not self._failed:
                self._failed = f"its process ended{self._last_words()}"
            self._changed.notify_all()

    def _last_words(self) -> str:
        try:
            # not `seek`: the process writes at the same file position
            lines = os.pread(self._said.fileno(), 1 << 16, 0).decode(errors="replace").split("\n")
        except (OSError, ValueError):
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" ({last[:200]})" if last else ""
