"""Reads answers with stated probabilities that stand below marker lines, on lines of a list, in a table or in fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from spa_bench.samplers.asking.fences import Block, Line, blocks_of, has_statements, is_program, lines_of
from spa_bench.samplers.asking.stated_json import is_broken
from spa_bench.samplers.asking.stated_numbers import LAST, SAID, Raw, are_probabilities, parted, said_alone
from spa_bench.samplers.replies import parse_reply

_WORDS = "answer|response|solution|option|candidate|approach|implementation|variant|version"
_MARK = re.compile(rf"[#*>_ \t]*(?:{_WORDS})\b[ \t]*#?\d+\b([^\n]*)", re.IGNORECASE)
_LABEL = re.compile(r"[#*>_ \t]*(?:text|answer|response|solution|option|candidate)[*_ \t]*:[*_]*([^\n]*)", re.IGNORECASE)
_COMMENT = re.compile(r"#(?!#)")
_NUMBERED = re.compile(r"[#*_ \t]*\d+[.)][*_]*[ \t]+([^\n]*)")
_BULLET = re.compile(r"[ \t]*[-–*•+][ \t]+([^\n]*)")
_ROW = re.compile(r"[ \t]*\|(.*)\|[ \t]*")
_RULE = re.compile(r"[ \t:|-]+")
_BESIDE = re.compile(r"[ \t]*(?:[#*_(]|\d+[.)]).*")  # a heading, or nothing but a number in brackets
_PLACES = {"#", "no", "no.", "nr", "number", "rank", "index", "id", ""}
_TEXTS = {"text", "response", "answer", "solution", "candidate", "option"}


def marked(text: str, finished: bool, program: bool) -> Iterator[Raw]:
    """Answers below marker lines, such as `### Answer 2 (probability: 0.2)`."""
    lines = lines_of(text)
    marks = [i for i, line in enumerate(lines) if not (line.fenced or line.held) and _MARK.fullmatch(line.text)]
    if program:
        marks = _beside_programs(lines, marks)
    for start, end in pairwise([*marks, len(lines)]):
        yield _below(lines[start:end], _MARK, finished or end < len(lines))


def labelled(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers behind a label without a number, such as `Answer: red`, if each has a line for its probability."""
    labels = _sections(lines_of(text), _LABEL)
    raws = [_below(section, _LABEL, finished or section is not labels[-1]) for section in labels]
    return raws if len(raws) > 1 and _all_said(raws, finished) else []


def followed(text: str, finished: bool, program: bool) -> list[Raw]:
    """Several answers other than programs, each with a line for its probability below."""
    lines = [line for line in lines_of(text) if line.text.strip()]
    if program or any(line.fenced for line in lines):
        return []
    said = {i: one for i, line in enumerate(lines) if (one := said_alone(line.text)) is not None}
    begins = [int(lines[0].text.rstrip().endswith(":")) if lines else 0, *(i + 1 for i in said)]
    texts = ["\n".join(line.text for line in lines[a:b]) for a, b in zip(begins, said, strict=False)]
    raws = [Raw(one, number) for one, number in zip(texts, said.values(), strict=True)]
    return raws if len(raws) > 1 and _all_said(raws, finished) else []


def _beside_programs(lines: Sequence[Line], marks: Sequence[int]) -> list[int]:
    """The marker lines that are no comments within a program without a fence.

    Comments part several programs where the first of them begins the reply, and each has a program below it.
    """
    kept: list[int] = []
    for mark, end in pairwise([*marks, len(lines)]):
        above, below = (
            "\n".join(line.text for line in some if not line.fenced)
            for some in (lines[kept[-1] if kept else 0 : mark], lines[mark:end])
        )
        indented = lines[mark].text[:1].isspace()
        parts = bool(kept) and is_program(below) and not indented
        if parts or not is_program(above) or not (indented or _COMMENT.match(lines[mark].text)):
            kept.append(mark)
    return kept


def _below(lines: Sequence[Line], mark: re.Pattern[str], whole: bool) -> Raw:
    """The answer of a marker line and the lines below it: a fenced block where there is one."""
    head = mark.fullmatch(lines[0].text)
    assert head
    said = parted(head[1])[1]
    found = said or None
    rest: list[Line] = []
    for line in lines[1:]:
        alone = None if line.fenced else said_alone(line.text)
        if alone is None:
            rest.append(line)
        elif found is None:
            found = alone
    below = "\n".join(line.text for line in rest).strip("\n")
    beside = SAID.sub("", LAST.sub("", head[1])).strip(' \t:*_()-"')
    if blocks := blocks_of(rest):
        return Raw(blocks[0].text, found or "", whole or blocks[0].closed)
    return Raw(below if below.strip() else beside, found or "", whole)


