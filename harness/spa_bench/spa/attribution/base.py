"""The attribution protocol: scoring every training example against every query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.kinds import Kind
from spa_bench.cards.registry import kind_of
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.base import LoraTrainable
from spa_bench.types import Example

Progress = Callable[[int, int], None]  # (done, total)
WarmUp = Callable[[Sequence[int]], Mapping[int, Path]]  # steps of a training on all data -> folders of the adapter then


@dataclass(frozen=True, kw_only=True)
class AttributionSetting:
    """What an attributor may use; `build(setting)` makes an attributor."""

    card: AttributionCard
    lora: LoraCard
    model: LoraTrainable
    seed: int
    warm_up: WarmUp  # called by attributors that use checkpoints


class Attributor(Protocol):
    """Scores examples against queries."""

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """Matrix (N, M); higher means that training on the example lowers the query's loss.

        `kept` is a folder for results that are expensive to compute, which are written there as they come. Results that are
        found there are not recomputed; the matrix is the same.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class AttributionKind(Kind[Callable[[AttributionSetting], Attributor]]):
    """A kind of attribution. `build` makes one of a setting."""

    table = "attribution"


def attribution_kind(name: str) -> AttributionKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(AttributionKind, "attribution", name)
