"""Over-sampling with maximal marginal relevance (Carbonell & Goldstein 1998): draw a pool, keep n good and different ones.

Relevance is the geometric mean of the model's token probabilities, similarity the n-gram kernel of the Vendi score: both
lie in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from spa_bench.samplers.pool import Pool, check_pool, pool_kind
from spa_bench.samplers.selection import maximal_marginal_relevance


@dataclass(frozen=True)
class MmrOptions:
    """The [options] of kind oversample-mmr."""

    pool: int = 32  # [draws] of a problem, of which n are kept
    trade: float = 0.5  # [share, 0 to 1] λ: 1 is relevance alone, 0 difference alone
    relevance: str = "loglikelihood"  # what makes an answer worth keeping: "loglikelihood" or "none": all are equally relevant

    def __post_init__(self) -> None:
        check_pool(self.pool, self.relevance)
        if not 0 <= self.trade <= 1:
            raise ValueError(f"trade is {self.trade}; it is a share between 0 and 1")


def _pool(options: MmrOptions) -> Pool:
    return Pool(options.pool, options.relevance, partial(maximal_marginal_relevance, trade=options.trade))


KIND = pool_kind(MmrOptions, _pool)
