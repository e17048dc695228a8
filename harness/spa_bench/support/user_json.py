"""JSON that a user wrote: text that cannot be read becomes a one-line error that names the place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from spa_bench.errors import DataError

_BETWEEN = re.compile(r"[\s\ufeff]*")


def read_json(text: str, place: str) -> Any:
    """The value in `text`. Raises DataError that begins with `place` (a file, or `FILE, line N`)."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{place} is not valid JSON: nested too deep") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not valid JSON: {error}") from error
    except ValueError as error:  # the only other cause: an integer with too many digits for Python
        raise DataError(f"{place} is not JSON that can be read: an integer has too many digits") from error


def read_values(text: str, place: str) -> Iterator[tuple[str, Any]]:
    """(`PLACE, line N`, value) of JSON values behind one another: one on a line each, or each over several lines.

    Raises DataError as read_json.
    """
    stripped = ((number, stripped_line(line)) for number, line in enumerate(text.split("\n"), 1))
    lines = [(number, line) for number, line in stripped if line]
    spread = spread_values(text) if len(lines) > 1 and lines[0][1] in ("{", "[") else None
    if spread is not None:
        yield from ((f"{place}, line {number}", value) for number, value in spread)
        return
    for number, line in lines:
        yield f"{place}, line {number}", read_json(line, f"{place}, line {number}")


def stripped_line(line: str) -> str:
    """A line of JSON without blanks and marks of an encoding around it."""
    return line.strip("\ufeff \t\r")


def spread_values(text: str) -> list[tuple[int, Any]] | None:
    """(the line on which it begins, value) of JSON values that take several lines each; None where something else is there."""
    found: list[tuple[int, Any]] = []
    at, line, decoder = 0, 1, json.JSONDecoder()
    while (gap := _BETWEEN.match(text, at)) and (begin := gap.end()) < len(text):
        line += text.count("\n", at, begin)
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return None
        found.append((line, value))
        line += text.count("\n", begin, at)
    return found
