"""The examples that a prompt itself gives of a function: calls with their results, as a reader finds them in its docstring.

They are read from the text of the prompt alone. Hidden tests never come here: a sampler that judged by them would be graded by
what it had already seen.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass

_RESULT = re.compile(r"\s*(?:==|=>|->|➞|→|#\s*=>|#\s*->|#|returns?\b|should return\b|should be\b|is)\s*")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The examples of one prompt."""

    entry_point: str  # the function that they call; "": there are none
    calls: tuple[tuple[tuple[object, ...], object], ...]  # (positional arguments, result)
    sources: tuple[str, ...]  # the text of each in the prompt

    @property
    def reference(self) -> str:
        """A program that returns the results of these calls and nothing else."""
        rows = "".join(f"    ({arguments!r}, {result!r}),\n" for arguments, result in self.calls)
        return (
            f"_KNOWN = [\n{rows}]\n\n\ndef {self.entry_point}(*given):\n    for arguments, result in _KNOWN:\n"
            "        if arguments == given:\n            return result\n    raise LookupError('not an example')\n"
        )


def examples_in(prompt: str) -> Examples:
    """The examples in a prompt: `>>> f(1)` with its result below, `assert f(1) == 2`, lines such as `f(1) == 2` or `f(1) -> 2`.

    Arguments and results must be literals. Only calls of one function count: the last one that the prompt begins to define, or,
    where it defines none, the one that is called most often. Equal calls count once; with different results they do not count.
    """
    lines = [line.strip() for line in prompt.splitlines()]
    found: list[tuple[str, tuple[object, ...], object, str]] = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if one := _example(line, below):
            found.append(one)
    defined = re.findall(r"^def\s+(\w+)\s*\(", prompt, re.MULTILINE)
    names = Counter(name for name, *_ in found)
    entry = defined[-1] if defined else names.most_common(1)[0][0] if names else ""
    results: dict[str, list[tuple[tuple[object, ...], object, str]]] = {}
    for name, arguments, result, source in found:
        if name == entry:
            results.setdefault(repr(arguments), []).append((arguments, result, source))
    kept = [rows[0] for rows in results.values() if len({repr(result) for _, result, _ in rows}) == 1]
    return Examples(
        entry_point=entry if kept else "",
        calls=tuple((arguments, result) for arguments, result, _ in kept),
        sources=tuple(source for *_, source in kept),
    )


def _example(line: str, below: str) -> tuple[str, tuple[object, ...], object, str] | None:
    """(function, arguments, result, source) of a line that is an example; None for any other."""
    text = line.removeprefix(">>>").strip().removeprefix("assert ").strip().rstrip(",.;")
    for end in _call_ends(text):
        call = _call(text[:end])
        if call is None:
            continue
        rest = text[end:]
        if not rest.strip() and line.startswith(">>>"):
            return _with_result(call, below, f"{line}\n{below}")
        separator = _RESULT.match(rest)
        return _with_result(call, rest[separator.end() :], line) if separator else None
    return None


def _call_ends(text: str) -> list[int]:
    """The places behind each closing bracket, of a text that begins with a call."""
    return [m.end() for m in re.finditer(r"\)", text)] if re.match(r"[A-Za-z_]\w*\s*\(", text) else []


def _call(text: str) -> tuple[str, tuple[object, ...]] | None:
    try:
        node = ast.parse(text, mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
            return None
        return node.func.id, tuple(ast.literal_eval(argument) for argument in node.args)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def _with_result(
    call: tuple[str, tuple[object, ...]], text: str, source: str
) -> tuple[str, tuple[object, ...], object, str] | None:
    try:
        return *call, ast.literal_eval(text.strip()), source
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
