"""Reads answers with stated probabilities that stand below marker lines, on lines of a list, in a table or in fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile

from spa_bench.samplers.asking.fences import (
    Block,
    Line,
    are_alternatives,
    blocks_of,
    defined_in,
    has_statements,
    is_program,
    lines_of,
)
from spa_bench.samplers.asking.reading import RULE
from spa_bench.samplers.asking.refusals import is_refused
from spa_bench.samplers.asking.stated_json import is_broken
from spa_bench.samplers.asking.stated_numbers import SAID, Raw, are_probabilities, last, parted, said_alone
from spa_bench.samplers.replies import parse_reply, programs_in

_WORDS = (
    "answer|response|solution|option|candidate|approach|implementation|variant|version|method"
    "|antwort|réponse|respuesta|risposta|resposta|ответ|答案|回答"
)
_MARK = re.compile(rf"[#*>_ \t]*(?:{_WORDS})\b[ \t]*#?\d+\b([^\n]*)", re.IGNORECASE)
_LABEL = re.compile(r"[#*>_ \t]*(?:text|answer|response|solution|option|candidate)[*_ \t]*:[*_]*([^\n]*)", re.IGNORECASE)
_COMMENT = re.compile(r"#(?!#)")
_NUMBERED = re.compile(r"[#*_ \t]*\d+[.)][*_]*[ \t]+([^\n]*)")
_BULLET = re.compile(r"[ \t]*[-–*•+][ \t]+([^\n]*)")
_ROW = re.compile(r"[ \t]*\|(.*)\|[ \t]*")
_RULE = re.compile(r"[ \t:|-]+")
_BESIDE = re.compile(r"[ \t]*(?:[#*_(]|\d+[.)]).*")  # a heading, or nothing but a number in brackets
_NAME = re.compile(r"[-*•>_ \t]*(?:text|response|answer)[*_ \t]*:[*_ \t]*\n?(?=\s*\S)", re.IGNORECASE)
_REASON = re.compile(r"[-*•>_# \t]*(?:reason(?:ing)?|explanation|rationale|justification)[*_ \t]*:.*", re.IGNORECASE)
_CLOSING = re.compile(
    r"\n[ \t]*\n[(*_ \t]*(?:(?:please )?note\b|let me know\b|i hope\b|feel free\b|these (?:answers|responses|probabilities)\b"
    r"|the probabilities\b|all probabilities\b)[^\n]*\s*\Z",
    re.IGNORECASE,
)
_TAG_LINE = re.compile(r"\s*</?[a-z]\w*>\s*", re.IGNORECASE)
_PLACES = {"#", "no", "no.", "nr", "number", "rank", "index", "id", ""}
_TEXTS = {"text", "response", "answer", "solution", "candidate", "option"}


def marked(text: str, finished: bool, program: bool) -> Iterator[Raw]:
    """Answers below marker lines, such as `### Answer 2 (probability: 0.2)`."""
    lines = lines_of(text)
    marks = [i for i, line in enumerate(lines) if not (line.fenced or line.held) and _MARK.fullmatch(line.text)]
    if program:
        marks = _beside_programs(lines, marks)
    sections = [lines[start:end] for start, end in pairwise([*marks, len(lines)])]
    beside = len(sections) > 1 and not any(_says(section[1:]) for section in sections[:-1])
    ends = not any(_says(section[min(_alone(section), default=len(section)) :]) for section in sections[:-1])
    for section in sections:
        whole = finished or section is not sections[-1]
        yield _below(section, _MARK, whole=whole, program=program, beside=beside, ends=ends)


def labelled(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers behind a label without a number, such as `Answer: red`, if each has a line for its probability."""
    labels = _sections(lines_of(text), _LABEL)
    raws = [
        _below(section, _LABEL, whole=finished or section is not labels[-1], program=program, beside=False, ends=True)
        for section in labels
    ]
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


def _says(lines: Sequence[Line]) -> bool:
    """Whether lines have more than a probability and rules."""
    return any(line.text.strip(" \t-*_") and said_alone(line.text) is None for line in lines)


def _alone(lines: Sequence[Line]) -> dict[int, str]:
    """What the lines below the first state that say nothing else, by their places."""
    return {i: said for i, line in enumerate(lines) if i and not line.fenced and (said := said_alone(line.text)) is not None}


def _below(lines: Sequence[Line], mark: re.Pattern[str], *, whole: bool, program: bool, beside: bool, ends: bool) -> Raw:
    """The answer of a marker line and the lines below it: a fenced block where there is one, of several one with a program.

    `beside`: a text is what stands beside the marker. `ends`: it ends at the line of its probability, if it begins above that.
    """
    head = mark.fullmatch(lines[0].text)
    assert head
    alone, stated = _alone(lines), parted(head[1])[1]
    found = stated or next(iter(alone.values()), "")
    rest = [line for i, line in enumerate(lines) if i and i not in alone]
    if own := blocks_of(rest):
        best = next((one for one in own if program and defined_in(one.text)), own[0])
        return Raw(best.text, found, whole or best.closed)
    title = SAID.sub("", head[1][: match.start()] if (match := last(head[1])) else head[1]).strip(' \t:*_()-"')
    above = lines[1 : min(alone, default=len(lines))] if ends and not stated else rest
    below = _words(above) or _words(rest)
    if (beside and title) or not below:
        return Raw(title, found, whole)
    if not program and (mark is _LABEL or not _is_title(lines[0].text)):
        below = "\n".join(filter(None, (title, _words(above) if title else below)))
    return Raw(below if program else _unnamed(_CLOSING.sub("", below)), found, whole)


