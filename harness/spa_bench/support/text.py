"""Phrases for messages, and cuts of texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean 'x'?` when a known name is close, otherwise the list of known names; each after `prefix`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; known: {', '.join(prefix + one for one in known)}"


# control characters but line ends and tabs, marks that turn the order of text round, and halves of surrogate pairs
_UNSEEN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def visible(text: str) -> str:
    """`text` for a terminal: what would move the cursor, set colours or turn text round is written as an escape."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def before_stop(text: str, stops: Iterable[str]) -> str:
    """`text` before the first of `stops` in it; all of it where there is none."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
