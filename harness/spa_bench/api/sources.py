"""Where a run's numbers come from: its folder, or one seed of a result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spa_bench.compare.leaderboard import LogFacts, from_runs
from spa_bench.compare.leaderboard.pooled import one_a_group, with_runs
from spa_bench.runs.folder import RunFolder

Result = dict[str, Any]


@dataclass(frozen=True, eq=False)
class SeedOfResult:
    """One of the runs in a result file."""

    result: Result
    place: int  # in result["runs"]

    @property
    def seed(self) -> int:
        """The seed of training and sampling."""
        return int(self.result["runs"][self.place]["seed"])


Source = RunFolder | SeedOfResult


Facts = Mapping[str, LogFacts]  # hash of a run -> what its logs hold, so that they are read once


def pooled(sources: Sequence[Source], facts: Facts) -> list[Result]:
    """A result for each group of `sources` that differ in the seed alone, as a leaderboard has them.

    Raises StoreError where a seed is in two run folders, or has other numbers in another place.
    """
    made = from_runs([source for source in sources if isinstance(source, RunFolder)], facts)
    read: dict[int, tuple[Result, list[int]]] = {}
    for source in sources:
        if isinstance(source, SeedOfResult):
            read.setdefault(id(source.result), (source.result, []))[1].append(source.place)
    results = [*made, *(part_of(result, places) for result, places in read.values())]
    return one_a_group((f"seeds {', '.join(str(run['seed']) for run in result['runs'])}", result) for result in results)


def part_of(result: Result, places: Sequence[int]) -> Result:
    """`result` with the runs at `places` alone; then with the metrics that a result file keeps problem by problem."""
    if len(places) == len(result["runs"]):
        return result
    return with_runs(result, [result["runs"][place] for place in places])
