"""Files in the place of a dataset on the hub: their paths for a task of lm-eval, and their rows."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spa_bench.errors import DataError
from spa_bench.support.files import unpacked
from spa_bench.support.text import one_line
from spa_bench.support.user_json import read_json

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class DataPlace:
    """A folder or file that stands in for datasets."""

    path: Path
    asked: bool  # named by the card, so that a missing file is an error; otherwise by SPA_BENCH_DATA, and the hub is tried next


@dataclass(frozen=True)
class Found:
    """The files of one dataset."""

    splits: Mapping[str, Path]
    place: DataPlace


def find(places: Sequence[DataPlace], dataset: str, name: str, splits: Sequence[str], evaluated: str) -> Found | None:
    """The files of `dataset` (`cais/mmlu`) and its configuration `name` (`anatomy`, or ""), by split; None: use the hub.

    A place is a folder of datasets, each in a folder called by the last part of its name (`mmlu`), or such a folder itself,
    or the file of the `evaluated` split. In a dataset's folder a split is SPLIT/NAME, NAME/SPLIT, NAME_SPLIT, SPLIT, or, of the
    evaluated one, NAME, with one of ENDINGS. Raises DataError where there are places for the dataset, but none has that split.
    """
    looked = []
    for place in places:
        if place.path.is_file():
            return Found({evaluated: place.path}, place)
        folder = place.path / dataset.rpartition("/")[2]
        if place.asked and not folder.is_dir():
            folder = place.path
        files = {s: f for s in splits if (f := _split(folder, name, s, evaluated))}
        if evaluated in files:
            return Found(files, place)
        looked += [str(folder)] if folder.is_dir() else []
    if looked:
        wanted = f"{evaluated}/{name}.jsonl or {name}.jsonl" if name else f"{evaluated}.jsonl"
        raise DataError(
            f"{' and '.join(looked)} would stand in for {dataset}, but there is no {wanted} (nor with {', '.join(ENDINGS[1:])})"
        )
    return None


def _split(folder: Path, name: str, split: str, evaluated: str) -> Path | None:
    stems = [f"{split}/{name}", f"{name}/{split}", f"{name}_{split}"] if name else []
    stems += [split]
    stems += [name] if name and split == evaluated else []
    for stem in stems:
        for ending in ENDINGS:
            if (file := folder / f"{stem}{ending}").is_file():
                return file
    return None


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of one of ENDINGS. Raises DataError naming the file, and the line where there is one."""
    try:
        if path.suffix == ".parquet":
            return _parquet(path)
        raw = unpacked(path)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"cannot read the rows in {path}: {error}") from error
    content: list[Any]
    if path.suffix == ".csv":
        content = _csv(text, path)
    elif path.suffix == ".json":
        content = _list(text, path)
    else:
        content = [read_json(line, f"{path}, line {i}") for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not content or not all(isinstance(row, dict) for row in content):
        raise DataError(f"{path} holds no rows, or something else than rows")
    return content


def _csv(text: str, path: Path) -> list[Any]:
    """The rows as `datasets` reads them for lm-eval: a column of numbers has numbers, and nothing is None."""
    import pandas
    import pyarrow

    try:
        table = pandas.read_csv(io.StringIO(text), low_memory=False)  # one type a column, however long it is
    except ValueError as error:  # pandas' own errors are of it
        raise DataError(f"{path} is not valid CSV: {one_line(error)}") from error
    if not isinstance(table.index, pandas.RangeIndex):  # it takes the first fields of such rows for names of the rows
        raise DataError(f"{path} is not valid CSV: its rows have more fields than its first line, which names the columns")
    found: list[Any] = pyarrow.Table.from_pandas(table, preserve_index=False).to_pylist()
    return found


def _list(text: str, path: Path) -> list[Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    return content if isinstance(content, list) else []


def _parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
    return table


def dataset_of(found: Found) -> Callable[..., Any]:
    """The function for lm-eval's `custom_dataset`, which loads the files as a dictionary of datasets in memory."""

    def load(**_: object) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({split: Dataset.from_list(rows(path)) for split, path in found.splits.items()})

    return load


def remembered(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`process`, run once for each dataset, as `datasets` does with its cache on disk for data from the hub.

    GPQA shuffles its choices in this step, so that running it twice would make another task.
    """
    done: list[tuple[Any, Any]] = []

    def once(dataset: object) -> Any:
        for seen, result in done:
            if seen is dataset:
                return result
        done.append((dataset, process(dataset)))
        return done[-1][1]

    return once
