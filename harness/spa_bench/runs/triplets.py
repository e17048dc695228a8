"""Triplets of texts, for a learned similarity: read from files of human judgements, or made from what programs of runs did.

A file has a row a judgement, as JSON lines or an array: `anchor`, `near` and `far` are texts, the near one being more like the
anchor; `group`, if it is there, names what belongs together (a problem, a session of a judge), else the anchor does. Whole
groups are held out.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spa_bench.errors import DataError, UsageError
from spa_bench.runs import sample_files
from spa_bench.runs.folder import RunFolder
from spa_bench.support.files import write_text
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Behaviour, Key

_FIELDS = ("anchor", "near", "far")


@dataclass(frozen=True)
class Triplet:
    """One judgement: `anchor` is more like `near` than like `far`."""

    anchor: str
    near: str
    far: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """What a file of triplets says, each question once."""

    triplets: tuple[Triplet, ...]
    rows: int  # judgements read
    outvoted: int  # judgements that a majority of the others on the same question contradicts
    even: int  # judgements on questions that as many answer one way as the other: left out
    hash: str

    def line(self) -> str:
        """What was read, in words."""
        said = f"{self.rows} judgements on {len(self.triplets)} questions"
        if self.outvoted or self.even:
            said += f"; {self.outvoted + self.even} contradict others: {self.outvoted} outvoted, {self.even} left out as even"
        return said


def read_triplets(files: Sequence[Path]) -> Judgements:
    """The judgements in `files`; of those on one question (the same three texts) the majority counts.

    Raises DataError for a row that is no triplet, and where nothing is left.
    """
    found = sample_files.find_files(files)
    rows = [_triplet(value, place) for file in found for place, value in sample_files.parse(file).rows]
    if not rows:
        raise DataError(f"no triplets in {', '.join(map(str, files))}; a row is {{'anchor': TEXT, 'near': TEXT, 'far': TEXT}}")
    votes: dict[tuple[str, str, frozenset[str]], Counter[Triplet]] = {}
    for row in rows:
        votes.setdefault((row.group, row.anchor, frozenset((row.near, row.far))), Counter())[row] += 1
    kept, outvoted, even = [], 0, 0
    for counter in votes.values():
        (first, most), *others = counter.most_common()
        less = sum(count for _, count in others)
        if less == most:
            even += less + most
        else:
            kept.append(first)
            outvoted += less
    if not kept:
        raise DataError(
            f"all {len(rows)} judgements contradict others, as many one way as the other: there is nothing to learn; "
            "give more judgements on each question"
        )
    return Judgements(triplets=tuple(kept), rows=len(rows), outvoted=outvoted, even=even, hash=sample_files.samples_hash(found))


def triplets_of_runs(folders: Sequence[RunFolder], *, a_problem: int, seed: int) -> list[Triplet]:
    """Triplets from what programs did: anchor and near do the same on the probes of their problem, and far does another thing.

    At most `a_problem` of each problem, drawn by `seed`; texts that are equal make no pair. Samples of all runs of a task are
    taken together. Raises UsageError for a run whose answers have no behaviours, and where no problem has a triplet.
    """
    texts: dict[str, dict[str, str]] = {}  # problem -> text -> what it does
    for folder in folders:
        behaviours = {b.key: b for b in folder.behaviour_log.rows()}
        if not behaviours:
            raise UsageError(f"{folder.path} has no behaviours: it is not graded, or its answers are not programs")
        for record in folder.record_log.rows():
            digest = _digest(behaviours, record.key)
            if digest and record.graded.strip():
                texts.setdefault(record.problem, {})[record.graded.strip()] = digest
    made = [t for problem in sorted(texts) for t in _of_problem(problem, texts[problem], a_problem, seed)]
    if not made:
        raise UsageError(
            f"no problem of {len(folders)} run{'s' * (len(folders) != 1)} has two different programs that do the same and one "
            "that does something else; give runs with more, and more different, answers"
        )
    return made


def write_triplets(triplets: Sequence[Triplet], file: Path) -> None:
    """Write `triplets` as JSON lines that read_triplets reads."""
    rows = ({"anchor": t.anchor, "near": t.near, "far": t.far, "group": t.group} for t in triplets)
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _triplet(value: object, place: str) -> Triplet:
    if not isinstance(value, dict):
        raise DataError(f"{place} is no object; a row is {{'anchor': TEXT, 'near': TEXT, 'far': TEXT}}")
    for name in _FIELDS:
        if not isinstance(value.get(name), str) or not value[name].strip():
            raise DataError(f"{place}: {name!r} is {value.get(name)!r}; it must be a text"[:400])
    if value["near"] == value["far"]:
        raise DataError(f"{place}: near and far are the same text, so there is nothing to tell")
    group = value.get("group", value["anchor"])
    if not isinstance(group, str):
        raise DataError(f"{place}: 'group' is {group!r}; it must be a text"[:400])
    return Triplet(value["anchor"], value["near"], value["far"], group)


def _digest(behaviours: dict[Key, Behaviour], key: Key) -> str:
    return behaviours[key].digest if key in behaviours else ""


def _of_problem(problem: str, texts: dict[str, str], most: int, seed: int) -> list[Triplet]:
    alike: dict[str, list[str]] = {}
    for text in sorted(texts):
        alike.setdefault(texts[text], []).append(text)
    pairs = [(a, b, digest) for digest, group in alike.items() for a, b in itertools.permutations(group, 2)]
    if not pairs or len(alike) < 2:
        return []
    rng = np.random.default_rng(derive_seed("triplets", seed, problem))
    made: dict[Triplet, None] = {}
    for _ in range(4 * most):  # some are drawn twice
        anchor, near, digest = pairs[rng.integers(len(pairs))]
        others = [text for text, other in texts.items() if other != digest]
        made[Triplet(anchor, near, sorted(others)[rng.integers(len(others))], problem)] = None
        if len(made) == most:
            break
    return list(made)
