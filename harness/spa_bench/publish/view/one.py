"""One run folder from outside: its facts, its progress, and whether a process works on it.

The server looks at it every few seconds. So files are read again only when they have changed. Logs of unfinished runs are
read from the end of the last look, and logs of finished runs are not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spa_bench.errors import StoreError
from spa_bench.runs.folder import JSON_FILES, LOGS, SCHEMA_VERSION, TIMINGS, RunFolder, from_elsewhere, open_run, problem_count
from spa_bench.runs.noise_floor import TIMES, rows_for
from spa_bench.runs.tail import Tail
from spa_bench.support import lock

SHOWN = ("pass@1", "pass@K", "diversity_score", "effective_diversity", "vendi", "average_kl")
"""The metrics of a finished run that a list has room for, by their short names."""
_GRACE_SECONDS = 5.0  # a run holds no lock for a moment when it begins, and between samples and grades
_FILES = ("spec.json", *LOGS, *JSON_FILES, TIMINGS)
Signature = dict[str, tuple[int, int, int]]  # file -> inode, size, time of the last change in nanoseconds


@dataclass(frozen=True, kw_only=True)
class Glance:
    """The facts about one run that a list shows."""

    state: str  # generating, grading, finished, stopped, damaged or newer
    said: str = ""  # why it is damaged, or how to resume it
    stage: str = ""  # the current stage, or the stage in which it stopped
    done: int = 0  # finished problems of that stage
    total: int = 0
    samples: int = 0
    samples_total: int | None = None  # None: unknown until all samples exist
    written: float = 0.0  # the time of the last change of a file, in seconds since 1970
    stamp: str = ""  # a text that differs whenever a file has changed
    host: str = ""  # the machine that began it, if it is another one: then it is unknown whether the run still runs
    facts: Mapping[str, Any] = field(default_factory=dict)  # task, sampler, model, seed, n, k, seconds
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the metrics of SHOWN


class OneRun:
    """The run in the folder at `path`; none of its files may lead out of the folder `inside`."""

    def __init__(self, path: Path, inside: Path):
        self.path, self._inside = path, inside
        self._tails = {name: Tail(path / name) for name in LOGS}
        self._seen: Signature = {}
        self._spec: RunFolder | None = None
        self._wrong: tuple[str, str] | None = None  # state and reason for a spec that cannot be used
        self._metrics: dict[str, Any] | None = None
        self._metrics_wrong = ""
        self._seconds: float | None = None

    def look(self) -> Glance:
        """The current state of the run."""
        try:
            now, outside = self._signature()
        except OSError as error:
            return Glance(state="damaged", said=f"cannot read {self.path}: {error.strerror}")
        written = max((changed for _, _, changed in now.values()), default=0) / 1e9
        stamp = hashlib.blake2b(json.dumps(now, sort_keys=True).encode(), digest_size=8).hexdigest()
        if outside:
            return Glance(
                state="damaged", said=f"{outside} is a link that leads out of {self._inside}", written=written, stamp=stamp
            )
        self._read_changed(now)
        if self._spec is None:
            state, said = self._wrong or ("damaged", "it has no spec.json")
            return Glance(state=state, said=said, written=written, stamp=stamp)
        progress = self._progress(self._spec, now)
        return Glance(**{**progress, "written": written, "stamp": stamp, "facts": self._facts(self._spec)})

    def _signature(self) -> tuple[Signature, str]:
        """(the signature of the files, the first file that is a link out of `inside`)."""
        signature: Signature = {}
        for name in _FILES:
            path = self.path / name
            try:
                about = os.stat(path, follow_symlinks=False)
                if stat.S_ISLNK(about.st_mode):
                    if not path.resolve().is_relative_to(self._inside):
                        return signature, name
                    about = os.stat(path)
            except FileNotFoundError:
                continue
            signature[name] = (about.st_ino, about.st_size, about.st_mtime_ns)
        return signature, ""

    def _read_changed(self, now: Signature) -> None:
        if self._spec is None or now.get("spec.json") != self._seen.get("spec.json"):
            self._spec, self._wrong = _opened(self.path)
        if now.get("metrics.json") != self._seen.get("metrics.json") or now.get("spec.json") != self._seen.get("spec.json"):
            self._metrics, self._metrics_wrong = None, ""
            try:
                self._metrics = self._spec.read_json("metrics.json") if self._spec else None
            except StoreError as error:
                self._metrics_wrong = str(error)
        if now.get(TIMINGS) != self._seen.get(TIMINGS):
            self._seconds = self._spec.timings().get("seconds") if self._spec else None
        self._seen = now

    def _facts(self, folder: RunFolder) -> dict[str, Any]:
        spec, metrics = folder.spec, self._metrics or {}
        return {
            "task": str(spec["task"]["name"]),
            "sampler": str(spec["sampler"]["name"]),
            "model": str(spec["model"]["name"]),
            "seed": spec["seed"],
            "n": spec["n"],
            "k": metrics.get("k"),
            "seconds": self._seconds,
        }

    def _progress(self, folder: RunFolder, now: Signature) -> dict[str, Any]:
        held = lock.state(self.path)
        if self._metrics_wrong:
            return {"state": "damaged", "said": self._metrics_wrong}
        if self._metrics is not None and held != "held":
            return self._finished(self._metrics, now)
        progress = self._unfinished(folder)
        odd = next((name for name, tail in self._tails.items() if tail.odd), None)
        if odd:
            said = f"{odd} has a line that is no row: spa-bench verify {shlex.quote(str(self.path))}"
            return {**progress, "state": "damaged", "said": said}
        written = max(changed for _, _, changed in now.values()) / 1e9
        if held == "free" and not 0 <= time.time() - written < _GRACE_SECONDS:
            again = (
                f"spa-bench grade {shlex.quote(str(self.path))}"
                if progress["state"] == "grading"
                else "the command that made it"
            )
            if progress["state"] == "generating" and from_elsewhere(folder.spec):
                again = "the same spa-bench score"
            return {**progress, "state": "stopped", "said": f"resume with: {again}"}
        return {**progress, "host": lock.host(self.path) if held == "elsewhere" else ""}

    def _finished(self, metrics: Mapping[str, Any], now: Signature) -> dict[str, Any]:
        samples = metrics["counts"]["samples"]
        gone = [name for name in ("records.jsonl", "grades.jsonl") if samples and not now.get(name, (0, 0, 0))[1]]
        if gone:
            return {"state": "damaged", "said": f"{gone[0]} is missing or empty, and metrics.json counts {samples} samples"}
        estimates = {name: metrics["estimates"][name] for name in SHOWN if name in metrics["estimates"]}
        total = len(metrics["problems"])
        return {
            "state": "finished",
            "done": total,
            "total": total,
            "samples": samples,
            "samples_total": samples,
            "metrics": estimates,
        }

    def _unfinished(self, folder: RunFolder) -> dict[str, Any]:
        """state, stage, done, total, samples: they follow from the logs, in the order in which a run writes them."""
        for tail in self._tails.values():
            tail.look()
        spec, tails = folder.spec, self._tails
        records, drawn = tails["records.jsonl"], not from_elsewhere(spec)
        problems, n = problem_count(spec), spec["n"]
        wanted = problems * n if n else None
        done = {"samples": records.rows, "samples_total": wanted, "total": problems}
        if records.rows < (wanted or 1):
            trains = spec["sampler"].get("adapters", "none") not in {"none", "served"}
            if records.rows or not drawn:
                return {**done, "state": "generating", "stage": "generation", "done": records.complete(n or 1)}
            if tails["choices.jsonl"].rows:
                return {**done, "state": "generating", "stage": "choices", "done": tails["choices.jsonl"].rows}
            ready = not trains or (self.path / "adapters.json").exists()
            return {**done, "state": "generating", "stage": "generation" if ready else "training", "done": 0}
        for stage, name, needed in (
            ("divergence", "divergence.jsonl", problems if drawn else 0),
            ("noise floor", "noise.jsonl", rows_for(spec.get("noise_floor", False), problems, n or 1)),
        ):
            if tails[name].rows < needed:
                if stage == "noise floor":
                    done |= {"total": needed // TIMES}
                have = tails[name].rows if stage == "divergence" else tails[name].complete(TIMES)
                return {**done, "state": "generating", "stage": stage, "done": have}
        for stage, name in (("grading", "grades.jsonl"), ("behaviours", "behaviours.jsonl")):
            if tails[name].rows < records.rows:
                share = sum(tails[name].problems[p] >= count for p, count in records.problems.items())
                return {**done, "state": "grading", "stage": stage, "done": share}
        return {**done, "state": "grading", "stage": "metrics", "done": problems}


def _opened(path: Path) -> tuple[RunFolder | None, tuple[str, str] | None]:
    """(the run, None), or (None, (state, reason)) where its spec cannot be used."""
    try:
        return open_run(path), None
    except StoreError as error:
        return None, ("newer" if _schema(path) > SCHEMA_VERSION else "damaged", str(error))


def _schema(path: Path) -> int:
    try:
        version = json.loads((path / "spec.json").read_bytes()).get("schema_version")
    except (OSError, ValueError, AttributeError, RecursionError):
        return 0
    return version if isinstance(version, int) else 0
