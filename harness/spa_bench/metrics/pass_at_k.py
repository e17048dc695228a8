"""pass@k: the chance that at least one of k samples of a problem is right.

Which estimator applies follows from the design of the draws: `pass_at_k` when all n samples of a problem are
exchangeable, `pass_at_k_members` when they are r draws from each of K members and the k samples come from k different
members. With r = 1 the two agree. Both are unbiased and both give one value a problem, for the intervals to resample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def pass_at_k(correct: Sequence[int] | NDArray[np.generic], draws: int, k: int) -> FloatArray:
    """pass@k of every problem, from `draws` exchangeable samples a problem: 1 - C(n - c, k) / C(n, k).

    `correct`, shape (P,), holds c, the number of right samples of each problem; `draws` is n. The ratio is the product
    of (n - c - j) / (n - j) over j < k, so no binomial overflows, and a problem with c = 0 scores exactly 0, one with
    n - c < k exactly 1. Unbiased for k samples drawn independently from one distribution (Chen et al. 2021,
    arXiv 2107.03374).

    Raises ValueError unless 1 <= k <= n and every c is a whole number in 0..n.
    """
    if not 1 <= k <= draws:
        raise ValueError(f"pass@{k} needs 1 <= k <= draws, and there are {draws} draws a problem")
    counts = _counts(correct, draws)
    steps = np.arange(k)
    factors = (draws - counts[..., None] - steps) / (draws - steps)  # passes through 0 if n - c < k
    return 1.0 - np.asarray(factors.prod(axis=-1), dtype=np.float64)


def pass_at_k_members(
    correct: NDArray[np.generic], draws_per_member: int | Sequence[int] | NDArray[np.integer], k: int
) -> FloatArray:
    """pass@k of every problem when the k samples come from k different members, shape (P,).

    `correct`, shape (P, K), holds c_i, the number of right samples among the r_i draws of member i. `draws_per_member` is r,
    the same for all, or the r_i of each member, shape (K,). The value is the mean over the k-subsets of members of 1 -
    prod(q_i), q_i = 1 - c_i / r_i, that is 1 - e_k(q) / C(K, k) with e_k the elementary symmetric polynomial: what drawing k
    members without replacement, and an answer of each, gives. The normalised polynomials follow the recursion m_j <- m_j + j /
    i * (q_i * m_(j-1) - m_j) over the members i = 1..K, all in [0, 1]: K * k steps, no subset is listed and nothing overflows.
    For r = 1 it equals `pass_at_k(correct.sum(axis=1), K, k)`. With unequal r_i it is unbiased too, because every q_i is a
    mean and the members of a subset are drawn independently.

    Raises ValueError unless the array is 2-d, every r_i >= 1, 1 <= k <= K and every c_i is a whole number in 0..r_i. This
    design has no k > K: it would need two answers of one member, and how to choose that member is another design.
    """
    given = np.asarray(correct)
    if given.ndim != 2:
        raise ValueError(f"correct must have the shape (problems, members), not {given.shape}")
    members = given.shape[1]
    draws = np.asarray(draws_per_member)
    if draws.ndim > 1 or (draws.ndim == 1 and len(draws) != members):
        raise ValueError(f"draws_per_member is one number or one for each of {members} members, not of shape {draws.shape}")
    if not np.issubdtype(draws.dtype, np.integer) or (draws < 1).any():
        raise ValueError(f"draws_per_member must be at least 1 and whole, not {draws_per_member}")
    if not 1 <= k <= members:
        raise ValueError(
            f"pass@{k} over members needs 1 <= k <= members, and there are {members} members: "
            "the k answers come from different ones"
        )
    counts = _counts(given, draws)
    fails = 1.0 - counts / draws
    # means[:, j]: the mean of prod(q) over the j-subsets of the members seen so far; 0 while fewer than j members are seen.
    means = np.zeros((len(fails), k + 1))
    means[:, 0] = 1.0
    sizes = np.arange(1, k + 1)
    for i in range(members):
        weight = sizes / (i + 1)
        # a + w * (b - a) rather than (1 - w) * a + w * b: exact when a = b, so a problem nobody solves scores exactly 0.
        means[:, 1:] += weight * (fails[:, i : i + 1] * means[:, :-1] - means[:, 1:])
    return 1.0 - np.asarray(means[:, k], dtype=np.float64)


def _counts(correct: Sequence[int] | NDArray[np.generic], draws: int | NDArray[np.integer]) -> NDArray[np.int64]:
    given = np.asarray(correct)
    possible = bool(((given >= 0) & (given <= draws)).all())  # it is False for NaN too, which must not be cast
    counts = given.astype(np.int64) if possible else np.zeros(0, dtype=np.int64)
    if not (possible and np.array_equal(counts, given)):
        most = draws if np.ndim(draws) == 0 else np.asarray(draws).tolist()
        raise ValueError(f"counts of right samples must be whole numbers in 0..{most}, not {given.tolist()}")
    return counts
