"""Run folders: spec.json, logs of rows (log.py) and JSON files, each with a checksum. timings.json is outside all hashes.

A folder belongs to one spec and, while it is open, to one process. Logs are appended and synced in batches; other files
are replaced atomically.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from spa_bench.cards.source import ELSEWHERE
from spa_bench.errors import StoreError, UsageError
from spa_bench.runs.contents import FILES, SPEC, fault
from spa_bench.runs.log import Keyed, Log, Row
from spa_bench.runs.partial import PARTIAL
from spa_bench.runs.spec import RunSpec
from spa_bench.support import lock
from spa_bench.support.files import file_safe, replace_file
from spa_bench.support.json_text import indented
from spa_bench.tasks.judgement import Judgement
from spa_bench.types import Behaviour, Choices, Divergence, Grade, Json, Key, Record

SCHEMA_VERSION = 2
TASK_FILE = "task_file.json"  # the path of a jsonl task's problems: outside the spec, which holds their hash
DATA_FILES = "data_files.json"  # the paths of the files of training pairs and queries: likewise outside the spec
COSTS = ("seconds", "price", "priced_seconds", "peak_memory_mb", "gpu_seconds", "peak_gpu_memory_mb")  # in timings.json
TIMINGS = "timings.json"  # seconds, memory, hosts, dates: these differ every time
LOGS: Final[dict[str, type[Keyed]]] = {
    "records.jsonl": Record,
    "choices.jsonl": Choices,
    "grades.jsonl": Grade,
    "behaviours.jsonl": Behaviour,
    "divergence.jsonl": Divergence,
    "judgements.jsonl": Judgement,  # replies of a judge model, where answers are neither right nor wrong
    "noise.jsonl": Record,  # one member in other batches: the texts differ by numerics alone
}
ADDED = "added.json"  # metrics of the user's own that were added after the spec was written
OVERLAP = "overlap.json"  # training pairs that overlap the task: follows from data and task, which the spec hashes
SYNTHESIS = "synthesis.json"  # how the training pairs were made: the seed draws them, so that the spec has the card alone
SANITISERS = "sanitisers.json"  # evalplus' sanitiser beside ours, where the run is of a benchmark of evalplus'
JUDGE = "judge.json"  # the models that put answers into classes or judged their quality
JSON_FILES = (ADDED, "adapters.json", "embeddings.json", JUDGE, "judged.json", "metrics.json", OVERLAP, SANITISERS, SYNTHESIS)


def spec_hash(spec: Mapping[str, object]) -> str:
    """The hash over the whole spec, which names the run."""
    return hashlib.blake2b(json.dumps(spec, sort_keys=True).encode(), digest_size=8).hexdigest()


def group_hash(spec: Mapping[str, object]) -> str:
    """A hash that is equal for runs that differ in the seed alone."""
    return spec_hash({k: v for k, v in spec.items() if k != "seed"})


def plain(spec: RunSpec) -> Json:
    """`spec` as the JSON value that is stored and hashed."""
    content: Json = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **dataclasses.asdict(spec)}))
    return content


class RunFolder:
    """One run on disk. Open it with `create` (for writing) or `open_run` (for reading)."""

    def __init__(self, path: Path, spec: Json):
        self.path, self.spec = path, spec

    @property
    def hash(self) -> str:
        """The spec's hash."""
        return spec_hash(self.spec)

    def log(self, name: str, kind: type[Row]) -> Log[Row]:
        """The log of that name; its checksums accept the lines of this run alone."""
        return Log(self.path / name, kind, self.hash)

    @property
    def record_log(self) -> Log[Record]:
        """records.jsonl."""
        return self.log("records.jsonl", Record)

    @property
    def choice_log(self) -> Log[Choices]:
        """choices.jsonl; it exists where problems are multiple choice."""
        return self.log("choices.jsonl", Choices)

    @property
    def grade_log(self) -> Log[Grade]:
        """grades.jsonl."""
        return self.log("grades.jsonl", Grade)

    @property
    def behaviour_log(self) -> Log[Behaviour]:
        """behaviours.jsonl."""
        return self.log("behaviours.jsonl", Behaviour)

    @property
    def divergence_log(self) -> Log[Divergence]:
        """divergence.jsonl."""
        return self.log("divergence.jsonl", Divergence)

    @property
    def judgement_log(self) -> Log[Judgement]:
        """judgements.jsonl; it exists where a model compared or judged answers."""
        return self.log("judgements.jsonl", Judgement)

    @property
    def noise_log(self) -> Log[Record]:
        """noise.jsonl."""
        return self.log("noise.jsonl", Record)

    def records(self) -> dict[Key, Record]:
        """All whole records by key."""
        return {r.key: r for r in self.record_log.rows()}

    def grades(self) -> dict[Key, Grade]:
        """All whole grades by key."""
        return {g.key: g for g in self.grade_log.rows()}

    def read_json(self, name: str) -> Json | None:
        """Content of a JSON file of the run; None where the file is missing. Raises StoreError when it is damaged."""
        path = self.path / name
        try:
            data = path.read_bytes() if path.exists() else None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        if data is None:
            return None
        try:
            content: Json = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path} is damaged ({error}); remove it and run again") from error
        if name == TIMINGS:
            return content
        checksum = content.pop("sum", None) if isinstance(content, dict) else None
        if checksum is None or data != self._framed(content):
            raise StoreError(f"{path} is damaged (its checksum does not fit); remove it and run again")
        if found := fault(content, FILES.get(name, dict)):
            raise StoreError(f"{path} is no file of a run of this version: {found}; remove it and run again")
        return content

    def metrics(self) -> Json:
        """Content of metrics.json of a graded run. Raises StoreError where the file is missing or damaged."""
        content = self.read_json("metrics.json")
        if content is None:
            raise StoreError(self.ungraded())
        return content

    def timings(self) -> Json:
        """Content of timings.json without invalid costs: no hash covers the file, so it may hold anything. Never raises."""
        try:
            content = self.read_json(TIMINGS)
        except StoreError:
            content = None
        if not isinstance(content, dict):
            return {}
        stages = content.get("stages")
        costs = {key: value for key, value in content.items() if key not in COSTS or _is_cost(value)}
        return {**costs, "stages": {k: v for k, v in stages.items() if _is_cost(v)} if isinstance(stages, dict) else {}}

    def write_json(self, name: str, content: Mapping[str, object]) -> None:
        """Replace a JSON file of the run atomically; every file but timings.json has a checksum as its last key."""
        data = (json.dumps(content, indent=1) + "\n").encode() if name == TIMINGS else self._framed(content)
        replace_file(self.path / name, data)

    def locked(self, *, instead: str = "use another --out") -> AbstractContextManager[None]:
        """Hold the folder for this process. Raises StoreError, as support.lock.hold does, when another process holds it."""
        return lock.hold(self.path, instead=instead)

    def unfinished(self) -> str:
        """What is missing in a run whose samples are not all there, and the way on; empty where they are."""
        n, elsewhere = self.spec["n"], from_elsewhere(self.spec)
        if n is None and not elsewhere:
            return ""
        there, (least, wanted) = len(self.record_log.keys()), samples_wanted(self.spec)
        if there >= least:
            return ""
        return (
            f"{self.path} has {there} of {wanted} samples: it is not finished; the same "
            f"`spa-bench {'score' if elsewhere else 'run'}` again, with --out {shlex.quote(str(self.path))}, resumes it"
        )

    def forget_verdicts(self, problems: set[str]) -> bool:
        """Remove what was judged of answers to `problems`, and all that was measured; whether there was any.

        Call it before answers to them are written: one that is drawn again may have another text than the one that was judged.
        """
        if not problems or problems.isdisjoint(k.problem for k in (*self.grade_log.keys(), *self.behaviour_log.keys())):
            return False
        for name in ("metrics.json", ADDED, SANITISERS):  # first, so that a process that is killed here does this again
            (self.path / name).unlink(missing_ok=True)
        self.behaviour_log.retain(lambda row: row.problem not in problems)
        self.grade_log.retain(lambda row: row.problem not in problems)
        return True

    def ungraded(self) -> str:
        """Why a run has no metrics, and the way on: samples are missing, or are not graded."""
        return (
            self.unfinished() or f"{self.path} is not graded yet; finish it with: spa-bench grade {shlex.quote(str(self.path))}"
        )

    def _framed(self, content: Mapping[str, object]) -> bytes:
        digest = hashlib.blake2b(f"{self.hash}\0".encode(), digest_size=8)
        digest.update(json.dumps(content, sort_keys=True).encode())
        return (indented({**content, "sum": digest.hexdigest()}) + "\n").encode()


