"""One reply that contains several different answers, for instruct models, whose tokenizer has a chat template.

The answers are whole programs. One that begins with the prompt is stored without it, like a solution in a samples file. Stop
strings of the task are not used, because they would end the reply. Each answer depends on those before it, so they are not
exchangeable: pass@k over subsets describes the reply, not a distribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import UsageError
from spa_bench.models.base import Model
from spa_bench.samplers.base import SamplerKind, check_chat, one_member, spread, waiting
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.samplers.replies import ParsedAnswer, as_stored, parse_reply, programs_in
from spa_bench.support.seeds import draw_seed
from spa_bench.support.thoughts import without_thoughts
from spa_bench.types import Completion, Key, Prompt, Request

TEMPLATE = """\
Below is the beginning of a Python function. Write {n} different ways to complete it.

Write each as a whole program of its own: the complete function with the same name and arguments, and the imports and helpers \
that it needs. Let them differ in their approach, not only in names or layout. Put a line `### Answer I` before each, with \
I from 1 to {n}, then the program in a fenced code block, and write nothing else.

```python
{prompt}
```"""


@dataclass(frozen=True)
class OneReplyOptions:
    """The [options] of kind one-reply."""

    template: str = TEMPLATE  # what the model is asked: {n} and {prompt} are filled in
    system: str = ""  # a system message before the template; "": none
    max_new_tokens: int = 0  # [tokens] of the reply; 0: n times the task's limit for one answer

    def __post_init__(self) -> None:
        for place in ("{n}", "{prompt}"):
            if place not in self.template:
                raise ValueError(f"template has no {place}; it needs {{n}} and {{prompt}}")
        if self.max_new_tokens < 0:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must not be negative")


class OneReply:
    """The sampler; see Sampler."""

    def __init__(self, card: SamplerCard, adapters: Sequence[Path]):
        self.name = card.name
        self.members = build_mixture(card, adapters).members
        self._options = card.options_as(OneReplyOptions)

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See Sampler.sample. A problem that lacks an answer is asked again, which gives the same reply.

        Raises UsageError for an n below 1.
        """
        if n < 1:
            raise UsageError(f"n is {n}; {self.name} needs at least 1 answer a problem")
        by_id = {p.problem_id: p for p in waiting(prompts, n, done)}
        requests = [self._request(p, n, draw_seed(seed, task, problem, 0, 0)) for problem, p in by_id.items()]
        for reply in model.generate(requests, self.members):
            for completion in completions(reply, by_id[reply.key.problem], n):
                if completion.key not in done:
                    yield completion

    def _request(self, prompt: Prompt, n: int, seed: int) -> Request:
        question = self._options.template.replace("{n}", str(n)).replace("{prompt}", prompt.text.rstrip())
        system = (("system", self._options.system),) if self._options.system else ()
        limit = self._options.max_new_tokens or n * prompt.max_new_tokens
        decoding = replace(self.members[0].decoding, max_new_tokens=limit)
        messages = (*system, ("user", question))
        return Request(
            problem_id=prompt.problem_id,
            member=0,
            draw=0,
            kind="generate",
            prompt=prompt.text,
            decoding=decoding,
            seed=seed,
            messages=messages,
        )


def completions(reply: Completion, prompt: Prompt, n: int) -> list[Completion]:
    """n completions from one reply; missing answers have failed, with the number of answers in the reply as the cause.

    The reply's tokens are shared by length of text. Tokens spent are shared equally, and add up to all of the reply.
    """
    drawn = reply.tokens if reply.spent is None else reply.spent
    keys = [Key(reply.key.problem, 0, draw) for draw in range(n)]
    shares = spread(drawn, n)
    if reply.failure:
        return [replace(reply, key=key, spent=spent) for key, spent in zip(keys, shares, strict=True)]
    answers = programs_in(parse_reply(without_thoughts(reply.text), finished=reply.finish != "length"))[:n]
    cause = f"the reply holds {len(answers)} of {n} answers" + " and was cut at its limit" * (reply.finish == "length")
    made = []
    for i, (key, spent) in enumerate(zip(keys, shares, strict=True)):
        if i < len(answers):
            made.append(_completion(reply, answers[i], prompt, key, spent))
        else:
            none = replace(reply, text="", tokens=0, finish="failed", failure=cause, reply=reply.text or None)
            made.append(replace(none, key=key, spent=spent))
    return made


def _completion(reply: Completion, answer: ParsedAnswer, prompt: Prompt, key: Key, spent: int) -> Completion:
    text, whole = as_stored(answer.text, prompt)
    tokens = round(reply.tokens * len(answer.text) / len(reply.text))
    return Completion(
        key=key,
        text=text,
        tokens=tokens,
        finish="stop" if answer.whole else "length",
        seed=reply.seed,
        failure="",
        spent=spent,
        whole=whole,
    )


def build(card: SamplerCard, adapters: Sequence[Path]) -> OneReply:
    """The sampler of `card` over its adapter, or over the base model."""
    return OneReply(card, adapters)


KIND = SamplerKind(build=build, options=OneReplyOptions, check=one_member, check_model=check_chat, together=True, asks=True)
