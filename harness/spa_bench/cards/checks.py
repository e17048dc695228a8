"""Checks of a card's values that several cards share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spa_bench.errors import CardError
from spa_bench.support.text import did_you_mean

MOST_NUMBER = 1e30
"""A limit of numbers with which float32 computes: it has an infinity in the place of larger ones."""


def one_of(where: str, key: str, value: str, known: tuple[str, ...]) -> None:
    """Raises CardError unless `value` is one of `known`."""
    if value not in known:
        raise CardError(f"{where}: {key} is {value!r}{did_you_mean(value, known)}")


def positive(where: str, values: Mapping[str, float]) -> None:
    """Raises CardError for a value that is not above 0 and finite."""
    for key, value in values.items():
        if not 0 < value < math.inf:
            raise CardError(f"{where}: {key} is {value}; it must be greater than 0 and finite")


def not_negative(where: str, values: Mapping[str, float]) -> None:
    """Raises CardError for a value below 0 or not finite."""
    for key, value in values.items():
        if not 0 <= value < math.inf:
            raise CardError(f"{where}: {key} is {value}; it must be finite and not negative")


def countable(where: str, values: Mapping[str, float]) -> None:
    """Raises CardError for a value above MOST_NUMBER."""
    for key, value in values.items():
        if value > MOST_NUMBER:
            raise CardError(f"{where}: {key} is {str(value)[:40]}; it must be at most {MOST_NUMBER:g}")
