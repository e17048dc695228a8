"""One run folder as far as it can be read: what is damaged or missing is said, the rest is there."""

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
from spa_bench.runs.folder import RunFolder, group_hash, problem_count
from spa_bench.runs.log import Log, Row
from spa_bench.types import Choices, Divergence

Matrix = list[list[float]]


@dataclass(frozen=True)
class Matrices:
    """Divergences between the members of a run, means over its problems."""

    means: dict[str, Matrix]  # kind -> (K, K); nats but for tv
    problems: int  # that were measured
    members: dict[str, list[float]]  # entropy and the like -> (K,)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What a page knows of one run."""

    path: Path
    hash: str
    group: str  # the same for runs that differ in the seed alone
    spec: dict[str, Any]
    task: str  # key of its task
    finished: bool  # metrics.json is there and whole
    samples: int
    expected: int | None  # samples when it is finished; None: not known
    graded: int
    verdicts: dict[str, int]
    cost: dict[str, Any]  # timings.json
    matrices: Matrices | None  # None: nothing to compare, or not measured yet
    adapters: tuple[str, ...]  # hashes, a member each
    partition: Partition
    estimates: dict[str, Any]  # of metrics.json and added.json, name -> estimate
    said: tuple[str, ...] = ()  # what is missing or wrong, a sentence each

    @property
    def sampler(self) -> str:
        """The sampler's name."""
        return str(self.spec["sampler"]["name"])

    @property
    def seed(self) -> int:
        """Of training and sampling."""
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
    """What runs have in common whose problems are the same."""
    return f"{spec['task']['name']}@{str(spec['task'].get('problems_hash', ''))[:8]}"


def read_run(folder: RunFolder, number: int, book: SampleBook, stages: Path) -> RunView:
    """The run in `folder`; its answers go into `book` as those of run `number`. Never raises for what is damaged."""
    said: list[str] = []
    records = _rows(folder.record_log, said)
    grades = {g.key: g for g in _rows(folder.grade_log, said)}
    choices, divergence = _rows(folder.choice_log, said), _rows(folder.divergence_log, said)
    metrics, added = _json(folder, "metrics.json", said), _json(folder, "added.json", said)
    adapters = _json(folder, "adapters.json", said)
    book.add(number, task_key(folder.spec), records, grades=grades, choices=choices)
    n = folder.spec["n"]  # None: samples from elsewhere, which may be more for one problem than for another
    expected = None if n is None else n * problem_count(folder.spec)
    said += _unfinished(folder, len(records), expected, sum(r.key in grades for r in records), finished=bool(metrics))
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
        matrices=_matrices(divergence, choices),
        adapters=tuple(adapters.get("hashes", ())),
        partition=partition_of(folder.spec, adapters, stages),
        estimates={**metrics.get("estimates", {}), **added.get("estimates", {})},
        said=tuple(said),
    )


def _rows(log: Log[Row], said: list[str]) -> list[Row]:
    """The rows of a log; none, and a sentence, where it is damaged."""
    try:
        return log.rows()
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


def _unfinished(folder: RunFolder, samples: int, expected: int | None, graded: int, *, finished: bool) -> list[str]:
    """What a run that was stopped, or is still going on, lacks."""
    if expected is not None and samples < expected:
        return [f"{folder.path} is not finished: {samples} of {expected} samples are there"]
    if graded < samples:
        return [f"{folder.path}: {samples - graded} of {samples} samples are not graded; spa-bench grade {folder.path}"]
    return [] if finished else [f"{folder.path} has no metrics yet; finish it with: spa-bench grade {folder.path}"]


def _matrices(divergence: Iterable[Divergence], choices: Iterable[Choices]) -> Matrices | None:
    """Means over problems, each kind over those that have it; None with one member, or where nothing was measured."""
    rows: list[tuple[dict[str, Matrix], dict[str, list[float]]]] = [(d.matrices, d.members) for d in divergence if d.tokens]
    rows += [(c.matrices, c.members) for c in choices]
    if not rows or all(len(table) < 2 for table in rows[0][0].values()):
        return None
    kinds = dict.fromkeys(kind for matrices, _ in rows for kind in matrices)
    means = {kind: _mean([matrices[kind] for matrices, _ in rows if kind in matrices]) for kind in kinds}
    names = dict.fromkeys(name for _, members in rows for name in members)
    members = {name: _mean([members[name] for _, members in rows if name in members]) for name in names}
    return Matrices(means, len(rows), members)


def _mean(tables: list[Any]) -> Any:
    """Of arrays of one shape; those of another, which another version may have written, do not count."""
    arrays = [np.asarray(table, float) for table in tables]
    return np.mean([a for a in arrays if a.shape == arrays[0].shape], axis=0).round(9).tolist()
