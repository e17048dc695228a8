"""Reads answers with stated probabilities from one reply, in the formats that models use.

Asked for are tags: `<response><text>...</text><probability>0.2</probability></response>`. Understood are, in this order: tags,
of which some may be missing; JSON objects with a text and a probability, whole or within a list that breaks off, with or
without a fence; marker lines (`### Answer 2 (probability: 0.2)`) with the answer below; numbered lines (`2. text (0.2)`); and
fenced blocks, whose answers have no probability. A bare program is one answer without a probability.

A probability is a number from 0 to 1, or one with a percent sign. Where a reply has a number above 1, and all its numbers are
at most 100, they are all percentages. Everything else is no probability.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from spa_bench.samplers.asking.reading import is_program, without_thoughts
from spa_bench.samplers.replies import parse_reply

_RESPONSE = re.compile(r"<(response|answer|candidate|item)\b([^>\n]*)>", re.IGNORECASE)
_TEXT = re.compile(r"<text\s*>(.*?)(</text\s*>|(?=<probability\b)|\Z)", re.IGNORECASE | re.DOTALL)
_PROBABILITY = re.compile(r"<probability\s*>\s*([^<\n]*)|\bprobability\s*=\s*[\"']?([^\"'>\s]*)", re.IGNORECASE)
_TAG = re.compile(r"</?(?:response|answer|candidate|item|text|probability|reasoning)\b[^>\n]*>", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[~≈]?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*")
_SAID = re.compile(  # lengths are bounded, so that a long run of spaces is read once
    r"[(\[{*_\s]{0,4}\bprob(?:ability|\.)?[*_\s]{0,4}(?:is|of)?[\s:=≈~*_]{0,8}([-+\d][-+\d.eE]{0,30}\s{0,2}%?)[)\]}*_.\s]{0,4}",
    re.IGNORECASE,
)
_LAST = re.compile(r"[(\[]\s{0,2}([\d.]{1,30}\s{0,2}%?)\s{0,2}[)\]][*_.\s]{0,4}$")
_MARK = re.compile(r"[#*>_ \t]*(?:answer|response|solution|option|candidate)\b[ \t]*#?\d+\b([^\n]*)", re.IGNORECASE)
_NUMBERED = re.compile(r"[#*_ \t]*\d+[.)][*_]*[ \t]+([^\n]*)")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`\n]*")
_TEXTS = ("text", "response", "answer", "solution", "code", "program", "completion", "content")
_NUMBERS = ("probability", "prob", "p", "likelihood", "confidence")
_MOST_TRIES = 500  # places where a JSON object may begin and does not: each try may read to the end of the reply


@dataclass(frozen=True)
class Stated:
    """One answer of a reply, with the probability that the model states."""

    text: str
    probability: float | None  # in [0, 1]; None: none is stated, or what is stated is no probability
    whole: bool = True  # False: the reply ended within it


@dataclass(frozen=True)
class _Raw:
    """An answer as it stands in a reply; `said` are the letters in the place of its probability."""

    text: str
    said: str
    whole: bool = True


def stated_in(reply: str, *, program: bool = False, finished: bool = True) -> list[Stated]:
    """The answers of a reply in their order; `finished` is False where it was cut at its length limit.

    Where answers are programs, a reply in no format that is a program is one answer.
    """
    text = without_thoughts(reply)
    for read in (_tagged, _objects, _marked, _blocks):
        if found := [raw for raw in read(text, finished) if raw.text.strip()]:
            return _with_probabilities(found)
    return [Stated(text, None, finished)] if program and is_program(text) else []


def _with_probabilities(found: Sequence[_Raw]) -> list[Stated]:
    numbers = [_number(raw.said) for raw in found]
    bare = [value for value, percent in numbers if value is not None and not percent]
    hundred = any(value > 1 for value in bare) and all(value <= 100 for value in bare)
    made = []
    for raw, (value, percent) in zip(found, numbers, strict=True):
        if value is not None and (percent or hundred):
            value /= 100
        made.append(Stated(raw.text, value if value is not None and 0 <= value <= 1 else None, raw.whole))
    return made


def _number(said: str) -> tuple[float | None, bool]:
    """(the number, whether it has a percent sign); None for anything else, and for what is not finite or below 0."""
    match = _NUMBER.fullmatch(said.rstrip(" .,"))
    if not match:
        return None, False
    value = float(match[1])
    return (value if math.isfinite(value) and value >= 0 else None), bool(match[2])


def _tagged(text: str, finished: bool) -> Iterator[_Raw]:
    """Answers in <response> tags; where there are none, in <text> tags with a <probability> behind each."""
    starts = list(_RESPONSE.finditer(text))
    if starts:
        ends = [*(start.start() for start in starts[1:]), len(text)]
        pieces = [(start[2], text[start.end() : end]) for start, end in zip(starts, ends, strict=True)]
        closes = [f"</{start[1].lower()}" in piece.lower() for start, (_, piece) in zip(starts, pieces, strict=True)]
    else:
        places = [*(match.start() for match in re.finditer(r"<text\s*>", text, re.IGNORECASE)), len(text)]
        pieces = [("", text[a:b]) for a, b in pairwise(places)]
        closes = ["</text" in piece.lower() for _, piece in pieces]
    for i, ((attributes, piece), closed) in enumerate(zip(pieces, closes, strict=True)):
        body = re.split(r"</(?:response|answer|candidate|item)\s*>", piece, maxsplit=1, flags=re.IGNORECASE)[0]
        said = _PROBABILITY.search(body) or _PROBABILITY.search(attributes)
        inner = _TEXT.search(body)
        words = inner[1] if inner else _TAG.sub("", re.sub(r"<probability\b.*", "", body, flags=re.IGNORECASE | re.DOTALL))
        ended = closed or bool(said) or bool(inner and inner[2])
        yield _Raw(words.strip("\n"), (said[1] or said[2] or "") if said else "", finished or ended or i + 1 < len(pieces))


def _objects(text: str, finished: bool) -> list[_Raw]:
    """Answers in JSON objects: in those that state a probability, or in a reply that is JSON from its beginning.

    What holds a list of answers is passed through, so that a list that breaks off still has its whole answers.
    """
    found = _decoded(text) or _decoded(re.sub(r",(\s*[}\]])", r"\1", text))  # without commas before a closing bracket
    begins = re.sub(r"\A\s*(?:`{3,}|~{3,})[^\n]*\n", "", text).lstrip()[:1]
    return found if begins in ("{", "[") or any(raw.said for raw in found) else []


def _decoded(text: str) -> list[_Raw]:
    decoder = json.JSONDecoder(strict=False)  # models write line breaks within texts
    found: list[_Raw] = []
    place, tries = text.find("{"), 0
    while place >= 0 and tries < _MOST_TRIES:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end, tries = place + 1, tries + 1
        else:
            found += _of_value(value)
        place = text.find("{", end)
    return found


def _of_value(value: object, deep: int = 0) -> Iterator[_Raw]:
    """The answers in a JSON value: an object with a text, or those in the lists of others."""
    if isinstance(value, list) and deep < 4:
        for item in value:
            yield from _of_value(item, deep + 1)
    if not isinstance(value, dict):
        return
    keys = {str(key).strip().lower(): key for key in value}
    for name in _TEXTS:
        said = value[keys[name]] if name in keys else None
        if isinstance(said, str | int | float) and not isinstance(said, bool):
            number = next((value[keys[n]] for n in _NUMBERS if n in keys), "")
            yield _Raw(str(said), "" if isinstance(number, bool) else str(number))
            return
    if deep < 4:
        for inner in value.values():
            if isinstance(inner, list | dict):
                yield from _of_value(inner, deep + 1)


def _marked(text: str, finished: bool) -> Iterator[_Raw]:
    """Answers below marker lines; where there are none, answers on numbered lines that have a probability."""
    lines = list(_outside(text))
    marks = [i for i, (line, fenced) in enumerate(lines) if not fenced and _MARK.fullmatch(line)]
    if marks:
        for start, end in zip(marks, [*marks[1:], len(lines)], strict=True):
            yield _below([line for line, _ in lines[start:end]], finished or end < len(lines))
        return
    numbered = [match[1] for line, fenced in lines if not fenced and (match := _NUMBERED.fullmatch(line))]
    raws = [_on_a_line(line) for line in numbered]
    if any(raw.said for raw in raws):
        yield from raws


def _outside(text: str) -> Iterator[tuple[str, bool]]:
    """(line, whether it is within a fence or one itself)."""
    fence = ""
    for line in text.splitlines():
        mark = _FENCE.fullmatch(line)
        yield line, bool(fence or mark)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""


def _below(lines: Sequence[str], whole: bool) -> _Raw:
    """The answer of a marker line and the lines below it: a fenced block where there is one."""
    head = _MARK.fullmatch(lines[0])
    assert head
    said = _SAID.search(head[1]) or _LAST.search(head[1])
    rest = []
    for line, fenced in _outside("\n".join(lines[1:])):
        if not fenced and (match := _SAID.fullmatch(line.strip())):
            said = said or match
        else:
            rest.append(line)
    beside = _SAID.sub("", _LAST.sub("", head[1])).strip(" \t:*_()-")
    below = "\n".join(rest).strip("\n")
    blocks = parse_reply(below) if "```" in below or "~~~" in below else []
    text = blocks[0].text if blocks else (below if below.strip() else beside)
    return _Raw(text, said[1] if said else "", whole)


def _on_a_line(line: str) -> _Raw:
    said = _SAID.search(line) or _LAST.search(line)
    return _Raw((line[: said.start()] if said else line).strip(' \t-–—:,;*_"'), said[1] if said else "")


def _blocks(text: str, finished: bool) -> Iterator[_Raw]:
    """Answers without probabilities, as samplers without them read them."""
    yield from (_Raw(answer.text, "", answer.whole) for answer in parse_reply(text, finished=finished))


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
