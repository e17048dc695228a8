"""NoveltyBench's distinct_k and utility_k over equivalence classes of the k answers to one problem.

Zhang et al. 2025 (arXiv 2504.05228). The caller says what makes two answers equivalent, as labels: a key of each answer (its
text, syntax tree or behaviour), or the classes of `partition`, which asks a yes/no question about pairs, as the paper does
with a trained classifier. A label None is a failed sample: it has no class and earns nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

PATIENCE = 0.8
"""The paper's p: the chance that a user who has read an answer asks for another one."""

_Answer = TypeVar("_Answer")


def distinct_k(labels: Sequence[Hashable | None]) -> int:
    """The number of different classes among the k samples, 0 to k; failed samples (None) add none."""
    return len(set(labels) - {None})


def utility_k(
    labels: Sequence[Hashable | None], utilities: Sequence[float] | Sequence[bool], *, patience: float = PATIENCE
) -> float:
    """(1 - p) / (1 - p**k) * sum over i = 1..k of p**(i - 1) * [the class of sample i is new] * u_i.

    It is what a user of patience p gets from reading the k samples in this order, when repetitions are worth nothing, as a
    share of the most that is possible; so it lies in [0, 1] for utilities in [0, 1]. A class is used up by its first sample
    even if that sample is worth 0, as in the paper. p = 1 is the limit, the plain mean. The value depends on the order.

    Raises ValueError without samples, for unequal lengths, or p outside (0, 1].
    """
    if not labels or len(labels) != len(utilities):
        raise ValueError(
            f"one utility for each of at least one sample, not {len(labels)} labels and {len(utilities)} utilities"
        )
    if not 0 < patience <= 1:
        raise ValueError(f"the patience must be over 0 and at most 1, not {patience}")
    seen: set[Hashable | None] = {None}
    total = norm = 0.0
    weight = 1.0
    for label, utility in zip(labels, utilities, strict=True):
        if label not in seen:
            seen.add(label)
            total += weight * utility
        norm += weight
        weight *= patience
    return total / norm


def partition(answers: Sequence[_Answer], equivalent: Callable[[_Answer, _Answer], bool]) -> list[int]:
    """The class of each answer, numbered 0, 1, ... by first appearance, from a question about pairs.

    It is greedy, as in NoveltyBench's released code: an answer joins the first class whose *first member* it is equivalent to,
    or opens a new one. `equivalent(first, answer)` need not be transitive or symmetric; if it is not, the classes depend on
    the order. At most k * (classes) questions are asked.
    """
    firsts: list[_Answer] = []
    classes: list[int] = []
    for answer in answers:
        place = next((c for c, first in enumerate(firsts) if equivalent(first, answer)), len(firsts))
        if place == len(firsts):
            firsts.append(answer)
        classes.append(place)
    return classes
