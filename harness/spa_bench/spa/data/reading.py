"""The rows of one source as they are recognised, with a line that says what was read and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError
from spa_bench.spa.data.columns import filled
from spa_bench.spa.data.shapes import Row, has_columns, recognised
from spa_bench.spa.data.turns import NotTrained, Unusable, fields_not_read
from spa_bench.support.hub import Located

_MOST_COLUMNS = 12  # unread columns that are named


@dataclass(frozen=True)
class Reading:
    """The rows of a source that can be used."""

    rows: list[Row]
    numbers: list[int]  # which row of the source each is, from 1
    told: str  # the shapes that were recognised and what was left out, for the user; "" for our own sets
    left_out: dict[str, int] = field(default_factory=dict)  # why -> number of rows


def reading_of(rows: Sequence[Located], source: str, data: DataCard, *, optional: bool = False) -> Reading:
    """The rows of `source` as `data` says to read them; `optional`: the named columns may be missing.

    Rows that a label calls bad are left out, and rows that cannot be used too where data.unusable is "drop". Raises DataError
    for the first row that has another fault, for rows that cannot be used, and where no row is left.
    """
    reader = Reader(source, data, optional=optional)
    pairs = list(reader.each(rows))
    return Reading([row for _, row in pairs], [number for number, _ in pairs], reader.told, reader.left_out)


class Reader:
    """Reads the rows of a source one after another, and counts what they are; see reading_of."""

    def __init__(self, source: str, data: DataCard, *, optional: bool = False):
        self._source, self._data, self._optional = source, data, optional
        self._count = 0
        self._shapes, self._marked, self._faults = Counter[str](), Counter[str](), Counter[str]()
        self._seen: dict[str, None] = {}
        self._fields: dict[str, None] = {}  # of turns, that are not read
        self._read: dict[str, dict[str, None]] = {}  # shape -> the columns that its rows were read from
        self._first: Unusable | None = None

    def each(self, rows: Iterable[Located]) -> Iterator[tuple[int, Row]]:
        """(which row of the source it is, from 1; the row) of those that can be used.

        Raises DataError as reading_of, also at the end.
        """
        for number, (place, row) in enumerate(rows, 1):
            self._count = number
            if (found := self._one(place, row)) is not None:
                yield number, found
        if self._first is not None and self._data.unusable == "refuse":
            raise DataError(
                f"{self._first}; {self._faults.total()} of {self._count} rows cannot be used: mend them, or leave them out "
                "with --set data.unusable=drop"
            )
        if not self._shapes:
            raise DataError(f"{self._source}: none of its {self._count} rows can be used: {_counted(self.left_out)}")

    def _one(self, place: str, row: object) -> Row | None:
        columns = None if self._optional and not has_columns(row, self._data.columns) else self._data.columns
        if isinstance(row, Mapping):
            there = [name for name, value in row.items() if filled(value) or value is False or value == 0]
            self._seen |= dict.fromkeys(map(str, there))
        try:
            found = recognised(row, place, columns, self._data.labels)
        except NotTrained as error:
            self._marked[error.why] += 1
            return None
        except Unusable as error:
            self._faults[error.why] += 1
            self._first = self._first or error
            return None
        self._shapes[found.shape] += 1
        self._read.setdefault(found.shape, {}).update(dict.fromkeys(found.read))
        if isinstance(row, Mapping):
            self._fields |= dict.fromkeys(field for name in found.read for field in fields_not_read(row.get(name)))
        return found.row

    @property
    def left_out(self) -> dict[str, int]:
        """Why rows were left out -> how many."""
        return dict(self._marked + self._faults)

    @property
    def told(self) -> str:
        """The shapes that were recognised, what was left out, and the columns that are not read, in one line."""
        used = {name for names in self._read.values() for name in names}
        parts = [f"{count} {shape} ({', '.join(self._read[shape])})" for shape, count in self._shapes.items()]
        told = f"{_name(self._source)}: {self._count} row{'s' * (self._count != 1)}: {', '.join(parts)}"
        if left := self.left_out:
            told += f"; left out: {_counted(left)}"
        for what, names in (
            ("columns", [name for name in self._seen if name not in used]),
            ("fields of turns", [*self._fields]),
        ):
            if names:
                more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
                told += f"; {what} that are not read: {', '.join(names[:_MOST_COLUMNS])}{more}"
        return told


def _name(source: str) -> str:
    return source if source.startswith("hub:") else Path(source).name


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({why})" for why, count in counts.items())
