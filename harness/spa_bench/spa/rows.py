"""Rows of a score matrix, written to disk as they come, so that a stopped attribution resumes where it was."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """Rows of `width` float32 with their index and a checksum, appended; an incomplete end is cut off."""

    def __init__(self, path: Path, width: int):
        self._path = path
        self._entry = np.dtype([("sum", "<u4"), ("index", "<u4"), ("row", "<f4", (width,))])

    def read(self) -> dict[int, NDArray[np.float32]]:
        """The complete rows, (width,) float32 each, by index. The file is cut off at the first broken one."""
        data = self._path.read_bytes() if self._path.exists() else b""
        size = self._entry.itemsize
        entries = np.frombuffer(data[: len(data) // size * size], self._entry)
        good = len(entries)
        for place, entry in enumerate(entries):
            if zlib.crc32(entry.tobytes()[4:]) != entry["sum"]:
                good = place
                break
        if good * size != len(data):
            os.truncate(self._path, good * size)
        return {int(e["index"]): np.array(e["row"]) for e in entries[:good]}

    def append(self, indices: Sequence[int], rows: NDArray[np.float32]) -> None:
        """Append and sync `rows` (len(indices), width)."""
        entries = np.zeros(len(indices), self._entry)
        entries["index"], entries["row"] = indices, rows
        for entry in entries:
            entry["sum"] = zlib.crc32(entry.tobytes()[4:])
        with self._path.open("ab") as stream:
            stream.write(entries.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
