"""What a study compares: pass@1 and pass@K, or what takes their place where answers are neither right nor wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spa_bench.compare.leaderboard.compare import AXES, MARGIN, OPEN_AXES, OPEN_PAIRED, PAIRED, QUALITY_MARGIN
from spa_bench.compare.study.measured import MeasuredPoint


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The metrics of the quality of one answer, and of what all answers to a problem reach together, with their names."""

    quality: str | None  # None: nobody judged it
    called: str  # the quality
    margin: float  # differences in it within ± this do not matter
    reach: str
    reach_called: str
    diversity: str  # the metric beside the quality in a plane
    open_ended: bool


_RIGHT = Judged(
    quality="pass@1", called="pass@1", margin=MARGIN, reach="pass@K", reach_called="pass@K",
    diversity=PAIRED[AXES.diversity], open_ended=False,
)  # fmt: skip


def judged_of(points: Sequence[MeasuredPoint]) -> Judged:
    """pass@1 and pass@K; of an open-ended task the quality, if a judge was asked for it, and distinct_k."""
    if not any(m.row.open_ended for m in points):
        return _RIGHT
    quality, reach = OPEN_PAIRED[OPEN_AXES.quality], OPEN_PAIRED[OPEN_AXES.diversity]
    return Judged(
        quality=quality if any(not np.isnan(m.scores(quality)).all() for m in points) else None,
        called=OPEN_AXES.quality,
        margin=QUALITY_MARGIN,
        reach=reach,
        reach_called=OPEN_AXES.diversity,
        diversity=reach,
        open_ended=True,
    )
