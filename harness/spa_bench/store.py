"""Run folders: spec.json, records.jsonl, grades.jsonl, divergence.json, metrics.json and timings.json.

Records and grades are appended as they come and synced in batches; a torn last line is dropped and redone. Other
files are replaced atomically. A folder belongs to one spec and, while it is open, to one process.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from spa_bench.errors import StoreError
from spa_bench.types import Grade, Key, Record, RunSpec, Verdict

SCHEMA_VERSION = 1
TASK_FILE = "task_file.json"  # where a jsonl task's problems lay: outside the spec, which has their hash
Row = TypeVar("Row", Record, Grade)


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Names the run: a hash over the whole spec."""
    return hashlib.blake2b(json.dumps(spec, sort_keys=True).encode(), digest_size=8).hexdigest()


def group_hash(spec: Mapping[str, Any]) -> str:
    """The same for runs that differ in the seed alone."""
    return spec_hash({k: v for k, v in spec.items() if k != "seed"})


def plain(spec: RunSpec) -> dict[str, Any]:
    """`spec` as the JSON value that is stored and hashed."""
    content: dict[str, Any] = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **dataclasses.asdict(spec)}))
    return content


class RunFolder:
    """One run on disk. Open it with `create` (for writing) or `open_run` (for reading)."""

    def __init__(self, path: Path, spec: dict[str, Any]):
        self.path, self.spec = path, spec

    @property
    def hash(self) -> str:
        """The spec's hash."""
        return spec_hash(self.spec)

    def records(self) -> dict[Key, Record]:
        """All whole records by key."""
        return {r.key: r for r in self._rows("records.jsonl", Record)}

    def grades(self) -> dict[Key, Grade]:
        """All whole grades by key."""
        return {g.key: g for g in self._rows("grades.jsonl", Grade)}

    def append(self, rows: Sequence[Record] | Sequence[Grade]) -> None:
        """Append `rows` to their file and sync it; a torn end left by a killed process is cut off first."""
        if not rows:
            return
        path = self.path / ("records.jsonl" if isinstance(rows[0], Record) else "grades.jsonl")
        with path.open("ab+") as stream:
            _cut_torn_line(stream)
            stream.write("".join(json.dumps(dataclasses.asdict(r)) + "\n" for r in rows).encode())
            stream.flush()
            os.fsync(stream.fileno())

    def read_json(self, name: str) -> Any:
        """Content of a JSON file of the run, or None where it is missing."""
        path = self.path / name
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path}: {error}; remove it and run again") from error

    def write_json(self, name: str, content: object) -> None:
        """Replace a JSON file of the run atomically."""
        new = self.path / f".{name}.new"
        with new.open("w") as stream:
            stream.write(json.dumps(content, indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self.path / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. Raises StoreError when another one has it; a dead one's lock is free."""
        with (self.path / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreError(f"another process works on {self.path}; wait for it or use another --out") from error
            yield

    def _rows(self, name: str, kind: type[Row]) -> Iterator[Row]:
        path = self.path / name
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], 1):  # behind the last newline there is nothing, or a torn line
            try:
                row = json.loads(line)
                if kind is Grade:
                    row["verdict"] = Verdict(row["verdict"])
                yield kind(**row)
            except (ValueError, TypeError, KeyError) as error:
                raise StoreError(f"{path}, line {number} is broken ({error}); remove the line and run again") from error


def create(parent: Path, name: str, spec: RunSpec) -> RunFolder:
    """The run folder for `spec`: `parent`/`name`-HASH, or `parent` itself when it is a run folder already.

    An existing folder with the same spec is gone on with. Raises StoreError, showing what differs, for another spec.
    """
    content = plain(spec)
    path = parent if (parent / "spec.json").exists() else parent / f"{name}-{spec_hash(content)[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the run folder {path}: {error.strerror}; use another --out") from error
    folder = RunFolder(path, content)
    found = folder.read_json("spec.json")
    if found is None:
        try:
            folder.write_json("spec.json", content)
        except OSError as error:
            raise StoreError(f"cannot write to the run folder {path}: {error.strerror}; use another --out") from error
    elif found != content:
        raise StoreError(
            f"{path} holds a run with another spec ({differences(found, content)}); use another --out, nothing was changed"
        )
    return folder


def open_run(path: Path) -> RunFolder:
    """The run at `path`. Raises StoreError when it is none, or was written by a newer version."""
    try:
        spec = json.loads((path / "spec.json").read_text())
    except FileNotFoundError as error:
        raise StoreError(f"no run in {path}: spec.json is missing") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path / 'spec.json'}: {error}") from error
    version = spec.get("schema_version") if isinstance(spec, dict) else None
    if not isinstance(version, int):
        raise StoreError(f"{path / 'spec.json'} has no schema_version: it is no spec of spa-bench")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this spa-bench reads up to {SCHEMA_VERSION}; upgrade spa-bench")
    return RunFolder(path, spec)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> str:
    """The dotted keys in which two specs differ, with both values: `n: 4 there, 8 here`."""
    found = []
    for key in sorted(set(ours) | set(theirs)):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if inner := differences(a, b, f"{prefix}{key}."):
                found.append(inner)
        elif a != b:
            found.append(f"{prefix}{key}: {json.dumps(a)} there, {json.dumps(b)} here")
    return "; ".join(found)


def _cut_torn_line(stream: Any) -> None:
    end = stream.seek(0, os.SEEK_END)
    if end == 0:
        return
    stream.seek(end - 1)
    if stream.read(1) == b"\n":
        return
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)