def _is_cost(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def folder_name(name: str, spec: Mapping[str, object]) -> str:
    """The name of the folder of the run with that spec; it begins with `name`, which a reader can understand."""
    return f"{file_safe(name)}-{spec_hash(spec)[:8]}"


def create(parent: Path, name: str, spec: RunSpec, *, unfinished: bool = False, fresh: Sequence[str] = ()) -> RunFolder:
    """The run folder for `spec`: `parent`/`name`-HASH, or `parent` itself when it is a run folder already.

    An existing folder with the same spec is reused. Raises StoreError for a folder with another spec, with the differences,
    with `unfinished` for a finished run, and for any run where `fresh` says why its code cannot be recognised.
    """
    content = plain(spec)
    path = parent if (parent / "spec.json").exists() else parent / folder_name(name, content)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the run folder {path}: {error.strerror}; use another --out") from error
    folder = RunFolder(path, content)
    if unfinished and (path / "metrics.json").exists():
        raise StoreError(f"{path} is there already, and finished: remove it or use another --out to do it again")
    if fresh and (path / "spec.json").exists():
        raise StoreError(
            f"{path} is there already, and whether it was made with the same code is unknown ({'; '.join(fresh)}); "
            "remove it or use another out"
        )
    if not (path / "spec.json").exists():
        replace_file(path / "spec.json", spec_bytes(content))
        return folder
    stored = open_run(path).spec
    if stored != content:
        raise StoreError(
            f"{path} holds a run with another spec ({differences(stored, content)}); use another --out, nothing was changed"
        )
    return folder


def spec_bytes(spec: Mapping[str, object]) -> bytes:
    """The bytes of spec.json: the spec and nothing else, so that anybody can read and hash it."""
    return (json.dumps(spec, indent=1) + "\n").encode()


RUN = "a run folder"
RESULTS = "a run folder, a result file, or a folder of either"


def check_place(path: Path, wanted: str = RUN) -> None:
    """Raises UsageError where nothing is at `path`, or a file where `wanted` names folders alone."""
    if not path.exists():
        raise UsageError(f"{path} is not there; give {wanted}")
    if not path.is_dir() and (wanted == RUN or path.suffix != ".json"):
        if path.suffix == ".json":
            raise UsageError(f"{path} is a file; give a run folder (those of a result file: docs/how-to/results.md)")
        raise UsageError(f"{path} is a file; give a run folder{'' if wanted == RUN else ' or a result .json'}")


def is_run(path: Path) -> bool:
    """Whether the folder `path` holds the spec or a log of a run: its spec.json may be missing."""
    return any((path / name).exists() for name in ("spec.json", *LOGS))


def given_run(path: Path) -> RunFolder:
    """The run at a `path` that a user gave. Raises UsageError where nothing of a run is there, and StoreError as open_run."""
    check_place(path)
    if not is_run(path):
        inside = len(list(path.glob("*/spec.json")))
        held = f"it holds {inside} run folders; give {path}/*" if inside else "give a run folder"
        raise UsageError(f"no run in {path}: spec.json is missing; {held}")
    return open_run(path)


def open_run(path: Path) -> RunFolder:
    """The run at `path`. Raises StoreError when no run is there, or when another version wrote it."""
    try:
        spec = json.loads((path / "spec.json").read_bytes())
    except FileNotFoundError as error:
        raise StoreError(f"no run in {path}: spec.json is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path / 'spec.json'}: {error}") from error
    version = spec.get("schema_version") if isinstance(spec, dict) else None
    if not isinstance(version, int):
        raise StoreError(f"{path / 'spec.json'} has no schema_version: it is no spec of spa-bench")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this spa-bench reads up to {SCHEMA_VERSION}; upgrade spa-bench")
    if version < SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, before lines had checksums; make the run again")
    if lacks := _spec_fault(spec):
        raise StoreError(f"{path / 'spec.json'} is no spec of a run: it lacks {lacks}")
    if found := fault(spec, SPEC):
        raise StoreError(f"{path / 'spec.json'} is no spec of a run: {found}")
    return RunFolder(path, spec)


def problem_count(spec: Json) -> int:
    """How many problems of its task a run covers."""
    whole, limit = int(spec["task"]["problems_n"]), spec["limit"]
    if partial := spec["sampler"].get(PARTIAL):
        return int(partial["problems"])
    return whole if limit is None else min(whole, int(limit))


def samples_wanted(spec: Json) -> tuple[int, str]:
    """How many samples a finished run has at least, and in words: problems may differ where they came from a file."""
    n = spec["n"]
    least = problem_count(spec) * int(n or 1)
    return least, str(least) if n else f"{least} or more"


def from_elsewhere(spec: Json) -> bool:
    """Whether a run's samples came from a file: their decoding, seeds, tokens and ends are not known."""
    return bool(spec["sampler"].get("kind") == ELSEWHERE)


def _spec_fault(spec: Json) -> str:
    """What a damaged or foreign file lacks to be the spec of a run, in words; empty when nothing is missing."""
    try:
        _ = spec["sampler"]["name"], spec["task"]["name"], spec["model"]["name"]
        if not all(isinstance(spec["sampler"].get(key, ""), str) for key in ("kind", "adapters")):
            return "a sampler of that kind"
        numbers = ((spec["seed"], False), (spec["task"]["problems_n"], False), (spec["n"], True), (spec["limit"], True))
        for value, optional in numbers:
            if not (optional and value is None) and (type(value) is not int or value < 0):
                return f"a number, it has {value!r}"
        partial = spec["sampler"].get(PARTIAL)
        if partial is not None and (type(partial["problems"]) is not int or not isinstance(partial["hash"], str)):
            return f"the problems of a partial run, it has {partial!r}"
    except (KeyError, TypeError, AttributeError) as error:
        return str(error)
    return ""


def flat(content: Mapping[str, object], prefix: str = "") -> Json:
    """Nested mappings as one mapping with dotted keys; an empty mapping is a value."""
    dotted: Json = {}
    for key, value in content.items():
        dotted |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return dotted


def differences(ours: Mapping[str, object], theirs: Mapping[str, object], prefix: str = "") -> str:
    """The dotted keys in which two specs differ, with both values: `n: 4 there, 8 here`."""
    texts = []
    for key in sorted(set(ours) | set(theirs)):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if inner := differences(a, b, f"{prefix}{key}."):
                texts.append(inner)
        elif a != b:
            texts.append(f"{prefix}{key}: {json.dumps(a)} there, {json.dumps(b)} here")
    return "; ".join(texts)
