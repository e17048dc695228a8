"""A trained sampler as a model of lm-eval: one of its members, or all of them as a mixture."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from numpy.typing import NDArray

from spa_bench.errors import UsageError
from spa_bench.support.seeds import derive_seed, draw_seed
from spa_bench.tasks.lm_eval.asking import length_of, stops_of
from spa_bench.types import Asked, Completion, Key, Member, Request

MIXTURE = "mixture"


class Scores(Protocol):
    """The scores of the O options of a problem by K members; see spa_bench.models.base.OptionScores."""

    @property
    def problem(self) -> str:
        """The problem's name."""
        ...

    @property
    def logprobs(self) -> NDArray[np.float64]:
        """(K, O): log-probability in nats of each option."""
        ...

    @property
    def greedy(self) -> NDArray[np.bool_]:
        """(K, O): whether greedy decoding writes it."""
        ...


class Sampled(Protocol):
    """The parts of a model that answer lm-eval's requests; see spa_bench.models.base.Model and models.text.TextModel."""

    name: str

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """One completion a request, in any order."""
        ...

    def option_scores(self, asked: Sequence[Asked], members: Sequence[Member]) -> Iterator[Scores]:
        """The scores of each problem, in any order."""
        ...

    def rolling(self, request: Request, member: Member) -> float:
        """The log-probability in nats of the whole prompt of `request`."""
        ...

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """(text before the answer, text that the template puts behind it). Raises ModelError without a chat template."""
        ...


class SamplerLM(LM):  # type: ignore[misc]  # lm-eval has no types
    """See lm_eval.api.model.LM. `member` is a place in `members`, or "mixture".

    A mixture writes each answer by a member chosen by the seed of the request. Its log-probabilities are those of the mean of
    the members' probabilities, and its greedy text is the one that most of its members write. The sampler decides how text
    is drawn: of a task's generation_kwargs only `until` and the number of tokens have an effect.
    """

    def __init__(
        self, model: Sampled, members: Sequence[Member], *, member: int | str = MIXTURE, seed: int = 0, name: str = ""
    ):
        super().__init__()
        if member != MIXTURE and member not in range(len(members)):
            raise UsageError(f"member is {member!r}; it is {MIXTURE!r} or a number from 0 to {len(members) - 1}")
        self._model, self._members, self._member, self._seed = model, tuple(members), member, seed
        self._name = name or model.name

    @property
    def _mine(self) -> Sequence[Member]:
        """The members whose scores count."""
        return self._members if self._member == MIXTURE else [self._members[int(self._member)]]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy decoding writes it) of each (context, continuation); cut as lm-eval cuts."""
        problems = [Asked(str(i), ((r.args[0], r.args[1]),), 1, cut=True) for i, r in enumerate(requests)]
        scores: dict[str, tuple[float, bool]] = {}
        for one in self._model.option_scores(problems, self._mine):
            logprobs = one.logprobs[:, 0]
            greedy = bool(2 * one.greedy[:, 0].sum() > len(logprobs))
            scores[one.problem] = float(np.logaddexp.reduce(logprobs) - np.log(len(logprobs))), greedy
        return [scores[str(i)] for i in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-probability in nats of each whole text."""
        sums = []
        for place, instance in enumerate(requests):
            request = self._request(instance.args[0], str(place), 0, draw=0, arguments={})
            logprobs = [self._model.rolling(request, member) for member in self._mine]
            sums.append(float(np.logaddexp.reduce(logprobs) - np.log(len(logprobs))))
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """An answer to each (context, generation_kwargs); a repeat is another draw. Raises UsageError for a prompt too long."""
        drawn, seen = [], Counter[tuple[Any, Any]]()
        for instance in requests:
            place = instance.task_name, instance.doc_id
            drawn.append(self._drawn(instance, seen[place]))
            seen[place] += 1
        texts: dict[Key, str] = {}
        for completion in self._model.generate(drawn, self._members):
            if completion.finish == "skipped":
                raise UsageError(
                    f"{completion.key.problem}: {completion.failure}; ask with fewer examples or a shorter max_gen_toks"
                )
            texts[completion.key] = completion.text
        return [texts[r.key] for r in drawn]

    def _drawn(self, instance: Instance, draw: int) -> Request:
        context, arguments = instance.args[:2]
        problem = f"{instance.task_name}/{instance.doc_id}"
        member = self._member
        if member == MIXTURE:
            member = derive_seed(self._seed, "member", problem, draw) % len(self._members)
        return self._request(context, problem, int(member), draw=draw, arguments=arguments, task=str(instance.task_name))

    def _request(
        self, text: str, problem: str, member: int, *, draw: int, arguments: Mapping[str, Any], task: str = ""
    ) -> Request:
        own = self._members[member].decoding
        decoding = replace(own, max_new_tokens=length_of(arguments), stop=stops_of(arguments))
        seed = draw_seed(self._seed, task, problem, member, draw)
        return Request(problem_id=problem, member=member, draw=draw, kind="generate", prompt=text, decoding=decoding, seed=seed)

    @property
    def tokenizer_name(self) -> str:
        """The model's name in lm-eval's cache of requests, where these contain a chat template."""
        return self._name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """A name for the model's chat template; None without one."""
        return hashlib.blake2b(self._name.encode(), digest_size=8).hexdigest() if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as the model's chat template writes them. Raises ModelError where it has none."""
        from spa_bench.tasks.lm_eval.task import template_of

        return template_of(self._model)(chat_history)
