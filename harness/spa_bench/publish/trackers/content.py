"""The content of messages to trackers, read from the run folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spa_bench.metrics.suite import ALIASES
from spa_bench.publish.trackers.base import Begun, Ended, Scalar, State
from spa_bench.runs.folder import ADDED, COSTS, TIMINGS, RunFolder, flat, group_hash
from spa_bench.runs.measure import is_own_score, own_estimates

_SMALL = ("spec.json", "metrics.json", ADDED, "judged.json", "adapters.json", TIMINGS)
_SAMPLES = ("records.jsonl", "grades.jsonl", "choices.jsonl", "behaviours.jsonl", "divergence.jsonl")


def begun(folder: RunFolder) -> Begun:
    """The identity of the run in `folder`."""
    spec, group = folder.spec, group_hash(folder.spec)
    sampler, task = str(spec["sampler"]["name"]), str(spec["task"]["name"])
    return Begun(
        id=folder.hash,
        name=folder.path.resolve().name,
        group=f"{task}-{sampler}-{group[:8]}",
        config=config(spec),
        tags={
            "sampler": sampler,
            "task": task,
            "model": str(spec["model"].get("name", "")),
            "seed": str(spec["seed"]),
            "spec_hash": folder.hash,
            "group_hash": group,
        },
    )


def ended(folder: RunFolder, state: State, *, samples: bool) -> Ended:
    """The results of the run in `folder`; with `samples` its logs are among the files. Raises StoreError for a damaged file."""
    content = folder.read_json("metrics.json") or {"estimates": {}}
    estimates = {name: estimate for name, estimate in content["estimates"].items() if name not in ALIASES}
    estimates |= (folder.read_json(ADDED) or {}).get("estimates", {})
    estimates |= {name: asdict(found) for name, found in own_estimates(content).items() if is_own_score(name)}
    metrics: dict[str, float] = {}
    for name, estimate in estimates.items():
        if _is_number(estimate["value"]):
            metrics[name] = float(estimate["value"])
            metrics |= {f"{name}/{k}": float(estimate[k]) for k in ("low", "high", "n") if _is_number(estimate[k])}
    timings = folder.timings()
    times = {name: float(timings[name]) for name in COSTS if name in timings}
    times |= {f"seconds/{stage}": float(seconds) for stage, seconds in timings.get("stages", {}).items()}
    names = (*_SMALL, *_SAMPLES) if samples else _SMALL
    return Ended(state, metrics, times, [path for name in names if (path := folder.path / name).is_file()])


def config(spec: Mapping[str, Any]) -> dict[str, Scalar]:
    """The spec by dotted keys; lists become JSON, and empty mappings are left out."""
    values = {key: value for key, value in flat(spec).items() if value != {}}
    return {key: json.dumps(value) if isinstance(value, list | tuple) else value for key, value in values.items()}


def state_of(path: Path) -> State:
    """The state of a run folder on which no process works."""
    return "finished" if (path / "metrics.json").exists() else "stopped"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
