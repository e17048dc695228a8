"""The part of a run whose numbers are compared with references, and the outcome of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from spa_bench.metrics.metric import Samples
from spa_bench.runs.folder import RunFolder
from spa_bench.tasks.base import Task
from spa_bench.types import Json


@dataclass(frozen=True, kw_only=True)
class Part:
    """The numbers of a run that are compared."""

    folder: RunFolder
    task: Task
    content: Json  # of metrics.json: the numbers that the run keeps
    samples: Sequence[Samples]  # of all problems, in the order of `content`
    chosen: Sequence[int]  # places of the problems of the seeded part, ascending

    @property
    def size(self) -> int:
        """The fewest samples of a problem: metrics that depend on n are kept at this size."""
        return int(self.content["size"])

    def kept(self, metric: str, place: int, size: int | None = None) -> float | None:
        """The value that the run keeps of a metric for the problem at `place`, at a smaller `size` or all samples."""
        values = self.content["values"] if size in (None, self.size) else self.content["values_at"][str(size)]
        value: float | None = values[metric][place] if metric in values else None
        return value

    def sizes(self) -> list[int]:
        """The sizes at which texts are compared: all samples, and the smallest size that the run keeps above 1."""
        smaller = sorted(int(size) for size in self.content["values_at"] if int(size) > 1)
        return [*([self.size] if self.size > 1 else []), *[size for size in smaller[:1] if size != self.size]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far numbers of a run are from those of a reference."""

    what: str
    library: str  # its distribution
    numbers: int = 0  # compared
    largest: float | None = None  # difference, in `unit`; None: nothing was compared
    tolerance: float = 0.0
    unit: str = ""
    worst: str = ""  # the number with the largest difference
    why: str = ""  # why nothing was compared

    @property
    def ok(self) -> bool:
        """Whether no difference is beyond the tolerance; True where nothing was compared."""
        return self.largest is None or self.largest <= self.tolerance

    @property
    def reference(self) -> str:
        """The library and its version."""
        try:
            return f"{self.library} {version(self.library)}"
        except PackageNotFoundError:
            return self.library


@dataclass(kw_only=True)
class Differences:
    """Collects differences: how many, and the largest."""

    numbers: int = 0
    largest: float = 0.0
    worst: str = ""

    def add(self, name: str, difference: float) -> None:
        """Count one number; a difference that is NaN counts as infinite."""
        self.numbers += 1
        difference = math.inf if math.isnan(difference) else abs(difference)
        if difference > self.largest:
            self.largest, self.worst = difference, name

    def pair(self, name: str, kept: float | None, reference: float | None) -> None:
        """Count a kept number and its reference, by their relative difference; one that is missing alone is infinitely far."""
        if kept is None and reference is None:
            return
        if kept is None or reference is None:
            self.add(name, math.inf)
        else:
            self.add(name, relative(kept, reference))

    def outcome(self, what: str, library: str, *, tolerance: float, unit: str, none: str) -> Comparison:
        """The comparison; `none` says why there is none where nothing was counted."""
        if not self.numbers:
            return Comparison(what=what, library=library, why=none)
        return Comparison(
            what=what,
            library=library,
            numbers=self.numbers,
            largest=self.largest,
            tolerance=tolerance,
            unit=unit,
            worst=self.worst,
        )


def relative(one: float, other: float) -> float:
    """The difference of two numbers relative to the larger, or to 1 where both are smaller."""
    if one == other:  # infinities too
        return 0.0
    return abs(one - other) / max(1.0, abs(one), abs(other)) if math.isfinite(one) and math.isfinite(other) else math.inf


def absent(what: str, library: str, error: ImportError, install: str) -> Comparison:
    """The comparison that a missing library leaves."""
    return Comparison(what=what, library=library, why=f"{library} is not installed ({error}): pip install {install}")
