"""The protocol of a tracker, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from spa_bench.cards.kinds import Kind, beside
from spa_bench.cards.registry import kind_of

PROJECT = "spa-bench"  # project or experiment, where the tracker's own environment variable names no other
Scalar = str | int | float | bool | None
State = Literal["finished", "generated", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that begins, or is gone on with: the same `id` is the same run of the tracker."""

    id: str  # the spec's hash
    name: str  # of the run folder
    group: str  # the same for runs that differ in the seed alone
    config: Mapping[str, Scalar]  # the spec, flat: dotted keys, lists as JSON
    tags: Mapping[str, str]  # sampler, task, model, seed, spec_hash, group_hash


@dataclass(frozen=True)
class Ended:
    """How a run ended, for now: `generated` waits for its grades, and one that stopped can be gone on with."""

    state: State
    metrics: Mapping[str, float]  # NAME, NAME/low, NAME/high and NAME/n; what has no value is left out
    times: Mapping[str, float]  # of timings.json: seconds/STAGE, seconds, price and memory
    files: Sequence[Path]  # of the run folder


class Tracker(Protocol):
    """One run in one tracking service. It may raise anything: that is one line for the user, and the run goes on."""

    def start(self, run: Begun) -> str:
        """Begin or go on; where a reader finds it: a URL or a path."""
        ...

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """How far the run is: STAGE/done, STAGE/total, STAGE/seconds, and what else is known; `step` is `done`."""
        ...

    def finish(self, ended: Ended) -> None:
        """Everything is sent when this returns."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackerKind(Kind[Callable[[], Tracker]]):
    """A kind of tracker. `build` makes one for one run."""

    table = "tracker"
    # the package that it needs: without that the command stops at once, with the pip command; "": none
    package: str = field(default="", metadata=beside("PACKAGE"))


def tracker_kind(name: str) -> TrackerKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(TrackerKind, "tracker", name)
