"""The metrics of multiple choice: how the members' preferences among the choices differ, and what a vote gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.choices import agreement, best
from spa_bench.metrics.divergence import average_kl, average_kl_symmetric
from spa_bench.metrics.diversity import diversity_score
from spa_bench.metrics.metric import Metric, Samples, Value, share
from spa_bench.metrics.quality import any_of_n
from spa_bench.metrics.table import TWO, right_by_vote


def _apart(kind: str, mean: Callable[[NDArray[np.float64]], Value]) -> Callable[[Samples], Value]:
    """The mean over pairs of members of how far apart they are on a multiple-choice problem."""
    return lambda s: mean(np.array(s.preferences.matrices[kind])) if s.preferences and kind in s.preferences.matrices else None


def _each(kind: str) -> Callable[[Samples], Value]:
    """The mean over members of one of their numbers on a multiple-choice problem."""
    return lambda s: float(np.mean(s.preferences.members[kind])) if s.preferences and kind in s.preferences.members else None


def _chosen(s: Samples) -> list[int]:
    """What each member finds most probable of the choices; empty where there are none."""
    return best(np.array(s.preferences.logprobs)[:, : s.choices]) if s.preferences else []


def _where_choices(compute: Callable[[Samples], Value]) -> Callable[[Samples], Value]:
    """`compute` for the problems that have choices; None for the others."""
    return lambda s: compute(s) if s.choices else None


_NO_PAIR = "one member: there is nothing to compare; or no problem is multiple choice"
_NO_OPTIONS = "no problem is multiple choice"
CHOICE_METRICS: tuple[Metric, ...] = (
    Metric(
        name="pass@1[mc]",
        description="pass@1 of the problems that have choices",
        compute=_where_choices(lambda s: share(s.passed)),
        rate=True,
        of_verdicts=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="majority_vote[mc]",
        description="whether the most frequent choice is right, of the problems that have choices",
        compute=_where_choices(right_by_vote),
        rate=True,
        of_verdicts=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="any_of_n[mc]",
        description="any_of_n of the problems that have choices: the same as those of any_of_n[chance]",
        compute=_where_choices(lambda s: any_of_n(s.passed)),
        rate=True,
        of_verdicts=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="diversity_score[mc]",
        description="diversity score of what is written after the choice, texts compared after stripping",
        compute=_where_choices(lambda s: diversity_score(s.texts, failed=s.failed)),
        rate=True,
        missing=f"{TWO}, and choices",
    ),
    *(
        metric
        for what, over in (("choices", "over the choices"), ("first", "of the first token after the context"))
        for metric in (
            Metric(
                name=f"kl[{what},i<j]",
                description=f"mean KL between members {over}, nats, over i < j (depends on their order)",
                compute=_apart(f"kl[{what}]", average_kl),
                alias=f"kl[{what}]",
                missing=_NO_PAIR,
            ),
            Metric(
                name=f"kl[{what},i!=j]",
                description="the same over i != j",
                compute=_apart(f"kl[{what}]", average_kl_symmetric),
                missing=_NO_PAIR,
            ),
            Metric(
                name=f"js[{what}]",
                description=f"Jensen-Shannon divergence between members {over}, mean over pairs, nats",
                compute=_apart(f"js[{what}]", average_kl_symmetric),
                missing=_NO_PAIR,
            ),
        )
    ),
    Metric(
        name="entropy[choices]",
        description="entropy over the choices, nats, mean over members",
        compute=_each("entropy[choices]"),
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="entropy[first]",
        description="entropy of the first token after the context, nats, mean over members",
        compute=_each("entropy[first]"),
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="agreement[choices]",
        description="share of pairs of members that find the same choice most probable",
        compute=lambda s: agreement(_chosen(s)),
        rate=True,
        missing=_NO_PAIR,
    ),
    Metric(
        name="distinct[choices]",
        description="different choices that the members find most probable",
        compute=lambda s: float(len(set(_chosen(s)))) if s.preferences else None,
        missing=_NO_OPTIONS,
    ),
)
"""Metrics of multiple choice, which a run has where one of its problems is multiple choice."""
