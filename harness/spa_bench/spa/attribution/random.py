"""Random scores: with a balanced partition this shuffles the data and cuts it into equal parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spa_bench.spa.attribution.base import AttributionSetting, Progress
from spa_bench.types import Example


class RandomAttributor:
    """Independent standard normal scores from a seed."""

    def __init__(self, seed: int):
        self._seed = seed

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores."""
        progress(len(examples), len(examples))
        rng = np.random.default_rng(self._seed)
        return rng.standard_normal((len(examples), len(queries)), dtype=np.float32)


def build(setting: AttributionSetting) -> RandomAttributor:
    """The attributor; it needs the seed alone."""
    return RandomAttributor(setting.seed)
