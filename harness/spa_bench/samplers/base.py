"""The sampler protocol: what draws answers to prompts from a model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import CardError
from spa_bench.models.base import Model
from spa_bench.types import Begun, Completion, Key, Member, Prompt


def after_choice(completion: Completion, begun: Begun | None) -> Completion:
    """`completion` as what follows the choice of `begun`; None: nothing was chosen.

    A choice is an answer even where the model has no room or memory to go on: then the text is empty, `finish` says why,
    and it is no failure.
    """
    return completion if begun is None else replace(completion, choice=begun.choice, failure="")


class Sampler(Protocol):
    """Draws n answers a prompt. Mixtures of members share one implementation; samplers that search bring their own."""

    name: str
    members: Sequence[Member]

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """Completions in any order, without those whose keys are `done`. Raises UsageError when n does not suit."""
        ...


def one_member(card: SamplerCard) -> None:
    """Raises CardError for more than one member: answers that are chosen or searched for are not r draws from each."""
    if card.members != 1:
        raise CardError(
            f"sampler {card.name!r}: kind {card.kind!r} has one member, and the card has {card.members}; "
            f'set members = 1 and adapters = "all" or "none"'
        )


def spread(total: int, count: int) -> list[int]:
    """`total` in `count` whole parts as equal as can be, the larger ones first."""
    each, left = divmod(total, count)
    return [each + (i < left) for i in range(count)]
