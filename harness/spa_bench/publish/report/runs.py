"""The readable content of one run folder, with sentences about its damaged or missing files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.errors import StoreError
from spa_bench.publish.report.partition import Partition, partition_of
from spa_bench.publish.report.samples import SampleBook
from spa_bench.runs.folder import RunFolder, group_hash, problem_count, samples_wanted
from spa_bench.runs.log import Log, Row, TornEnd
from spa_bench.types import Choices, Divergence

Matrix = list[list[float]]


@dataclass(frozen=True)
class Matrices:
    """Divergences between the members of a run, as means over its problems."""

    means: dict[str, Matrix]  # kind -> (K, K); in nats, except tv
    problems: dict[str, int]  # kind -> how many have it
    members: dict[str, list[float]]  # entropy and the like -> (K,)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """The facts about one run that a page shows."""

    path: Path
    hash: str
    group: str  # the same for runs that differ in the seed alone
    spec: dict[str, Any]
    task: str  # the key of its task
    finished: bool  # whether metrics.json exists and is whole
    samples: int
    expected: int | None  # the number of samples of the finished run; None: unknown
    graded: int
    verdicts: dict[str, int]
    cost: dict[str, Any]  # timings.json
    matrices: Matrices | None  # None: nothing to compare, or not measured yet
    adapters: tuple[str, ...]  # one hash for each member
    partition: Partition
    estimates: dict[str, Any]  # of metrics.json and added.json, name -> estimate
    fault: str = ""  # why records or grades are not whole
    said: tuple[str, ...] = ()  # sentences about what is missing or wrong

    @property
    def sampler(self) -> str:
        """The sampler's name."""
        return str(self.spec["sampler"]["name"])

    @property
    def seed(self) -> int:
        """The seed of training and sampling."""
        return int(self.spec["seed"])

    @property
    def label(self) -> str:
        """Sampler and seed, for a reader."""
        return f"{self.sampler}, seed {self.seed}"

    @property
    def members(self) -> int:
        """K."""
        return int(self.spec["sampler"].get("members", 1))


def task_key(spec: Mapping[str, Any]) -> str:
    """A key that is equal for runs with the same problems."""
    return f"{spec['task']['name']}@{str(spec['task'].get('problems_hash', ''))[:8]}"


def read_run(folder: RunFolder, number: int, book: SampleBook, stages: Path) -> RunView:
    """The run in `folder`; its answers go into `book` as those of run `number`. Never raises for a damaged file."""
    said: list[str] = []
    torn = TornEnd()
    records = _rows(folder.record_log, said, torn)
    grades = {g.key: g for g in _rows(folder.grade_log, said, torn)}
    fault = said[0] if said else torn.said
    choices, divergence = _rows(folder.choice_log, said), _rows(folder.divergence_log, said)
    metrics, added = _json(folder, "metrics.json", said), _json(folder, "added.json", said)
    adapters = _json(folder, "adapters.json", said)
    book.add(number, task_key(folder.spec), records, grades=grades, choices=choices)
    n = folder.spec["n"]  # None: samples from a file, whose number may differ between problems
    expected = None if n is None else n * problem_count(folder.spec)
    said += _unfinished(folder, len(records), sum(r.key in grades for r in records), finished=bool(metrics))
    return RunView(
        path=folder.path,
        hash=folder.hash,
        group=group_hash(folder.spec),
        spec=folder.spec,
        task=task_key(folder.spec),
        finished=bool(metrics),
        samples=len(records),
        expected=expected,
        graded=len(grades),
        verdicts=dict(sorted(Counter(str(g.verdict) for g in grades.values()).items())),
        cost=folder.timings(),
        matrices=mean_matrices(divergence, choices),
        adapters=tuple(adapters.get("hashes", ())),
        partition=partition_of(folder.spec, adapters, stages),
        estimates={**metrics.get("estimates", {}), **added.get("estimates", {})},
        fault=fault,
        said=tuple(said),
    )


def _rows(log: Log[Row], said: list[str], end: TornEnd | None = None) -> list[Row]:
    """The rows of a log; where it is damaged, none, and a sentence in `said`. `end` is as `Log.each` takes it."""
    try:
        return list(log.each(end))
    except StoreError as error:
        said.append(str(error))
        return []


def _json(folder: RunFolder, name: str, said: list[str]) -> dict[str, Any]:
    try:
        content = folder.read_json(name)
    except StoreError as error:
        said.append(str(error))
        return {}
    return content if isinstance(content, dict) else {}


def _unfinished(folder: RunFolder, samples: int, graded: int, *, finished: bool) -> list[str]:
    """What an unfinished run lacks, whether it was stopped or is still running."""
    least, wanted = samples_wanted(folder.spec)
    if samples < least:
        return [f"{folder.path} is not finished: {samples} of {wanted} samples are there"]
    if graded < samples:
        return [f"{folder.path}: {samples - graded} of {samples} samples are not graded; spa-bench grade {folder.path}"]
    return [] if finished else [f"{folder.path} has no metrics yet; finish it with: spa-bench grade {folder.path}"]


def mean_matrices(divergence: Iterable[Divergence], choices: Iterable[Choices]) -> Matrices | None:
    """Means over the problems that have each kind; None with one member, or where nothing was measured."""
    rows: list[tuple[dict[str, Matrix], dict[str, list[float]]]] = [(d.matrices, d.members) for d in divergence if d.tokens]
    rows += [(c.matrices, c.members) for c in choices]
    if not rows or all(len(table) < 2 for table in rows[0][0].values()):
        return None
    kinds = dict.fromkeys(kind for matrices, _ in rows for kind in matrices)
    tables = {kind: [matrices[kind] for matrices, _ in rows if kind in matrices] for kind in kinds}
    names = dict.fromkeys(name for _, members in rows for name in members)
    members = {name: _mean([members[name] for _, members in rows if name in members]) for name in names}
    means = {kind: _mean(found) for kind, found in tables.items()}
    return Matrices(means, {kind: len(found) for kind, found in tables.items()}, members)


def _mean(tables: list[Any]) -> Any:
    """The mean of arrays of one shape; arrays of another shape, from another version, are ignored."""
    arrays = [np.asarray(table, float) for table in tables]
    return np.mean([a for a in arrays if a.shape == arrays[0].shape], axis=0).round(9).tolist()
