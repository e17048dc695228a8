"""How far apart the members of a mixture are as distributions, on one shared continuation.

The paper (arXiv 2411.06722) does not say on what text and at what level its "average KL" is measured. Here it is measured
on teacher-forced next-token distributions at temperature 1 without truncation, and averaged over the tokens of a continuation
that all members score. The input is always `logprobs`, shape (K members, T tokens, V vocabulary), natural log, of any float
type. Every distribution is normalised again in float64 and all sums run there, so that the rounding of a float32 log-softmax
does not count as divergence. A call is for one problem; the caller averages over problems. `divergences` computes everything
in one pass over the tokens. A run does not call it: its model sums on its own device (Model.divergence), and `of_sums` turns
the sums into divergences.

All numbers are per token, given the same context: by the chain rule the KL between the members' distributions over whole
texts is a sum over tokens too, but under contexts drawn from the first member, not under one shared text. Nothing here
is that sequence-level number; total variation and Jensen-Shannon do not even add up over tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.types import DivergenceSums

FloatArray = NDArray[np.float64]

ONE_MEMBER = "one member: there is nothing to compare"

_CHUNK = 1 << 18  # numbers of float64 processed at once, 2 MiB: five times as fast as 32 MiB, which no cache holds
_GROUP = 16  # entries a group; the search for the top k looks at the maximum of each group first
_TINY = 1e-300  # x log x is 0 at 0; below this it is 0 in float64
_UNNORMALISED = 0.02  # bfloat16 log-probabilities sum to 1 within about this; logits and log2 do not


@dataclass(frozen=True, eq=False, kw_only=True)
class Divergences:
    """Everything about K members on one shared continuation of T tokens, averaged over the tokens. Nats, float64.

    Matrices have the shape (K, K), row i against column j, with 0 on the diagonal.
    """

    tokens: int  # T
    kl: FloatArray  # KL(P_i || P_j); inf where i gives probability to a token to which j gives none
    js: FloatArray  # Jensen-Shannon of the pair, equal weights; symmetric, at most log 2
    tv: FloatArray  # total variation, sum |p_i - p_j| / 2; symmetric, at most 1, at most sqrt(KL / 2) (Pinsker)
    renyi: dict[float, FloatArray]  # order a -> log(sum p_i^a p_j^(1-a)) / (a - 1); KL as a -> 1 (Rényi 1961)
    amari: dict[float, FloatArray]  # a -> (1 - sum p_i^a p_j^(1-a)) / (a (1 - a)); KL as a -> 1 (Amari; Cressie-Read)
    jensen_shannon_all: float | None  # of all members together, at most log K; None with one member
    entropy: FloatArray  # (K,) entropy of each member's next token
    top_k: int  # the k below
    top_k_entropy: FloatArray  # (K,) entropy of the k likeliest tokens, their probabilities scaled to sum to 1; at most log k
    top_k_mass: FloatArray  # (K,) probability of the k likeliest tokens together
    kl_to_base: FloatArray | None  # (K,) KL(P_i || base); None where no base was given
    reason: str = ""  # why the means over pairs are missing; empty where they are there

    @property
    def hellinger_squared(self) -> FloatArray:
        """Mean over tokens of H² = sum (sqrt(p_i) - sqrt(p_j))² / 2 = 1 - sum sqrt(p_i p_j), shape (K, K), at most 1.

        A quarter of Amari's divergence of order 0.5. Raises KeyError when 0.5 is not among the orders.
        """
        return self.amari[0.5] / 4.0

    def means(self) -> dict[str, float | None]:
        """The means over pairs of members, by name; each is None with one member (`reason` says so).

        `kl[i<j]` is the paper's and depends on the order of the members; `kl[i!=j]` does not. `jeffreys` is the sum of both
        directions. Rényi and Amari are means over i != j.
        """
        by_name = {
            "kl[i<j]": average_kl(self.kl),
            "kl[i!=j]": average_kl_symmetric(self.kl),
            "jeffreys": jeffreys(self.kl),
            "js": average_kl_symmetric(self.js),
            "js[all]": self.jensen_shannon_all,
            "tv": average_kl_symmetric(self.tv),
        }
        by_name |= {f"renyi[{order:g}]": average_kl_symmetric(matrix) for order, matrix in self.renyi.items()}
        by_name |= {f"amari[{order:g}]": average_kl_symmetric(matrix) for order, matrix in self.amari.items()}
        return by_name


def divergences(
    logprobs: NDArray[np.floating],
    *,
    base: NDArray[np.floating] | None = None,
    top: int = 20,
    orders: Sequence[float] = (0.5,),
) -> Divergences:
    """All divergences, entropies and distances to the base of K members, in one pass over the tokens.

    `logprobs`, shape (K, T, V), are natural log-probabilities at temperature 1 without truncation. `base`, shape (T, V), are
    those of the base model on the same tokens. `top` is the k of the top-k entropy and mass. `orders` are the values of a in
    the Rényi and Amari families, in (0, 2] without 1 (which is KL). Rényi's logarithm is taken token by token, then averaged.

    Raises ValueError for other shapes or orders, for a top outside 1..V, and as `kl_matrix`.
    """
    return of_sums(sums_of(logprobs, base=base, top=top, orders=orders))


def sums_of(
    logprobs: NDArray[np.floating],
    *,
    base: NDArray[np.floating] | None = None,
    top: int = 20,
    orders: Sequence[float] = (0.5,),
) -> DivergenceSums:
    """The sums over the tokens behind `divergences`, which has the same arguments and errors."""
    members, tokens, vocabulary = _shape(logprobs)
    if not 1 <= top <= vocabulary:
        raise ValueError(f"the top {top} tokens of a vocabulary of {vocabulary}: give a number from 1 to {vocabulary}")
    if wrong := [order for order in orders if not 0 < order <= 2 or order == 1]:
        raise ValueError(f"orders lie in (0, 2] and are not 1 (that is KL), not {wrong[0]:g}")
    if base is not None and base.shape != (tokens, vocabulary):
        raise ValueError(f"the base's log-probabilities need the shape {(tokens, vocabulary)}, not {base.shape}")
    sums = _Sums.zero(members, orders)
    bases = iter(()) if base is None else _chunks(base[None], members)
    for logs in _chunks(logprobs):
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
        safe, never = _split(flat)
        self.cross += p @ safe.T
        if never is not None:
            self.never += p @ never.T
        if base is not None:
            safe, never = _split(base.reshape(1, -1))
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
        self.mixture += _xlogx(p.mean(axis=0))

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


def of_sums(sums: DivergenceSums) -> Divergences:
    """The divergences of K members from their sums over one continuation. What rounding takes below 0 is set to 0."""
    tokens, members = sums.tokens, len(sums.cross)
    negentropy = np.diagonal(sums.cross) / tokens
    kl = np.maximum(negentropy[:, None] - sums.cross / tokens, 0.0)
    kl[sums.never > 0] = np.inf
    # JS = (sum p_i log p_i + sum p_j log p_j - sum s log s) / 2 + log 2, s = p_i + p_j: no halving over the vocabulary
    js = (negentropy[:, None] + negentropy - _mirrored(sums.pairs) / tokens) / 2 + np.log(2)
    renyi = {a: sums_of / (tokens * (a - 1)) for a, sums_of in sums.renyi.items()}
    amari = {a: sums_of / (tokens * a * (1 - a)) for a, sums_of in sums.amari.items()}
    for matrix in [js, *renyi.values(), *amari.values()]:
        np.fill_diagonal(matrix, 0.0)
    to_base = None
    if sums.base is not None:
        to_base = np.maximum(negentropy - sums.base[0] / tokens, 0.0)
        to_base[sums.base[1] > 0] = np.inf
    together = max(float(negentropy.mean()) - sums.mixture / tokens, 0.0)
    return Divergences(
        tokens=tokens,
        kl=kl,
        js=np.maximum(js, 0.0),
        tv=_mirrored(sums.tv) / (2 * tokens),
        renyi={a: np.maximum(matrix, 0.0) for a, matrix in renyi.items()},
        amari={a: np.maximum(matrix, 0.0) for a, matrix in amari.items()},
        jensen_shannon_all=together if members > 1 else None,
        entropy=np.maximum(-negentropy, 0.0),
        top_k=sums.top_k,
        top_k_entropy=sums.top[0] / tokens,
        top_k_mass=sums.top[1] / tokens,
        kl_to_base=to_base,
        reason="" if members > 1 else ONE_MEMBER,
    )


def kl_matrix(logprobs: NDArray[np.floating]) -> FloatArray:
    """KL(P_i || P_j) in nats for every pair of members, averaged over tokens, shape (K, K).

    KL is sum_v p_i (log p_i - log p_j), computed as one matrix product of p with log p. A token to which member i gives
    probability 0 adds nothing. A token to which i gives probability and j gives none makes the entry inf; truncated sampling
    has that effect, so score at temperature 1. The diagonal is exactly 0, and values that rounding (about 1e-15) takes below 0
    are set to 0.

    Raises ValueError for another shape, an empty axis, NaN, or distributions that do not sum to 1.
    """
    members, tokens = _shape(logprobs)[:2]
    cross = np.zeros((members, members))
    impossible = np.zeros((members, members))
    for logs in _chunks(logprobs):
        flat = logs.reshape(members, -1)
        p = np.exp(flat)
        safe, never = _split(flat)
        if never is not None:
            impossible += p @ never.T
        cross += p @ safe.T
    kl = np.maximum((np.diagonal(cross)[:, None] - cross) / tokens, 0.0)
    kl[impossible > 0] = np.inf
    return np.asarray(kl, dtype=np.float64)


def average_kl(matrix: FloatArray) -> float | None:
    """The paper's average KL: the mean of KL(P_i || P_j) over i < j, in nats; None with one member.

    `matrix` is `kl_matrix(...)`. KL is not symmetric, so this depends on the order of the members: print
    `average_kl_symmetric` beside it. Raises ValueError when the matrix is not square.
    """
    square = _square(matrix)
    if len(square) < 2:
        return None
    return float(square[np.triu_indices(len(square), 1)].mean())


def average_kl_symmetric(matrix: FloatArray) -> float | None:
    """The mean of KL(P_i || P_j) over i != j, in nats, whatever the order of the members; None with one member.

    `matrix` is `kl_matrix(...)`. Raises ValueError when the matrix is not square.
    """
    square = _square(matrix)
    if len(square) < 2:
        return None
    return float(square[~np.eye(len(square), dtype=bool)].mean())


def jeffreys(matrix: FloatArray) -> float | None:
    """The mean over pairs of members of KL(P_i || P_j) + KL(P_j || P_i), in nats; None with one member.

    Jeffreys' divergence as the sum of both directions, so twice `average_kl_symmetric`. Raises ValueError when
    the matrix is not square.
    """
    mean = average_kl_symmetric(matrix)
    return None if mean is None else 2.0 * mean


def jensen_shannon(logprobs: NDArray[np.floating]) -> float | None:
    """The Jensen-Shannon divergence of all members, averaged over tokens, in nats, 0 to log K; None with one member.

    It is the mean over members of KL(P_i || M), where M is the mean of the P_i with equal weights (Lin 1991): how much knowing
    the member tells about the next token. It is finite also where KL is not. Raises as `kl_matrix`.
    """
    members, tokens = _shape(logprobs)[:2]
    total = 0.0
    for logs in _chunks(logprobs):
        p = np.exp(logs).reshape(members, -1)
        total += _xlogx(p) - members * _xlogx(p.mean(axis=0))
    return max(total / (members * tokens), 0.0) if members > 1 else None


def _xlogx(p: FloatArray) -> float:
    """The sum of p log p, 0 where p is 0."""
    return float(np.vdot(p, np.log(np.maximum(p, _TINY))))


def _split(logs: FloatArray) -> tuple[FloatArray, NDArray[np.bool_] | None]:
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
        # A float64 ends near e^700. Where p_j is 0 and p_i is not, an order above 1 must be infinite, as KL is.
        right = np.exp(np.minimum((1 - order) * np.where(np.isneginf(logs), 0.0, logs), 700.0))
    affinities: FloatArray = np.matmul(left.transpose(1, 0, 2), right.transpose(1, 2, 0))
    never = np.isneginf(logs) if roots is None and np.isneginf(logs.min()) else None
    if never is not None:
        lost = np.matmul(left.transpose(1, 0, 2), never.transpose(1, 2, 0).astype(np.float64))  # p_i^a where p_j = 0
        affinities = np.where(lost > 0, np.inf, affinities - lost) if order > 1 else affinities - lost
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


def _mirrored(upper: FloatArray) -> FloatArray:
    return upper + upper.T


def _shape(logprobs: NDArray[np.floating]) -> tuple[int, int, int]:
    if logprobs.ndim != 3 or logprobs.size == 0:
        raise ValueError(
            f"log-probabilities have the shape (members, tokens, vocabulary), none of them 0, not {logprobs.shape}"
        )
    members, tokens, vocabulary = logprobs.shape
    return members, tokens, vocabulary


def _chunks(logprobs: NDArray[np.floating], abreast: int = 0) -> Iterator[FloatArray]:
    """Normalised float64 log-probabilities, some tokens at a time, shape (K, tokens here, V).

    The length of a chunk follows from the number of members: `abreast` members of another array whose chunks are read
    beside these, or this array's own where it is 0.
    """
    members, tokens, vocabulary = _shape(logprobs)
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


def _square(matrix: FloatArray) -> FloatArray:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"a KL matrix has the shape (members, members), not {matrix.shape}")
    return matrix
