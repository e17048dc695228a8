"""Questions to a judge model: templates that are files, and the verdict in a reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.templates import template_text
from spa_bench.support.thoughts import without_thoughts
from spa_bench.tasks.judgement import Judgement
from spa_bench.types import Record

SAME, QUALITY = "same", "quality"  # what a question asks
FIELDS = {SAME: ("prompt", "first", "second"), QUALITY: ("prompt", "answer")}
LEAST, MOST = 1.0, 10.0  # of a quality

_WORD = re.compile(r"[^\W\d_]+(?:/[^\W\d_]+)*")  # "yes/no" is one word, and neither of the two
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_RATED = re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*(?:/\s*10\s*)?\]\]")
_NUMBER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)(?:\s*/\s*10\b|\s+(?:out )?of 10\b)?(?![\w]|\.\d)", re.IGNORECASE)
_OTHER_SCALE = re.compile(r"\d\s*%|\d\s*(?:/|\s(?:out )?of\s)\s*(?!10(?![\w]|\.\d))\d", re.IGNORECASE)  # 4/5, 80 %


@dataclass(frozen=True, kw_only=True)
class JudgeModel:
    """The model that judges, as the card names it."""

    name: str  # "" for an engine that takes none
    engine: str
    settings: tuple[str, ...]  # of its engine, KEY=VALUE
    tokens: int  # the most of one reply


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about answers to one problem."""

    problem: str
    asks: str  # SAME or QUALITY
    first: str  # as Judgement has them
    second: str
    draw: int  # the place of the answer that is asked about: two questions that are asked together differ in it, or the problem
    text: str
    read: Callable[[str], str]  # a reply -> the verdict in it; "": there is none


@runtime_checkable
class Appraiser(Protocol):
    """What a task without right answers may ask while it grades; see spa_bench.runs.appraise."""

    @property
    def records(self) -> Sequence[Record]:
        """All answers of the run: a class depends on the other answers to its problem."""
        ...

    def judgements(self, questions: Sequence[Question], judge: JudgeModel) -> list[Judgement]:
        """The judge's reply to each question, in order; a question that it has answered before is not asked again."""
        ...

    def vectors(self, texts: Sequence[str], embedder: str) -> list[NDArray[np.float32]]:
        """The embedding (d,) of each text, in order, by the model of that name."""
        ...


def read_template(value: str, asks: str) -> str:
    """The text of a question's template (cards.templates.template_text). Raises CardError for one that cannot be used."""
    return template_text(value, f"options.{asks}_template", needs=" ".join(FIELDS[asks])).strip()


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each {NAME} of `values` replaced once; what the values hold is not looked at again."""
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda found: values[found[1]], template)


def yes_or_no(reply: str) -> str:
    """ "yes" or "no": the first word of the reply, or the only one of the two that is in it; "": neither, or both."""
    said = without_thoughts(reply)
    first = _WORD.search(said.lower())
    if first and first[0] in {"yes", "no"}:
        return first[0]
    found = {word.lower() for word in _YES_NO.findall(said)}
    return found.pop() if len(found) == 1 else ""


def rating(reply: str) -> str:
    """The number from 1 to 10 in double brackets, or else the only number in the reply; "": none, several, or another.

    A number on another scale, such as 5/5 or 80 %, is no rating.
    """
    said = without_thoughts(reply)
    found = _RATED.findall(said) or ([] if _OTHER_SCALE.search(said) else _NUMBER.findall(said))
    if len(set(found)) != 1 or not LEAST <= float(found[0]) <= MOST:
        return ""
    return f"{float(found[0]):g}"
