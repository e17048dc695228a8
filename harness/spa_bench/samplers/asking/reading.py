"""Reads replies: the answer behind a marker, and the items of a list.

Models keep to a format loosely. An answer is wanted behind a line `### Answer`; a reply without the line is the answer as a
whole. A list is wanted with an item a line; numbers, bullets, headings and a JSON list are understood too.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Sequence

from spa_bench.samplers.replies import parse_reply
from spa_bench.support.thoughts import without_thoughts as without_thoughts

_MARKER = re.compile(r"[#*_> \t]*(?:final )?answer[*_ \t]*(?::[*_ \t]*([^\n]*)|#*)", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`\n]*")
_NUMBERED = re.compile(r"[ \t]*[#*_]*[ \t]*\(?\d{1,3}[.):][*_]*[ \t]+")
_BULLET = re.compile(r"[ \t]*[-*•+][ \t]+")
_WORDS = "observation|idea|concept|approach|way|method|solution|hint|insight|item|option"
_HEADED = re.compile(rf"[#*_> \t]*(?:new[ \t]+)?(?:{_WORDS})[ \t]*#?\d{{1,3}}\b[*_ \t]*[:.)–-]?[*_ \t]*", re.IGNORECASE)
_PROGRAM = re.compile(r"^(?:async def|def|class|import|from) +\w|^@\w", re.MULTILINE)
_OPENING = re.compile(r"^[ \t]*\[", re.MULTILINE)


def is_program(text: str) -> bool:
    """Whether a text has a line that begins a program, at the margin."""
    return bool(_PROGRAM.search(text))


def answer_in(reply: str, *, program: bool) -> str:
    """The answer that a reply holds: what comes behind the last marker line, and all of it where there is none.

    Of a program in one fenced block it is the block; with several blocks or none the task's sanitiser finds the program.
    """
    text = _behind_marker(without_thoughts(reply))
    if not program:
        return text.strip()
    if sum(bool(_FENCE.fullmatch(line)) for line in text.splitlines()) <= 2 and len(blocks := parse_reply(text)) == 1:
        return blocks[0].text
    return text.strip("\n")


def _behind_marker(reply: str) -> str:
    """The text behind the last marker line outside of fences that has text behind it; the whole reply where there is none."""
    lines = reply.splitlines(keepends=True)
    fence, found = "", reply
    for i, line in enumerate(lines):
        bare = line.rstrip("\r\n")
        mark = _FENCE.fullmatch(bare)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and bare.strip() == mark[1]:
            fence = ""
        elif not fence and (marker := _MARKER.fullmatch(bare)):
            rest = (f"{marker[1]}\n" if (marker[1] or "").strip() else "") + "".join(lines[i + 1 :])
            if rest.strip():
                found = rest
    return found


def items_in(reply: str, most: int) -> list[str]:
    """At most `most` items of a list in a reply, in order and without doubles: a JSON or Python list of texts, or its lines.

    A line begins an item with such a heading as `Observation 2:`; where none does, with a number, and else with a bullet. Other
    lines belong to the item above them, and those before the first are left out. Where there is none of these, each line is an
    item, unless there is one line and several are wanted, or a program.
    """
    text = without_thoughts(reply)
    lines = [line for line in text.splitlines() if line.strip() and not _FENCE.fullmatch(line)]
    found = _begun(lines, _HEADED) or _begun(lines, _NUMBERED) or _begun(lines, _BULLET)
    if not found:
        plain = lines[1:] if lines and lines[0].rstrip().endswith(":") else lines
        found = _list_of_texts(text) or (plain if (len(plain) > 1 or most == 1) and not is_program(text) else [])
    clean = (" ".join(item.strip(' \t*_"').split()) for item in found)
    return [item for item in dict.fromkeys(clean) if item][:most]


def _begun(lines: Sequence[str], mark: re.Pattern[str]) -> list[str]:
    """The items whose first lines have the mark, with the lines below them."""
    found: list[str] = []
    for line in lines:
        if begins := mark.match(line):
            found.append(line[begins.end() :])
        elif found:
            found[-1] += f" {line.strip()}"
    return found


def _list_of_texts(text: str) -> list[str]:
    """The first JSON or Python list at the beginning of a line, if it is of texts; else none."""
    opening = _OPENING.search(text)
    if not opening:
        return []
    start, end = opening.end() - 1, text.rfind("]") + 1
    value: object = None
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = ast.literal_eval(text[start:end])
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
