"""Where the code is in a reply: its lines, its fenced blocks, and whether a text is a program."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^`\n]*)")
_LONG = re.compile(r"\"\"\"|'''")
_PROGRAM = re.compile(
    r"^(?:(?:async +)?def +\w+ *(?:[(\[]|$)|class +\w+ *(?:[(:\[]|$)|import +[\w.]+ *(?:$|[,;#]|as\b)"
    r"|from +[\w.]+ +import\b|@\w)",
    re.MULTILINE,
)
_DEFINED = re.compile(r"^[ \t]*(?:async +)?(?:def|class) +(\w+)", re.MULTILINE)
LIKE_CODE = re.compile(r"=|^[ \t]+\S|^return\b|\"{3}|'{3}", re.MULTILINE)  # of a text that may be a part of a program


@dataclass(frozen=True)
class Line:
    """A line of a reply."""

    text: str  # without its end
    fenced: bool  # whether it is within a fence, or one itself
    fence: bool  # whether it is one
    held: bool  # whether it begins within a long string of a program without fences


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a reply."""

    text: str
    language: str  # the first word beside the fence
    first: int  # the line of the fence that opens it
    end: int  # the line behind it
    closed: bool


def is_program(text: str) -> bool:
    """Whether a text has a line that begins a program, at the margin."""
    return bool(_PROGRAM.search(text))


def defined_in(text: str) -> set[str]:
    """The names of the functions and classes that a text defines."""
    return set(_DEFINED.findall(text))


def are_alternatives(texts: Sequence[str]) -> bool:
    """Whether programs that stand in one text define a name that is the same, or none; else they are parts of one program."""
    names = [defined_in(text) for text in texts]
    return not any(names) or bool(set.intersection(*names))


def parses(text: str) -> bool:
    """Whether a text is valid Python, at whatever indent."""
    return tree_of(text) is not None


def has_statements(text: str) -> bool:
    """Whether a text is valid Python with a statement that is more than a value, as one word is, or with a lambda."""
    tree = tree_of(text)
    values = [one.value for one in tree.body if isinstance(one, ast.Expr)] if tree else []
    return tree is not None and (len(values) < len(tree.body) or any(isinstance(value, ast.Lambda) for value in values))


def tree_of(text: str) -> ast.Module | None:
    """The syntax tree of a program; None where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes
            return ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def lines_of(text: str) -> list[Line]:
    """The lines of a text; a fence within a long string of a program that stands without fences is none."""
    found, ended = _lines(text, strings=True)
    return found if ended else _lines(text, strings=False)[0]


def _lines(text: str, *, strings: bool) -> tuple[list[Line], bool]:
    """(the lines, whether all long strings of programs without fences end)."""
    found: list[Line] = []
    fence, quotes, begun = "", "", False
    for line in text.splitlines():
        held = bool(quotes)
        mark = None if held else FENCE.fullmatch(line)
        found.append(Line(line, bool(fence or mark), bool(mark), held))
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
        elif strings and not fence:
            begun = begun or is_program(line)
            for literal in _LONG.findall(line) if begun else ():
                quotes = "" if literal == quotes else quotes or literal
    return found, not quotes


def blocks_of(lines: Sequence[Line]) -> list[Block]:
    """The fenced blocks of some lines that are not empty; one that does not end reaches to the end."""
    found: list[Block] = []
    opened: int | None = None
    marks, language = "", ""
    for i, line in enumerate(lines):
        mark = FENCE.fullmatch(line.text) if line.fence else None
        if mark and opened is None:
            opened, marks, language = i, mark[1], (mark[2].split() or [""])[0]
        elif mark and opened is not None and mark[1].startswith(marks) and line.text.strip() == mark[1]:
            found.append(_block(lines, opened, i, language, closed=True))
            opened = None
    if opened is not None:
        found.append(_block(lines, opened, len(lines), language, closed=False))
    return [block for block in found if block.text.strip()]


def _block(lines: Sequence[Line], opened: int, end: int, language: str, *, closed: bool) -> Block:
    indent = indent_of(lines[opened].text)
    text = "\n".join(unindented(line.text, indent) for line in lines[opened + 1 : end])
    return Block(text=text + "\n" if closed else text, language=language, first=opened, end=end + closed, closed=closed)


def indent_of(line: str) -> int:
    """The spaces and tabs that a line begins with."""
    return len(line) - len(line.lstrip(" \t"))


def unindented(line: str, indent: int) -> str:
    """A line without as much of its indent as the fence above it has, which stands within a list."""
    return line[min(indent, indent_of(line)) :]


def says(text: str) -> bool:
    """Whether a text has more than fences."""
    return any(line.strip() and not FENCE.fullmatch(line) for line in text.splitlines())
