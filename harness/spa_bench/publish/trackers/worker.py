"""The process of one tracker, which `child` starts: it reads one message a line from stdin, and answers each with a line.

In its own process a tracker cannot delay or crash the run or change its random state, and its output is not the run's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from spa_bench.errors import UsageError
from spa_bench.publish.trackers.base import Tracker, tracker_kind
from spa_bench.publish.trackers.content import begun, ended
from spa_bench.runs.folder import open_run
from spa_bench.runs.tail import Tail
from spa_bench.support.text import one_line

_LONGEST = 300  # the most characters of a reason


class Worker:
    """One run, which the message `start` begins in the tracker of that name. Raises whatever the tracker raises."""

    def __init__(self, name: str, start: dict[str, Any]):
        self._folder, self._samples = open_run(Path(start["folder"])), bool(start["samples"])
        self._records = Tail(self._folder.path / "records.jsonl")
        self._tracker: Tracker = tracker_kind(name).build(begun(self._folder))
        self.where = str(self._tracker.where)

    def do(self, message: dict[str, Any]) -> None:
        """Carry out a later message. Raises whatever the tracker raises."""
        if message["do"] == "progress":
            self._tracker.progress(self._values(message), int(message["done"]))
        else:
            self._tracker.finish(ended(self._folder, message["state"], samples=self._samples))

    def _values(self, message: dict[str, Any]) -> dict[str, float]:
        stage, n = message["stage"], self._folder.spec["n"]
        values = {f"{stage}/{name}": float(message[name]) for name in ("done", "total", "seconds")}
        if stage == "generation":
            self._records.look()
            values |= {"generation/tokens": float(self._records.tokens)}
            if n:
                values["generation/problems"] = float(self._records.complete(n))
        return values


def main(name: str) -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)  # the tracker's output must not be read as an answer
        worker: Worker | None = None
        for line in sys.stdin.buffer:
            message, answer = json.loads(line), dict[str, str]()
            try:
                if message["do"] == "start":
                    worker = Worker(name, message)
                    answer = {"where": worker.where}
                elif worker is None:
                    raise UsageError("it has not been started")
                else:
                    worker.do(message)
            except (Exception, SystemExit) as error:  # a tracker may raise anything; the answer reports it in one line
                answer = {"failed": _said(error)}
            _answer(answers, {"to": message["do"], **answer})


def _answer(stream: BinaryIO, content: dict[str, Any]) -> None:
    stream.write(json.dumps(content).encode() + b"\n")


def _said(error: BaseException) -> str:
    return one_line(error, _LONGEST) or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
