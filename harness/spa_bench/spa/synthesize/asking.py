"""What the methods that ask an instruct model share: requests with seeds of their own, and sections of a reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.models.base import ChatModel, Model
from spa_bench.samplers.asking.asker import replies_of
from spa_bench.samplers.asking.case import Reply
from spa_bench.spa.synthesize.base import Setting
from spa_bench.support.seeds import derive_seed
from spa_bench.support.thoughts import without_thoughts
from spa_bench.types import Decoding, Example, Member, Request

_MARKS = r"[#*_>\[ \t]*"
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`\n]*")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a model is asked."""

    temperature: float  # 0 upward
    top_p: float
    max_new_tokens: int  # of a reply
    system: str = ""  # a system message before each question; "": none


class Writer:
    """Puts questions to the model of a setting. A reply depends on question, seed, step, round and place."""

    def __init__(self, setting: Setting, asking: Asking):
        self._model, self._seed, self._asking = setting.model, setting.seed, asking

    def ask(self, step: str, number: int, questions: Sequence[str]) -> list[Reply]:
        """A reply to each question, in their order; `step` and `number` tell the calls of one synthesis apart."""
        how = self._asking
        decoding = Decoding(temperature=how.temperature, top_p=how.top_p, max_new_tokens=how.max_new_tokens)
        head = (("system", how.system),) if how.system else ()
        requests = [
            Request(
                problem_id=f"synthesis/{step}/{number}",
                member=0,
                draw=place,
                kind="generate",
                prompt=question,
                decoding=decoding,
                seed=derive_seed(self._seed, step, number, place),
                messages=(*head, ("user", question)),
            )
            for place, question in enumerate(questions)
        ]
        heard = replies_of(self._model, requests, [Member("writer", None, decoding)])
        return [heard[request.key][0] for request in requests]

    def choices(self, step: str, number: int) -> np.random.Generator:
        """A generator for a method's own choices in a round; the same one each time."""
        return np.random.default_rng(derive_seed(self._seed, step, number, "choices"))


def check_chat(card: SynthesisCard, model: Model) -> None:
    """Raises ModelError for a model that says that it cannot be asked in messages; others are asked, and may refuse then."""
    if isinstance(model, ChatModel):
        model.check_chat()


def sections(reply: str, names: Sequence[Sequence[str]]) -> list[str | None]:
    """The text under each heading of a reply: `names` has the words of each, in the order in which they are wanted.

    A heading is a line with one of these words alone, in brackets, bold or behind `#`, or at the beginning of a line before a
    colon. Fences are not searched. None: the heading is not there.
    """
    heads = [
        re.compile(rf"{_MARKS}(?:{'|'.join(sorted(words, key=len, reverse=True))})\b[\]*_: \t]*", re.IGNORECASE)
        for words in names
    ]
    found: list[list[str] | None] = [None] * len(names)
    current: list[str] | None = None
    fence = ""
    for line in without_thoughts(reply).splitlines():
        mark = _FENCE.fullmatch(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and line.strip() == mark[1] else fence
        elif mark:
            fence = mark[1]
        elif (begun := _heading(line, heads, found)) is not None:
            place, rest = begun
            current = found[place] = [rest] if rest else []
            continue
        if current is not None:
            current.append(line)
    return [None if lines is None else "\n".join(lines).strip() for lines in found]


def _heading(line: str, heads: Sequence[re.Pattern[str]], found: Sequence[list[str] | None]) -> tuple[int, str] | None:
    """(which heading a line is, the text behind it); None for another line, and for a heading that was there already."""
    for place, head in enumerate(heads):
        match = head.match(line)
        if match and found[place] is None:
            rest, marked = line[match.end() :].strip(), match[0].strip()
            if not rest or marked.endswith((":", "]", "*")):
                return place, rest
    return None


def fenced(text: str) -> str:
    """The content of a text's first fenced block; the text where it has none."""
    lines, inside = text.splitlines(), list[str]()
    fence = ""
    for line in lines:
        mark = _FENCE.fullmatch(line)
        if fence and mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            return "\n".join(inside)
        if fence:
            inside.append(line)
        elif mark:
            fence = mark[1]
    return "\n".join(inside) if fence else text


def shown(pairs: Sequence[Example], first: str, second: str) -> str:
    """Pairs for a prompt, numbered from 1, under headings such as `Task 1` and `Answer 1`."""
    parts = (
        f"### {first} {i}\n\n{p.prompt.strip()}\n\n### {second} {i}\n\n{p.completion.strip()}" for i, p in enumerate(pairs, 1)
    )
    return "\n\n".join(parts)
