"""Score matrices made comparable between queries, and the queries that the paper keeps. All in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import DataError

Scores = NDArray[np.floating]
Scaled = NDArray[np.float64]


def scaled(scores: Scores, scale: str) -> Scaled:
    """The matrix (N, M) with each query's column scaled by `scale`.

    zscore: mean 0 and standard deviation 1 (of N, not N - 1). rank: average rank / N, in (0, 1]. none: unchanged. A column
    whose scores are all equal does not tell examples apart: zscore makes it 0, rank makes it (N + 1) / 2N.
    """
    wide = scores.astype(np.float64)
    if scale == "zscore":
        # the test is not the deviation, because rounding may keep that of equal numbers above 0
        varies = np.ptp(wide, axis=0) > 0
        centred = np.where(varies, wide - wide.mean(0), 0.0)
        return np.asarray(centred / np.where(varies, wide.std(0), 1.0))
    if scale == "rank":
        from scipy.stats import rankdata  # imported here: it takes a second, which most runs do not need

        return np.asarray(rankdata(wide, axis=0) / len(wide))
    return wide


def kept_queries(scores: Scores, k: int) -> NDArray[np.intp]:
    """The indices (k,), in order, of the queries whose unscaled `scores` (N, M) vary most over the N examples, as in the paper.

    Of queries with equal variance the first are kept. Raises DataError when there are fewer than k.
    """
    if scores.shape[1] < k:
        raise DataError(
            f"{k} parts need at least {k} queries; there are {scores.shape[1]}: give more queries or have fewer members"
        )
    return np.sort(np.argsort(-scores.astype(np.float64).var(0), kind="stable")[:k])


def kept_columns(scores: Scores, k: int, scale: str) -> Scaled:
    """The scaled scores (N, k) of the kept queries; column p belongs to part p."""
    return scaled(scores[:, kept_queries(scores, k)], scale)


def check_scores(scores: Scores) -> None:
    """Raise DataError for a score that is not finite, naming example and query, counted from 0."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        example, query = map(int, bad[0])
        more = f" ({len(bad)} scores are not finite)" if len(bad) > 1 else ""
        raise DataError(
            f"the score of example {example} on query {query} is {scores[example, query]}{more}; "
            "take that example or query out, or choose another attribution"
        )