def numbered(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers on or below numbered lines, if one of them has a probability.

    Where there are fenced blocks, each number has one of its own below it; a program is in none of the lines then.
    """
    lines = lines_of(text)
    sections = _sections(lines, _NUMBERED)
    if blocks := blocks_of(lines):
        own = [(section, found) for section in sections if (found := blocks_of(section))]
        if len(own) != len(blocks):
            return []
        raws = [Raw(found[0].text, _said_in(section), finished or found[0].closed) for section, found in own]
    else:
        raws = [_of_item(section, tail=False, whole=finished or i + 1 < len(sections)) for i, section in enumerate(sections)]
        if not program and not any(raw.said for raw in raws):
            raws = [_of_item(one, tail=True, whole=finished or i + 1 < len(sections)) for i, one in enumerate(sections)]
            raws = raws if _all_said(raws, finished) else []
        raws = _programs(raws) if program else raws
    return raws if any(raw.said for raw in raws) else []


def _sections(lines: Sequence[Line], mark: re.Pattern[str]) -> list[list[Line]]:
    """The lines from each that has the mark up to the next one."""
    marks = [
        i
        for i, line in enumerate(lines)
        if not (line.fenced or line.held) and mark.fullmatch(line.text) and said_alone(line.text) is None
    ]
    return [list(lines[start:end]) for start, end in pairwise([*marks, len(lines)])]


def _said_in(section: Sequence[Line]) -> str:
    """What the lines of a section outside of its block state, the first of them before the others."""
    said = parted(section[0].text)[1]
    alone = (said_alone(line.text) for line in section[1:] if not line.fenced)
    return said or next((one for one in alone if one), "")


def _of_item(section: Sequence[Line], *, tail: bool, whole: bool) -> Raw:
    """The answer of a line of a list; where the probability is in a line of its own below, with the lines between."""
    first = _NUMBERED.fullmatch(section[0].text) or _BULLET.fullmatch(section[0].text)
    text, said = parted(first[1] if first else section[0].text, tail=tail)
    for i, line in enumerate(section[1:] if not said else (), 1):
        if (alone := said_alone(line.text)) is not None:
            return Raw("\n".join([text, *(one.text.strip() for one in section[1:i])]).strip("\n"), alone)
    return Raw(text, said, whole or bool(said))


def listed(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers other than programs on bulleted lines, or on lines without a mark, if all of them have a probability."""
    lines = lines_of(text)
    if program or any(line.fenced for line in lines):
        return []
    bullets = _sections([line for line in lines if line.text.strip()], _BULLET)
    raws = [_of_item(section, tail=True, whole=finished or i + 1 < len(bullets)) for i, section in enumerate(bullets)]
    if not bullets:
        plain = [line for line in lines if line.text.strip()]
        plain = plain[1:] if plain and plain[0].text.rstrip().endswith(":") else plain
        raws = [_of_item([line], tail=True, whole=finished or line is not plain[-1]) for line in plain]
        raws = raws if len(plain) > 1 else []
    return raws if _all_said(raws, finished) else []


def _all_said(raws: Sequence[Raw], finished: bool) -> bool:
    """Whether all have a probability, but one in which the reply ended."""
    whole = raws if finished else [raw for raw in raws if raw.whole]
    return bool(whole) and all(raw.text.strip() for raw in whole) and are_probabilities([raw.said for raw in whole])


def table(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers other than programs in a table with a column for probabilities and one for texts beside it."""
    rows = [match[1].split("|") for line in lines_of(text) if not line.fenced and (match := _ROW.fullmatch(line.text))]
    cells = [[cell.strip(" \t*_`") for cell in row] for row in rows if not _RULE.fullmatch("|".join(row))]
    if program or len(cells) < 2:
        return []
    if all(len(row) == 2 and row[0] for row in cells) and are_probabilities([row[1] for row in cells]):
        return [Raw(row[0], row[1]) for row in cells]  # without a head
    heads = [cell.lower() for cell in cells[0]]
    numbers = [i for i, head in enumerate(heads) if re.match(r"prob|likelihood|p$", head)]
    others = [i for i, head in enumerate(heads) if i not in numbers and head not in _PLACES]
    texts = [i for i in others if heads[i] in _TEXTS] or others
    if len(numbers) != 1 or len(texts) != 1:
        return []
    return [Raw(row[texts[0]], row[numbers[0]]) for row in cells[1:] if len(row) == len(heads)]


def blocks(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers in fenced blocks, with the probabilities beside them; else those that samplers without probabilities read."""
    lines = lines_of(text)
    own = blocks_of(lines)
    said = _beside(lines, own)
    said = said if any(said) else [_in_comment(block.text) for block in own]
    raws = [Raw(block.text, one, finished or block.closed) for block, one in zip(own, said, strict=True)]
    if any(said):
        return [raw for raw in raws if raw.said or not program or is_program(raw.text)]
    found = [Raw(one.text, "", one.whole) for one in parse_reply(text, finished=finished) if not is_broken(one.text)]
    if not program or own:
        return found
    if is_program(text):  # numbers and comments are parts of it, unless each has a whole program below it
        return found if len(found) > 1 and all(is_program(raw.text) for raw in found) else []
    return _programs(found)


def _in_comment(program: str) -> str:
    """What a comment states that is the first or the last line of a block."""
    lines = program.strip().splitlines()
    comments = [line for line in (lines[0], lines[-1]) if line.lstrip().startswith("#")]
    return next((said for line in comments if (said := said_alone(line))), "")


def _beside(lines: Sequence[Line], own: Sequence[Block]) -> list[str]:
    """What is stated beside each block: behind it, unless something stands before the first; nothing where it may be either."""
    edges = [0, *(edge for block in own for edge in (block.first, block.end)), len(lines)]
    gaps = [_stated([line.text for line in lines[a:b]]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    first = [line.text for line in lines[: edges[1]] if line.text.strip()][-1:]
    gaps[0] = _stated(first)  # what introduces the reply is further above
    if any(len(gap) > 1 for gap in gaps) or (gaps[0] and gaps[-1]):
        return [""] * len(own)
    return ["".join(gap) for gap in (gaps[:-1] if gaps[0] else gaps[1:])]


def _stated(lines: Sequence[str]) -> list[str]:
    found = []
    for line in lines:
        match = SAID.search(line)
        said = said_alone(line) or (match[1] if match else "")
        if not said and _BESIDE.fullmatch(line) and (last := LAST.search(line)):
            said = last[1]
        if said and are_probabilities([said]):
            found.append(said)
    return found


def _programs(raws: Sequence[Raw]) -> list[Raw]:
    """Those that are programs, as far as they can be told from prose."""
    return [raw for raw in raws if is_program(raw.text) or has_statements(raw.text)]
