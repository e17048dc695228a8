"""Reads replies: the answer behind a marker, and the items of a list.

Models keep to a format loosely. An answer is wanted behind a line `### Answer`; a reply without the line is the answer as a
whole. A program is looked for where there is code: a marker that has none behind it is prose about it. A list is wanted with an
item a line; numbers, bullets, headings and JSON are understood too.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from spa_bench.samplers.asking.fences import FENCE, Line, blocks_of, has_statements, is_program, lines_of, parses, says
from spa_bench.samplers.asking.loose_json import complete_texts, value_at
from spa_bench.samplers.replies import parse_reply
from spa_bench.support.thoughts import without_thoughts as without_thoughts

_MARKER = re.compile(r"[#*_> \t]*(?:final )?answer[*_ \t]*(?::[*_ \t]*([^\n]*)|#*)", re.IGNORECASE)
_COMMENT = re.compile(r"[ \t]*#(?!#)")
_NUMBERED = re.compile(r"[#*_ \t]*[(\[]?\d{1,3}[.):\]][*_]*(?:[ \t]+|(?=[^\W\d]))")
_BULLET = re.compile(r"[ \t]*[-–*•+][ \t]+")
_WORDS = "observation|idea|concept|approach|way|method|solution|hint|insight|item|option"
_HEADED = re.compile(rf"[#*_> \t]*(?:new[ \t]+)?(?:{_WORDS})[ \t]*#?\d{{1,3}}\b[*_ \t]*[:.)–-]?[*_ \t]*", re.IGNORECASE)
_RARE = tuple(
    re.compile(mark, re.IGNORECASE)
    for mark in (rf"[#*_> \t]*(?:{_WORDS})[*_ \t]*:[*_ \t]*", r"[ \t]*\(?[a-z][.)][ \t]+", r"(?=\*\*[^*\n]+\*\*)")
)
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?!\w)")
_AT_LINE = tuple(re.compile(f"^{mark.pattern}", mark.flags | re.MULTILINE) for mark in (_HEADED, _NUMBERED, _BULLET))
_ITS_NAME = re.compile(rf"(?:new[ _])?(?:{_WORDS})", re.IGNORECASE)
_VALUE = re.compile(r"[ \t]*[\[{]\s*(?:[\[{\"']|$)")
_OPENING = re.compile(r"^[ \t]*(?=[\[{]\s*[\[{\"'\w])", re.MULTILINE)
_MOST_TRIES = 100  # places where a JSON value may begin and does not


def unfenced(text: str) -> str:
    """The program of a text: its only fenced block, what is below its only numbered marker, or all; "" for fences alone.

    Where there is a program outside of the block and none in it, the block is an example, or its fence closes the program.
    """
    lines = lines_of(text)
    if sum(line.fence for line in lines) in (1, 2) and len(blocks := blocks_of(lines)) == 1:
        outside = is_program("\n".join(line.text for line in lines if not line.fenced))
        if not outside or is_program(textwrap.dedent(blocks[0].text)):
            return blocks[0].text
        if not blocks[0].closed and not blocks[0].language:
            return "\n".join(line.text for line in lines[: blocks[0].first])
        return text.strip("\n")
    below = parse_reply(text) if not any(line.fence for line in lines) else []
    if len(below) == 1 and is_program(below[0].text) and not is_program(text[: text.find(below[0].text.strip("\n"))]):
        return below[0].text
    return text.strip("\n") if says(text) else ""


def answer_in(reply: str, *, program: bool) -> str:
    """The answer that a reply holds: what comes behind the last marker line, and all of it where there is none.

    Of a program it is what comes behind the last marker line that has code behind it. In one fenced block it is the block; with
    several blocks or none the task's sanitiser finds the program.
    """
    text = without_thoughts(reply)
    return unfenced(_code_behind_marker(text)) if program else _behind_marker(text).strip()


def _behind_marker(reply: str) -> str:
    """The text behind the last marker line outside of fences that has text behind it; the whole reply where there is none."""
    lines, found = reply.splitlines(keepends=True), reply
    for i, line in enumerate(lines_of(reply)):
        if not line.fenced and (marker := _MARKER.fullmatch(line.text)):
            rest = (f"{marker[1]}\n" if (marker[1] or "").strip() else "") + "".join(lines[i + 1 :])
            if rest.strip():
                found = rest
    return found


def _code_behind_marker(reply: str) -> str:
    """The last section behind a marker line that has a program, else one with a block or statements; else the whole reply.

    Where the rest of the reply has a program, a block that is none is what the program prints.
    """
    lines = reply.splitlines(keepends=True)
    marks = list(_markers_beside_programs(lines_of(reply)))
    sections = [
        (f"{beside}\n" if beside else "") + "".join(lines[i + 1 : end])
        for (i, beside), (end, _) in pairwise([*marks, (len(lines), "")])
    ]
    for section in reversed(sections):
        if _has_program(section):
            return section
    if _has_program(reply):
        return reply
    with_code = [section for section in sections if blocks_of(lines_of(section)) or has_statements(section)]
    return with_code[-1] if with_code else reply


def _markers_beside_programs(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """(the line, the text beside it) of each marker line that is no part of a program which stands without fences."""
    begun = False
    for i, line in enumerate(lines):
        if line.fenced or line.held:
            continue
        marker = _MARKER.fullmatch(line.text)
        indented, comment = line.text[:1].isspace(), _COMMENT.match(line.text)
        inside = (indented and comment) or (begun and (indented or comment))
        if marker and not inside and not (_is_statement(line.text) and (begun or "=" in line.text)):
            yield i, (marker[1] or "").strip()
            begun = False
        begun = begun or is_program(line.text)


def _is_statement(line: str) -> bool:
    """Whether a line such as `answer: int = 0` is one of a program."""
    return line[:1].isalpha() and parses(line)


def _has_program(text: str) -> bool:
    """Whether a text has a block of Python, or a program without a fence."""
    lines = lines_of(text)
    return any(
        block.language.lower() in {"python", "py", "python3"}
        or is_program(textwrap.dedent(block.text))
        or re.match(r"[ \t]|return\b", block.text)
        for block in blocks_of(lines)
    ) or is_program("\n".join(line.text for line in lines if not line.fenced))


def items_in(reply: str, most: int) -> list[str]:
    """At most `most` items of a list in a reply, in order and without doubles: the texts of JSON, or its lines.

    A line begins an item with such a heading as `Observation 2:`; where none does, with a number, and else with a bullet, or
    several do with `Observation:`, a letter or bold words. Other
    lines belong to the item above them; those before the first are left out, and so are paragraphs behind the last. Without any
    of these, lines are items below a line that ends with a colon. A reply in no such form is one item where one is wanted,
    unless it is a program, and none where several are: it may be a refusal.
    """
    text = without_thoughts(reply)
    lines = [line for line in text.splitlines() if not FENCE.fullmatch(line)]
    found = _texts_of_json(text)
    found = found or _begun(lines, _HEADED) or _begun(lines, _NUMBERED) or [_unmarked(one) for one in _begun(lines, _BULLET)]
    found = found or next((some for mark in _RARE if len(some := _begun(lines, mark)) > 1), [])
    if not found and not is_program(text) and not any(_VALUE.match(line) for line in lines):
        found = _plain(lines, most)
    clean = (" ".join(_BOLD.sub(r"\1", item).strip(' \t*_"').split()) for item in found)
    return [item for item in dict.fromkeys(clean) if any(c.isalpha() for c in item)][:most]


def _begun(lines: Sequence[str], mark: re.Pattern[str]) -> list[str]:
    """The items whose first lines have the mark, with the lines below them.

    A paragraph is behind an empty line and not indented. The last item has as many as the one before it that has most.
    """
    found: list[list[str]] = []
    behind = False  # an empty line
    for line in lines:
        if begins := mark.match(line):
            found.append([line[begins.end() :]])
        elif found and line.strip():
            if behind and not line[0].isspace() and found[-1][-1].strip():
                found[-1].append(line.strip())
            else:
                found[-1][-1] += f" {line.strip()}"
        behind = not line.strip()
    if found:
        found[-1] = found[-1][: max(map(len, found[:-1]), default=1)]
    return [" ".join(paragraphs) for paragraphs in found]


def _plain(lines: Sequence[str], most: int) -> list[str]:
    """The items of a reply without marks: lines below one that ends with a colon, or all of it where one is wanted."""
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    headed = bool(paragraphs[0]) and paragraphs[0][0].rstrip().endswith(":")
    if headed:
        paragraphs[0] = paragraphs[0][1:]
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    if not paragraphs or (not headed and most > 1):
        return []
    if most == 1:
        return paragraphs[0][:1] if headed else [" ".join(paragraphs[0])]
    items = paragraphs[0] if len(paragraphs[0]) > 1 else [" ".join(paragraph) for paragraph in paragraphs]
    return items if len(items) > 1 else []


def _texts_of_json(text: str) -> list[str]:
    """The texts of JSON or Python values that begin at the beginning of a line, before any marked line; else none.

    Of a value that breaks off they are the complete literals.
    """
    if not _OPENING.search(text):
        return []
    marks = (mark.search(text) for mark in _AT_LINE)
    before = min((mark.start() for mark in marks if mark), default=len(text))
    found: list[str] = []
    place, tries = 0, 0
    while (opening := _OPENING.search(text, place)) and tries < _MOST_TRIES:
        if not found and opening.start() > before:
            break
        try:
            value, place = value_at(text, opening.end())
        except ValueError:
            if not found and (found := _of_broken(text[opening.end() :])):
                break
            place, tries = opening.end() + 1, tries + 1
        else:
            line_end = text.find("\n", place)
            if re.fullmatch(r"[\s,.;\]}`]*", text[place : line_end if line_end >= 0 else len(text)]):
                found += _texts_of(value)
    return [_unmarked(item) for item in found]


def _of_broken(text: str) -> list[str]:
    """The texts in a value that breaks off: those of its whole objects, where it has some, else its complete literals."""
    if not re.match(r".\s*[\"'\[{]", text, re.DOTALL):
        return []
    found: list[str] = []
    place, tries = text.find("{", 1), 0
    while place >= 0 and tries < _MOST_TRIES:
        try:
            value, place = value_at(text, place)
        except ValueError:
            place, tries = place + 1, tries + 1
        else:
            found += _texts_of(value, listed=True)
        place = text.find("{", place)
    return found or complete_texts(text)


def _unmarked(item: str) -> str:
    begins = _HEADED.match(item) or _NUMBERED.match(item) or _BULLET.match(item)
    return item[begins.end() :] if begins else item


def _texts_of(value: object, deep: int = 0, *, listed: bool = False) -> list[str]:
    """The texts in a value, in their order; an object of a list is one, and what stands beside a list is none."""
    if isinstance(value, str):
        return [value]
    if deep > 8 or not isinstance(value, list | dict):
        return []
    if isinstance(value, list):
        return [text for item in value for text in _texts_of(item, deep + 1, listed=True)]
    inner = [one for one in value.values() if isinstance(one, list | dict)]
    if inner:
        return [text for one in inner for text in _texts_of(one, deep + 1)]
    texts = {str(key): one for key, one in value.items() if isinstance(one, str) and any(c.isalpha() for c in one)}
    named = [one for key, one in texts.items() if _ITS_NAME.fullmatch(key)]
    if len(named) == 1:
        return named
    return [": ".join(texts.values())] if listed and texts else list(texts.values())
