"""Values as a Python program gives them, those of numpy and pandas too, in the types that options have; each is checked."""

from __future__ import annotations

import json
import operator
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, SupportsFloat, runtime_checkable

import numpy as np

from spa_bench.errors import UsageError
from spa_bench.support.text import as_seen


@runtime_checkable
class _Listed(Protocol):
    """A number or an array of numpy, a Series of pandas, a tensor: it knows its Python value."""

    def tolist(self) -> object: ...


@runtime_checkable
class _Table(Protocol):
    """A DataFrame, which iterates over the names of its columns."""

    @property
    def columns(self) -> object: ...


def whole(name: str, value: object) -> int:
    """A whole number as Python has it. Raises UsageError for anything else."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]  # what has no index raises TypeError
    except TypeError:
        pass
    raise UsageError(f"{name} is {as_seen(value)}; it must be a whole number")


def whole_or_none(**numbers: object) -> list[int | None]:
    """The numbers, in order; None stays None. Raises UsageError as `whole`."""
    return [None if value is None else whole(name, value) for name, value in numbers.items()]


def seeds_of(seed: object) -> tuple[bool, tuple[int, ...]]:
    """(whether `seed` is several, the seeds). Raises UsageError for anything but whole numbers, one at least."""
    one = isinstance(seed, str) or not isinstance(seed, Iterable) or (isinstance(seed, np.ndarray) and seed.ndim == 0)
    seeds = [seed] if one else list(seed)  # type: ignore[call-overload]  # it is Iterable
    if not seeds:
        raise UsageError("seed is empty; give a number, or several")
    return not one, tuple(whole("seed", each) for each in seeds)


def check_flags(**flags: object) -> None:
    """Raises UsageError for a value that is neither True nor False: a text such as "false" would count as True."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise UsageError(f"{name} is {as_seen(value)}; it must be True or False")


def check_texts(**texts: object) -> None:
    """Raises UsageError for a value that is neither a text nor None."""
    for name, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} is {as_seen(value)}; it must be a text")


def number_or_none(name: str, value: object) -> float | None:
    """A number as Python has it; None stays None. Raises UsageError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise UsageError(f"{name} is {as_seen(value)}; it must be a number")
    return float(value)


def place(name: str, value: object, advice: str = "") -> str:
    """A path, or the name of what is found by one. Raises UsageError, which ends in `advice`, for anything else."""
    if isinstance(value, str | os.PathLike):
        return os.fsdecode(value)
    raise UsageError(f"{name} is {as_seen(value)}; it must be a text or a path{advice}")


def paths(given: object, what: str) -> list[Path]:
    """One path, or several. Raises UsageError, which ends in `what` they are to be, for anything else and for none."""
    one = not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping | _Table)
    each = [given] if one else list(given)  # type: ignore[call-overload]  # it is Iterable
    if not each:
        raise UsageError(f"no paths were given; give {what}")
    return [Path(place("paths", one, f": {what}")) for one in each]


def source(name: str, value: object) -> str | None:
    """The source of training pairs; None stays None. Raises UsageError for rows that are in no file."""
    advice = ' (rows are written to a file first: frame.to_json("pairs.jsonl", orient="records", lines=True))'
    return None if value is None else place(name, value, advice)


def as_words(settings: object) -> tuple[str, ...]:
    """`settings` in the form of the command line: KEY=VALUE; a mapping in the place of a value gives dotted keys.

    Raises UsageError for anything but a mapping, and for a value that TOML has not.
    """
    if settings is None:
        return ()
    if not isinstance(settings, Mapping):
        raise UsageError(
            f"settings is {as_seen(settings)}; it must be a dict of the cards' keys, such as {{'decoding.temperature': 0.5}}"
        )
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words += as_words({f"{key}.{inner}": one for inner, one in value.items()})
            continue
        try:
            word = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
            tomllib.loads(f"v = {word}")  # null is no value there
            words.append(f"{key}={word}")
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"settings[{key!r}] is {as_seen(value)}; it must be a number, a text, true or false, or a list"
            ) from error
    return tuple(words)


def _plain(value: object) -> object:
    """A path as text, and what is of numpy or pandas as Python has it. Raises TypeError for anything else."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, _Listed):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no plain data")
