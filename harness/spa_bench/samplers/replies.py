"""Reads several answers from one reply of an instruct model.

The prompt asks for a line `### Answer I` and a fenced code block for each answer. Other formats are understood too: other words
and marks for the line (`**Solution 2:**`, `3.`), fences without lines, lines without fences, and lines as comments within a
single block. Answers with neither lines nor fences are not understood. Of several blocks below one line the first that defines
something counts, else the first; the others are taken for commands before it, or examples of its use.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from spa_bench.samplers.asking.fences import (
    FENCE,
    LIKE_CODE,
    are_alternatives,
    defined_in,
    indent_of,
    is_program,
    parses,
    tree_of,
    unindented,
)
from spa_bench.types import Prompt

_WORDS = "answer|solution|approach|implementation|option|variant|version|response|candidate|method|way|strategy|technique"
_NAMED = re.compile(rf"[#*>_ \t]*(?:{_WORDS})\b[ \t]*#?(?P<number>\d+)\b[^\n]*()", re.IGNORECASE)
_NUMBERED = re.compile(r"[#*_ \t]*(?P<number>\d+)[.)][*_]*(?:[ \t]+([^\n]*))?")


@dataclass(frozen=True)
class ParsedAnswer:
    """One answer of a reply."""

    text: str
    whole: bool  # False: the reply ended within it


@dataclass(frozen=True)
class _Block:
    text: str
    closed: bool
    section: int  # how many marker lines came before


def parse_reply(reply: str, *, finished: bool = True) -> list[ParsedAnswer]:
    """The answers in `reply`, in order; `finished` is False when the reply was cut at its length limit."""
    blocks, sections, first = _scan(reply, _NAMED)
    marked = len(sections) - 1
    if not marked:  # only where no line has a word, because explanations are numbered too
        blocks, sections, first = _scan(reply, _NUMBERED)
        marked = 0 if _is_beside(blocks, len(sections) - 1) else len(sections) - 1
    if blocks and marked:
        answers = [ParsedAnswer(b.text, b.closed) for b in _one_a_section(blocks, first)]
    elif blocks:
        answers = [ParsedAnswer(b.text, b.closed) for b in blocks]
    else:
        answers = [ParsedAnswer(text, finished or i < marked) for i, text in enumerate(sections[1:], 1)]
    answers = [answer for answer in answers if answer.text.strip()]
    if len(answers) == 1:
        inner = _within(answers[0])
        return inner if len(inner) > 1 else answers
    return answers


def programs_in(answers: Sequence[ParsedAnswer]) -> list[ParsedAnswer]:
    """Those that may be programs: prose is none, and a call of the program beside it is an example of its use."""
    defined = any(is_program(answer.text) for answer in answers)
    return [answer for answer in answers if not (_is_prose(answer.text) or (defined and _is_use(answer.text)))]


def _is_prose(text: str) -> bool:
    """Whether a text is no Python, nor broken code as far as that can be told: without a program's line, indent or `=`."""
    return not (is_program(text) or parses(text) or LIKE_CODE.search(textwrap.dedent(text)))


def _is_use(text: str) -> bool:
    """Whether a text at the margin has nothing but values, calls and assertions."""
    tree = None if text.lstrip("\n")[:1].isspace() else tree_of(text)
    uses = (ast.Expr, ast.Assert)
    return tree is not None and all(isinstance(one, uses) for one in tree.body) and "lambda" not in text


def _is_beside(blocks: Sequence[_Block], marked: int) -> bool:
    """Whether numbered lines are a plan above all blocks or an explanation below them, and no marks of answers."""
    places = {block.section for block in blocks}
    return len(blocks) > 1 and (places == {0} or (marked > 1 and places == {marked}))


def _one_a_section(blocks: Sequence[_Block], first: int) -> list[_Block]:
    """The first block of each section that defines something, else its first; `first` is the number of the first marker.

    What stands above answer 1 introduces the reply, unless no other has a block.
    """
    by_section: dict[int, list[_Block]] = {}
    for block in blocks:
        if block.text.strip():
            by_section.setdefault(block.section, []).append(block)
    if first == 1 and len(by_section) > 1:
        by_section.pop(0, None)
    return [next((b for b in some if defined_in(b.text)), some[0]) for some in by_section.values()]


def as_stored(text: str, prompt: Prompt) -> tuple[str, bool]:
    """(an answer as a samples file has it, whether it is a whole program): without the prompt, where it begins with that.

    A task that asks in messages takes whole programs alone, and gets them as they are.
    """
    begin = "" if prompt.messages else prompt.text.lstrip("\n")  # HumanEval's begin with empty lines, which models leave out
    return (text.removeprefix(begin), False) if begin and text.startswith(begin) else (text, True)


def _scan(reply: str, marker: re.Pattern[str]) -> tuple[list[_Block], list[str], int]:
    """(fenced blocks; texts before, between and behind the marker lines that lie outside of them; the number of the first)."""
    blocks: list[_Block] = []
    sections: list[list[str]] = [[]]
    fence, inside, indent, first = "", [""], 0, 0
    for line in reply.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        opening = FENCE.fullmatch(bare)
        if fence:
            if opening and opening[1].startswith(fence) and bare.strip() == opening[1]:
                blocks.append(_Block("".join(inside), True, len(sections) - 1))
                fence = ""
            else:
                inside.append(unindented(line, indent))
        elif opening:
            fence, inside, indent = opening[1], [], indent_of(bare)
        elif marked := marker.fullmatch(bare):
            first = first or int(marked["number"][:9])
            sections.append([f"{marked[2]}\n"] if marked[2] else [])
        else:
            sections[-1].append(line)
    if fence:
        blocks.append(_Block("".join(inside), False, len(sections) - 1))
    return blocks, ["".join(lines) for lines in sections], first


def _within(block: ParsedAnswer) -> list[ParsedAnswer]:
    """The answers of a single block that has marker lines as comments, such as `# Answer 1`; none of the parts of one."""
    parts: list[list[str]] = []
    for line in block.text.splitlines(keepends=True):
        if re.match(rf"[ \t]*#+[ \t]*(?:{_WORDS})\b[ \t]*#?\d+\b", line, re.IGNORECASE):
            parts.append([])
        elif parts:
            parts[-1].append(line)
    texts = ["".join(lines) for lines in parts]
    found = [ParsedAnswer(t, block.whole or i < len(texts)) for i, t in enumerate(texts, 1) if t.strip()]
    return found if are_alternatives([one.text for one in found if one.whole]) else []
