"""Runs that cover some problems of their task: samples from a file, scored with `--partial`.

The spec of such a run holds the number and the hash of its problems under `sampler.partial`, and the sampler's name holds the
count, so that whatever shows the name shows the count. A table takes rows of the same problems alone.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence

from spa_bench.support import provenance
from spa_bench.types import Json, Problem

PARTIAL = "partial"


def partial_entry(names: Sequence[str]) -> dict[str, object]:
    """The entry of a spec's sampler for samples of the problems `names`, in the task's order."""
    return {"problems": len(names), "hash": _hash(names)}


def partial_name(label: str, count: int, whole: int) -> str:
    """The name of such a sampler: `label (135 of 164 problems)`."""
    return f"{label} ({count} of {whole} problems)"


def whole_name(spec: Json) -> str:
    """The name of a run's sampler without the count of problems that `partial_name` gives it."""
    name, entry = str(spec["sampler"]["name"]), spec["sampler"].get(PARTIAL)
    return name.removesuffix(partial_name("", entry["problems"], spec["task"]["problems_n"])) if entry else name


def is_partial(spec: Json) -> bool:
    """Whether a run holds samples of some problems alone."""
    return bool(spec["sampler"].get(PARTIAL))


def covered(spec: Json, problems: Sequence[Problem], there: Container[str]) -> list[Problem]:
    """Those of a task's `problems` that a run covers; `there` are the ids of the problems with a sample."""
    return [p for p in problems[: spec["limit"]] if not is_partial(spec) or p.id in there]


def partial_fault(spec: Json, names: Sequence[str]) -> str:
    """What is wrong with the problems `names` of a partial run, in words; empty where nothing is, or the run is whole."""
    entry = spec["sampler"].get(PARTIAL)
    if not entry or (entry["problems"] == len(names) and entry["hash"] == _hash(names)):
        return ""
    return f"there are samples of {len(names)} problems, and the spec says {entry['problems']}, or other ones"


def _hash(names: Sequence[str]) -> str:
    return provenance.hash_bytes(json.dumps(list(names)).encode())
