"""Sums over the vocabulary that are not divided by those of the probabilities yet: what token_sums and fused_sums find."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

BLOCK = 512  # numbers that are added in the working type; their sums are added in float64


@dataclass(frozen=True, kw_only=True)
class RawSums:
    """Sums over the vocabulary for each of T tokens, in float64, of the K members' probabilities p, whose sums are nearly 1."""

    total: Tensor  # (A, T): sums of exp(logit - the largest); the rows behind the K-th are no members
    mass: Tensor  # (T, K): the sums of p
    cross: Tensor  # (T, K, A): sum p_i (logit - the largest) of j
    affinity: Tensor  # (T, K, K): sum sqrt(p_i p_j) of normalised p
    least: Tensor  # (T, K, K), i < j: sum min(p_i, p_j)
    pairs: Tensor  # (T, K, K), i < j: sum s log2 s of s = p_i + p_j
    mixture: Tensor  # (T,): sum s log2 s of the sum of all members
