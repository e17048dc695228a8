"""A scripted model for tests of samplers that ask: a reply by what is asked, as many tokens as characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from doubles import MockModel, sampler_card
from spa_bench.cards.templates import with_texts
from spa_bench.samplers.base import sampler_kind
from spa_bench.types import Completion, Key, Member, Prompt, Request

CODE = Prompt(
    problem_id="code", text='\n\ndef f(x):\n    """{n} {answer}"""\n', max_new_tokens=10, stop=("\ndef ",), program=True
)
TEXT = Prompt(problem_id="text", text="Name a colour. ", max_new_tokens=7, stop=())


class Scripted(MockModel):
    """Answers each request with `answer(request)`: a text, or a whole completion where it is a failure."""

    def __init__(self, answer: Callable[[Request], str | Completion], **given: Any):
        super().__init__(lambda r: "", **given)
        self.answer, self.requests = answer, list[Request]()

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        said = [(r, self.answer(r)) for r in reversed(requests)]
        self.requests += requests
        for request, (completion, (_, text)) in zip(
            reversed(requests), zip(super().generate(list(reversed(requests)), members), said, strict=True), strict=True
        ):
            if isinstance(text, Completion):
                yield text
            elif len(text) > request.decoding.max_new_tokens and self.cuts:
                limit = request.decoding.max_new_tokens
                yield replace(completion, text=text[:limit], tokens=limit, finish="length")
            else:
                yield replace(completion, text=text, tokens=len(text))

    cuts = False  # whether replies are cut at their limit

    @property
    def questions(self) -> list[str]:
        """The last turn of each request, in their order."""
        return [r.messages[-1][1] for r in self.requests]


def lost(request: Request, why: str = "no room", *, finish: str = "skipped", spent: int = 0) -> Completion:
    """A completion that failed."""
    return Completion(key=request.key, text="", tokens=0, finish=finish, seed=request.seed, failure=why, spent=spent)  # type: ignore[arg-type]


def ended(request: Request, text: str) -> Completion:
    """A completion that was cut at its limit behind `text`."""
    return Completion(key=request.key, text=text, tokens=len(text), finish="length", seed=request.seed)


def card_of(kind: str, **options: Any) -> Any:
    """The card of a kind that asks, with the texts of its templates."""
    made = with_texts(sampler_kind(kind).options(**options), None, "sampler 'mock-sampler'")
    return sampler_card(kind=kind, options=made)


def asked(
    kind: str,
    model: MockModel,
    prompts: Sequence[Prompt] = (CODE,),
    *,
    n: int = 4,
    seed: int = 0,
    done: Sequence[Key] = (),
    **options: Any,
) -> dict[Key, Completion]:
    """The completions of a kind with these options, by key."""
    sampler = sampler_kind(kind).build(card_of(kind, **options), [])
    found = list(sampler.sample(model, prompts, n, seed, task="t", done=done))
    assert len({c.key for c in found}) == len(found)
    return {c.key: c for c in found}
