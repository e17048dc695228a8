"""`spa-bench verify`: is every byte of a run the byte that its spec, its samples and this code give?

It checks all files but timings.json and the lock: spec.json by the hash that salts every checksum and names the folder,
logs line by line, JSON files by their checksum, and metrics.json also against recomputed metrics. Checksums detect
accidents, not a forger who computes them again; `spa-bench rerun` detects a forger.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from spa_bench.cards.source import changed, not_here
from spa_bench.errors import SpaBenchError, StoreError
from spa_bench.runs import embeddings
from spa_bench.runs.choices import choose
from spa_bench.runs.folder import (
    ADDED,
    DATA_FILES,
    JSON_FILES,
    LOGS,
    TASK_FILE,
    RunFolder,
    from_elsewhere,
    given_run,
    spec_bytes,
)
from spa_bench.runs.measure import measure, measure_added
from spa_bench.runs.noise_floor import rows_for
from spa_bench.runs.partial import covered, partial_fault
from spa_bench.runs.reopen import task_of
from spa_bench.support import provenance
from spa_bench.support.cache import stage_cache
from spa_bench.support.files import file_safe
from spa_bench.support.rounding import same_values
from spa_bench.support.seeds import draw_seed
from spa_bench.tasks.base import Task
from spa_bench.types import Json, Key, Record

if TYPE_CHECKING:
    from spa_bench.runs.references import Comparison

_FREE = {"timings.json", ".lock", ".lock-owner"}  # these differ every time
_PLACES = (TASK_FILE, DATA_FILES)  # the paths of input files: these have a checksum and are outside the spec


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the checks of one run found."""

    faults: tuple[str, ...] = ()  # a sentence each; empty: the run is whole
    notes: tuple[str, ...] = ()  # remarks beside the verdict
    compared: tuple[Comparison, ...] = ()  # with the numbers of other people's code, where that was asked for
    unchecked: str | None = None  # why the run could not be checked; None: it was

    @property
    def wrong(self) -> bool:
        """Whether something is wrong with the run, or a number is beyond its tolerance."""
        return bool(self.faults) or not all(row.ok for row in self.compared)


def check_run(path: Path, *, references: bool = False, task_file: Path | None = None) -> Checked:
    """All checks of the run in `path`, with `references` also the comparison with them. Raises no SpaBenchError.

    A run that cannot be read has a fault, so that it does not hide other runs. A run is unchecked where something that the
    checks need is unavailable, such as its task.
    """
    try:
        folder = given_run(path)
        task = task_of(folder, task_file)
        faults = verify(folder, task, cache=stage_cache())
        said = tuple(notes(folder))
        rows, why = _compared(folder, task) if references else ((), "")
    except StoreError as error:
        return Checked(faults=(str(error),))
    except SpaBenchError as error:
        return Checked(unchecked=str(error))
    more = [why] if why and why not in faults else []
    return Checked(faults=(*faults, *more), notes=said, compared=tuple(rows))


def _compared(folder: RunFolder, task: Task) -> tuple[Sequence[Comparison], str]:
    """The comparisons of a run with references, and why there are none."""
    from spa_bench.runs.references import compared

    try:
        return compared(folder, task), ""
    except SpaBenchError as error:
        return (), str(error)


def verify(folder: RunFolder, task: Task, *, cache: Path | None = None) -> list[str]:
    """What is wrong with the run, one sentence for each fault; empty when it is whole. `cache` may hold its adapters."""
    faults = list(_files(folder))
    if faults:
        return faults  # a check that reads damaged files proves nothing
    found = list(_samples(folder, task, folder.record_log.rows()))  # the records are in memory no longer than that
    return [*found, *_adapters(folder, cache), *_metrics(folder, task)]


def sample_faults(folder: RunFolder, task: Task) -> list[str]:
    """As `verify`, without adapters and metrics: what is wrong with the samples and how they were made."""
    return list(_files(folder)) or list(_samples(folder, task, folder.record_log.rows()))


