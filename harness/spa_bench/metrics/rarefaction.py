"""What a metric that depends on n would be with fewer samples: its mean over subsets of the samples.

Rarefaction comes from ecology (Hurlbert 1971): species counts of unequal samples are compared at equal size. Which subsets
stand for "m samples" follows from the design of the draws, n = r * K in the order (member, draw). With K = 1 the draws are
exchangeable, so every m-subset counts alike. With K > 1 a subset has one draw from each of m different members where m <= K,
and the same number of draws from every member where m is a multiple of K. Any other m has no value, because a sampler never
gives such a set.

Counts of classes have closed forms. Everything else is a mean over seeded random subsets. It is unbiased but has noise
of its own: for each problem, the spread over subsets / sqrt(their number).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.pass_at_k import pass_at_k, pass_at_k_members

IntArray = NDArray[np.int64]

SUBSETS = 32
"""Random subsets for each size and problem. Their noise in a mean over problems is 1/5.7 of that of one subset a problem."""


def has_size(draws: int, members: int, size: int) -> bool:
    """Whether the design has subsets of `size` among the `draws` samples of `members` members; 1 <= size <= draws is needed.

    Raises ValueError unless `draws` is a positive multiple of `members`.
    """
    if members < 1 or draws < 1 or draws % members:
        raise ValueError(f"{draws} draws are not the same number from each of {members} members")
    return 1 <= size <= draws and (size <= members or size % members == 0)


def expected_classes(counts: NDArray[np.generic], draws: int, size: int) -> float | None:
    """The expected number of classes in a random subset of `size`; None where the design has no such subset.

    `counts`, shape (classes, members): the samples of each class among the r = `draws` / members of each member;
    samples without a class are left out, so the sums may be below r. A class is seen with probability
    1 - C(n - c, m) / C(n, m) if K = 1 (Hurlbert 1971, eq. 5); with one draw from each of m members, 1 minus the mean over
    m-subsets of members of the product of 1 - c_i / r; with j draws from each, 1 - prod over i of C(r - c_i, j) / C(r, j):
    that is pass@k with "belongs to the class" for "correct". Raises ValueError as `has_size` and `pass_at_k`.
    """
    table = np.asarray(counts)
    members = table.shape[1]
    if not has_size(draws, members, size):
        return None
    each = draws // members
    if size % members == 0:
        seen = 1.0 - np.prod(_missed(each, size // members)[table], axis=1)
    else:
        seen = pass_at_k_members(table, each, size)
    return float(seen.sum())


@lru_cache(maxsize=1024)
def _missed(draws: int, size: int) -> NDArray[np.float64]:
    """Chance that `size` of `draws` samples miss all c that are of a class, for c = 0..draws, shape (draws + 1,)."""
    return np.asarray(1.0 - pass_at_k(np.arange(draws + 1), draws, size), dtype=np.float64)


def subsets(draws: int, members: int, size: int, *, problem: str, most: int = SUBSETS) -> IntArray | None:
    """Places of the samples in each subset, shape (subsets, size), in a random order; None where the design has none.

    Where there are at most `most` subsets, the result has all of them, so that the mean is exact. Where `size` is `draws`, it
    has the whole sample in its own order. Otherwise it has `most` subsets, drawn independently with equal chances. They depend
    on the problem's id, the size and the design, and on nothing else: every metric and kernel sees the same subsets. Raises
    ValueError as `has_size`.
    """
    if not has_size(draws, members, size):
        return None
    if size == draws:
        return np.arange(draws)[None]
    digest = hashlib.blake2b(f"rarefaction\0{size}\0{problem}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    each = draws // members
    if _number(each, members, size) <= most:
        listed = np.array(list(_all(each, members, size)), dtype=np.int64)
        return np.asarray(generator.permuted(listed, axis=1), dtype=np.int64)
    order = generator.random((most, members)).argsort(axis=1)
    draw = generator.random((most, members, each)).argsort(axis=2)
    if size <= members:
        chosen = order[:, :size]
        places = chosen * each + np.take_along_axis(draw[:, :, 0], chosen, axis=1)
    else:
        # Each round takes a draw of every member, so that no member has the first places to itself.
        rounds = np.take_along_axis(draw[:, :, : size // members], order[:, :, None], axis=1) + order[:, :, None] * each
        places = rounds.transpose(0, 2, 1).reshape(most, size)
    return np.asarray(places, dtype=np.int64)


def _number(each: int, members: int, size: int) -> int:
    if size % members == 0:
        return int(math.comb(each, size // members) ** members)
    return int(math.comb(members, size) * each**size)


def _all(each: int, members: int, size: int) -> Iterator[tuple[int, ...]]:
    """Every subset of the design, as places in the order (member, draw)."""
    whole = size % members == 0
    groups = [range(members)] if whole else itertools.combinations(range(members), size)
    draws = size // members if whole else 1
    for group in groups:
        parts = [itertools.combinations(range(member * each, (member + 1) * each), draws) for member in group]
        for combination in itertools.product(*parts):
            yield tuple(itertools.chain(*combination))
