"""Reads answers with stated probabilities from one reply, in the formats that models use.

Asked for are tags: `<response><text>...</text><probability>0.2</probability></response>`. Understood are, in this order: tags,
of which some may be missing; JSON, whole or within a list that breaks off, with or without a fence; marker lines
(`### Answer 2 (probability: 0.2)`) with the answer below; numbered lines (`2. text (0.2)`); of answers other than programs
tables, bullets and bare lines (`- text: 0.2`); and fenced blocks with a probability beside each or without one. A bare program
is one answer without a probability. What stands in <reasoning> is no answer.

A probability is a number from 0 to 1, a percentage or a fraction, with a remark beside it or without one. Where a reply has a
number above 1, and all its numbers are at most 100, they are all percentages. Everything else is no probability.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from spa_bench.samplers.asking.fences import is_program, says, tree_of
from spa_bench.samplers.asking.reading import unfenced
from spa_bench.samplers.asking.stated_json import is_json, objects
from spa_bench.samplers.asking.stated_lines import blocks, followed, labelled, listed, marked, numbered, table
from spa_bench.samplers.asking.stated_numbers import Raw, probabilities, without_cut_number
from spa_bench.samplers.asking.stated_tags import tagged
from spa_bench.support.thoughts import without_thoughts

_REASONING = re.compile(r"(?:^|(?<=>))[ \t]*<(reasoning|thinking|thoughts?)\s*>", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"^[ \t]*<response\b[^>\n]*>(?:\s*<text\b|[ \t]*$|[^\n]*</response\b)", re.IGNORECASE | re.MULTILINE)
_BESIDE_FENCE = re.compile(  # between a number, a bullet or a tag and the fence beside it, which needs a line of its own
    r"(?:(?<=\d[.)] )|(?<=[-*•] )|(?<=<text>)|(?<=<response>))[ \t]*(?=(?:`{3,}|~{3,})\w*[ \t]*$)"
    r"|(?<=^```)(?:(?=</?(?:text|response|probability)\b)|[ \t]+(?=\())",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBERS_BELOW = re.compile(  # of all answers together, which belong to none of their texts
    r"^[#*_> \t]*(?:(?:stated|estimated)[ \t]+)?probabilities[*_ \t]*:"
    r"(?:[^\n]*\d[^\n]*|(?:[\d\s.,%/:;()*_=~≈-]|answer|response|option|and)*)\s*\Z",
    re.IGNORECASE | re.MULTILINE,
)
_PLACEHOLDERS = {"the answer", "your answer", "..."}  # that stand in a template, and are repeated


@dataclass(frozen=True)
class Stated:
    """One answer of a reply, with the probability that the model states."""

    text: str
    probability: float | None  # in [0, 1]; None: none is stated, or what is stated is no probability
    whole: bool = True  # False: the reply ended within it


def stated_in(reply: str, *, program: bool = False, finished: bool = True) -> list[Stated]:
    """The answers of a reply in their order; `finished` is False where it was cut at its length limit.

    Where answers are programs, a reply in no format that is a program is one answer.
    """
    text = _BESIDE_FENCE.sub("\n", _without_reasoning(without_thoughts(reply), finished))
    if not finished:
        text = without_cut_number(text)
    found = _read(_NUMBERS_BELOW.sub("", text), finished, program)
    shares = probabilities([raw.said for raw in found])
    read = [Stated(raw.text, share, raw.whole) for raw, share in zip(found, shares, strict=True)]
    return read or ([Stated(text, None, finished)] if program and is_program(text) else [])


def _read(text: str, finished: bool, program: bool) -> list[Raw]:
    """What the first reader that finds answers reads; where it is one block of text, what is read of that, if it is more."""
    first, second = (objects, tagged) if is_json(text) else (tagged, objects)
    for read in (first, second, marked, numbered, labelled, table, listed, followed, blocks):
        found = [_opened(raw, program) if read is tagged else raw for raw in read(text, finished, program)]
        found = [raw for raw in found if says(raw.text) and not _is_empty(raw.text, program)]
        if read is blocks and len(found) == 1 and not program and found[0].text != text:
            inner = _read(found[0].text, finished, program)
            return inner if len(inner) > 1 else found
        if found:
            return found
    return []


def _opened(raw: Raw, program: bool) -> Raw:
    """The answer of a tag; that of the JSON in it, if this states the probability."""
    inner = objects(raw.text, raw.whole, program) if not raw.said and is_json(raw.text) else []
    return inner[0] if len(inner) == 1 and inner[0].said else raw


def _is_empty(text: str, program: bool) -> bool:
    """Whether a text is the place of an answer in a template, or a program of comments."""
    tree = tree_of(unfenced(text)) if program else None
    return text.strip().lower() in _PLACEHOLDERS or (tree is not None and not tree.body)


def _without_reasoning(text: str, finished: bool) -> str:
    """`text` without what stands in <reasoning> tags.

    One that is open reaches to the end, or in a reply that has come to its end to a line that begins an answer.
    """
    kept, place = [], 0
    while opening := _REASONING.search(text, place):
        kept.append(text[place : opening.start()])
        closing = re.compile(rf"</{opening[1]}\s*>", re.IGNORECASE).search(text, opening.end())
        answer = _ANSWER.search(text, opening.end()) if finished and not closing else None
        place = closing.end() if closing else answer.start() if answer else len(text)
    return "".join([*kept, text[place:]])


def weights(answers: Sequence[Stated]) -> list[float]:
    """The probability of each answer to be drawn, which sum to 1.

    Stated probabilities are divided by their sum. An answer without one counts as much as the others do on average, and all
    count alike where no answer has one above 0.
    """
    known = [a.probability for a in answers if a.probability is not None]
    total = math.fsum(known)
    if total <= 0:
        return [1 / len(answers)] * len(answers)
    mean = total / len(known)
    whole = [mean if a.probability is None else a.probability for a in answers]
    return [value / math.fsum(whole) for value in whole]


def is_below(answer: Stated, threshold: float) -> bool:
    """Whether the stated probability is below `threshold`; where none is stated, it is not known to be."""
    return answer.probability is not None and answer.probability < threshold
