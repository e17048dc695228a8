"""Rows of a data set of the hub, through the package datasets."""

from __future__ import annotations

import re
from pathlib import Path

from spa_bench.errors import DataError
from spa_bench.support.text import one_line

HUB = "hub:"
INSTALL = "pip install 'spa-bench[data]'"

_COLON = re.compile(r":(?![^\[]*\])")  # but not that of a slice, as in train[:1000]
_MOST_NAMES = 2  # a configuration and a split

Located = tuple[str, object]  # the name of a row's place in messages, and the row


def hub_rows(source: str) -> list[Located]:
    """The rows of `hub:NAME`, `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT`, in order; NAME may be followed by @REVISION.

    The split is train where none is named. Raises DataError where the data set cannot be had, or the package datasets is
    missing. Code of a data set is not run.
    """
    name, config, split, revision = _parts(source)
    if Path(name).exists():  # the library would read that file instead, and the spec would not say so
        raise DataError(f"{source!r} means the hub, but there is a {name!r} here; give the path of a file in it, without hub:")
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError(f"{source!r} needs the package datasets: {INSTALL}") from error
    try:
        dataset = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        first = "; ".join(str(e).strip().split("\n", 1)[0] for e in (error, error.__cause__) if e is not None)
        of = f"{name!r} with the configuration {config!r}" if config else repr(name)
        raise DataError(
            f"cannot load the split {split!r} of {of} from the hub: {first}; check name and split (hub:NAME:CONFIG:SPLIT where "
            "there are several configurations), ask for access and log in (hf auth login) where the data set is gated, or "
            "download it and give the file"
        ) from error
    try:  # pictures, sound and films are decoded on the way, by packages that may be missing
        return [(f"{source}, row {i}", row) for i, row in enumerate(dataset, 1)]
    except (ImportError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"cannot read the rows of {source!r}: {one_line(error, 300)}; download it and give a file of its text alone"
        ) from error


def _parts(source: str) -> tuple[str, str | None, str, str | None]:
    """(name, configuration, split, revision) of a source. Raises DataError where it is spelled otherwise."""
    place, *names = _COLON.split(source.removeprefix(HUB))
    name, at, revision = place.partition("@")
    missing = "data set" if not name else "revision" if at and not revision else "split" if not all(names) else ""
    if missing or len(names) > _MOST_NAMES:
        what = f"names no {missing}" if missing else "has too many colons"
        raise DataError(f"{source!r} {what}; write hub:NAME, hub:NAME@REVISION, hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT")
    config = names[0] if len(names) == _MOST_NAMES else None
    return name, config, names[-1] if names else "train", revision or None
