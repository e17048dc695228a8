"""Suites of calls on disk: their inputs, what the reference returns, and how long it takes on this machine.

A cache folder holds for each suite `KEY.inputs` and `KEY.expected` (frames, below) and `KEY.MACHINE.json` (CPU seconds a
call). No file is a pickle, and a broken file is rewritten. The key covers inputs, reference, oracle and Python.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import platform
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spa_bench.sandbox.inside import calls, wire
from spa_bench.types import CallSuite

FORMAT = "values 3"  # of wire.py
_MAGIC = b"spa-bench frames 2\n"
_KEYS = frozenset({"sizes", "odd", "crc32"})  # of a file's head


class FrameFile:
    """A list of byte strings in one file: a line of magic, a line of JSON, the frames.

    A frame has the head that inside/calls.py gives a value that was returned, so that what a program sends can be compared
    with many frames at once. The JSON has the sizes, the checksum and the places of `odd` frames: values that do not equal
    themselves (NaN) or are not plain.
    """

    def __init__(self, path: Path):
        """Read the file. Raises ValueError where it is broken, FileNotFoundError where it is missing."""
        self._data = path.read_bytes()
        begin, head = _read_head(path, self._data)
        self._starts = [begin]
        for size in head["sizes"]:
            self._starts.append(self._starts[-1] + calls.FRAME.size + size)
        self._odd = frozenset(head["odd"])
        whole = self._starts[-1] == len(self._data) and zlib.crc32(memoryview(self._data)[begin:]) == head["crc32"]
        if not whole:
            raise ValueError(f"{path} is broken")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._data[self._starts[index] + calls.FRAME.size : self._starts[index + 1]]

    def start(self, index: int) -> int:
        """Where a frame begins in the file; of the number of frames, where the last one ends."""
        return self._starts[index]

    def index(self, place: int) -> int:
        """The frame that the byte at `place` belongs to."""
        return bisect.bisect_right(self._starts, place) - 1

    def piece(self, start: int, stop: int) -> bytes:
        """Bytes of the file."""
        return self._data[start:stop]

    def goes_on(self, place: int, data: bytes) -> bool:
        """Whether the file has these bytes at `place`."""
        return self._data.startswith(data, place)

    def is_odd(self, index: int) -> bool:
        """Whether equal bytes do not mean equal values."""
        return index in self._odd

    def equals(self, index: int, data: bytes) -> bool:
        """Whether `data` is this frame, and equal bytes mean equal values."""
        same = self.size(index) == len(data) and self.goes_on(self._starts[index] + calls.FRAME.size, data)
        return same and index not in self._odd

    def size(self, index: int) -> int:
        """Bytes of one frame, without its head."""
        return self._starts[index + 1] - self._starts[index] - calls.FRAME.size


def _read_head(path: Path, data: bytes) -> tuple[int, dict[str, Any]]:
    """(where the first frame begins, the line of JSON) of a file that begins with `data`. Raises ValueError."""
    end = data.find(b"\n", len(_MAGIC))
    if not data.startswith(_MAGIC) or end < 0:
        raise ValueError(f"{path} holds no frames")
    head = json.loads(data[len(_MAGIC) : end])
    numbers = [*head["sizes"], *head["odd"], head["crc32"]] if isinstance(head, dict) and head.keys() >= _KEYS else [None]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{path} is broken: its head is {head!r:.80}")
    return end + 1, head


def count_frames(path: Path) -> int:
    """The number of frames that a file should have, from its head and its size alone.

    Raises ValueError where they do not fit together, FileNotFoundError where the file is missing.
    """
    with path.open("rb") as stream:
        begin, head = _read_head(path, stream.readline() + stream.readline())
        if begin + sum(head["sizes"]) + calls.FRAME.size * len(head["sizes"]) != os.fstat(stream.fileno()).st_size:
            raise ValueError(f"{path} is broken")
    return len(head["sizes"])


def write_frames(path: Path, frames: Sequence[bytes], odd: Sequence[int] = ()) -> None:
    """Replace the file atomically."""
    blob = b"".join(part for frame in frames for part in (calls.FRAME.pack(b"O", 0.0, len(frame)), frame))
    head = json.dumps({"sizes": [len(f) for f in frames], "crc32": zlib.crc32(blob), "odd": list(odd)}).encode()
    put_cached(path, _MAGIC + head + b"\n" + blob)


def put_cached(path: Path, data: bytes) -> None:
    """Replace a file of the cache atomically, without waiting for the disk; where this fails, nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def key(suite: CallSuite, reference: str, entry_point: str) -> str:
    """The name of the suite's files."""
    digest = hashlib.blake2b(digest_size=16)
    parts = [FORMAT, reference, entry_point, suite.oracle, platform.python_version(), suite.identity]
    digest.update(json.dumps(parts).encode())
    if not suite.identity:
        for arguments in suite.inputs():
            digest.update(wire.encode(list(arguments)))
    return digest.hexdigest()


def machine() -> str:
    """A hash of what decides how fast a program runs here: processor, cores and Python."""
    model = ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line for line in lines if line.startswith("model name")), "")
    parts = f"{platform.machine()} {model} {os.cpu_count()} {platform.python_version()}"
    return hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()


class SuiteFiles:
    """The paths of one suite's files."""

    def __init__(self, cache: Path, name: str):
        self.inputs = cache / f"{name}.inputs"
        self.expected = cache / f"{name}.expected"
        self.times = cache / f"{name}.{machine()}.json"

    def write_inputs(self, suite: CallSuite) -> None:
        """Write the inputs unless they are there."""
        if not self.inputs.exists():
            write_frames(self.inputs, [wire.encode(list(arguments)) for arguments in suite.inputs()])

    def write_times(self, seconds: Sequence[float], doubt: str = "") -> None:
        """Write the reference's CPU seconds a call, and why it does not pass its own tests, if so."""
        put_cached(self.times, json.dumps({"seconds": [round(s, 6) for s in seconds], "doubt": doubt}).encode())

    def read_times(self) -> list[float]:
        """The reference's CPU seconds a call. Raises ValueError or FileNotFoundError."""
        return [float(s) for s in json.loads(self.times.read_bytes())["seconds"]]

    def doubt(self) -> str:
        """Why the reference does not pass its own tests; "" where it does. Raises ValueError or FileNotFoundError."""
        return str(json.loads(self.times.read_bytes()).get("doubt", ""))

    def remove(self) -> None:
        """Remove the files, so that they are made again."""
        for path in (self.inputs, self.expected, self.times):
            path.unlink(missing_ok=True)

    def complete(self) -> bool:
        """Whether all files exist. Their content is checked when it is read."""
        return self.inputs.exists() and self.expected.exists() and self.times.exists()

    def count(self, frames_in: Callable[[Path], int]) -> int | None:
        """The number of calls of which every file has its part; None where one is missing or broken, or their numbers differ.

        `frames_in` counts the frames of a file, as count_frames does.
        """
        try:
            sizes = {frames_in(self.inputs), frames_in(self.expected), len(self.read_times())}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return sizes.pop() if len(sizes) == 1 else None
