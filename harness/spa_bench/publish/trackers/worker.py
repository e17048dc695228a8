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
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.tail import Tail
from spa_bench.support.text import one_line

_LONGEST = 300  # the most characters of a reason


class Worker:
    """Carries out messages with the tracker of that name."""

    def __init__(self, name: str):
        self._name = name
        self._tracker: Tracker | None = None
        self._folder: RunFolder | None = None
        self._records: Tail | None = None
        self._samples = False

    def do(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out a message; returns `where` for start, {} for others. Raises whatever the tracker raises."""
        if message["do"] == "start":
            self._folder, self._samples = open_run(Path(message["folder"])), bool(message["samples"])
            self._records = Tail(self._folder.path / "records.jsonl")
            tracker = tracker_kind(self._name).build()
            where = str(tracker.start(begun(self._folder)))
            self._tracker = tracker
            return {"where": where}
        if self._tracker is None or self._folder is None or self._records is None:
            raise UsageError("it has not been started")
        if message["do"] == "progress":
            self._tracker.progress(self._values(message, self._folder, self._records), int(message["done"]))
        else:
            self._tracker.finish(ended(self._folder, message["state"], samples=self._samples))
        return {}

    def _values(self, message: dict[str, Any], folder: RunFolder, records: Tail) -> dict[str, float]:
        stage = message["stage"]
        values = {f"{stage}/{name}": float(message[name]) for name in ("done", "total", "seconds")}
        if stage == "generation":
            records.look()
            values |= {"generation/tokens": float(records.tokens)}
            if folder.spec["n"]:
                values["generation/problems"] = float(records.complete(folder.spec["n"]))
        return values


def main(name: str) -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)  # the tracker's output must not be read as an answer
        worker = Worker(name)
        for line in sys.stdin.buffer:
            message = json.loads(line)
            try:
                answer = worker.do(message)
            except (Exception, SystemExit) as error:  # a tracker may raise anything; the answer reports it in one line
                answer = {"failed": _said(error)}
            _answer(answers, {"to": message["do"], **answer})


def _answer(stream: BinaryIO, content: dict[str, Any]) -> None:
    stream.write(json.dumps(content).encode() + b"\n")


def _said(error: BaseException) -> str:
    return one_line(error, _LONGEST) or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
