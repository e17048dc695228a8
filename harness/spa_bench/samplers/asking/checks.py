"""Checks of a kind's options. Numbers of questions are bounded, so that a slip of the hand is no endless run."""

from __future__ import annotations

import math
from collections.abc import Collection

from spa_bench.cards.checks import MOST_NUMBER
from spa_bench.support.text import did_you_mean

MOST = 1000  # of whatever is asked for at once


def within(least: int, most: int | None, **values: int) -> None:
    """Raises ValueError for a value below `least` or, where it is not None, above `most`."""
    for name, value in values.items():
        if most is None and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
        if most is not None and not least <= value <= most:
            raise ValueError(f"{name} is {value}; it must be between {least} and {most:,}")


def not_negative(**values: float) -> None:
    """Raises ValueError for a value below 0 or not finite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be finite and not negative")


def is_share(**values: float) -> None:
    """Raises ValueError for a value that is not above 0 and at most 1."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name} is {value:g}; it is a share above 0 and at most 1")


def is_temperature(value: float | None) -> None:
    """Raises ValueError for a temperature below 0, or above what float32 computes with; None is the card's."""
    if value is not None:
        not_negative(temperature=value)
        if value > MOST_NUMBER:
            raise ValueError(f"temperature is {value}; it must be at most {MOST_NUMBER:g}")


def one_of(known: Collection[str], **values: str) -> None:
    """Raises ValueError for a value that is not in `known`."""
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"{name} is {value!r}{did_you_mean(value, known)}")
