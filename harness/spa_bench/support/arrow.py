"""Rows of Arrow files, and of folders that `save_to_disk` of the package datasets wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spa_bench.errors import DataError
from spa_bench.support.hub import INSTALL
from spa_bench.support.text import one_line

_MOST_NAMES = 4  # files of a folder that are named
_FAULTS = (OSError, ValueError, LookupError, NotImplementedError, OverflowError, MemoryError)  # these include pyarrow's own


def check_names(names: Iterable[str], place: str) -> None:
    """Raise DataError for two columns of one name, of which a row would have the last."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DataError(f"{place}: two columns are named {twice[0]!r}; rename or remove one")


def arrow_rows(path: Path) -> Iterable[object]:
    """The rows of an Arrow file, of the stream's form or the file's. Raises DataError."""
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError as error:
        raise DataError(f"{path} is Arrow, which needs pyarrow: {INSTALL}") from error
    try:
        with path.open("rb") as file:
            try:
                table = ipc.open_stream(file).read_all()
            except pyarrow.ArrowInvalid:
                file.seek(0)
                table = ipc.open_file(file).read_all()
            return _rows(table, path)
    except _FAULTS as error:
        raise DataError(f"cannot read the examples in {path}: {one_line(error)}") from error


def _rows(table: Any, path: Path) -> list[object]:
    """The rows of a table of pyarrow. Raises ValueError for a broken one, which would be read beyond its end."""
    check_names(table.schema.names, str(path))
    table.validate(full=True)
    rows: list[object] = table.to_pylist()
    return rows


def saved_rows(path: Path) -> Iterable[object]:
    """The rows of a folder of save_to_disk; of several splits, those of train. Raises DataError for any other folder."""
    names = sorted(one.name for one in path.iterdir() if not one.name.startswith("."))
    if not {"state.json", "dataset_dict.json"} & set(names):
        shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")
        raise DataError(f"{path} is a folder that save_to_disk did not write; give one of its files ({shown or 'it is empty'})")
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{path} is a folder of save_to_disk, which needs the package datasets: {INSTALL}") from error
    try:
        saved = datasets.load_from_disk(str(path))
        if isinstance(saved, datasets.DatasetDict):
            if "train" not in saved:
                raise DataError(f"{path} has no split train; give one of its folders: {', '.join(saved) or 'it has none'}")
            saved = saved["train"]
        # as it is: pictures would be decoded, and fetched where they are links
        return _rows(saved.with_format("arrow")[:], path)
    except (*_FAULTS, RuntimeError, ImportError) as error:
        raise DataError(f"cannot read the rows of {path}: {one_line(error, 300)}") from error
