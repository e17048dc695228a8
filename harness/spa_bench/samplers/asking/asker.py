"""The steps of samplers that ask: a procedure says what is asked for one problem, and Asker asks it for all of them.

A procedure is a generator. It yields the questions of a step, is sent a reply to each, and returns its answers:

    def procedure(case: Case) -> Steps:
        [plan] = yield [case.ask("Write a plan for this: ...")]
        drafts = yield [case.ask(f"Follow this plan: {plan.text} ...") for _ in range(case.n)]
        return [case.answer(draft) for draft in drafts]

Asker runs the procedures of a few problems side by side, so that the model answers one step of all of them in one call. A
problem's answers depend on the problem alone: each question has its own seed, of (run seed, task, problem, step, place in the
step), and every choice of the procedure comes from `case.choices`. So a problem that a stopped run had not finished is asked
again, which gives the same bytes.

All tokens that are drawn for a problem count: its n answers have spent them together, in parts that are as equal as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import Model, PairEncoder
from spa_bench.samplers.asking.case import Answer, Case, Question, Reply, Steps
from spa_bench.samplers.base import (
    Aids,
    SamplerKind,
    Wants,
    any_n,
    any_prompts,
    check_chat,
    draws_n,
    one_member,
    spread,
    waiting,
    wants_nothing,
)
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Completion, Key, Member, Prompt, Request

CHUNK = 8  # problems that are asked side by side; a run that is stopped loses at most the work on this many
Procedure: TypeAlias = Callable[[Case], Steps]


class Wording(Protocol):
    """What the options of every kind that asks have."""

    @property
    def system(self) -> str:
        """A system message before every conversation; "": none."""
        ...

    @property
    def program(self) -> str:
        """The template of {answer} where an answer is a program."""
        ...

    @property
    def text(self) -> str:
        """That of other answers."""
        ...


Options = TypeVar("Options", bound=Wording)


class _Talk:
    """A procedure on its way through one problem."""

    def __init__(self, case: Case, procedure: Procedure):
        self.case, self._steps = case, procedure(case)
        self.questions: Sequence[Question] = ()  # of the step that comes next
        self.answers: Sequence[Answer] | None = None  # None: the procedure has further steps
        self.step = self.asked = self.spent = 0  # steps and questions that are answered, and tokens drawn for them
        self._advance(lambda: next(self._steps))

    def hear(self, replies: Sequence[Reply], drawn: int) -> None:
        """Go on with the replies to the questions of this step, for which `drawn` tokens were drawn."""
        self.spent += drawn
        self.step, self.asked = self.step + 1, self.asked + len(self.questions)
        self._advance(lambda: self._steps.send(replies))

    def _advance(self, act: Callable[[], Sequence[Question]]) -> None:
        try:
            self.questions = act()
        except StopIteration as ended:
            self.answers = ended.value
            if len(ended.value) != self.case.n:
                raise ValueError(f"the procedure gave {len(ended.value)} answers for n = {self.case.n}") from None

    def completions(self, answers: Sequence[Answer], seed: int) -> Iterator[Completion]:
        """The completions of the procedure's `answers`, which account for all tokens spent."""
        each = self.case.n // self.case.members
        for i, (answer, spent) in enumerate(zip(answers, spread(self.spent, self.case.n), strict=True)):
            key = Key(self.case.prompt.problem_id, *divmod(i, each))
            yield answer.completion(key, self.case.prompt, seed=seed, spent=spent)


