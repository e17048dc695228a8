"""A mixture of members: temperature, nucleus, a single adapter and SPA are all this one class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import UsageError
from spa_bench.models.base import Model
from spa_bench.samplers.base import SamplerKind, after_choice
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Completion, Decoding, Key, Member, Prompt, Request


class Mixture:
    """K members, each giving r = n / K draws a prompt."""

    def __init__(self, name: str, members: Sequence[Member]):
        self.name, self.members = name, tuple(members)

    def requests(self, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()) -> list[Request]:
        """One request a draw, without those whose keys are `done`. Raises UsageError unless n is a multiple of K."""
        draws, left = divmod(n, len(self.members))
        if left or draws < 1:
            raise UsageError(
                f"n is {n}, but {self.name} has {len(self.members)} members: n must be a multiple of {len(self.members)}"
            )
        made = []
        for prompt in prompts:
            for index, member in enumerate(self.members):
                decoding = replace(member.decoding, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
                for draw in range(draws):
                    if Key(prompt.problem_id, index, draw) not in done:
                        own = draw_seed(seed, task, prompt.problem_id, index, draw)
                        begun = prompt.begun.get((index, draw))
                        made.append(
                            Request(
                                problem_id=prompt.problem_id,
                                member=index,
                                draw=draw,
                                kind="generate",
                                prompt=begun.text if begun else prompt.text,
                                decoding=decoding,
                                seed=own,
                                messages=() if begun else prompt.messages,
                            )
                        )
        return made

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See Sampler.sample."""
        begun = {p.problem_id: p.begun for p in prompts}
        for completion in model.generate(self.requests(prompts, n, seed, task=task, done=done), self.members):
            problem, member, draw = completion.key
            # a key that nobody asked for is the caller's to refuse, in words
            yield after_choice(completion, begun.get(problem, {}).get((member, draw)))


def decoding_of(card: SamplerCard) -> Decoding:
    """How the members of `card` draw; the task adds the limit and the stop strings."""
    return Decoding(**asdict(card.decoding))


def build(card: SamplerCard, adapters: Sequence[Path]) -> Mixture:
    """The mixture of `card` over trained adapters, or over models that a server has (neither: the base model alone)."""
    if card.served:
        return Mixture(card.name, members_served(card, card.served))
    if not adapters:
        return Mixture(card.name, [Member("base", None, decoding_of(card))])
    return Mixture(card.name, [Member(f"member-{k}", folder, decoding_of(card)) for k, folder in enumerate(adapters)])


def members_served(card: SamplerCard, names: Sequence[str]) -> list[Member]:
    """A member for each of these models of a server, with the decoding of the card."""
    return [Member(name, None, decoding_of(card), served=name) for name in names]


KIND = SamplerKind(build=build, goes_on=True)
