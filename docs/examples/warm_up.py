"""A sampler of one's own: every answer a little hotter than the one before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards import SamplerCard
from spa_bench.models.base import Model
from spa_bench.samplers.base import SamplerKind
from spa_bench.samplers.mixture import Mixture
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.types import Completion, Key, Prompt


@dataclass(frozen=True)
class WarmUpOptions:
    """The card's [options]: checked when the card is read, and part of the run's spec."""

    step: float = 0.1  # degrees a draw

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step is {self.step}; it must not be negative")


class WarmUp:
    """Draw i at the card's temperature plus i · step."""

    def __init__(self, mixture: Mixture, step: float):
        self.name, self.members = mixture.name, mixture.members
        self._mixture, self._step = mixture, step

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See spa_bench.samplers.base.Sampler: any order, without the answers whose keys are `done`."""
        requests = self._mixture.requests(prompts, n, seed, task=task, done=done)
        warmer = [
            replace(r, decoding=replace(r.decoding, temperature=r.decoding.temperature + r.draw * self._step)) for r in requests
        ]
        yield from model.generate(warmer, self.members)


def build(card: SamplerCard, adapters: Sequence[Path]) -> WarmUp:
    """The sampler of `card`; `adapters` are the folders that were trained for it, none for adapters = "none"."""
    return WarmUp(build_mixture(card, adapters), card.options_as(WarmUpOptions).step)


KIND = SamplerKind(build=build, options=WarmUpOptions)
