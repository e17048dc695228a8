"""How good answers are: accuracy, majority vote, any-of-n beside its chance level, pass rates of members.

Each function takes all n answers to one problem, so that the intervals can resample problems. Answers are compared as
labels, which may be anything hashable: a choice, a number, a digest of behaviour. pass@k is in `pass_at_k`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def accuracy(right: Sequence[bool]) -> float:
    """The share of right answers. Raises ValueError when there is none."""
    _some(len(right))
    return float(np.mean([bool(r) for r in right]))


def majority_vote(labels: Sequence[Hashable | None], right: Sequence[bool]) -> float:
    """The chance that the most frequent label is right, ties broken at random, in [0, 1].

    `labels[i]` is what answer i says and `right[i]` whether it is right; None is no vote (no answer, no verdict) and loses
    against any label. Of m labels with the most votes, each is chosen with chance 1 / m. The result is the expectation, so
    nothing is drawn: it is 0.5 when a right and a wrong label tie. Without any vote it is 0. This is self-consistency (Wang et
    al. 2022, arXiv 2203.11171), which does not state a rule for ties. Where answers of one label have different verdicts
    (programs that behave alike on the few inputs they were tried on), one of them is taken at random: the label counts with
    its share of right answers.

    Raises ValueError when there is no answer or lengths differ.
    """
    _some(len(labels))
    if len(labels) != len(right):
        raise ValueError(f"{len(labels)} labels and {len(right)} verdicts: there must be one of each for an answer")
    verdicts: dict[Hashable, list[bool]] = {}
    for label, verdict in zip(labels, right, strict=True):
        if label is not None:
            verdicts.setdefault(label, []).append(bool(verdict))
    if not verdicts:
        return 0.0
    most = max(map(len, verdicts.values()))
    return float(np.mean([accuracy(of_label) for of_label in verdicts.values() if len(of_label) == most]))


def any_of_n(right: Sequence[bool]) -> float:
    """1.0 when at least one answer is right, else 0.0: what an oracle choosing among the n answers gets.

    It estimates pass@n only where the n answers are the n draws that pass@n means. Read it beside `any_of_n_chance`. Raises
    ValueError when there is no answer.
    """
    _some(len(right))
    return float(any(right))


def any_of_n_chance(n: int, choices: int | None, right: int = 1) -> float | None:
    """The chance that one of n guesses is right: 1 - (1 - r / c)^n for c equally likely `choices`, r of them `right`.

    It is 0.90 for 8 guesses among 4 choices. Guesses are independent, as those of n members are; without repeats it would be n
    / c for r = 1. The result is None where there are no choices to guess from (`choices` is None: free text, code). Raises
    ValueError for n < 1, choices < 1, or `right` outside 1 .. choices.
    """
    if n < 1:
        raise ValueError(f"any-of-n needs n >= 1, not {n}")
    if choices is None:
        return None
    if choices < 1:
        raise ValueError(f"there is at least 1 choice, not {choices}; None: nothing to choose from")
    if not 1 <= right <= choices:
        raise ValueError(f"of {choices} choices 1 to {choices} are right, not {right}")
    return 1.0 - (1.0 - right / choices) ** n


def above_chance(value: float, chance: float | None) -> float | None:
    """(value - chance) / (1 - chance): 0 for guessing, 1 for always right, below 0 for worse than guessing.

    This is Cohen's rescaling (kappa). It is None where there is no chance level, or the chance level is 1.
    """
    return None if chance is None or chance >= 1 else (value - chance) / (1 - chance)


def member_pass_rates(right: Sequence[bool], members: int) -> FloatArray:
    """The share of right answers of each member, shape (K,).

    `right` is in the order (member, draw), n = r K of them. Their mean is `accuracy`. Raises ValueError unless
    K >= 1 divides n.
    """
    _some(len(right))
    if members < 1 or len(right) % members:
        raise ValueError(f"{len(right)} answers do not divide among {members} members; n must be a multiple of K")
    rates: FloatArray = np.asarray([bool(r) for r in right], dtype=np.float64).reshape(members, -1).mean(axis=1)
    return rates


def _some(n: int) -> None:
    if n == 0:
        raise ValueError("no answers: there is nothing to judge")
