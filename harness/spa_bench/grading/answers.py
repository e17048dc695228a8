"""A suite in a worker's memory, and what a program answers to it, compared with what is expected as it arrives."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spa_bench.grading.base import Grading, one_line
from spa_bench.grading.compare import is_floats
from spa_bench.grading.ends import OUTPUT_FACTOR, OUTPUT_ROOM, TIME_FACTOR, TOTAL_SECONDS
from spa_bench.grading.frames import frames
from spa_bench.grading.suites import FrameFile, SuiteFiles
from spa_bench.sandbox.inside import wire

TOO_LONG = b"L"  # in place of a frame's code: an answer whose bytes were not read
Frame = tuple[int, bytes, bytes]  # test, code of inside/calls.py (or TOO_LONG with the megabytes as text), bytes


class Suite:
    """One suite, loaded."""

    def __init__(self, name: str, job: dict[str, Any], place: dict[str, Any]):
        """Load the suite of `place`, or its tests `from` to `to` where it has these. Raises ValueError or OSError."""
        files = SuiteFiles(Path(job["cache"]), place["key"])
        self.key, self.oracle, self.atol = name, place["oracle"], place["atol"]
        self._inputs, self._expected = FrameFile(files.inputs), FrameFile(files.expected)
        times = files.read_times()
        if not len(self._inputs) == len(self._expected) == len(times):
            raise ValueError(f"{files.inputs} and its expected outputs differ in length")
        # where the expected value is too large to keep, evalplus passes no program; here such a test is left out
        kept = [i for i in range(len(times)) if self._expected.size(i) or job["grading"] == Grading.EVALPLUS]
        self._tests = [i for i in kept if place.get("from", 0) <= i < place.get("to", len(times))]
        self.limits = [max(job["seconds"], TIME_FACTOR * times[i]) for i in self._tests]
        self._first_floats: int | None = None
        self._end = self._comparable()

    def _comparable(self) -> int:
        """Where in the file the expected frames end whose bytes a right program sends, those of the first tests."""
        first = last = self._tests[0] if self._tests else 0
        while self.oracle == "equal" and last - first < len(self) and self._tests[last - first] == last:
            if self._expected.is_odd(last):
                break
            last += 1
        return self._expected.start(last)

    def seconds(self) -> float:
        """CPU time of all calls together."""
        return float(min(TOTAL_SECONDS, sum(self.limits)) + 1)

    def __len__(self) -> int:
        return len(self._tests)

    def arguments(self, index: int) -> bytes:
        """Encoded arguments of a test."""
        return self._inputs[self._tests[index]]

    def size(self, index: int) -> int:
        """Bytes of `expected`."""
        return self._expected.size(self._tests[index])

    def expected(self, index: int) -> bytes:
        """What the reference returned in a test, encoded; empty where that is too large to keep."""
        return self._expected[self._tests[index]]

    def is_expected(self, index: int, data: bytes) -> bool:
        """Whether these bytes are those of the expected value; other bytes may still be a right answer."""
        return self.oracle == "equal" and self._expected.equals(self._tests[index], data)

    def place(self, index: int) -> int:
        """Where the frame of a test begins among those that can be compared byte by byte; -1 where it is none of them."""
        start = self._expected.start(self._tests[index]) if index < len(self) else self._end
        return start if start < self._end else -1

    def goes_on(self, place: int, data: bytes) -> bool:
        """Whether these bytes are those of the expected frames from `place` on."""
        return place + len(data) <= self._end and self._expected.goes_on(place, data)

    def before(self, place: int) -> int:
        """The number of tests whose expected frames end at `place` or before it."""
        return self._expected.index(place) - self._tests[0]

    def begun(self, place: int) -> bytes:
        """The bytes before `place` of the expected frame that it lies in."""
        return self._expected.piece(self._expected.start(self._expected.index(place)), place)

    def floats_before(self, index: int) -> bool:
        """Whether an earlier test expects floats."""
        if self._first_floats is None:
            candidates = (i for i in range(len(self)) if b"g" in self.expected(i)[:6])
            self._first_floats = next((i for i in candidates if is_floats(wire.decode(self.expected(i)))), len(self))
        return self._first_floats < index

    def call_text(self, index: int) -> str:
        """The arguments of a call, shortened."""
        if index >= len(self):
            return ""
        return one_line(", ".join(map(wire.short, wire.decode(self.arguments(index)))))


class Answers:
    """The answers of a program to a suite, read as their bytes arrive."""

    def __init__(self, suite: Suite):
        self._suite = suite
        self._place = suite.place(0)  # while all bytes are the expected ones: where they go on in the file; else -1
        self._buffer = bytearray()  # of a frame that is not whole
        self._read = 0  # frames

    def done(self) -> int:
        """The number of tests that are answered, rightly or not."""
        return self._read if self._place < 0 else self._suite.before(self._place)

    def take(self, data: bytes) -> Iterator[Frame]:
        """The frames that end in `data`; none where all its bytes are the expected ones, as they mostly are."""
        if self._place >= 0:
            if self._suite.goes_on(self._place, data):
                self._place += len(data)
                return
            self._read, self._buffer = self._suite.before(self._place), bytearray(self._suite.begun(self._place))
            self._place = -1
        self._buffer += data
        at = 0
        for code, _, start, stop in frames(self._buffer):
            if self._read == len(self._suite):
                at = len(self._buffer)  # whatever a program sends beyond its answers
                break
            if (size := stop - start) > OUTPUT_FACTOR * self._suite.size(self._read) + OUTPUT_ROOM:
                yield self._read, TOO_LONG, str(size >> 20).encode()
                return
            if stop > len(self._buffer):
                break
            yield self._read, code, bytes(self._buffer[start:stop])
            self._read, at = self._read + 1, stop
        del self._buffer[:at]
        if not self._buffer:
            self._place = self._suite.place(self._read)

    def show(self, data: bytes) -> Iterator[Frame]:
        """The frames of whole `data` that would come next, as `take` gives them, without taking them."""
        ahead = copy.copy(self)
        ahead._buffer = bytearray(self._buffer)
        return ahead.take(data)