class Asker:
    """The sampler of every kind that asks; see Sampler."""

    def __init__(
        self,
        card: SamplerCard,
        adapters: Sequence[Path],
        procedure: Procedure,
        *,
        wording: Wording,
        others: Sequence[Member] = (),
    ):
        self.name, self._procedure, self._wording = card.name, procedure, wording
        self.members = build_mixture(card, adapters).members
        self._everyone = (*self.members, *others)
        self._aids: Aids | None = None

    def aided(self, aids: Aids) -> Asker:
        """See spa_bench.samplers.base.Aided."""
        other = copy(self)
        other._aids = aids
        return other

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See Sampler.sample. A problem that lacks an answer is asked again, which gives the same answers.

        Raises UsageError for an n that is no positive multiple of the members.
        """
        if n < 1 or n % len(self.members):
            raise UsageError(f"n is {n}; {self.name} needs a positive multiple of its {len(self.members)} member(s)")
        left = waiting(prompts, n, done, len(self.members))
        for first in range(0, len(left), CHUNK):
            for talk, answers in self._talked(model, left[first : first + CHUNK], n, seed, task):
                own = derive_seed(seed, task, talk.case.prompt.problem_id, "asking")
                yield from (c for c in talk.completions(answers, own) if c.key not in done)

    def _talked(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, task: str
    ) -> Iterator[tuple[_Talk, Sequence[Answer]]]:
        """The talks on all prompts with their answers, each as soon as it has these."""
        talks = [_Talk(self._case(p, n, seed, task), self._procedure) for p in prompts]
        while talks:
            yield from ((talk, talk.answers) for talk in talks if talk.answers is not None)
            talks = [talk for talk in talks if talk.answers is None]
            requests = {id(talk): self._requests(talk, seed, task) for talk in talks}
            heard = replies_of(model, [r for mine in requests.values() for r in mine], self._everyone)
            for talk in talks:
                mine = [heard[r.key] for r in requests[id(talk)]]
                talk.hear([reply for reply, _ in mine], sum(drawn for _, drawn in mine))

    def _case(self, prompt: Prompt, n: int, seed: int, task: str) -> Case:
        return Case(
            prompt=prompt,
            n=n,
            members=len(self.members),
            names=tuple(member.name for member in self._everyone),
            seed=derive_seed(seed, task, prompt.problem_id, "asking", "choices"),
            system=self._wording.system,
            aids=self._aids,
            answer_words=(self._wording.program if prompt.program else self._wording.text).strip(),
        )

    def _requests(self, talk: _Talk, seed: int, task: str) -> list[Request]:
        """A request for each question of the step; `draw` counts the questions on the problem, so that keys differ."""
        problem = talk.case.prompt.problem_id
        made = []
        for place, question in enumerate(talk.questions):
            decoding = replace(self._everyone[question.member].decoding, max_new_tokens=question.max_new_tokens)
            if question.temperature is not None:
                decoding = replace(decoding, temperature=question.temperature)
            made.append(
                Request(
                    problem_id=problem,
                    member=question.member,
                    draw=talk.asked + place,
                    kind="generate" if question.scored is None else "loglikelihood",
                    prompt=question.messages[-1][1],
                    decoding=decoding,
                    seed=derive_seed(seed, task, problem, "asking", talk.step, place),
                    messages=question.messages,
                    continuation=question.scored or "",
                    apart=question.scored is not None,
                )
            )
        return made


def replies_of(model: Model, requests: Sequence[Request], members: Sequence[Member]) -> Mapping[Key, tuple[Reply, int]]:
    """Key -> (reply, tokens drawn for it) of requests that draw a text or score one."""
    heard: dict[Key, tuple[Reply, int]] = {}
    drawing = [r for r in requests if r.kind == "generate"]
    for c in model.generate(drawing, members) if drawing else ():
        reply = Reply(text=c.text, tokens=c.tokens, finish=c.finish, failure=c.failure)
        heard[c.key] = reply, c.tokens if c.spent is None else c.spent
    scoring = [r for r in requests if r.kind == "loglikelihood"]
    tokens = {r.key: _tokens(model, r) for r in scoring}
    fitting = [r for r in scoring if tokens[r.key]]
    for request, total, _ in model.loglikelihood(fitting, members) if fitting else ():
        heard[request.key] = Reply(text="", tokens=0, finish="stop", logprob=total, scored=tokens[request.key]), 0
    for request in scoring:
        heard.setdefault(request.key, (Reply(text="", tokens=0, finish="skipped"), 0))
    return heard


def pair_encoder(model: Model) -> PairEncoder:
    """`model`, which can count the tokens of a text that it scores. Raises ModelError for one that cannot."""
    if not isinstance(model, PairEncoder):
        raise ModelError(f"log-probabilities of texts need a model with a tokenizer here, and {model.name!r} has none")
    return model


def _tokens(model: Model, request: Request) -> int:
    """The tokens of a text that is scored, without an end token; 0 where it has none, or does not fit the context."""
    head, tail = pair_encoder(model).encode_pair(request.messages, request.continuation)
    return len(tail) - 1 if len(head) + len(tail) <= model.context else 0


def no_others(card: SamplerCard) -> Sequence[Member]:
    """No models beside the members."""
    return ()


def asking_kind(
    options: type[Options],
    procedure: Callable[[Case, Options], Steps],
    *,
    others: Callable[[SamplerCard], Sequence[Member]] = no_others,
    check: Callable[[SamplerCard], None] = one_member,
    check_n: Callable[[SamplerCard, int], None] = any_n,
    check_model: Callable[[SamplerCard, Model], None] = check_chat,
    check_prompts: Callable[[SamplerCard, Sequence[Prompt]], None] = any_prompts,
    drawn: Callable[[SamplerCard, int], int] = draws_n,
    wants: Callable[[SamplerCard], Wants] = wants_nothing,
) -> SamplerKind:
    """A kind that asks by `procedure`, with the options of its card.

    `others` are models that answer questions beside the sampler's members, but no problems.
    """

    def build(card: SamplerCard, adapters: Sequence[Path]) -> Asker:
        own = card.options_as(options)
        return Asker(card, adapters, lambda case: procedure(case, own), wording=own, others=others(card))

    return SamplerKind(
        build=build,
        options=options,
        check=check,
        check_n=check_n,
        check_model=check_model,
        check_prompts=check_prompts,
        drawn=drawn,
        wants=wants,
        together=True,
        asks=True,
    )
