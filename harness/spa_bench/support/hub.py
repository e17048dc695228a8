"""Rows of a data set of the hub, through the package datasets."""

from __future__ import annotations

from pathlib import Path

from spa_bench.errors import DataError
from spa_bench.support.text import one_line

HUB = "hub:"
INSTALL = "pip install 'spa-bench[data]'"

Located = tuple[str, object]  # the name of a row's place in messages, and the row


def hub_rows(source: str) -> list[Located]:
    """The rows of `hub:NAME`, `hub:NAME:SPLIT` or `hub:NAME@REVISION:SPLIT`, in order; the split is train where none is named.

    Raises DataError where the data set cannot be had, or the package datasets is missing. Code of a data set is not run.
    """
    name, _, split = source.removeprefix(HUB).partition(":")
    split = split or "train"
    name, at, revision = name.partition("@")
    if not name or (at and not revision):
        missing = "revision" if name else "data set"
        raise DataError(f"{source!r} names no {missing}; write hub:NAME, hub:NAME:SPLIT or hub:NAME@REVISION:SPLIT")
    if Path(name).exists():  # the library would read that file instead, and the spec would not say so
        raise DataError(f"{source!r} means the hub, but there is a {name!r} here; give the path of a file in it, without hub:")
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError(f"{source!r} needs the package datasets: {INSTALL}") from error
    try:
        dataset = datasets.load_dataset(name, split=split, revision=revision or None)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        first = "; ".join(str(e).strip().split("\n", 1)[0] for e in (error, error.__cause__) if e is not None)
        raise DataError(
            f"cannot load the split {split!r} of {name!r} from the hub: {first}; check name and split, ask for access and "
            "log in (hf auth login) where the data set is gated, or download it and give the file"
        ) from error
    try:  # pictures, sound and films are decoded on the way, by packages that may be missing
        return [(f"{source}, row {i}", row) for i, row in enumerate(dataset, 1)]
    except (ImportError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"cannot read the rows of {source!r}: {one_line(error, 300)}; download it and give a file of its text alone"
        ) from error
