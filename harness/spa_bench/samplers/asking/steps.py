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

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.templates import filled_in
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import ChatModel, Model, PairEncoder
from spa_bench.samplers.asking.reading import answer_in
from spa_bench.samplers.asking.words import conversation, problem_text
from spa_bench.samplers.base import SamplerKind, any_n, draws_n, one_member, spread
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.samplers.replies import as_stored
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Completion, Finish, Key, Member, Messages, Prompt, Request

Options = TypeVar("Options")
CHUNK = 8  # problems that are asked side by side; a run that is stopped loses at most the work on this many


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question to the model: a conversation whose last turn is the user's, or a text that is scored as its answer."""

    messages: Messages
    max_new_tokens: int  # [tokens] the most of the reply
    member: int = 0  # index into the members of the sampler, and then into its `others`
    temperature: float | None = None  # of this reply; None: the card's
    scored: str | None = None  # a text: nothing is drawn, and the reply has its log-probability as the answer


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The model's reply to a question."""

    text: str
    tokens: int  # new tokens, the end token included
    finish: Finish
    failure: str = ""  # why there is no reply: no room in the context, memory; empty when there is one
    logprob: float | None = None  # [nats] of a question's `scored`; None: the text does not fit the context


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One of the n answers of a problem, as a procedure returns them."""

    text: str
    tokens: int  # of the text
    finish: Finish = "stop"
    failure: str = ""  # why there is no answer; the text is not looked at then
    note: str = ""  # what went wrong on the way, where there is an answer all the same; counted in metrics.json


Steps: TypeAlias = Generator[Sequence[Question], Sequence[Reply], Sequence[Answer]]
"""What a procedure gives: questions of a step -> a reply to each, in their order; at the end exactly n answers."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One problem, of which a procedure asks."""

    prompt: Prompt
    n: int  # answers wanted, of all members together
    members: int  # of the sampler; answer i is one of member i // (n / members)
    seed: int  # of this problem, for `choices`
    system: str = ""  # a system message before every conversation
    answer_words: str = ""  # how an answer is to be written, for the placeholder {answer} of templates

    @property
    def problem(self) -> str:
        """The problem as it is put into a template: its text, or the last turn of its messages."""
        return problem_text(self.prompt)

    @property
    def limit(self) -> int:
        """[tokens] The task's limit for one answer."""
        return self.prompt.max_new_tokens

    def words(self, template: str, values: Mapping[str, object] | None = None) -> str:
        """A template with this problem: {prompt}, {answer} and the placeholders of `values` are filled in."""
        return filled_in(template, {"prompt": self.problem, "answer": self.answer_words, **(values or {})})

    def choices(self, what: str) -> np.random.Generator:
        """A generator for the procedure's own choices of that name; the same one each time."""
        return np.random.default_rng(derive_seed(self.seed, what))

    def ask(
        self,
        text: str,
        *,
        limit: int = 0,
        before: Sequence[tuple[str, str]] = (),
        member: int = 0,
        temperature: float | None = None,
    ) -> Question:
        """A question of this text, after the turns of `before` where there are any; `limit` [tokens] 0: the task's."""
        messages = conversation(self.prompt, self.system, [*before, ("user", text)])
        return Question(messages=messages, max_new_tokens=limit or self.limit, member=member, temperature=temperature)

    def answer(self, reply: Reply, *, note: str = "", step: str = "") -> Answer:
        """The answer that a reply holds, which a marker line may come before; a failure where there is none.

        `step` names the step in the cause of a failure.
        """
        if reply.failure:
            return failed(f"{step}: {reply.failure}" if step else reply.failure, finish=reply.finish)
        text = answer_in(reply.text, program=self.prompt.program)
        if not text.strip():
            cut = " and was cut at its limit" if reply.finish == "length" else ""
            return failed(f"the reply holds no answer{cut}")
        part = len(text) / max(1, len(reply.text))
        return Answer(text=text, tokens=round(reply.tokens * part), finish=reply.finish, note=note)


Procedure: TypeAlias = Callable[[Case], Steps]