def notes(folder: RunFolder) -> list[str]:
    """Remarks beside the verdict: code or versions here that differ from the run's."""
    said = "the run has other {} than this spa-bench; `spa-bench rerun` says what that changes"
    lines = {name: said.format(name) for name in changed(folder.spec)}
    if missing := not_here(folder.spec):
        lines["code"] = f"whether the code of the run is the code here is unknown: {missing}"
    return list(lines.values())


def _files(folder: RunFolder) -> Iterator[str]:
    path = folder.path
    if (path / "spec.json").read_bytes() != spec_bytes(folder.spec):
        yield f"{path / 'spec.json'} is not as it was written"
    # a copy may have any name
    ours = re.fullmatch(rf"{re.escape(file_safe(folder.spec['task']['name']))}-.*-([0-9a-f]{{8}})", path.name, re.DOTALL)
    if ours and ours[1] != folder.hash[:8]:
        yield f"{path / 'spec.json'}: its hash is {folder.hash[:8]}, but the folder's name says {ours[1]}"
    for name, kind in LOGS.items():
        yield from folder.log(name, kind).faults()
    yield from embeddings.faults(folder)
    known = {"spec.json", embeddings.ARRAY, *LOGS, *JSON_FILES, *_PLACES, *_FREE}
    for file in sorted(path.iterdir()):
        if file.name in (*JSON_FILES, *_PLACES):
            try:
                folder.read_json(file.name)
            except StoreError as error:
                yield str(error)
        elif file.name.startswith(".") and file.suffix == ".new":
            yield f"{file} was left half-written by a process that was killed; the same command again removes it, as `rm` does"
        elif file.name not in known:
            yield f"{file} does not belong to a run"


def _samples(folder: RunFolder, task: Task, records: list[Record]) -> Iterator[str]:
    spec, path = folder.spec, folder.path / "records.jsonl"
    counts = Counter(r.problem for r in records)
    problems = [p.id for p in covered(spec, task.problems, counts)]
    if fault := partial_fault(spec, problems):
        yield f"{path}: {fault}"
    wanted = {p: spec["n"] if spec["n"] is not None else max(1, counts[p]) for p in problems}
    for problem in [p for p in {**wanted, **counts} if counts.get(p, 0) != wanted.get(p, 0)]:
        yield f"{path}: {problem} has {counts.get(problem, 0)} samples, not {wanted.get(problem, 0)}"
    elsewhere = from_elsewhere(spec)
    if not elsewhere:
        yield from _drawn(spec, task, records, path)
    kept = {r.key for r in records}
    place = {p: i for i, p in enumerate(problems)}
    yield from _in_order(folder, place, brought=elsewhere)
    for name in ("grades.jsonl", "behaviours.jsonl"):
        keys = set(folder.log(name, LOGS[name]).keys())
        if keys != kept:
            yield f"{folder.path / name}: {_rows_amiss(len(keys - kept), len(kept - keys))}"
    if kept and folder.read_json("judged.json") is None:
        yield f"{folder.path / 'judged.json'} is missing: nobody knows which sandbox judged"
    if elsewhere:
        return
    if spec["data"] and folder.read_json("adapters.json") is None:
        yield f"{folder.path / 'adapters.json'} is missing: nobody knows which adapters the samples are of"
    yield from _chosen(folder, task, records)
    measured = len(folder.divergence_log.rows())
    if measured != len(problems):
        yield f"{folder.path / 'divergence.jsonl'} has {measured} rows for {len(problems)} problems"
    noisy, wanted_noise = len(folder.noise_log.rows()), rows_for(spec["noise_floor"], len(problems), spec["n"])
    if noisy != wanted_noise or (folder.path / "noise.jsonl").exists() != bool(wanted_noise):
        yield f"{folder.path / 'noise.jsonl'} has {noisy} rows, not {wanted_noise}"


def _rows_amiss(foreign: int, lacking: int) -> str:
    """The rows that are of no sample, and the samples without a row, in words."""
    said = [f"{lacking} samples have no row in it"] if lacking else []
    return " and ".join([*said, *([f"{foreign} rows are of no sample of the run"] if foreign else [])])


