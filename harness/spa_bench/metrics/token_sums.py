"""Sums over the tokens of a continuation from which divergences are computed, in numpy and float64.

`sums_of` takes log-probabilities of shape (K members, T tokens, V vocabulary) some tokens at a time, normalises every
distribution again, and adds up what `metrics.divergence.of_sums` needs. `models/hf/token_sums.py` is the same in torch, on
the device that holds the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.types import DivergenceSums

FloatArray = NDArray[np.float64]

_CHUNK = 1 << 18  # numbers of float64 processed at once, 2 MiB: five times as fast as 32 MiB, which no cache holds
_GROUP = 16  # entries a group; the search for the top k looks at the maximum of each group first
_TINY = 1e-300  # x log x is 0 at 0; below this it is 0 in float64
_UNNORMALISED = 0.02  # bfloat16 log-probabilities sum to 1 within about this; logits and log2 do not


def sums_of(
    logprobs: NDArray[np.floating],
    *,
    base: NDArray[np.floating] | None = None,
    top: int = 20,
    orders: Sequence[float] = (0.5,),
) -> DivergenceSums:
    """The sums over the tokens behind `divergences`, which has the same arguments. Raises ValueError as `divergences`."""
    members, tokens, vocabulary = shape_of(logprobs)
    if not 1 <= top <= vocabulary:
        raise ValueError(f"the top {top} tokens of a vocabulary of {vocabulary}: give a number from 1 to {vocabulary}")
    if wrong := [order for order in orders if not 0 < order <= 2 or order == 1]:
        raise ValueError(f"orders lie in (0, 2] and are not 1 (that is KL), not {wrong[0]:g}")
    if base is not None and base.shape != (tokens, vocabulary):
        raise ValueError(f"the base's log-probabilities need the shape {(tokens, vocabulary)}, not {base.shape}")
    sums = _Sums.zero(members, orders)
    bases = iter(()) if base is None else normalised(base[None], members)
    for logs in normalised(logprobs):
        sums.add(logs, next(bases, None), top)
    return sums.after(tokens, top, has_base=base is not None)


@dataclass(kw_only=True)
class _Sums:
    """Sums over the tokens seen so far."""

    cross: FloatArray  # (K, K) sum p_i log p_j
    never: FloatArray  # (K, K) probability that i gives to tokens to which j gives none
    tv: FloatArray  # (K, K) sum |p_i - p_j|, i < j
    pairs: FloatArray  # (K, K) sum (p_i + p_j) log(p_i + p_j), i < j
    renyi: dict[float, FloatArray]  # sum over tokens of log(affinity)
    amari: dict[float, FloatArray]  # sum over tokens of 1 - affinity
    top: FloatArray  # (2, K) entropy and mass of the top k
    base: FloatArray  # (2, K) sum p_i log p_base; probability that i gives to tokens to which the base gives none
    mixture: float = 0.0  # sum over tokens of p log p of the mean of the members

    @classmethod
    def zero(cls, members: int, orders: Sequence[float]) -> _Sums:
        def square() -> FloatArray:
            return np.zeros((members, members))

        def each() -> dict[float, FloatArray]:
            return {order: square() for order in orders}

        return cls(
            cross=square(),
            never=square(),
            tv=square(),
            pairs=square(),
            renyi=each(),
            amari=each(),
            top=np.zeros((2, members)),
            base=np.zeros((2, members)),
        )

    def add(self, logs: FloatArray, base: FloatArray | None, top: int) -> None:
        """Add some tokens to the sums: `logs`, shape (K, tokens here, V), and the base's, shape (1, tokens here, V)."""
        members = len(logs)
        roots = np.exp(logs / 2)  # square roots of the probabilities: they give order 0.5 at no cost
        p = (roots * roots).reshape(members, -1)
        self.top += _top_sums(logs, top)
        for order in self.renyi:
            affinity = _affinity(logs, roots if order == 0.5 else None, order)
            self.amari[order] += (1.0 - affinity).sum(axis=0)
            with np.errstate(divide="ignore"):  # nothing in common: affinity 0, divergence inf
                self.renyi[order] += np.log(affinity).sum(axis=0)
        flat = logs.reshape(members, -1)
        safe, never = split_impossible(flat)
        self.cross += p @ safe.T
        if never is not None:
            self.never += p @ never.T
        if base is not None:
            safe, never = split_impossible(base.reshape(1, -1))
            self.base[0] += p @ safe[0]
            if never is not None:
                self.base[1] += p @ never[0]
        positive = np.maximum(p, _TINY)
        one, other = np.empty_like(p[0]), np.empty_like(p[0])  # pair by pair in two buffers, which fit in the cache
        for i in range(members - 1):
            for j in range(i + 1, members):
                np.abs(np.subtract(p[i], p[j], out=one), out=one)
                self.tv[i, j] += float(one.sum())
                np.add(positive[i], positive[j], out=one)
                self.pairs[i, j] += float(np.vdot(one, np.log(one, out=other)))
        self.mixture += xlogx(p.mean(axis=0))

    def after(self, tokens: int, top: int, *, has_base: bool) -> DivergenceSums:
        return DivergenceSums(
            tokens=tokens,
            top_k=top,
            cross=self.cross,
            never=self.never,
            tv=self.tv,
            pairs=self.pairs,
            renyi=self.renyi,
            amari=self.amari,
            top=self.top,
            base=self.base if has_base else None,
            mixture=self.mixture,
        )


