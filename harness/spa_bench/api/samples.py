"""Answers as a Python program has them: files, a mapping or a Series, records or a DataFrame, as files of samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spa_bench.errors import DataError, UsageError
from spa_bench.runs.sample_files import SampleFile
from spa_bench.support.text import as_seen

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    Rows = Iterable[Mapping[str, object]] | DataFrame | Series[str]
    Given = str | Path | Iterable[str | Path] | Mapping[str, str | Iterable[str]] | Rows
_NAMES = ("problem", "task_id")
_TEXTS = ("text", "completion", "solution")
_KINDS = "a path, several paths, {problem: [text, ...]}, a Series of texts by problem, a list of records, or a DataFrame"


def given_samples(samples: object) -> list[Path | SampleFile]:
    """The files of samples, or one file made of Python values. Raises UsageError or DataError."""
    if isinstance(samples, str | Path):
        return [Path(samples)]
    pandas = sys.modules.get("pandas")  # whoever has a DataFrame has loaded it
    if pandas is not None and isinstance(samples, pandas.DataFrame):
        return [_file(_of_frame(samples))]
    if isinstance(samples, Mapping) or (pandas is not None and isinstance(samples, pandas.Series)):
        return [_file(_of_items(samples.items()))]
    if isinstance(samples, Iterable):
        given = list(samples)
        if not given:
            raise DataError("samples is empty; give one answer to a problem at least")
        if all(isinstance(one, str | Path) for one in given):
            return [Path(one) for one in given]
        return [_file(_of_records(given))]
    raise UsageError(f"samples is {as_seen(samples)}; give {_KINDS}")


def _file(rows: Iterable[dict[str, object]]) -> SampleFile:
    """One file with a line for each row, so that equal values give equal bytes, and the same run."""
    lines = []
    for number, row in enumerate(rows):
        try:
            lines.append(json.dumps(row))
        except (TypeError, ValueError) as error:
            raise DataError(f"samples[{number}] is {as_seen(row)}, which is not plain data: {error}") from error
    if not lines:
        raise DataError("samples is empty; give one answer to a problem at least")
    return SampleFile("samples", "".join(f"{line}\n" for line in lines).encode())


def _of_items(items: Iterable[tuple[object, object]]) -> Iterator[dict[str, object]]:
    for problem, texts in items:
        if isinstance(texts, str):
            yield _row(problem, "text", texts)
        elif isinstance(texts, Iterable) and not isinstance(texts, bytes | Mapping):
            yield from (_row(problem, "text", text) for text in texts)
        else:
            raise DataError(f"samples[{problem!r}] is {as_seen(texts)}; it must be a text or a list of texts")


def _of_records(records: Sequence[object]) -> Iterator[dict[str, object]]:
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise DataError(f"samples[{number}] is {as_seen(record)}; a record has a problem and a text (samples are {_KINDS})")
        name, text = _first(record, _NAMES), _first(record, _TEXTS)
        if name is None or text is None:
            lacks = "problem" if name is None else "text, completion or solution"
            raise DataError(f"samples[{number}] lacks {lacks}; it has {', '.join(map(str, record))}")
        yield _row(record[name], text, record[text])


def _of_frame(frame: DataFrame) -> Iterator[dict[str, object]]:
    columns = list(map(str, frame.columns))
    name, text = _first(columns, _NAMES), _first(columns, _TEXTS)
    if name is None or text is None:
        lacks = "problem" if name is None else "text, completion or solution"
        raise DataError(f"the DataFrame lacks a column {lacks}; it has {', '.join(columns)}")
    if twice := next((column for column in (name, text) if columns.count(column) > 1), None):
        raise DataError(f"the DataFrame has several columns {twice}; leave one of them")
    for problem, value in zip(frame[name].tolist(), frame[text].tolist(), strict=True):
        yield _row(problem, text, value)


def _first(there: Iterable[object], names: Sequence[str]) -> str | None:
    known = set(there)
    return next((name for name in names if name in known), None)


def _row(problem: object, key: str, text: object) -> dict[str, object]:
    """A row in the shape of evalplus' samples."""
    return {"task_id": problem, key: text}
