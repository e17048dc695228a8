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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.token_sums import FloatArray, normalised, shape_of, split_impossible, sums_of, xlogx
from spa_bench.types import DivergenceSums

ONE_MEMBER = "one member: there is nothing to compare"


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
    members, tokens = shape_of(logprobs)[:2]
    cross = np.zeros((members, members))
    impossible = np.zeros((members, members))
    for logs in normalised(logprobs):
        flat = logs.reshape(members, -1)
        p = np.exp(flat)
        safe, never = split_impossible(flat)
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
    members, tokens = shape_of(logprobs)[:2]
    total = 0.0
    for logs in normalised(logprobs):
        p = np.exp(logs).reshape(members, -1)
        total += xlogx(p) - members * xlogx(p.mean(axis=0))
    return max(total / (members * tokens), 0.0) if members > 1 else None


def _mirrored(upper: FloatArray) -> FloatArray:
    return upper + upper.T


def _square(matrix: FloatArray) -> FloatArray:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"a KL matrix has the shape (members, members), not {matrix.shape}")
    return matrix
