"""Phrases for messages, and cuts of texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean 'x'?` when a known name is close, otherwise the list of known names; each after `prefix`."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; known: {', '.join(prefix + one for one in known)}"


# control characters but line ends and tabs, characters that turn or hide text, line separators, halves of surrogate pairs;
# samples.js of the report has the same
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


_LONGEST_VALUE = 200  # characters of a value in a message


def visible(text: str) -> str:
    """`text` for a terminal or a page, with the code of each character that would move the cursor, hide or turn text round."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def utf8(text: str) -> str:
    """`text` with U+FFFD in the place of half a surrogate pair, which UTF-8 cannot hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_line(text: object, most: int | None = None) -> str:
    """`str(text)` on one line, with single spaces; what is longer than `most` characters is cut to end in an ellipsis there."""
    line = " ".join(str(text).split())
    return line if most is None else shortened(line, most, "…")


def as_seen(value: object) -> str:
    """A value for a message: as Python writes it, on one line; `a DataFrame` for one that takes several, or a long one."""
    text = repr(value)
    return text if "\n" not in text and len(text) <= _LONGEST_VALUE else f"a {type(value).__name__}"


def shortened(text: str, most: int, end: str = "...") -> str:
    """`text`; of one longer than `most` characters, so much of its beginning that it has `most` with `end`."""
    return text if len(text) <= most else text[: most - len(end)] + end


def without_middle(text: str, most: int) -> str:
    """`text`; of one longer than `most` characters, its first three quarters and its last quarter, which says what to do."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]} … ({len(text) - most:,} characters) … {text[len(text) - end :]}"


def before_stop(text: str, stops: Iterable[str]) -> str:
    """`text` before the first of `stops` in it; all of it where there is none."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