def _in_order(folder: RunFolder, place: Mapping[str, int], *, brought: bool) -> Iterator[str]:
    """Faults in the order of lines; records that were `brought` have that of their file: only a problem's draws ascend."""
    for name, kind in LOGS.items():
        keys = folder.log(name, kind).each_key()
        order = [(place.get(k.problem, -1), k.member, k.draw) if isinstance(k, Key) else (place.get(str(k), -1),) for k in keys]
        if brought and name == "records.jsonl":
            order.sort(key=lambda parts: parts[0])
        if any(one > other for one, other in pairwise(order)):
            yield f"{folder.path / name}: the lines are not in order"


def _drawn(spec: Json, task: Task, records: list[Record], path: Path) -> Iterator[str]:
    """Faults in the seeds, and graded texts that do not follow from the raw text."""
    for r in records:
        wanted = draw_seed(spec["seed"], spec["task"]["name"], r.problem, r.member, r.draw)
        if spec["sampler"].get("kind") == "mixture" and r.seed != wanted:
            yield f"{path}: the seed of {_name(r.key)} is {r.seed}, not {wanted}"
        if task.record(r.completion).graded != r.graded and (not r.whole or spec["sampler"].get("kind") == "mixture"):
            yield f"{path}: the graded text of {_name(r.key)} is not what the raw text gives"


def _chosen(folder: RunFolder, task: Task, records: list[Record]) -> Iterator[str]:
    """Multiple-choice problems without log-probabilities, and choices that do not follow from them."""
    spec = folder.spec
    options = {one.problem_id: one for one in task.options(spec["limit"])}
    rows = {c.problem: c for c in folder.choice_log.rows()}
    if rows.keys() != options.keys():
        there = len(rows.keys() & options.keys())
        yield f"{folder.path / 'choices.jsonl'} has rows for {there} of {len(options)} multiple-choice problems"
        return
    temperature = float(spec["sampler"]["decoding"]["temperature"])
    for r in records:
        if r.problem in options:
            seed = draw_seed(spec["seed"], spec["task"]["name"], r.problem, r.member, r.draw)
            wanted = choose(rows[r.problem].logprobs[r.member][: options[r.problem].choices], temperature, seed)
            if r.choice != wanted:
                yield f"{folder.path / 'records.jsonl'}: the choice of {_name(r.key)} is {r.choice}, not {wanted}"
        elif r.choice is not None:
            yield f"{folder.path / 'records.jsonl'}: {_name(r.key)} has a choice, but its problem has none"


def _adapters(folder: RunFolder, cache: Path | None) -> Iterator[str]:
    adapters = folder.read_json("adapters.json")
    if adapters and cache and (stage := cache / adapters["stage"]).is_dir():
        for k, hashed in enumerate(adapters["hashes"]):
            if provenance.hash_folder(stage / f"member-{k}") != hashed:
                yield f"{stage / f'member-{k}'} is not the adapter that gave the samples"


def _metrics(folder: RunFolder, task: Task) -> Iterator[str]:
    written, added = folder.read_json("metrics.json"), folder.read_json(ADDED)
    if written is None:
        yield folder.ungraded()
        return
    yield from _again(folder.path / "metrics.json", written, lambda: measure(folder, task))
    if added is not None:
        yield from _again(folder.path / ADDED, added, lambda: measure_added(folder, task, added["metrics"]))


def _again(path: Path, written: Json, compute: Callable[[], Json]) -> Iterator[str]:
    try:
        again = json.loads(json.dumps(compute()))
    except SpaBenchError as error:
        yield str(error)
        return
    for name in sorted({*written, *again}):
        if not same_values(written.get(name), again.get(name)):
            yield f"{path}: {name} differs{_first_difference(written.get(name), again.get(name))}"


def _first_difference(written: object, again: object) -> str:
    if isinstance(written, dict) and isinstance(again, dict):
        for name in sorted({*written, *again}):
            if not same_values(written.get(name), again.get(name)):
                return f" at {name}{_first_difference(written.get(name), again.get(name))}"
    return f": {_short(written)} there, {_short(again)} when computed again"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."


def _name(key: Key) -> str:
    return f"{key.problem}, member {key.member}, draw {key.draw}"
