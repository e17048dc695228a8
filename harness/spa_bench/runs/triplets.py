"""Triplets of texts, for a learned similarity: read from files of human judgements, or made from what programs of runs did.

A file has a row a judgement, as JSON lines or an array: `anchor`, `near` and `far` are texts, the near one being more like the
anchor; `group`, if it is there, names what belongs together (a problem, a session of a judge), else the anchor does. Whole
groups are held out. `problem`, with `task` and `problems_hash`, names what the texts answer: see spa_bench.runs.origins.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from spa_bench.errors import DataError, UsageError
from spa_bench.runs import sample_files
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.origins import Origin
from spa_bench.support.files import write_text
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Behaviour, Key

_FIELDS = ("anchor", "near", "far")
_OF_ORIGIN = ("task", "problems_hash", "problem")
_Acts = Mapping[str, str]
"""Text -> digest of what it does, of answers that were tried on the same probes: digests of others mean nothing to these."""


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """One judgement: `anchor` is more like `near` than like `far`."""

    anchor: str
    near: str
    far: str
    group: str
    origin: Origin | None = None  # the problem that the texts answer; None: not known


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """What a file of triplets says, each question once."""

    triplets: tuple[Triplet, ...]
    rows: int  # judgements read
    outvoted: int  # judgements that a majority of the others on the same question contradicts
    even: int  # judgements on questions that as many answer one way as the other: left out
    origins: tuple[Origin, ...]  # the problems of all judgements that name one
    unnamed: int  # judgements that name none
    hash: str

    def line(self) -> str:
        """What was read, in words."""
        said = f"{self.rows} judgements on {len(self.triplets)} questions"
        if self.outvoted or self.even:
            said += f"; {self.outvoted + self.even} contradict others: {self.outvoted} outvoted, {self.even} left out as even"
        return said


def read_triplets(files: Sequence[Path]) -> Judgements:
    """The judgements in `files`; of those on one question (the same three texts, in whatever groups) the majority counts.

    A question is in the group of the first judgement that agrees with the majority: none is both learned from and held out.

    Raises UsageError for a folder, DataError for a row that is no triplet, and where nothing is left.
    """
    if folder := next((file for file in files if file.is_dir()), None):
        raise UsageError(f"{folder} is a folder; give its files of triplets")
    found = sample_files.find_files(files)
    rows = [_triplet(value, place) for file in found for place, value in sample_files.parse(file).rows]
    if not rows:
        raise DataError(f"no triplets in {', '.join(map(str, files))}; a row is {{'anchor': TEXT, 'near': TEXT, 'far': TEXT}}")
    votes: dict[tuple[str, frozenset[str]], dict[str, list[Triplet]]] = {}
    for row in rows:
        votes.setdefault((row.anchor, frozenset((row.near, row.far))), {}).setdefault(row.near, []).append(row)
    kept, outvoted, even = [], 0, 0
    for sides in votes.values():
        most, *others = sorted(sides.values(), key=len, reverse=True)
        less = sum(map(len, others))
        if less == len(most):
            even += 2 * less
        else:
            kept.append(most[0])
            outvoted += less
    if not kept:
        raise DataError(
            f"all {len(rows)} judgements contradict others, as many one way as the other: there is nothing to learn; "
            "give more judgements on each question"
        )
    origins = {row.origin for row in rows if row.origin}
    return Judgements(
        triplets=tuple(kept),
        rows=len(rows),
        outvoted=outvoted,
        even=even,
        origins=tuple(sorted(origins)),
        unnamed=sum(row.origin is None for row in rows),
        hash=sample_files.samples_hash(found),
    )


def triplets_of_runs(folders: Sequence[RunFolder], *, a_problem: int, seed: int) -> list[Triplet]:
    """Triplets from what programs did: anchor and near do the same on the probes of their problem, and far does another thing.

    At most `a_problem` of each problem of a task, drawn by `seed`; texts that are equal make no pair. Samples of all runs of a
    task are taken together, and those of runs with other probes stay apart: runs of other tasks, also where ids are the same,
    and of other problems or versions under the same name. A text that two runs with the same probes saw do different things
    is left out. Raises UsageError for a run whose answers have no behaviours, and where no problem has a triplet.
    """
    tried: dict[tuple[str, str], dict[str, dict[str, str]]] = {}  # (task, problem) -> probes -> text -> digest
    hashes: dict[str, str] = {}  # probes -> hash of the problems
    for folder in folders:
        probes, task = _probes_of(folder), str(folder.spec["task"]["name"])
        hashes[probes] = str(folder.spec["task"].get("problems_hash", ""))
        for problem, text, digest in _acts_of(folder):
            acts = tried.setdefault((task, problem), {}).setdefault(probes, {})
            acts[text] = digest if acts.get(text, digest) == digest else ""
    made = []
    for (task, problem), by_probes in sorted(tried.items()):
        apart = [
            (Origin(task, hashes[probes], problem), {text: digest for text, digest in acts.items() if digest})
            for probes, acts in sorted(by_probes.items())
        ]
        made += _of_problem(apart, a_problem, derive_seed("triplets", seed, problem))
    if not made:
        raise UsageError(
            f"no problem of {len(folders)} run{'s' * (len(folders) != 1)} has two different programs that do the same and one "
            "that does something else; give runs with more, and more different, answers"
        )
    return made


def write_triplets(triplets: Sequence[Triplet], file: Path) -> None:
    """Write `triplets` as JSON lines that read_triplets reads."""
    rows = (
        {"anchor": t.anchor, "near": t.near, "far": t.far, "group": t.group} | (asdict(t.origin) if t.origin else {})
        for t in triplets
    )
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _triplet(value: object, place: str) -> Triplet:
    if not isinstance(value, dict):
        raise DataError(f"{place} is no object; a row is {{'anchor': TEXT, 'near': TEXT, 'far': TEXT}}")
    for name in _FIELDS:
        if not isinstance(value.get(name), str) or not value[name].strip():
            raise DataError(f"{place}: {name!r} is {value.get(name)!r}; it must be a text"[:400])
    for one, other in itertools.combinations(_FIELDS, 2):
        if value[one] == value[other]:
            raise DataError(f"{place}: {one} and {other} are the same text, so there is nothing to tell")
    group = value.get("group", value["anchor"])
    if not isinstance(group, str):
        raise DataError(f"{place}: 'group' is {group!r}; it must be a text"[:400])
    of = {name: value.get(name, "") for name in _OF_ORIGIN}
    if wrong := next((name for name in _OF_ORIGIN if not isinstance(of[name], str)), ""):
        raise DataError(f"{place}: {wrong!r} is {of[wrong]!r}; it must be a text"[:400])
    origin = Origin(**of) if of["problem"] else None
    return Triplet(anchor=value["anchor"], near=value["near"], far=value["far"], group=group, origin=origin)


def _probes_of(folder: RunFolder) -> str:
    """What the digests of a run depend on beside program and problem: equal for runs whose digests can be compared."""
    task, judges = folder.spec["task"], (folder.read_json("judged.json") or {}).get("by", [])
    found = [judge.get("versions", {}) for judge in judges] or [folder.spec.get("versions", {})]
    versions = sorted({(str(one.get("spa-bench")), str(one.get("python"))) for one in found})
    return json.dumps([task["name"], task.get("problems_hash"), versions])


def _acts_of(folder: RunFolder) -> Iterator[tuple[str, str, str]]:
    """(problem, text, digest of what it does) of each answer that did something."""
    behaviours = {b.key: b for b in folder.behaviour_log.rows()}
    if not behaviours:
        raise UsageError(f"{folder.path} has no behaviours: it is not graded, or its answers are not programs")
    for record in folder.record_log.rows():
        digest = _digest(behaviours, record.key)
        if digest and record.graded.strip():
            yield record.problem, record.graded.strip(), digest


def _digest(behaviours: dict[Key, Behaviour], key: Key) -> str:
    return behaviours[key].digest if key in behaviours else ""


def _of_problem(tried: Sequence[tuple[Origin, _Acts]], most: int, seed: int) -> list[Triplet]:
    """Triplets of one problem of a task, at most `most`; each is of the texts of one of `tried`."""
    telling = [(origin, acts) for origin, acts in tried if len({*acts.values()}) > 1]
    pairs = [(origin, acts, a, b) for origin, acts in telling for a, b in _alike(acts)]
    if not pairs:
        return []
    rng = np.random.default_rng(seed)
    made: dict[Triplet, None] = {}
    for _ in range(4 * most):  # some are drawn twice
        origin, acts, anchor, near = pairs[rng.integers(len(pairs))]
        others = sorted(text for text, digest in acts.items() if digest != acts[anchor])
        far = others[rng.integers(len(others))]
        made[Triplet(anchor=anchor, near=near, far=far, group=origin.name, origin=origin)] = None
        if len(made) == most:
            break
    return list(made)


def _alike(acts: _Acts) -> Iterator[tuple[str, str]]:
    """All ordered pairs of different texts that do the same."""
    alike: dict[str, list[str]] = {}
    for text in sorted(acts):
        alike.setdefault(acts[text], []).append(text)
    for group in alike.values():
        yield from itertools.permutations(group, 2)
