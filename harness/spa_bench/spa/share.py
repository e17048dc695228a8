"""A share of the training data, for the question how much of it is needed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spa_bench.support.rounding import at_least
from spa_bench.types import Example


def share_of(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """`ceil(share × N)` of the N examples, drawn with the seed and in their own order.

    Shares of one seed are nested: a larger one contains a smaller one, because both are the beginning of one permutation. So
    two shares differ only by the added examples. With share = 1 the result is all of them. `share` lies in (0, 1].
    """
    order = list(range(len(examples)))
    random.Random(f"share-{seed}").shuffle(order)
    count = max(1, at_least(share * len(order)))
    return [examples[i] for i in sorted(order[:count])]
