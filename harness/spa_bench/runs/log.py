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
import re
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from io import BufferedReader, FileIO
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, get_origin, get_type_hints

from spa_bench.errors import StoreError
from spa_bench.runs.contents import row_check
from spa_bench.support.files import replace_parts, sync_folder
from spa_bench.types import Key


class Keyed(Protocol):
    """A dataclass whose key occurs once in a file."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]

    @property
    def key(self) -> Hashable:
        """The key that distinguishes the rows of one file."""
        ...


Row = TypeVar("Row", bound=Keyed)
Found = TypeVar("Found")
_decode = json.JSONDecoder().raw_decode  # json.loads without its search for white space around the value
_KEY = re.compile(r'\{"problem": "([^"\\]*)", "member": (\d+), "draw": (\d+), ')
_SUM = b', "sum": "'
_TAIL = len(_SUM) + 16 + len(b'"}')  # bytes at the end of a line that are not of the row
_BUFFER = 1 << 20
_LONG = ("problem", "raw", "graded")  # texts of rows that are not shared with `_texts`
_SHARED = 4096  # different texts that are kept for that


@dataclasses.dataclass
class TornEnd:
    """What a reader of a log finds behind the last whole row."""

    said: str = ""  # why the file is not finished; "": it ends with the row


class Log(Generic[Row]):
    """The rows of `kind` in the file at `path`, which is read line by line."""

    def __init__(self, path: Path, kind: type[Row], salt: str):
        self.path, self._kind = path, kind
        hints = get_type_hints(kind)
        self._fields = tuple(f.name for f in dataclasses.fields(kind))
        # older files lack these fields, and so do other kinds of task: they are written only where they hold a value
        self._sparse = tuple(f.name for f in dataclasses.fields(kind) if f.metadata.get("sparse"))
        self._fault = row_check(kind)
        self._enums = {n: t for n, t in hints.items() if isinstance(t, type) and issubclass(t, Enum)}
        self._salted = hashlib.blake2b(f"{salt}/{path.name}\0".encode(), digest_size=8)
        self._short = tuple(n for n, t in hints.items() if n not in _LONG and (t is str or get_origin(t) is Literal))
        self._graded = "graded" in hints
        self._names: dict[str, str] = {}  # of problems: a name that many rows share is kept once
        self._texts: dict[str, str] = {}  # likewise the other texts that are short, the first ones that occur

    def rows(self) -> list[Row]:
        """All whole rows in order, without a broken end. Raises StoreError for damage or for a key that occurs twice."""
        return list(self.each())

    def each(self, end: TornEnd | None = None) -> Iterator[Row]:
        """As `rows`, one after the other; raises StoreError when it reaches what is wrong.

        Behind the last row, `end` says what `all_rows` would raise about the end of the file.
        """
        whole, at = 0, 0
        for row, reached in self._once((row.key, (row, reached)) for row, reached in self._scan(self._parse)):
            whole, at = whole + 1, reached
            yield row
        if end is not None:
            end.said = end.said or self._torn(whole, at)

    def keys(self) -> list[Key]:
        """The keys of `rows`, which are of samples. What stands behind a key in its line is not read, but its checksum is."""
        return list(self._once((key, key) for key, _ in self._scan(self._key)))

    def each_key(self) -> Iterator[Hashable]:
        """The keys of `each`, read as `keys` reads them where the rows are of samples."""
        return self._once((key, key) for key, _ in self._scan(self._any_key))

    def _once(self, found: Iterable[tuple[Hashable, Found]]) -> Iterator[Found]:
        """The second of each pair; raises StoreError where the first, a key, is there a second time."""
        seen: set[Hashable] = set()
        for number, (key, one) in enumerate(found, 1):
            if key in seen:
                raise StoreError(f"{self.path}, line {number} repeats {_named(key)}; remove one of the two lines and run again")
            seen.add(key)
            yield one

    def append(self, rows: Sequence[Row]) -> None:
        """Append `rows` and sync them, after cutting off a broken end.

        Raises StoreError where the file cannot be written, such as on a full disk; none of the rows is kept then.
        """
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

    def replace(self, rows: Iterable[Row]) -> None:
        """Make `rows` the whole file, at once: a process that is killed leaves the file as it was. Raises as `append`."""
        replace_parts(self.path, map(self._line, rows))

    def settle(self, places: Mapping[str, int]) -> None:
        """Sort the rows by the `places` of their problems, then by member and draw.

        So finished files do not depend on how often a run was stopped.
        """
        found: list[tuple[int, ...]] = []
        end = 0
        for key, reached in self._scan(self._any_key):
            found.append((places[key.problem], key.member, key.draw) if isinstance(key, Key) else (places[str(key)],))
            end = reached
        if not self.path.exists():
            return
        if all(one <= other for one, other in pairwise(found)) and end == self.path.stat().st_size:
            return
        lines = [line for line, _ in self._scan(self._line_of)]
        order = sorted(range(len(found)), key=found.__getitem__)
        replace_parts(self.path, (lines[i] for i in order))

    def retain(self, wanted: Callable[[Row], bool]) -> None:
        """Keep the rows that are `wanted`, in their order."""
        self.replace(filter(wanted, self.each()))

    def faults(self) -> list[str]:
        """What is wrong with the file, for `spa-bench verify`; empty when every byte is unchanged."""
        try:
            deque(self.each_whole(), maxlen=0)
        except StoreError as error:
            return [str(error)]
        return []

    def all_rows(self) -> list[Row]:
        """The rows of a finished file. Raises StoreError unless every byte is unchanged."""
        return list(self.each_whole())

    def each_whole(self) -> Iterator[Row]:
        """As `all_rows`, one after the other; raises StoreError behind the last one at the latest."""
        return self._every((row, reached, row.key) for row, reached in self._scan(self._parse))

    def count_whole(self) -> int:
        """The number of rows of a finished file. Of a line its checksum and its key are read. Raises as `all_rows`."""
        return sum(1 for _ in self._every((None, reached, key) for key, reached in self._scan(self._any_key)))

    def _every(self, found: Iterable[tuple[Found, int, Hashable]]) -> Iterator[Found]:
        """The first of each (row, end of its line, key). Raises StoreError for a key twice, or unless the file ends there."""
        keys: set[Hashable] = set()
        whole, at = 0, 0
        for one, reached, key in found:
            whole, at = whole + 1, reached
            keys.add(key)
            yield one
        if torn := self._torn(whole, at):
            raise StoreError(torn)
        if twice := whole - len(keys):
            raise StoreError(f"{self.path}: {twice} keys are there twice")

    def _torn(self, whole: int, at: int) -> str:
        """What is wrong behind the `whole` rows, which end at the offset `at`."""
        torn = self.path.exists() and at != self.path.stat().st_size
        return f"{self.path}: line {whole + 1} is broken or torn" if torn else ""

    def _line(self, row: Row) -> bytes:
        content = {name: getattr(row, name) for name in self._fields}
        for name in self._sparse:
            if content[name] is None:
                del content[name]
        body = json.dumps(content).encode()
        return b'%b%b%b"}\n' % (body[:-1], _SUM, self._sum(body))

    def _sum(self, body: bytes) -> bytes:
        digest = self._salted.copy()
        digest.update(body)
        return digest.hexdigest().encode()

    def _scan(self, read: Callable[[bytes], Found | None]) -> Iterator[tuple[Found, int]]:
        """(what `read` makes of a whole line, the offset at which the line ends) of each; `read` gives None for a broken line.

        Raises StoreError when a whole line follows a broken one.
        """
        try:
            if self.path.exists():
                with self.path.open("rb", buffering=_BUFFER) as stream:
                    yield from self._whole(stream, read)
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}") from error

    def _whole(self, lines: Iterable[bytes], read: Callable[[bytes], Found | None]) -> Iterator[tuple[Found, int]]:
        broken, at, end = 0, 0, 0
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            at += len(line)
            one = read(line[:-1])
            if one is None:
                broken = broken or number
            elif broken:
                raise StoreError(
                    f"{self.path}, line {broken} is damaged (its checksum does not fit); remove the line and run again: "
                    "what it held is computed again"
                )
            else:
                end = at
                yield one, end
        if broken and not end:
            raise StoreError(
                f"{self.path}: not one line fits its checksum; spec.json was changed, or the file is another run's"
            )

    def _body(self, line: bytes) -> str | None:
        """The JSON of a row; None where the line is not whole."""
        if line[-_TAIL:-18] != _SUM or line[-2:] != b'"}':
            return None
        body = line[:-_TAIL] + b"}"
        return body.decode("ascii") if self._sum(body) == line[-18:-2] and body.isascii() else None

    def _parse(self, line: bytes) -> Row | None:
        text = self._body(line)
        if text is None:
            return None
        try:
            content, end = _decode(text)
            if end != len(text):
                raise ValueError("there is more behind its JSON")
            if found := self._fault(content):
                raise TypeError(found)
            for name, kind in self._enums.items():
                content[name] = kind(content[name])
            content["problem"] = self._name(content["problem"])
            self._share(content)
            return self._kind(**content)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(f"{self.path} was written by another version of spa-bench ({error})") from error

    def _share(self, content: dict[str, object]) -> None:
        """Put texts that many rows have in common, and a graded text that is the raw one, in memory once."""
        known = self._texts
        for name in self._short:
            if isinstance(text := content.get(name), str):
                content[name] = known.setdefault(text, text) if len(known) < _SHARED else known.get(text, text)
        if self._graded and content["graded"] == content["raw"]:
            content["graded"] = content["raw"]

    def _name(self, problem: str) -> str:
        return self._names.setdefault(problem, problem)

    def _key(self, line: bytes) -> Key | None:
        text = self._body(line)
        if text is None:
            return None
        if found := _KEY.match(text):
            return Key(self._name(found[1]), int(found[2]), int(found[3]))
        row = self._parse(line)
        key = None if row is None else row.key
        assert key is None or isinstance(key, Key), f"{self.path} is not of samples"
        return key

    def _any_key(self, line: bytes) -> Hashable | None:
        """The key of a whole line of any kind of row; None for a broken line."""
        if "member" in self._fields:
            return self._key(line)
        row = self._parse(line)
        return None if row is None else row.key

    def _line_of(self, line: bytes) -> bytes | None:
        return None if self._body(line) is None else line + b"\n"

    def _cut_broken_end(self, stream: FileIO) -> int:
        """Cut off a broken end; the size of the file after that. Reads the whole file only when its last line is broken."""
        size = stream.seek(0, os.SEEK_END)
        start = max(0, size - (1 << 16))
        stream.seek(start)
        tail = stream.readall()
        last = tail[:-1].rpartition(b"\n")[2] if tail.endswith(b"\n") else b""
        if size and (not last or (len(last) == len(tail) - 1 and start) or self._parse(last) is None):
            stream.seek(0)
            reader = BufferedReader(stream, _BUFFER)
            size = max((end for _, end in self._whole(reader, self._parse)), default=0)
            reader.detach()
            stream.truncate(size)
        stream.seek(0, os.SEEK_END)
        return size


Progress = Callable[[int, int], None]  # called with (done, total)
_BATCH = 64  # rows that are written and synced together; after _SYNC_SECONDS fewer are
_SYNC_SECONDS = 5.0
_QUICK_SECONDS, _GROWN = 0.1, 64  # where a batch is there sooner, the next has twice as many rows, up to so many times _BATCH


def append(log: Log[Row], rows: Iterable[Row], start: int, total: int, progress: Progress) -> None:
    """Append `rows` in synced batches; earlier rows are kept when the next row fails or the user interrupts."""
    waiting: list[Row] = []
    synced, size = time.monotonic(), _BATCH
    try:
        for done, row in enumerate(rows, start + 1):
            waiting.append(row)
            passed = time.monotonic() - synced
            if len(waiting) >= size or passed > _SYNC_SECONDS:
                batch, waiting = waiting, []
                log.append(batch)
                size = min(2 * size, _GROWN * _BATCH) if passed < _QUICK_SECONDS else _BATCH
                synced = time.monotonic()
            progress(done, total)
    finally:
        log.append(waiting)


def _named(key: Hashable) -> str:
    """The key of a row in words."""
    return f"{key.problem}, member {key.member}, draw {key.draw}" if isinstance(key, Key) else str(key)
