"""A metric of one problem, and the samples that it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.novelty import PATIENCE
from spa_bench.types import Behaviour, Choices, Divergence

Value = float | None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """All n samples of one problem, in the order (member, draw)."""

    problem: str
    texts: Sequence[str]  # what was graded, stripped
    programs: Sequence[str] | None  # whole programs; None where the answers are not programs
    passed: Sequence[bool]
    failed: Sequence[bool]  # no answer
    members: int  # K; n = r K
    k: int  # the k of pass@K
    tokens: Sequence[int] = ()
    spent: Sequence[int] = ()  # tokens drawn, those thrown away included
    divergence: Divergence | None = None
    behaviours: Sequence[Behaviour] | None = None
    noise: Sequence[str] | None = None  # the first member's first draw, repeated in other batches
    choices: int | None = None  # of a multiple-choice problem
    embeddings: NDArray[np.floating] | None = None  # (n, d)
    passed_base: Sequence[bool] | None = None  # on the base tests, where the problem has more tests after them
    right: int = 1  # of the choices of a multiple-choice problem, how many are right
    preferences: Choices | None = None  # of a multiple-choice problem: what the members think of its options
    judged: bool = True  # whether answers are right or wrong; where they are neither, `passed` says nothing
    qualities: Sequence[float | None] = ()  # of answers that are neither: judged quality, 1 to 10; empty where none is judged
    patience: float = PATIENCE  # the p of utility_k[class]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric computed problem by problem."""

    name: str
    description: str
    compute: Callable[[Samples], Value]
    rate: bool = False  # a share between 0 and 1, which gets Wilson's interval at the ends
    alias: str = ""  # a short name, which is always there too; of ours alone
    missing: str = ""  # why `compute` may give None
    bounds: tuple[float, float] | None = None  # limits of values that are not a rate: intervals are cut there
    of_verdicts: bool = False  # it counts right answers, so that a problem without a right answer has no value


def digests(samples: Samples) -> list[str | None]:
    """The digest of each program's behaviour, None where it has none; empty where no behaviours are known."""
    return [b.digest or None for b in samples.behaviours or ()]


def share(values: Sequence[float] | Sequence[int] | Sequence[bool]) -> Value:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None
