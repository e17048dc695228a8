"""Which of several differences are resolved, corrected for their number.

The family is the samplers within one task and one metric: with 8 samplers compared with a reference at 5 % each, one in
three tables marks a difference that is not there. There is no correction for several metrics, several tasks or repeated
looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spa_bench.types import Estimate


@dataclass(frozen=True)
class Decision:
    """One sampler's difference, judged beside the others'."""

    difference: Estimate
    p: float | None  # of this difference alone; None where there is no interval
    adjusted: float | None  # by Holm over all differences that have a p-value
    resolved: bool  # adjusted <= 1 - confidence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; None stays None and does not count.

    The i-th smallest of m is multiplied by m - i + 1, then raised to the largest one before it and capped at 1 (Holm 1979).
    The chance of even one false claim stays below alpha whatever the dependence between the tests. Raises ValueError for a p
    outside [0, 1].
    """
    for p in p_values:
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"a p-value lies in [0, 1], not {p}")
    given = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(given):
        largest = max(largest, min(1.0, (len(given) - rank) * p))
        adjusted[index] = largest
    return adjusted


def resolve(tests: Mapping[str, tuple[Estimate, float | None]], *, confidence: float = 0.95) -> dict[str, Decision]:
    """Which differences are resolved at `confidence` after Holm over all of `tests` (sampler -> `paired_test(...)`).

    The order is that of `tests`. A resolved difference's own interval excludes 0, if it has the same confidence; the converse
    fails for doubtful differences. A bootstrap's p is at least 1 / resamples, so with m samplers nothing can be resolved when
    m / resamples > 1 - confidence: 100 samplers at 2000 resamples and 95 %. Raises ValueError for confidence outside (0, 1),
    and as `holm`.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    adjusted = holm([p for _, p in tests.values()])
    return {
        name: Decision(difference, p, corrected, corrected is not None and corrected <= 1 - confidence)
        for (name, (difference, p)), corrected in zip(tests.items(), adjusted, strict=True)
    }
