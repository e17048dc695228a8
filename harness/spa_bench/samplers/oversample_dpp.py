"""Over-sampling with a determinantal point process (Kulesza & Taskar 2012): draw a pool, keep the n that span the most.

The n answers are the greedy maximum of the determinant (Chen et al. 2018) of the n-gram kernel of the Vendi score, scaled by
the relevance of both items if there is one: the geometric mean of the model's token probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.samplers.pool import Pool, check_pool, pool_kind
from spa_bench.samplers.selection import greedy_dpp


@dataclass(frozen=True)
class DppOptions:
    """The [options] of kind oversample-dpp."""

    pool: int = 32  # [draws] of a problem, of which n are kept
    relevance: str = "none"  # what makes an answer worth keeping: "loglikelihood"; "none": all are equally relevant

    def __post_init__(self) -> None:
        check_pool(self.pool, self.relevance)


KIND = pool_kind(DppOptions, lambda options: Pool(options.pool, options.relevance, greedy_dpp))
