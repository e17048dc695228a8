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

from spa_bench.samplers.asking.fences import (
    FENCE,
    LIKE_CODE,
    Line,
    blocks_of,
    has_statements,
    indent_of,
    is_program,
    lines_of,
    parses,
    says,
)
from spa_bench.samplers.asking.loose_json import complete_texts, value_at
from spa_bench.samplers.asking.refusals import is_refused
from spa_bench.samplers.replies import parse_reply
from spa_bench.support.thoughts import without_thoughts

_ANSWER = r"answer|antwort|réponse|respuesta|risposta|resposta|ответ|答案|回答"
_MARKER = re.compile(
    rf"[#*_> \t]*(?:(?:the|my|final)[ \t]+)*(?:{_ANSWER})(?:[ \t]+#?(?P<number>\d{{1,3}})\b)?[*_ \t]*"
    r"(?:[:：][*_ \t]*(?P<beside>[^\n]*)|#*)",
    re.IGNORECASE,
)
_TAGGED = re.compile(
    r"^[ \t]*<(answer|code|solution|program|python)>[ \t]*\n?(.*?)</\1>[ \t]*$", re.IGNORECASE | re.MULTILINE | re.DOTALL
)
_CLOSING = re.compile(r"`{3,}\s*\Z")  # a fence at the end of the line that it should stand below
RULE = re.compile(r"\n[ \t]{0,8}(?:-{3,}|\*{3,}|_{3,})\s*\Z")
_OF_TEXTS = {"", "text", "txt", "plaintext", "markdown", "md"}
_COMMENT = re.compile(r"[ \t]*#(?!#)")
_NUMBERED = re.compile(
    r"[#*_> \t]*(?:[(\[]?\d{1,3}(?:[.):\]、．）][*_]*(?:[ \t]+|(?=[^\W\d]))|[ \t]+[-–—][ \t]+(?=[*_]*[A-Z])"
    r"|\ufe0f?\u20e3[ \t]*)|[①-⑳][ \t]*)"
)
_BULLET = re.compile(r"[> \t]*[-–*•+→➤●▪◦‣][ \t]+(?:\[[ xX]\][ \t]+)?")
_WORDS = (
    "observation|idea|concept|approach|way|method|solution|hint|insight|item|option|strategy|technique|property|perspective"
)
_HEADING = re.compile(r"#{1,6}[ \t]+\S.*|\*\*[^*]+\*\*:?[ \t]*|[A-Z][^.!?]{0,60}:[ \t]*")
_TAG_LINE = re.compile(r"[ \t]*</?[a-z]\w*>[ \t]*", re.IGNORECASE)
_ELEMENT = re.compile(rf"<(li|{_WORDS})\b[^>\n]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_ROW = re.compile(r"[ \t]*\|(.*)\|[ \t]*")
_HEADED = re.compile(rf"[#*_> \t]*(?:new[ \t]+)?(?:{_WORDS})[ \t]*#?\d{{1,3}}\b[*_ \t]*[:.)–-]?[*_ \t]*", re.IGNORECASE)
_RARE = tuple(
    re.compile(mark, re.IGNORECASE)
    for mark in (rf"[#*_> \t]*(?:{_WORDS})[*_ \t]*:[*_ \t]*", r"[ \t]*\(?[a-z][.)][ \t]+", r"(?=\*\*[^*\n]+\*\*)")
)
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?!\w)")
_AT_LINE = tuple(re.compile(f"^{mark.pattern}", mark.flags | re.MULTILINE) for mark in (_HEADED, _NUMBERED, _BULLET))
_ITS_NAME = re.compile(rf"(?:new[ _])?(?:{_WORDS})s?", re.IGNORECASE)
_VALUE = re.compile(r"[ \t]*[\[{]\s*(?:[\[{\"']|$)")
_OPENING = re.compile(r"^[ \t]*(?=[\[{]\s*[\[{\"'\w])", re.MULTILINE)
_MOST_TRIES = 100  # places where a JSON value may begin and does not


def unfenced(text: str) -> str:
    """The program of a text: its only fenced block, what is below its only numbered marker, or all; "" for fences alone.

    Where there is a program outside of the block and none in it, the block is an example, or its fence closes the program.
    """
    text = _within_tag(text)
    lines = lines_of(text)
    if sum(line.fence for line in lines) in (1, 2) and len(blocks := blocks_of(lines)) == 1:
        outside = is_program("\n".join(line.text for line in lines if not line.fenced))
        if not outside or is_program(textwrap.dedent(blocks[0].text)):
            return blocks[0].text if blocks[0].closed else _CLOSING.sub("", blocks[0].text)
        if not blocks[0].closed and not blocks[0].language:
            return "\n".join(line.text for line in lines[: blocks[0].first])
        return text.strip("\n")
    if sum(line.fence for line in lines) == 1 and not says("\n".join(line.text for line in lines if line.fenced)):
        return "\n".join(line.text for line in lines if not line.fenced).strip("\n")  # a fence that nothing stands below
    below = parse_reply(text) if not any(line.fence for line in lines) else []
    if len(below) == 1 and is_program(below[0].text) and not is_program(text[: text.find(below[0].text.strip("\n"))]):
        return below[0].text
    return text.strip("\n") if says(text) else ""


