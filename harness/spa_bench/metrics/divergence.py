"""How far apart the members of a mixture are as distributions, on one shared continuation.

The paper's "average KL" (arXiv 2411.06722) leaves open on what text and at what level. Here: teacher-forced next-token
distributions at temperature 1 without truncation, averaged over the tokens of a continuation that all members score.
The input is always `logprobs`, shape (K members, T tokens, V vocabulary), natural log, of any float type; all sums run
in float64 after every distribution is normalised again there, so that rounding of a float32 log-softmax does not pass for
divergence. One problem a call; average over problems outside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_CHUNK = 1 << 22  # numbers of float64 worked on at once, 32 MiB
_UNNORMALISED = 0.02  # bfloat16 log-probabilities sum to 1 within about this; logits and log2 do not


def kl_matrix(logprobs: NDArray[np.floating]) -> FloatArray:
    """KL(P_i || P_j) in nats for every pair of members, averaged over tokens, shape (K, K).

    sum_v p_i (log p_i - log p_j), as one matrix product of p with log p. A token that member i gives probability 0 adds
    nothing; one that i gives some and j gives none makes the entry inf (truncated sampling does that: score at
    temperature 1).
    The diagonal is exactly 0, and what rounding (about 1e-15) takes below 0 is 0.

    Raises ValueError for another shape, an empty axis, NaN, or distributions that do not sum to 1.
    """
    members, tokens = _shape(logprobs)[:2]
    cross = np.zeros((members, members))
    impossible = np.zeros((members, members))
    for logs in _chunks(logprobs):
        p = np.exp(logs)
        never = np.isneginf(logs)
        if never.any():
            impossible += p @ never.T
            logs = np.where(never, 0.0, logs)  # 0 * -inf is NaN, not 0
        cross += p @ logs.T
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

    The mean over members of KL(P_i || M), M = mean of the P_i with equal weights (Lin 1991): what knowing the member tells
    about the next token. Finite also where KL is not. Raises as `kl_matrix`.
    """
    members, tokens = _shape(logprobs)[:2]
    total = 0.0
    for logs in _chunks(logprobs):
        p = np.exp(logs)
        mixture = p.mean(axis=0)
        total += _plogp(mixture, np.log(mixture, where=mixture > 0, out=np.zeros_like(mixture))) * -members
        total += _plogp(p, np.where(np.isneginf(logs), 0.0, logs))
    return max(total / (members * tokens), 0.0) if members > 1 else None


def _plogp(p: FloatArray, logs: FloatArray) -> float:
    return float(np.vdot(p, logs))


def _shape(logprobs: NDArray[np.floating]) -> tuple[int, int, int]:
    if logprobs.ndim != 3 or logprobs.size == 0:
        raise ValueError(
            f"log-probabilities have the shape (members, tokens, vocabulary), none of them 0, not {logprobs.shape}"
        )
    members, tokens, vocabulary = logprobs.shape
    return members, tokens, vocabulary


def _chunks(logprobs: NDArray[np.floating]) -> Iterator[FloatArray]:
    """Some tokens at a time: float64 log-probabilities, normalised, shape (K, tokens here x V)."""
    members, tokens, vocabulary = _shape(logprobs)
    step = max(1, _CHUNK // (members * vocabulary))
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
        yield (logs - total).reshape(members, -1)


def _square(matrix: FloatArray) -> FloatArray:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"a KL matrix has the shape (members, members), not {matrix.shape}")
    return matrix
