"""The rows of one source as they are recognised, with a line that says what was read and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError
from spa_bench.spa.data.shapes import Row, filled, has_columns, recognised
from spa_bench.spa.data.sources import Located
from spa_bench.spa.data.turns import NotTrained, Unusable

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
    kept: list[Row] = []
    numbers: list[int] = []
    shapes, marked, faults = Counter[str](), Counter[str](), Counter[str]()
    seen: dict[str, None] = {}
    read: dict[str, dict[str, None]] = {}  # shape -> the columns that its rows were read from
    first: Unusable | None = None
    for number, (place, row) in enumerate(rows, 1):
        columns = None if optional and not has_columns(row, data.columns) else data.columns
        if isinstance(row, Mapping):
            seen |= dict.fromkeys(str(name) for name, value in row.items() if filled(value))
        try:
            found = recognised(row, place, columns, data.labels)
        except NotTrained as error:
            marked[error.why] += 1
        except Unusable as error:
            faults[error.why] += 1
            first = first or error
        else:
            kept.append(found.row)
            numbers.append(number)
            shapes[found.shape] += 1
            read.setdefault(found.shape, {}).update(dict.fromkeys(found.read))
    if first is not None and data.unusable == "refuse":
        raise DataError(
            f"{first}; {faults.total()} of {len(rows)} rows cannot be used: mend them, or leave them out with --set "
            "data.unusable=drop"
        )
    left = dict(marked + faults)
    if not kept:
        raise DataError(f"{source}: none of its {len(rows)} rows can be used: {_counted(left)}")
    used = {name for names in read.values() for name in names}
    parts = [f"{count} {shape} ({', '.join(read[shape])})" for shape, count in shapes.items()]
    told = f"{_name(source)}: {len(rows)} row{'s' * (len(rows) != 1)}: {', '.join(parts)}"
    if left:
        told += f"; left out: {_counted(left)}"
    if unread := [name for name in seen if name not in used]:
        more = f" and {len(unread) - _MOST_COLUMNS} more" if len(unread) > _MOST_COLUMNS else ""
        told += f"; columns that are not read: {', '.join(unread[:_MOST_COLUMNS])}{more}"
    return Reading(kept, numbers, told, left)


def _name(source: str) -> str:
    return source if source.startswith("hub:") else Path(source).name


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({why})" for why, count in counts.items())