def _within_tag(text: str) -> str:
    """What stands in the only tag for an answer or code, as `<answer>`, if that has all the code there is; else the text."""
    tags = list(_TAGGED.finditer(text))
    if len(tags) != 1:
        return text
    rest = text[: tags[0].start()].strip("\n") + text[tags[0].end() :]
    code = is_program(rest) or has_statements(rest) or FENCE.search(rest) or LIKE_CODE.search(rest)
    return tags[0][2] if says(tags[0][2]) and not code else text


def answer_in(reply: str, *, program: bool) -> str:
    """The answer that a reply holds: what comes behind the last marker line, and all of it where there is none.

    Markers and fences alone hold no answer. A text may stand in a tag `<answer>`, or in one fenced block without a language.

    Of a program it is what comes behind the last marker line that has code behind it. In one fenced block it is the block; with
    several blocks or none the task's sanitiser finds the program.
    """
    text = without_thoughts(reply)
    lines = lines_of(text)
    marks = {
        i for i, _ in _markers(lines, [i for i, line in enumerate(lines) if not line.fenced]) if not _beside(lines[i].text)
    }
    if not any(line.text.strip() and not line.fence and i not in marks for i, line in enumerate(lines)):
        return ""
    return unfenced(_code_behind_marker(text)) if program else without_wrapping(_behind_marker(text)).strip()


def without_wrapping(text: str) -> str:
    """A text without the tag or the fences that hold all of it."""
    tags = list(_TAGGED.finditer(text))
    if len(tags) == 1 and tags[0][1].lower() == "answer":
        text = tags[0][2]
    lines = lines_of(text.strip())
    found = blocks_of(lines)
    alone = len(found) == 1 and found[0].closed and found[0].first == 0 and found[0].end == len(lines)
    return found[0].text if alone and found[0].language.lower() in _OF_TEXTS else text


def _markers(lines: Sequence[Line], places: Sequence[int]) -> list[tuple[int, re.Match[str]]]:
    """The marker lines at these places; one with a number, such as `Answer 2`, if it is the only such line."""
    found = [(i, marker) for i in places if (marker := _MARKER.fullmatch(lines[i].text))]
    several = sum(bool(marker["number"]) for _, marker in found) > 1
    return [(i, marker) for i, marker in found if not (several and marker["number"])]


def _beside(line: str) -> str:
    """The text beside the colon of a marker line, without stars that close what began before it."""
    marker = _MARKER.fullmatch(line)
    beside = (marker["beside"] or "").strip() if marker else ""
    opened = marker is not None and beside and line[: marker.start("beside")].count("**") % 2
    return beside.removesuffix("**").rstrip() if opened else beside


def _behind_marker(reply: str) -> str:
    """The text behind the last marker line outside of fences that has text behind it; the whole reply where there is none."""
    lines, found = reply.splitlines(keepends=True), reply
    parts = lines_of(reply)
    for i, marker in _markers(parts, [i for i, line in enumerate(parts) if not line.fenced]):
        beside = _beside(marker[0])
        rest = (f"{beside}\n" if beside else "") + "".join(lines[i + 1 :])
        if rest.strip():
            found = RULE.sub("", rest)
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
    free = [i for i, line in enumerate(lines) if not (line.fenced or line.held)]
    marks = dict(_markers(lines, free))
    for i in free:
        line, marker = lines[i], marks.get(i)
        indented, comment = line.text[:1].isspace(), _COMMENT.match(line.text)
        inside = (indented and comment) or (begun and (indented or comment))
        if marker and not inside and not (_is_statement(line.text) and (begun or "=" in line.text)):
            yield i, _beside(line.text)
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


