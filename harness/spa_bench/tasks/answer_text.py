"""The Python in a model's answer: without chat prose, fences and drafts, as the longest text that parses.

Each pass goes over the lines once; a line is parsed a bounded number of times, so the work is linear in the answer's length.
"""

from __future__ import annotations

import ast
import keyword
import re
import textwrap
import warnings
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence

_FENCE = re.compile(r"([ \t]*)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*?)[ \t]*")
_BESIDE = re.compile(r"(?<=[^`~\s])[ \t]*(`{3,}|~{3,})[ \t]*$")  # a closing fence at the end of a line of code
_LITERAL = re.compile(r"#[^\n]*|'''|\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|[()\[\]{}]", re.DOTALL)
_THINK = re.compile(r"\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT = re.compile(r"</(think|thinking|thought|reasoning)>", re.IGNORECASE)
_HEAD = re.compile(r"(def|class|import|from|async def)\s|@\w|`{3}|~{3}")  # begins a statement, even where a bracket is open
_CODE = re.compile(  # as no line of prose begins
    r"(async def|def|class)\s+\w+\s*[(:\[]|@[\w.]+\s*(\(|$)|"
    r"(from\s+[\w.]+\s+)?import\s+(\(|[\w.*]+(\s+as\s+\w+)?\s*([,;#]|$))"
)
_TAIL = re.compile(r"(else|elif|except|finally)\b")  # goes on with the statement before it
_PARSES = 8  # the most attempts to leave out the broken end of a statement
_AGAIN = 16  # the most characters, for each of the text, that are parsed after brackets that hold no code
# what stands in a block of another language is no program
_OTHERS = "bash sh shell zsh console terminal text txt plaintext output json yaml toml ini diff html xml css sql latex tex math"
_LANGUAGES = frozenset(f"{_OTHERS} c cpp c++ java javascript js typescript ts go rust ruby r csv pycon mermaid".split())


def parse(text: str) -> ast.Module | None:
    """The syntax tree of `text`; None where it does not parse."""
    found = _parsed(text)
    return found if isinstance(found, ast.Module) else None


def _parsed(text: str) -> ast.Module | int:
    """The syntax tree of `text`, or the line of the error, from 1 (0: unknown)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes
            return ast.parse(text)
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, RecursionError, MemoryError):  # a zero byte, half a surrogate, too deep nesting
        return 0


def fence(line: str) -> re.Match[str] | None:
    """The match of a line that is a fence, of backticks or tildes; its groups are the indent, the marks and the words."""
    return _FENCE.fullmatch(line) if "```" in line or "~~~" in line else None


def line_ends(text: str) -> str:
    """`text` with the line ends that Python reads, and without a byte order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def without_drafts(text: str) -> str:
    """`text` without drafts in <think> and its like, of which the first may have begun before the text.

    A draft that does not end reaches to the end of the text.
    """
    if "<" not in text or not (_THOUGHT.search(text) or any(_THINK.match(line) for line in text.split("\n"))):
        return text
    kept: list[str] = []
    thinking = False
    for line in text.split("\n"):
        ends = list(_THOUGHT.finditer(line))
        if not thinking and _THINK.match(line):
            thinking = True
        if thinking and ends:
            thinking, line = False, line[ends[-1].end() :]
        elif ends and (not line[: ends[0].start()].strip() or not line[ends[-1].end() :].strip()):
            kept, line = [], line[ends[-1].end() :]  # what comes before was begun by the chat template
        if not thinking:
            kept.append(line)
    return "\n".join(kept)


def unfenced(text: str, *, strings: bool = True) -> list[str]:
    """`text` in parts, parted by its fences: fenced code at the left margin, without blocks in other languages.

    `strings`: a fence within a long string is a part of the string.
    """
    if "```" not in text and "~~~" not in text:
        return [text]
    held: Container[int] = _string_lines(text) if strings else ()
    parts: list[list[str]] = [[]]
    marks, indent, python = "", "", True  # of the block that is open
    for number, line in enumerate(text.split("\n")):
        mark = fence(line) if number not in held else None
        if mark is None:
            if python:
                code = line.removeprefix(indent)
                parts[-1].append(code if number in held or "#" in code else _BESIDE.sub("", code))
            continue
        parts.append([])
        if mark[3]:
            marks, indent = mark[2], mark[1]
            python = mark[3].split()[0].strip("{}.").lower() not in _LANGUAGES
        elif marks:
            if mark[2].startswith(marks):
                marks, indent, python = "", "", True
        elif mark[1]:  # without an indent it may end a block that began before the text
            marks, indent = mark[2], mark[1]
    return ["\n".join(part) for part in parts]


def before_fence(text: str) -> str:
    """`text` before its closing fence, and behind the fence that opens it.

    A fence opens where it has nothing in front of it, or names a language and has no code in front of it. Within a long string
    it is a part of the string.
    """
    if "```" not in text and "~~~" not in text:
        return text
    lines, held = text.split("\n"), _string_lines(text)
    first, indent = 0, ""
    for number, line in enumerate(lines):
        mark = fence(line.rstrip("\r")) if number not in held else None
        if mark is None:
            if number not in held and "#" not in line and _BESIDE.search(line):
                return _without_indent([*lines[first:number], _BESIDE.sub("", line)], indent)
            continue
        before = [line for line in lines[first:number] if line.strip()]
        if not before or (mark[3] and not first and not _is_code(before)):
            first, indent = number + 1, mark[1]
        else:
            return _without_indent(lines[first:number], indent).rstrip()
    return _without_indent(lines[first:], indent)


def _is_code(lines: Sequence[str]) -> bool:
    """Whether lines go on from a function, or begin a statement that prose does not begin with."""
    return lines[0].startswith(("  ", "\t")) or any(map(_CODE.match, lines))


def _without_indent(lines: Sequence[str], indent: str) -> str:
    return "\n".join(line.removeprefix(indent) for line in lines)


def statements(text: str) -> tuple[str, str]:
    """(the lines of `text` that are statements which parse, in order; those of them whose end was left out).

    A statement begins at the left margin, and ends before the next line there that is in no bracket or long string of it.
    What does not parse as a whole is tried without its broken end.
    """
    for whole in (text, textwrap.dedent(text)):
        if parse(whole):
            return whole, ""
    lines, begins = text.split("\n"), _begins(text)
    starts = [n for n, line in enumerate(lines) if line and not line[0].isspace() and line[0] != "#"]
    spare = _AGAIN * len(text)
    ahead = lines[: starts[0]] if starts else []
    kept = [text[: begins[starts[0]]]] if starts and all(line.lstrip()[:1] in {"", "#"} for line in ahead) else []
    broken: list[str] = []
    index = 0
    while index < len(starts):
        plain = index + 1
        far, read = _behind(text, begins, starts, index) if spare > 0 else (plain, 0)
        for end in dict.fromkeys((far, plain)):
            whole = text[begins[starts[index]] : begins[starts[end]] if end < len(starts) else len(text)]
            if parse(whole):
                break
        else:
            whole = _without_end(whole.split("\n"))
            broken.append(whole)
        if whole:
            kept.append(whole if whole.endswith("\n") else whole + "\n")
        if end < far:
            spare -= max(read, begins[starts[far - 1]] - begins[starts[index]])
        elif far == plain:
            spare -= read
        index = end
    return "".join(kept), "\n".join(broken)


def _behind(text: str, begins: Sequence[int], starts: Sequence[int], index: int) -> tuple[int, int]:
    """(the place in `starts` behind the statement that begins at `index`, the number of characters looked at)."""
    first = begins[starts[index]]
    stop, depth = index + 1, 0
    decorated = text.startswith("@", first)

    def goes_on() -> bool:
        """Whether the statement goes on at the line `stop`, which no string holds."""
        nonlocal decorated
        place = begins[starts[stop]]
        if depth:
            return not _HEAD.match(text, place)
        joins = decorated or bool(_TAIL.match(text, place))
        decorated = joins and text.startswith("@", place)
        return joins

    place = first
    for place, token, end in _tokens(text, first):
        while stop < len(starts) and begins[starts[stop]] <= place:
            if not goes_on():
                return stop if not depth else index + 1, place - first
            stop += 1
        if token[0] in "'\"":
            stop = max(stop, bisect_left(starts, bisect_left(begins, end)))
        elif token in "([{":
            if not depth and not _may_open(text, first, place):
                return index + 1, place - first
            depth += 1
        else:
            depth = max(0, depth - 1)
    while stop < len(starts) and not depth and goes_on():
        stop += 1
    return stop if not depth else index + 1, place - first


def _may_open(text: str, first: int, place: int) -> bool:
    """Whether the bracket at `place` can belong to a statement that begins at `first`, and not to prose."""
    begin = text.rfind("\n", 0, place) + 1
    if begin > first or _HEAD.match(text, begin):
        return True
    before = text[begin:place].strip()
    if keyword.iskeyword((before.split() or [""])[0]):
        return True
    return parse(before + {"(": "()", "[": "[0]", "{": "{}"}[text[place]]) is not None


def _without_end(lines: Sequence[str]) -> str:
    """The first of `lines` that parse together, as far as `_PARSES` attempts tell; "" for none."""
    lines = list(lines)
    for _ in range(_PARSES):
        found = _parsed("\n".join(lines))
        if isinstance(found, ast.Module):
            return "\n".join(lines)
        lines = lines[: min(found - 1, len(lines) - 1) if found else len(lines) - 1]
        if not lines:
            break
    return ""


def _string_lines(text: str) -> set[int]:
    """The numbers of the lines that begin within a long string."""
    begins = _begins(text)
    held: set[int] = set()
    for place, token, end in _tokens(text, 0):
        if token[0] in "'\"":
            held.update(range(bisect_left(begins, place + 1), bisect_left(begins, end)))
    return held


def _begins(text: str) -> list[int]:
    """The place of each line's first character."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _tokens(text: str, place: int) -> Iterator[tuple[int, str, int]]:
    """(place, first characters, end) of each string and bracket from `place` on, outside of comments.

    Quotes that do not close are no string.
    """
    never = set()
    while found := _LITERAL.search(text, place):
        token, place = found[0], found.end()
        if token[0] == "#":
            continue
        if token in ("'''", '"""'):
            end = -1 if token in never else _closing(text, token, place)
            if end < 0:
                never.add(token)
                continue
            place = end
        yield found.start(), token, place


def _closing(text: str, quotes: str, place: int) -> int:
    """The place behind the `quotes` that close a long string; -1 where nothing does."""
    while (found := text.find(quotes, place)) >= 0:
        slashes = 0
        while found > slashes and text[found - slashes - 1] == "\\":
            slashes += 1
        if slashes % 2 == 0:
            return found + len(quotes)
        place = found + 1
    return -1
