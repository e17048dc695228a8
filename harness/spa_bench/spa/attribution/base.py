"""The attribution protocol: scoring every training example against every query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spa_bench.types import Example

Progress = Callable[[int, int], None]  # (done, total)


class Attributor(Protocol):
    """Scores examples against queries."""

    def scores(self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress) -> NDArray[np.float32]:
        """Matrix (N, M); higher means that training on the example lowers the query's loss."""
        ...
