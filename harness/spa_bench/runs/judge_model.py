"""Questions to a judge model: each is one message, or a text to be continued, and its reply is drawn greedily."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spa_bench.models.base import Model, takes_messages
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Completion, Decoding, Member, Request


@dataclass(frozen=True, kw_only=True)
class JudgeQuestion:
    """A question; no two that are asked together have the same problem and draw."""

    problem: str
    draw: int
    text: str
    about: tuple[str, ...]  # what it asks and of what: the seed of its reply


def replies(model: Model, questions: Sequence[JudgeQuestion], tokens: int) -> Iterator[tuple[int, Completion]]:
    """(index of a question, the reply of `model` with at most `tokens` tokens), in any order."""
    chat = takes_messages(model)
    decoding = Decoding(temperature=0.0, max_new_tokens=tokens)
    requests = [
        Request(
            problem_id=one.problem,
            member=0,
            draw=one.draw,
            kind="generate",
            prompt="" if chat else f"{one.text}\n",
            messages=(("user", one.text),) if chat else (),
            decoding=decoding,
            seed=derive_seed("judge", *one.about),
        )
        for one in questions
    ]
    places = {request.key: place for place, request in enumerate(requests)}
    assert len(places) == len(questions)
    for completion in model.generate(requests, [Member(name="judge", adapter=None, decoding=decoding)]):
        yield places[completion.key], completion
