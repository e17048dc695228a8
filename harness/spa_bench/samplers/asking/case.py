"""One problem as a procedure sees it: the questions that it can ask, the replies, and the answers that it returns."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from spa_bench.cards.templates import filled_in
from spa_bench.samplers.asking.reading import answer_in, items_in
from spa_bench.samplers.asking.words import conversation, problem_text
from spa_bench.samplers.base import Aids
from spa_bench.samplers.replies import as_stored
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Completion, Finish, Key, Messages, Prompt


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question to the model: a conversation whose last turn is the user's, or a text that is scored as its answer."""

    messages: Messages
    max_new_tokens: int  # [tokens] the most of the reply
    member: int = 0  # index into `names` of the case
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
    scored: int = 0  # tokens of which `logprob` is the sum

    @property
    def cut(self) -> bool:
        """Whether the text ended at its limit."""
        return self.finish == "length"

    def items(self, most: int) -> list[str]:
        """At most `most` items of the list in it (see items_in); one in which it was cut is left out, unless it is alone."""
        return items_in(self.text, most, finished=not self.cut)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One of the n answers of a problem, as a procedure returns them."""

    text: str
    tokens: int  # of the text
    finish: Finish = "stop"
    failure: str = ""  # why there is no answer; the text is not looked at then
    reply: str = ""  # of a failure: what the model wrote instead
    note: str = ""  # what went wrong on the way, where there is an answer all the same; counted in metrics.json

    def completion(self, key: Key, prompt: Prompt, *, seed: int = 0, spent: int | None = None) -> Completion:
        """The answer to `prompt` as a sampler gives it."""
        text, whole = as_stored(self.text, prompt)
        return Completion(
            key=key,
            text="" if self.failure else text,
            tokens=0 if self.failure else self.tokens,
            finish=self.finish,
            seed=seed,
            failure=self.failure,
            spent=spent,
            whole=whole and not self.failure,
            note=self.note or None,
            reply=self.reply or None,
        )


Steps: TypeAlias = Generator[Sequence[Question], Sequence[Reply], Sequence[Answer]]
"""What a procedure gives: questions of a step -> a reply to each, in their order; at the end exactly n answers."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One problem, of which a procedure asks."""

    prompt: Prompt
    n: int  # answers wanted, of all members together
    members: int  # of the sampler; answer i is one of member i // (n / members)
    names: tuple[str, ...]  # of all models that can be asked: the members, then the others of the kind
    seed: int  # of this problem, for `choices`
    system: str = ""  # a system message before every conversation
    aids: Aids | None = None  # what else can be asked: see SamplerKind.wants
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
            return failed(f"{step}: {reply.failure}" if step else reply.failure, reply)
        text = answer_in(reply.text, program=self.prompt.program)
        if not text.strip():
            cut = " and was cut at its limit" if reply.finish == "length" else ""
            return failed(f"the reply holds no answer{cut}", reply)
        part = len(text) / max(1, len(reply.text))
        return Answer(text=text, tokens=round(reply.tokens * part), finish=reply.finish, note=note)


def failed(why: str, reply: Reply | None = None) -> Answer:
    """An answer that there is not: why, and the reply in which there is none."""
    skipped = reply is not None and reply.finish == "skipped"
    text = reply.text if reply else ""
    return Answer(text="", tokens=0, finish="skipped" if skipped else "failed", failure=why, reply=text)