def shape_of(logprobs: NDArray[np.floating]) -> tuple[int, int, int]:
    """(members, tokens, vocabulary). Raises ValueError for another shape, and where one of them is 0."""
    if logprobs.ndim != 3 or logprobs.size == 0:
        raise ValueError(
            f"log-probabilities have the shape (members, tokens, vocabulary), none of them 0, not {logprobs.shape}"
        )
    members, tokens, vocabulary = logprobs.shape
    return members, tokens, vocabulary


def normalised(logprobs: NDArray[np.floating], abreast: int = 0) -> Iterator[FloatArray]:
    """Normalised float64 log-probabilities, some tokens at a time, shape (K, tokens here, V).

    Raises ValueError for NaN, and for distributions that do not sum to 1 within what bfloat16 rounds.

    The length of a chunk follows from the number of members: `abreast` members of another array whose chunks are read
    beside these, or this array's own where it is 0.
    """
    members, tokens, vocabulary = shape_of(logprobs)
    step = max(1, _CHUNK // ((abreast or members) * vocabulary))
    for start in range(0, tokens, step):
        logs = logprobs[:, start : start + step].astype(np.float64)
        top = logs.max(axis=2, keepdims=True)
        if not np.isfinite(top).all():
            raise ValueError("log-probabilities with NaN, +inf or a token where every entry is -inf")
        total = top + np.log(np.exp(logs - top).sum(axis=2, keepdims=True))
        worst = float(np.abs(total).max())
        if not worst <= _UNNORMALISED:
            raise ValueError(
                f"not log-probabilities: a distribution's log-sum-exp is off 0 by {worst:.3g}; "
                "pass a natural log-softmax over the whole vocabulary"
            )
        logs -= total
        yield logs


def xlogx(p: FloatArray) -> float:
    """The sum of p log p, 0 where p is 0."""
    return float(np.vdot(p, np.log(np.maximum(p, _TINY))))


def split_impossible(logs: FloatArray) -> tuple[FloatArray, NDArray[np.bool_] | None]:
    """(`logs` with 0 in place of -inf, a mask of the replaced entries or None without any): 0 * -inf is NaN, not 0."""
    if not np.isneginf(logs.min()):
        return logs, None
    never = np.isneginf(logs)
    return np.where(never, 0.0, logs), never


def _affinity(logs: FloatArray, roots: FloatArray | None, order: float) -> FloatArray:
    """sum_v p_i^a p_j^(1-a) for every token, shape (tokens, K, K). `roots` is sqrt(p) where a = 0.5."""
    if roots is not None:
        left = right = roots
    else:
        left = np.exp(order * logs)
        right = np.exp(np.minimum((1 - order) * logs, 700.0))  # a float64 ends near e^700
    never = np.isneginf(logs) if order > 1 and np.isneginf(logs.min()) else None
    if never is not None:
        right[never] = 0.0
    affinities: FloatArray = np.matmul(left.transpose(1, 0, 2), right.transpose(1, 2, 0))
    if never is not None:  # where p_j is 0 and p_i is not, an order above 1 must be infinite, as KL is
        lost = np.matmul(left.transpose(1, 0, 2), never.transpose(1, 2, 0).astype(np.float64))  # p_i^a where p_j = 0
        affinities = np.where(lost > 0, np.inf, affinities)
    return affinities


def _top_sums(logs: FloatArray, k: int) -> FloatArray:
    """Entropy and mass of the k likeliest tokens, summed over tokens, shape (2, K)."""
    members, _, vocabulary = logs.shape
    rows = logs.reshape(-1, vocabulary)
    best = np.exp(_largest(rows, k)).reshape(members, -1, k)
    mass = best.sum(axis=2)
    entropy = np.log(mass) - (best * np.log(np.maximum(best, _TINY))).sum(axis=2) / mass
    totals: FloatArray = np.stack([np.maximum(entropy, 0.0).sum(axis=1), mass.sum(axis=1)])
    return totals


def _largest(rows: FloatArray, k: int) -> FloatArray:
    """The k largest entries of each row, shape (rows, k), in any order.

    In a long row the k-th largest of the groups' maxima is a lower bound of the k-th largest entry, so only the entries above
    it are sorted. That takes a quarter of the time of a partition of the row.
    """
    count, width = rows.shape
    whole = width // _GROUP * _GROUP
    if width < 4 * k * _GROUP:
        return np.partition(rows, width - k, axis=1)[:, width - k :]
    maxima = rows[:, :whole].reshape(count, _GROUP, -1).max(axis=1)
    floor = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, -k]
    candidates = [row[row >= least] for row, least in zip(rows, floor, strict=True)]
    return np.stack([np.partition(row, len(row) - k)[-k:] for row in candidates])
