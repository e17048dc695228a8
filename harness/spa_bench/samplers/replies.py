"""Reads several answers from one reply of an instruct model.

The prompt asks for a line `### Answer I` and a fenced code block for each answer. Other formats are understood too: other words
and marks for the line (`**Solution 2:**`, `3.`), fences without lines, lines without fences, and lines as comments within a
single block. Answers with neither lines nor fences are not understood. Of several blocks below one line the first counts; the
others are taken for examples of its use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spa_bench.types import Prompt

_WORDS = "answer|solution|approach|implementation|option|variant|version"
_NAMED = re.compile(rf"[#*>_ \t]*(?:{_WORDS})\b[ \t]*#?\d+\b[^\n]*()", re.IGNORECASE)
_NUMBERED = re.compile(r"[#*_ \t]*\d+[.)][*_]*(?:[ \t]+([^\n]*))?")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`\n]*")


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
    blocks, sections = _scan(reply, _NAMED)
    if len(sections) == 1:  # only where no line has a word, because explanations are numbered too
        blocks, sections = _scan(reply, _NUMBERED)
    marked = len(sections) - 1
    if blocks and marked:
        first: dict[int, _Block] = {}
        for block in blocks:
            if block.text.strip():
                first.setdefault(block.section, block)
        answers = [ParsedAnswer(b.text, b.closed) for b in first.values()]
    elif blocks:
        answers = [ParsedAnswer(b.text, b.closed) for b in blocks]
    else:
        answers = [ParsedAnswer(text, finished or i < marked) for i, text in enumerate(sections[1:], 1)]
    answers = [answer for answer in answers if answer.text.strip()]
    if len(answers) == 1:
        inner = _within(answers[0])
        return inner if len(inner) > 1 else answers
    return answers


def as_stored(text: str, prompt: Prompt) -> tuple[str, bool]:
    """(an answer as a samples file has it, whether it is a whole program): without the prompt, where it begins with that.

    A task that asks in messages takes whole programs alone, and gets them as they are.
    """
    begin = "" if prompt.messages else prompt.text.lstrip("\n")  # HumanEval's begin with empty lines, which models leave out
    return (text.removeprefix(begin), False) if begin and text.startswith(begin) else (text, True)


def _scan(reply: str, marker: re.Pattern[str]) -> tuple[list[_Block], list[str]]:
    """(fenced blocks, texts before, between and behind the marker lines that lie outside of them)."""
    blocks: list[_Block] = []
    sections: list[list[str]] = [[]]
    fence, inside = "", [""]
    for line in reply.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        opening = _FENCE.fullmatch(bare)
        if fence:
            if opening and opening[1].startswith(fence) and bare.strip() == opening[1]:
                blocks.append(_Block("".join(inside), True, len(sections) - 1))
                fence = ""
            else:
                inside.append(line)
        elif opening:
            fence, inside = opening[1], []
        elif marked := marker.fullmatch(bare):
            sections.append([f"{marked[1]}\n"] if marked[1] else [])
        else:
            sections[-1].append(line)
    if fence:
        blocks.append(_Block("".join(inside), False, len(sections) - 1))
    return blocks, ["".join(lines) for lines in sections]


def _within(block: ParsedAnswer) -> list[ParsedAnswer]:
    """The answers of a single block that has marker lines as comments, such as `# Answer 1`."""
    parts: list[list[str]] = []
    for line in block.text.splitlines(keepends=True):
        if re.match(rf"[ \t]*#+[ \t]*(?:{_WORDS})\b[ \t]*#?\d+\b", line, re.IGNORECASE):
            parts.append([])
        elif parts:
            parts[-1].append(line)
    texts = ["".join(lines) for lines in parts]
    return [ParsedAnswer(t, block.whole or i < len(texts)) for i, t in enumerate(texts, 1) if t.strip()]
