"""Over-sampling with a determinantal point process (Kulesza & Taskar 2012): draw a pool, keep the n that span the most.

The n are the greedy maximum of the determinant (Chen et al. 2018) of the n-gram kernel of the Vendi score, scaled by the
relevance of both items if there is one: the geometric mean of the model's token probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.cards.sampler import SamplerCard
from spa_bench.samplers.base import one_member
from spa_bench.samplers.pool import Oversampler, check_pool
from spa_bench.samplers.pool import check_model as check_model
from spa_bench.samplers.pool import check_n as check_n
from spa_bench.samplers.pool import drawn as drawn
from spa_bench.samplers.selection import greedy_dpp


@dataclass(frozen=True)
class DppOptions:
    """The [options] of kind oversample-dpp."""

    pool: int = 32  # draws a problem
    relevance: str = "none"  # all are equally relevant; or "loglikelihood"

    def __post_init__(self) -> None:
        check_pool(self.pool, self.relevance)


OPTIONS = DppOptions
check = one_member


def build(card: SamplerCard, adapters: Sequence[Path]) -> Oversampler:
    """The sampler of `card` over its adapter, or over the base model."""
    return Oversampler(card, adapters, pool=card.options.pool, relevance=card.options.relevance, select=greedy_dpp)