def _is_title(line: str) -> bool:
    """Whether what stands beside a marker is the name of what is below: a heading, or bold to its end."""
    return line.lstrip(" \t>").startswith("#") or line.rstrip(" \t:").endswith("**")


def _words(lines: Sequence[Line]) -> str:
    """The text of some lines, without a rule at its end and lines that give reasons."""
    text = "\n".join(line.text for line in lines if not _REASON.fullmatch(line.text)).strip("\n")
    return text if text.strip() and (text := RULE.sub("", "\n" + text).strip("\n")).strip() else ""


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
    head = first[1] if first else section[0].text
    text, said = parted(head, tail=tail)
    for i, line in enumerate(section[1:] if not said else (), 1):
        if (alone := said_alone(line.text)) is not None:
            return Raw(_lines_of_item(head, text, section[1:i]), alone)
        if (match := last(line.text)) and are_probabilities([match[1]]) and not is_program(head):
            end = Line(line.text[: match.start()], fenced=False, fence=False, held=False)
            return Raw(_lines_of_item(head, text, [*section[1:i], end]), match[1])
    below = [] if said else list(takewhile(lambda line: line.text[:1].isspace() and line.text.strip(), section[1:]))
    return Raw(_lines_of_item(head, text, below), said, whole or bool(said))


def _lines_of_item(head: str, text: str, below: Sequence[Line]) -> str:
    """The text of an item of several lines; `head` is its first line, and `text` that line where it is the only one."""
    others = [line.text.strip() for line in below if not _REASON.fullmatch(line.text)]
    first = re.sub(r"\*\*([^*]+)\*\*", r"\1", head).strip(' \t*_"') if any(others) else text
    return _unnamed("\n".join([first, *others]).strip("\n"))


def _unnamed(text: str) -> str:
    """A text without a label such as `Text:` before it."""
    name = _NAME.match(text)
    rest = text[name.end() :] if name else text
    return rest.strip('"') if name and rest.startswith('"') else rest


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
    numbers = [i for i, head in enumerate(heads) if re.search(r"\bprob|likelihood|^p$", head)]
    others = [i for i, head in enumerate(heads) if i not in numbers and head not in _PLACES]
    texts = [i for i in others if heads[i] in _TEXTS] or others
    if len(numbers) != 1 or len(texts) != 1:
        return []
    return [Raw(row[texts[0]], row[numbers[0]]) for row in cells[1:] if len(row) == len(heads)]


def blocks(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers in fenced blocks, with the probabilities beside them; else those that samplers without probabilities read."""
    lines = lines_of(text)
    own = blocks_of(lines)
    if program and len(own) == 1:  # comments within it may be marker lines
        inner = [raw for raw in marked(own[0].text, finished or own[0].closed, program) if is_program(raw.text)]
        if len(inner) > 1 and are_alternatives([raw.text for raw in inner if raw.whole]):
            return inner
    said = _beside(lines, own)
    said = said if any(said) else [_in_comment(block.text) for block in own]
    raws = [Raw(block.text, one, finished or block.closed) for block, one in zip(own, said, strict=True)]
    if any(said):
        return [raw for raw in raws if raw.said or not program or is_program(raw.text)]
    if not own and is_refused([line.text for line in lines]):
        return []
    read = parse_reply(text, finished=finished)
    read = programs_in(read) if program else read
    found = [Raw(one.text, "", one.whole) for one in read if not is_broken(one.text)]
    if not program or own:
        return found
    if is_program(text):  # numbers and comments are parts of it, unless each has a whole program below it
        several = len(found) > 1 and all(is_program(raw.text) for raw in found) and are_alternatives([r.text for r in found])
        return found if several else []
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
    first = [line.text for line in lines[: edges[1]] if line.text.strip() and not _TAG_LINE.fullmatch(line.text)][-1:]
    gaps[0] = _stated(first)  # what introduces the reply is further above
    if any(len(gap) > 1 for gap in gaps) or (gaps[0] and gaps[-1]):
        return [""] * len(own)
    return ["".join(gap) for gap in (gaps[:-1] if gaps[0] else gaps[1:])]


def _stated(lines: Sequence[str]) -> list[str]:
    found = []
    for line in lines:
        worded = SAID.search(line)
        said = said_alone(line) or (worded[1] if worded else "")
        if not said and _BESIDE.fullmatch(line) and (match := last(line)):
            said = match[1]
        if said and are_probabilities([said]):
            found.append(said)
    return found


def _programs(raws: Sequence[Raw]) -> list[Raw]:
    """Those that are programs, as far as they can be told from prose."""
    return [raw for raw in raws if is_program(raw.text) or has_statements(raw.text)]
