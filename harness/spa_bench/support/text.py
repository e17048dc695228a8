"""Phrases for messages, and cuts of texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean 'x'?` when a known name is close, otherwise the list of known names; each after `prefix`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; known: {', '.join(prefix + one for one in known)}"


def before_stop(text: str, stops: Iterable[str]) -> str:
    """`text` before the first of `stops` in it; all of it where there is none."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
