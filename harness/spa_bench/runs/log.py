"""Append-only files of rows. Each row is a line of JSON with a checksum, so that a torn line is recognised and redone.

The checksum covers the line and the `salt`, which names the spec and the file: a line from another run does not pass.
A broken end is a torn line, or lines that an interrupted machine never wrote. The next append first cuts it off, and its
rows are computed again. A broken line before whole lines is damage and raises an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import Enum
from io import FileIO
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar, get_type_hints

from spa_bench.errors import StoreError
from spa_bench.runs.contents import row_check
from spa_bench.support.files import replace_file, sync_folder
from spa_bench.types import Key


class Keyed(Protocol):
    """A dataclass whose key occurs once in a file."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]

    @property
    def key(self) -> Hashable:
        """The key that distinguishes the rows of one file."""
        ...


Row = TypeVar("Row", bound=Keyed)


class Log(Generic[Row]):
    """The rows of `kind` in the file at `path`."""

    def __init__(self, path: Path, kind: type[Row], salt: str):
        self.path, self._kind, self._salt = path, kind, f"{salt}/{path.name}".encode()
        hints = get_type_hints(kind)
        # older files lack these fields, and so do other kinds of task: they are written only where they hold a value
        self._sparse = tuple(f.name for f in dataclasses.fields(kind) if f.metadata.get("sparse"))
        self._fault = row_check(kind)
        self._enums = {n: t for n, t in hints.items() if isinstance(t, type) and issubclass(t, Enum)}

    def rows(self) -> list[Row]:
        """All whole rows in order, without a broken end. Raises StoreError for damage or for a key that occurs twice."""
        whole, _ = self._scan(self._read())
        seen: set[Hashable] = set()
        for number, row in enumerate(whole, 1):
            if row.key in seen:
                raise StoreError(
                    f"{self.path}, line {number} repeats {_named(row.key)}; remove one of the two lines and run again"
                )
            seen.add(row.key)
        return whole

    def append(self, rows: Sequence[Row]) -> None:
        """Append `rows` and sync them, after cutting off a broken end. When the disk is full, none of the rows is kept."""
        if not rows:
            return
        try:
            new = not self.path.exists()
            with self.path.open("ab+", buffering=0) as stream:  # closing a buffered stream would write the rows again
                end = self._cut_broken_end(stream)
                try:
                    data = b"".join(map(self._line, rows))
                    while data:
                        data = data[stream.write(data) :]
                    os.fsync(stream.fileno())
                except OSError:
                    os.ftruncate(stream.fileno(), end)
                    raise
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path}: {error.strerror}; what it held is safe, make room and run the same command again"
            ) from error

    def settle(self, place: Callable[[Row], int | tuple[int, ...]]) -> None:
        """Sort the rows by `place`, so that finished files do not depend on how often a run was stopped."""
        data = self._read()
        rows, end = self._scan(data)
        ordered = sorted(rows, key=place)
        if ordered != rows or end != len(data):
            replace_file(self.path, b"".join(map(self._line, ordered)))

    def retain(self, wanted: Callable[[Row], bool]) -> None:
        """Keep the rows that are `wanted`, in their order."""
        replace_file(self.path, b"".join(map(self._line, filter(wanted, self.rows()))))

    def faults(self) -> list[str]:
        """What is wrong with the file, for `spa-bench verify`; empty when every byte is unchanged."""
        try:
            self.all_rows()
        except StoreError as error:
            return [str(error)]
        return []

    def all_rows(self) -> list[Row]:
        """The rows of a finished file. Raises StoreError unless every byte is unchanged."""
        data = self._read()
        whole, end = self._scan(data)
        if end != len(data):
            raise StoreError(f"{self.path}: line {len(whole) + 1} is broken or torn")
        if twice := len(whole) - len({row.key for row in whole}):
            raise StoreError(f"{self.path}: {twice} keys are there twice")
        return whole

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}") from error

    def _line(self, row: Row) -> bytes:
        content = dataclasses.asdict(row)
        for name in self._sparse:
            if content[name] is None:
                del content[name]
        body = json.dumps(content)
        return f'{body[:-1]}, "sum": "{self._sum(body)}"}}\n'.encode()

    def _sum(self, body: str) -> str:
        return hashlib.blake2b(self._salt + b"\0" + body.encode(), digest_size=8).hexdigest()

    def _scan(self, data: bytes) -> tuple[list[Row], int]:
        """(whole rows, the offset at which the last one ends). Raises StoreError when a whole line follows a broken one."""
        rows: list[Row] = []
        end, broken, at = 0, 0, 0
        for number, line in enumerate(data.split(b"\n")[:-1], 1):
            at += len(line) + 1
            row = self._parse(line)
            if row is None:
                broken = broken or number
            elif broken:
                raise StoreError(
                    f"{self.path}, line {broken} is damaged (its checksum does not fit); remove the line and run again: "
                    "what it held is computed again"
                )
            else:
                rows.append(row)
                end = at
        if broken and not rows:
            raise StoreError(
                f"{self.path}: not one line fits its checksum; spec.json was changed, or the file is another run's"
            )
        return rows, end

    def _parse(self, line: bytes) -> Row | None:
        body, mark, tail = line.rpartition(b', "sum": "')
        if not mark or len(tail) != 18 or not tail.endswith(b'"}'):
            return None
        try:
            text = body.decode("ascii") + "}"
        except UnicodeDecodeError:
            return None
        if self._sum(text).encode() != tail[:16]:
            return None
        try:
            content = json.loads(text)
            if found := self._fault(content):
                raise TypeError(found)
            return self._kind(**{**content, **{n: kind(content[n]) for n, kind in self._enums.items()}})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(f"{self.path} was written by another version of spa-bench ({error})") from error

    def _cut_broken_end(self, stream: FileIO) -> int:
        """Cut off a broken end; the size of the file after that. Reads the whole file only when its last line is broken."""
        size = stream.seek(0, os.SEEK_END)
        start = max(0, size - (1 << 16))
        stream.seek(start)
        tail = stream.readall()
        last = tail[:-1].rpartition(b"\n")[2] if tail.endswith(b"\n") else b""
        if size and (not last or (len(last) == len(tail) - 1 and start) or self._parse(last) is None):
            stream.seek(0)
            size = self._scan(stream.readall())[1]
            stream.truncate(size)
        stream.seek(0, os.SEEK_END)
        return size


Progress = Callable[[int, int], None]  # called with (done, total)
_BATCH = 64  # the most rows that are written and synced together; after _SYNC_SECONDS fewer are
_SYNC_SECONDS = 5.0


def append(log: Log[Row], rows: Iterable[Row], start: int, total: int, progress: Progress) -> None:
    """Append `rows` in synced batches; earlier rows are kept when the next row fails or the user interrupts."""
    waiting: list[Row] = []
    synced = time.monotonic()
    try:
        for done, row in enumerate(rows, start + 1):
            waiting.append(row)
            if len(waiting) >= _BATCH or time.monotonic() - synced > _SYNC_SECONDS:
                batch, waiting = waiting, []
                log.append(batch)
                synced = time.monotonic()
            progress(done, total)
    finally:
        log.append(waiting)


def _named(key: Hashable) -> str:
    """The key of a row in words."""
    return f"{key.problem}, member {key.member}, draw {key.draw}" if isinstance(key, Key) else str(key)
