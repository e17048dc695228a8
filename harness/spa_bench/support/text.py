"""Phrases for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean 'x'?` when a known name is close, otherwise the list of known names; each after `prefix`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; known: {', '.join(prefix + one for one in known)}"
