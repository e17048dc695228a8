"""Programs that are compared with nothing: whether a text is one, and whether it runs to its end."""

from __future__ import annotations

import ast
import warnings

from spa_bench.grading.base import Check, Program

MOST = 200_000  # characters that are parsed
_RAN = "spa_bench_ran_to_its_end"
_BEHIND = f"\n\n\ndef {_RAN}():\n    return True\n"  # it is there only when everything before it has run
_CHECK = Check("def check(candidate):\n    assert candidate() is True\n")


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a program of this Python; None for another text, and for more than MOST characters."""
    if len(source) > MOST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd escapes in the text
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def to_its_end(source: str, *, seconds: float, problem: str = "") -> Program:
    """A program that passes when all of `source` has run without an exception, within `seconds` of CPU time.

    What `source` only defines is not called.
    """
    return Program(source=source + _BEHIND, entry_point=_RAN, tests=_CHECK, problem=problem, seconds=seconds)