def failed(why: str, *, finish: Finish = "failed") -> Answer:
    """An answer that there is not, and why."""
    return Answer(text="", tokens=0, finish=finish if finish == "skipped" else "failed", failure=why)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a kind makes of its card."""

    procedure: Procedure
    system: str = ""  # a system message before every conversation
    program: str = ""  # the template of {answer} where an answer is a program
    text: str = ""  # that of other answers
    others: Sequence[Member] = field(default=())  # models beside the sampler's members; they answer questions, never problems


@dataclass
class _Talk:
    """A procedure on its way through one problem."""

    case: Case
    steps: Steps
    questions: Sequence[Question]
    answers: Sequence[Answer] | None = None
    step: int = 0
    asked: int = 0  # questions before this step
    spent: int = 0  # tokens drawn so far

    @classmethod
    def begun(cls, case: Case, procedure: Procedure) -> _Talk:
        """The talk on `case`, with the questions of its first step."""
        talk = cls(case, procedure(case), [])
        talk._advance(lambda: next(talk.steps))
        return talk

    def heard(self, replies: Sequence[Reply], drawn: int) -> None:
        """Go on with the replies to the questions of this step, for which `drawn` tokens were drawn."""
        self.spent += drawn
        self.step, self.asked = self.step + 1, self.asked + len(self.questions)
        self._advance(lambda: self.steps.send(replies))

    def _advance(self, act: Callable[[], Sequence[Question]]) -> None:
        try:
            self.questions = act()
        except StopIteration as ended:
            self.answers, self.questions = ended.value, []
            if len(ended.value) != self.case.n:
                raise ValueError(f"the procedure gave {len(ended.value)} answers for n = {self.case.n}") from None

    def completions(self, seed: int) -> Iterator[Completion]:
        """The completions of the answers, which account for all tokens spent."""
        assert self.answers is not None
        each = self.case.n // self.case.members
        for i, (answer, spent) in enumerate(zip(self.answers, spread(self.spent, self.case.n), strict=True)):
            key = Key(self.case.prompt.problem_id, *divmod(i, each))
            text, whole = as_stored(answer.text, self.case.prompt)
            yield Completion(
                key=key,
                text="" if answer.failure else text,
                tokens=0 if answer.failure else answer.tokens,
                finish=answer.finish,
                seed=seed,
                failure=answer.failure,
                spent=spent,
                whole=whole and not answer.failure,
                note=answer.note or None,
            )


class Asker:
    """The sampler of every kind that asks; see Sampler."""

    def __init__(self, card: SamplerCard, adapters: Sequence[Path], asked: Asked):
        self.name, self._asked = card.name, asked
        self.members = build_mixture(card, adapters).members
        self._everyone = (*self.members, *asked.others)

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See Sampler.sample. A problem that lacks an answer is asked again, which gives the same answers."""
        if n < 1 or n % len(self.members):
            raise UsageError(f"n is {n}; {self.name} needs a positive multiple of its {len(self.members)} member(s)")
        each = n // len(self.members)
        waiting = [p for p in prompts if any(Key(p.problem_id, *divmod(i, each)) not in done for i in range(n))]
        for first in range(0, len(waiting), CHUNK):
            for talk in self._talked(model, waiting[first : first + CHUNK], n, seed, task):
                own = derive_seed(seed, task, talk.case.prompt.problem_id, "asking")
                yield from (c for c in talk.completions(own) if c.key not in done)

    def _talked(self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, task: str) -> Iterator[_Talk]:
        """The talks on all prompts, each as soon as it has its answers."""
        talks = [_Talk.begun(self._case(p, n, seed, task), self._asked.procedure) for p in prompts]
        while talks:
            yield from (talk for talk in talks if talk.answers is not None)
            talks = [talk for talk in talks if talk.answers is None]
            requests = {id(talk): self._requests(talk, seed, task) for talk in talks}
            heard = replies_of(model, [r for mine in requests.values() for r in mine], self._everyone)
            for talk in talks:
                mine = [heard[r.key] for r in requests[id(talk)]]
                talk.heard([reply for reply, _ in mine], sum(drawn for _, drawn in mine))

    def _case(self, prompt: Prompt, n: int, seed: int, task: str) -> Case:
        return Case(
            prompt=prompt,
            n=n,
            members=len(self.members),
            seed=derive_seed(seed, task, prompt.problem_id, "asking", "choices"),
            system=self._asked.system,
            answer_words=(self._asked.program if prompt.program else self._asked.text).strip(),
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
    fitting = [r for r in scoring if _fits(model, r)]
    for request, total, _ in model.loglikelihood(fitting, members) if fitting else ():
        heard[request.key] = Reply(text="", tokens=0, finish="stop", logprob=total), 0
    for request in scoring:
        heard.setdefault(request.key, (Reply(text="", tokens=0, finish="skipped"), 0))
    return heard


def _fits(model: Model, request: Request) -> bool:
    if not isinstance(model, PairEncoder):
        raise ModelError(f"log-probabilities of texts need a model with a tokenizer here, and {model.name!r} has none")
    head, tail = model.encode_pair(request.messages, request.continuation)
    return len(tail) > 1 and len(head) + len(tail) <= model.context


def check_model(card: SamplerCard, model: Model) -> None:
    """Raises ModelError for a model that says that it cannot be asked in messages; others are asked, and may refuse then."""
    if isinstance(model, ChatModel):
        model.check_chat()


def asking_kind(
    options: type[Options],
    asked_of: Callable[[SamplerCard, Options], Asked],
    *,
    check: Callable[[SamplerCard], None] = one_member,
    check_n: Callable[[SamplerCard, int], None] = any_n,
    check_model: Callable[[SamplerCard, Model], None] = check_model,
    drawn: Callable[[SamplerCard, int], int] = draws_n,
) -> SamplerKind:
    """A kind whose card gives a procedure. The options are read before it; `check` is one_member unless it has several."""
    return SamplerKind(
        build=lambda card, adapters: Asker(card, adapters, asked_of(card, card.options_as(options))),
        options=options,
        check=check,
        check_n=check_n,
        check_model=check_model,
        drawn=drawn,
        together=True,
    )
