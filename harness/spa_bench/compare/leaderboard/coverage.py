"""Whether any of fewer than n answers to a problem is right: the chance over the subsets that the design of the draws gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spa_bench.metrics.rarefaction import expected_classes, has_size

Column = list[float | None]


def any_of_column(values: Mapping[str, Sequence[float | None]], n: int | None, members: int, size: int) -> Column | None:
    """Problem by problem, the chance that any of `size` of the n answers is right; None where `values` do not give it.

    `values` are those of a run. pass@1 says how many answers are right where there is one member, or each has one draw;
    otherwise `pass@1[member=i]` does. Where n is None, which is n that differ, pass@k of that size is the chance. Every value
    of the column is None where the design has no subset of that size, or where pass@1 has no value. Raises KeyError, TypeError
    or ValueError for columns of another shape.
    """
    share = values["pass@1"]
    if None in share:  # a problem has no right answer
        return [None] * len(share)
    if n is None:
        column = values.get(f"pass@{size}")
        return None if column is None else list(column)
    if not has_size(n, members, size):
        return [None] * len(share)
    each = n // members
    if members == 1:
        right = _counts(share, n)[:, None]
    elif all(f"pass@1[member={m}]" in values for m in range(members)):
        right = np.stack([_counts(values[f"pass@1[member={m}]"], each) for m in range(members)], axis=1)
    elif members == n:  # which member is right plays no part where each has one draw
        right = (np.arange(members) < _counts(share, n)[:, None]).astype(np.int64)
    else:
        return None
    return [_rounded(expected_classes(counts[None], n, size)) for counts in right]


def _counts(shares: Sequence[float | None], draws: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = np.round(np.array(shares, float) * draws)
    if not ((counts >= 0) & (counts <= draws)).all():
        raise ValueError("shares of right answers lie between 0 and 1")
    return counts.astype(np.int64)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.10g}")