def items_in(reply: str, most: int, *, finished: bool = True) -> list[str]:
    """At most `most` items of a list in a reply, in order and without doubles: the texts of JSON, or its lines.

    A line begins an item with such a heading as `Observation 2:`; where none does, with a number or a bullet, whichever is less
    indented, or several do with `Observation:`, a letter or bold words. Other lines belong to the item above them; those before
    the first are left out, and so are paragraphs behind the last. Else the rows of a table, elements such as `<li>`, or lines
    below one that ends with a colon are items. A reply in no such form is one item where one is wanted, unless it is a program,
    and none where several are: it may be a refusal. A list below a refusal names nothing. Of a reply that did not finish,
    the last item is left out, unless it is alone or in a form that closes its items: JSON, the rows of a table, elements.
    """
    text = without_thoughts(reply)
    lines = [line for line in text.splitlines() if not (FENCE.fullmatch(line) or _TAG_LINE.fullmatch(line))]
    lines = ["" if RULE.fullmatch(f"\n{line}") else line for line in lines]
    if most > 1 and is_refused(lines):
        return []
    closed = _texts_of_json(text)
    found = closed or _begun(lines, _HEADED) or _begun_outermost(lines)
    closed = closed or ([] if found else _rows(lines) or [one[2] for one in _ELEMENT.finditer(text)])
    found = found or closed or next((some for mark in _RARE if len(some := _begun(lines, mark)) > 1), [])
    if not found and not is_program(text) and not any(_VALUE.match(line) for line in lines):
        found = _plain(lines, most)
    clean = [" ".join(_BOLD.sub(r"\1", item).strip(' \t*_"').split()) for item in found]
    whole = clean if finished or closed else clean[:-1]
    return _different(whole, most) or _different(clean, most)


def _different(items: Sequence[str], most: int) -> list[str]:
    """At most `most` items without doubles and those without a letter."""
    return [item for item in dict.fromkeys(items) if any(c.isalpha() for c in item)][:most]


def _rows(lines: Sequence[str]) -> list[str]:
    """The rows of a table below its rule: the column with the name of an item, else all but those of numbers."""
    rows = [[cell.strip() for cell in row[1].split("|")] for line in lines if (row := _ROW.fullmatch(line))]
    rule = next((i for i, row in enumerate(rows) if set("".join(row)) <= set(":- \t") and "-" in "".join(row)), 0)
    if not rule:
        return []
    named = [i for i, head in enumerate(rows[rule - 1]) if _ITS_NAME.fullmatch(head.strip("*_ "))]
    texts = [[row[named[0]]] if len(named) == 1 and named[0] < len(row) else row for row in rows[rule + 1 :]]
    return [": ".join(one for one in row if any(c.isalpha() for c in one)) for row in texts]


def _begun_outermost(lines: Sequence[str]) -> list[str]:
    """The items that begin with numbers or bullets, whichever of both is less indented; numbers where both are not."""
    numbered, bulleted = ([_unmarked(one) for one in _begun(lines, mark)] for mark in (_NUMBERED, _BULLET))
    if not (numbered and len(bulleted) > 1):
        return numbered or bulleted
    number, bullet = (min(_indent(line) for line in lines if mark.match(line)) for mark in (_NUMBERED, _BULLET))
    return bulleted if bullet + 1 < number else numbered


def _indent(line: str) -> int:
    return indent_of(line.expandtabs(4))


def _outer(lines: Sequence[str], mark: re.Pattern[str]) -> set[int]:
    """The places of the lines that begin items: not those of lists within them, which are indented and begin anew."""
    marks = {i: _indent(line) for i, line in enumerate(lines) if mark.match(line)}
    least = min(marks.values(), default=0)
    inner = {i for i, indent in marks.items() if indent > least + 1}
    anew = mark is _BULLET or any(re.match(r"\W*1\b", lines[i]) for i in inner)
    return set(marks) - inner if anew else set(marks)


def _next(lines: Sequence[str], place: int) -> int:
    """The place of the next line that is not empty; -1 where there is none."""
    return next((i for i in range(place + 1, len(lines)) if lines[i].strip()), -1)


def _begun(lines: Sequence[str], mark: re.Pattern[str]) -> list[str]:
    """The items whose first lines have the mark, with the lines below them.

    A paragraph is behind an empty line and not indented. The last item has as many as the one before it that has most. A
    heading between two items is a part of neither.
    """
    found: list[list[str]] = []
    outer = _outer(lines, mark)
    behind = False  # an empty line
    for i, line in enumerate(lines):
        begins = mark.match(line) if i in outer else None
        if begins:
            opened = begins[0].count("**") % 2  # bold words go on behind the mark
            found.append(["**" * opened + line[begins.end() :]])
        elif found and line.strip():
            if behind and mark is not _HEADED and _HEADING.fullmatch(line) and _next(lines, i) in outer:
                continue
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
    if headed and most > 1:  # what ends with a colon as well is no item
        paragraphs = [[line for line in paragraph if not line.rstrip().endswith(":")] for paragraph in paragraphs]
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
