"""Every second answer hot, the others cold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards import SamplerCard
from spa_bench.models.base import Model
from spa_bench.samplers.base import SamplerKind, one_member
from spa_bench.samplers.mixture import Mixture
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.types import Completion, Key, Prompt


@dataclass(frozen=True)
class TwoHeatsOptions:
    """The card's [options]."""

    hot: float = 1.2  # the temperature of draws 1, 3, 5 ...; the card's decoding has that of the others

    def __post_init__(self) -> None:
        if self.hot <= 0:
            raise ValueError(f"hot is {self.hot}; it must be greater than 0")


class TwoHeats:
    """See spa_bench.samplers.base.Sampler."""

    def __init__(self, mixture: Mixture, hot: float):
        self.name, self.members = mixture.name, mixture.members
        self._mixture, self._hot = mixture, hot

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """Completions in any order, without those whose keys are `done`."""
        requests = self._mixture.requests(prompts, n, seed, task=task, done=done)
        heated = [replace(r, decoding=replace(r.decoding, temperature=self._hot)) if r.draw % 2 else r for r in requests]
        yield from model.generate(heated, self.members)


def build(card: SamplerCard, adapters: Sequence[Path]) -> TwoHeats:
    """The sampler of `card`."""
    return TwoHeats(build_mixture(card, adapters), card.options_as(TwoHeatsOptions).hot)


KIND = SamplerKind(build=build, options=TwoHeatsOptions, check=one_member, card="two-heats.toml")
