"""What members think of the choices of one multiple-choice problem: how far apart they are, how sure, and who agrees.

The log-probabilities of the texts of the choices are normalised over the choices (temperature 1): softmax over O numbers.
No correction is made for the length of a text. A member chooses the most probable text, or the first of several equally
probable ones, as in lm-eval's `acc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_TINY = 1e-300


@dataclass(frozen=True)
class Spread:
    """How far apart K members are over O choices, and how sure each of them is. All values are in nats."""

    kl: FloatArray  # (K, K): KL(P_i || P_j)
    js: FloatArray  # (K, K): Jensen-Shannon divergence, at most log 2
    entropy: FloatArray  # (K,), at most log O


def normalised(logprobs: Sequence[Sequence[float]] | FloatArray) -> FloatArray:
    """Log-probabilities (K, O) of each choice given that one of them is chosen. Raises ValueError unless all are finite."""
    logs = np.asarray(logprobs, np.float64)
    if logs.ndim != 2 or not logs.size or not np.isfinite(logs).all():
        raise ValueError(f"log-probabilities of choices are finite numbers of shape (members, choices), not {logs.shape}")
    logs = logs - logs.max(axis=1, keepdims=True)
    conditional: FloatArray = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return conditional


def spread(logprobs: Sequence[Sequence[float]] | FloatArray) -> Spread:
    """The divergences between K members and their entropies, from log-probabilities (K, O). Raises as `normalised`."""
    logs = normalised(logprobs)
    p = np.exp(logs)
    kl = np.maximum((p[:, None] * (logs[:, None] - logs[None])).sum(axis=2), 0.0)
    mean = (p[:, None] + p[None]) / 2
    to_mean = (p[:, None] * (logs[:, None] - np.log(np.maximum(mean, _TINY)))).sum(axis=2)
    return Spread(kl, np.maximum((to_mean + to_mean.T) / 2, 0.0), np.maximum(-(p * logs).sum(axis=1), 0.0))


def best(logprobs: Sequence[Sequence[float]] | FloatArray) -> list[int]:
    """The place of each member's most probable choice, from log-probabilities (K, O); of equal choices it is the first."""
    return [int(place) for place in np.argmax(np.asarray(logprobs, np.float64), axis=1)]


def agreement(chosen: Sequence[int]) -> float | None:
    """The share of pairs of members that choose the same, in [0, 1]; None with one member."""
    if len(chosen) < 2:
        return None
    counts = np.unique(np.asarray(chosen), return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (len(chosen) * (len(chosen) - 1)))
