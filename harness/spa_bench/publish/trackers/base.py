"""The protocol of a tracker, and the messages that it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from spa_bench.cards.kinds import Kind, beside
from spa_bench.cards.registry import kind_of

PROJECT = "spa-bench"  # the project or experiment, unless the tracker's own environment variable names another
Scalar = str | int | float | bool | None
State = Literal["finished", "generated", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that begins or resumes: the same `id` is the same run of the tracker."""

    id: str  # the spec's hash
    name: str  # the name of the run folder
    group: str  # the same for runs that differ in the seed alone
    config: Mapping[str, Scalar]  # the spec, flat: dotted keys, lists as JSON
    tags: Mapping[str, str]  # sampler, task, model, seed, spec_hash, group_hash


@dataclass(frozen=True)
class Ended:
    """How a run ended, for now: a `generated` run waits for its grades, and a stopped run can be resumed."""

    state: State
    metrics: Mapping[str, float]  # NAME, NAME/low, NAME/high and NAME/n; metrics without a value are left out
    times: Mapping[str, float]  # from timings.json: seconds/STAGE, seconds, price and memory
    files: Sequence[Path]  # files in the run folder


class Tracker(Protocol):
    """One run that was begun or resumed in one tracking service.

    It may raise anything, while it is made too: the user sees one line, and the run continues.
    """

    @property
    def where(self) -> str:
        """The place of the run for a reader: a URL or a path."""
        ...

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """Take the progress of the run: STAGE/done, STAGE/total, STAGE/seconds and other known values; `step` is `done`."""
        ...

    def finish(self, ended: Ended) -> None:
        """Send everything that is left before returning."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackerKind(Kind[Callable[[Begun], Tracker]]):
    """A kind of tracker. `build` begins or resumes a run."""

    table = "tracker"
    # the package that it needs; where it is missing, the command stops at once and gives the pip command; "": none
    package: str = field(default="", metadata=beside("PACKAGE"))


def tracker_kind(name: str) -> TrackerKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(TrackerKind, "tracker", name)
