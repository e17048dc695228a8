"""The sampler protocol: what draws answers to prompts from a model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from spa_bench.models.base import Model
from spa_bench.types import Completion, Key, Member


@dataclass(frozen=True)
class Prompt:
    """What a task asks a model to continue."""

    problem_id: str
    text: str
    max_new_tokens: int
    stop: tuple[str, ...]


class Sampler(Protocol):
    """Draws n answers a prompt. Mixtures of members share one implementation; samplers that search bring their own."""

    name: str
    members: Sequence[Member]

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """Completions in any order, without those whose keys are `done`. Raises UsageError when n does not suit."""
        ...
