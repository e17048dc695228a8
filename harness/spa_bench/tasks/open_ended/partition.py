"""Answers fall into classes: greedily, in the order of generation, by a question about pairs.

An answer joins the first class whose first member it is equivalent to, or opens a class, as in NoveltyBench's released code
(Zhang et al. 2025, arXiv 2504.05228). The classes are those of spa_bench.metrics.novelty.partition; here the questions of a
round are asked together, because a model answers many at once sooner than one after the other.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_EDGE = " \t\n.!?,;:'\"`*_“”‘’"


class Pair(NamedTuple):
    """A question: is the answer at `other` the same as the one at `first`, which opened a class?"""

    problem: str
    first: int  # places among the problem's answers
    other: int


def normal(text: str) -> str:
    """What exact equivalence compares: NFKC, no case, single spaces, no white space, quotes or .!?,;:*_` at the ends.

    A text of nothing but such marks keeps them.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.strip(_EDGE) or plain


def name_of(text: str) -> str:
    """A hash of an answer that names it, 16 hex digits: equal for answers that are exactly equivalent."""
    return hashlib.blake2b(normal(text).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def in_rounds(answers: Mapping[str, Sequence[str]], same: Callable[[Sequence[Pair]], Sequence[bool]]) -> dict[str, list[int]]:
    """Problem -> the class of each of its answers, numbered from 0 by first appearance.

    A round opens a class for the first answer of each problem that has none, and asks `same` about it and every later answer
    without a class, of all problems at once. Answers that are exactly equivalent are asked about once.
    """
    distinct = {problem: _distinct(texts) for problem, texts in answers.items()}
    classes: dict[str, dict[str, int]] = {problem: {} for problem in answers}  # name of an answer -> its class
    number = 0
    while waiting := {p: [n for n in names if n not in classes[p]] for p, names in distinct.items()}:
        waiting = {problem: names for problem, names in waiting.items() if names}
        if not waiting:
            break
        pairs, others = [], []
        for problem, [first, *rest] in waiting.items():
            classes[problem][first] = number
            pairs += [Pair(problem, distinct[problem][first], distinct[problem][name]) for name in rest]
            others += [(problem, name) for name in rest]
        for (problem, name), yes in zip(others, same(pairs), strict=True):
            if yes:
                classes[problem][name] = number
        number += 1
    return {problem: [classes[problem][name_of(text)] for text in texts] for problem, texts in answers.items()}


def _distinct(texts: Sequence[str]) -> dict[str, int]:
    """Name of an answer -> the place of the first answer with that name."""
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        places.setdefault(name_of(text), place)
    return places
