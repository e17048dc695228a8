"""The metrics of members' distributions of the next token: how far apart they are, and how wide each is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.divergence import average_kl, average_kl_symmetric, jeffreys
from spa_bench.metrics.metric import Metric, Samples, Value


def _pair(kind: str, mean: Callable[[NDArray[np.float64]], Value]) -> Callable[[Samples], Value]:
    """The mean over pairs of members of a (K, K) matrix."""

    def compute(s: Samples) -> Value:
        matrix = s.divergence.matrices.get(kind) if s.divergence else None
        return mean(np.array(matrix)) if matrix is not None and len(matrix) > 1 else None

    return compute


def _member(kind: str) -> Callable[[Samples], Value]:
    """The mean over members of one of their numbers."""
    return lambda s: float(np.mean(s.divergence.members[kind])) if s.divergence and kind in s.divergence.members else None


def _overall(kind: str) -> Callable[[Samples], Value]:
    return lambda s: s.divergence.overall.get(kind) if s.divergence else None


_ONE_MEMBER = "one member: there is nothing to compare; or no problem fits the context"
_NO_CONTEXT = "not measured: samples from elsewhere, or no problem fits the context"

DISTRIBUTION_METRICS: tuple[Metric, ...] = (
    Metric(
        name="average_kl[i<j]",
        description="mean KL between members, nats a token, over i < j (the paper's; depends on their order)",
        compute=_pair("kl", average_kl),
        alias="average_kl",
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="average_kl[i!=j]",
        description="the same over i != j",
        compute=_pair("kl", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="jeffreys",
        description="KL in both directions added, mean over pairs, nats a token",
        compute=_pair("kl", jeffreys),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="js",
        description="Jensen-Shannon divergence, mean over pairs, nats a token",
        compute=_pair("js", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="js[all]",
        description="Jensen-Shannon divergence of all members together, at most log K",
        compute=_overall("js[all]"),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="tv",
        description="total variation, mean over pairs, 0 to 1",
        compute=_pair("tv", average_kl_symmetric),
        rate=True,
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="renyi[a=0.5]",
        description="Rényi divergence of order 0.5, mean over i != j",
        compute=_pair("renyi[a=0.5]", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="amari[a=0.5]",
        description="α-divergence at 0.5 (4 × squared Hellinger), mean over i != j",
        compute=_pair("amari[a=0.5]", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="kl_to_base",
        description="KL from a member to the model without its adapter, nats a token, mean over members",
        compute=_member("kl_to_base"),
        missing="no adapter: the members are the base; or no problem fits the context",
    ),
    Metric(
        name="entropy",
        description="entropy of the next token, nats, mean over members",
        compute=_member("entropy"),
        missing=_NO_CONTEXT,
    ),
    Metric(
        name="entropy[top=20]",
        description="entropy among the 20 likeliest tokens, nats",
        compute=_member("entropy[top=20]"),
        missing=_NO_CONTEXT,
    ),
    Metric(
        name="mass[top=20]",
        description="probability of the 20 likeliest tokens",
        compute=_member("mass[top=20]"),
        rate=True,
        missing=_NO_CONTEXT,
    ),
)
"""Metrics that every run has whose engine gives distributions."""

READ_TWICE = "kl[noise]"  # in `Divergence.overall`
NOISE_METRICS: tuple[Metric, ...] = (
    Metric(
        name="noise_floor[average_kl]",
        description="KL between one member and itself in another batch, nats a token, on one problem of 32: numerics alone",
        compute=_overall(READ_TWICE),
        missing="no problem was read twice",
    ),
)
"""What numerics alone give in a divergence, which a run has where a member read one of its problems twice."""

DIVERGENCES = frozenset(metric.name for metric in (*DISTRIBUTION_METRICS, *NOISE_METRICS))
"""Metrics that come from distributions of tokens, which some engines do not give."""
