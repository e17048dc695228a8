"""The shape of a result, its keys and their types, checked once so that readers of a result need no checks.

`shape_faults` finds what would make a table fail: types, lengths, rates outside [0, 1]. `check` says whether a result is
also free of contradictions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from spa_bench.metrics.suite import AT_SIZES, OPEN_AT_SIZES, is_rate
from spa_bench.runs.contents import COUNTS
from spa_bench.runs.spec import RunSpec
from spa_bench.support.text import shortened
from spa_bench.types import Estimate

KEPT = (
    "pass@1", "pass@K", "diversity_score[exact]", "diversity_score[ast]", "effective_diversity[ast,correct]",
    "effective_diversity[behaviour,ran]", "vendi[ngram,q=1]", "average_kl[i<j]",
)  # fmt: skip
"""Metrics whose values problem by problem go into a result."""
KEPT_OF_CHOICES = (
    "pass@1[mc]", "majority_vote[mc]", "any_of_n[mc]", "any_of_n[chance]", "diversity_score[mc]", "agreement[choices]",
    "kl[choices,i!=j]", "kl[first,i!=j]", "entropy[choices]",
)  # fmt: skip
"""Metrics that are kept too where a run has multiple-choice problems; results of earlier revisions lack them."""
KEPT_OF_OPEN = ("distinct_k[class]", "utility_k[class]", "quality[judged]")
"""Metrics that are kept too where a run has problems without a right answer."""
OPEN_KEPT_AT_SIZES = tuple(m.name for m in OPEN_AT_SIZES)
"""Those of them that depend on n, which such a result has at smaller sizes too."""
KEPT_AT_SIZES = (*(name for name in KEPT if name in {m.name for m in AT_SIZES}), "any_of_n")
"""The metrics that depend on n and that a result has at smaller sizes too."""
LARGEST = 2**63  # no seed, count or time is larger, and it fits a float
_DEEPEST = 20  # levels of nesting in values from a card or a model

Shape: TypeAlias = "type | tuple[type | None, ...] | list[Shape] | Mapping[str, Shape] | None"
"""A type, one of several (None: nothing is there), a list of one shape, or the shapes of keys; `KEY?` may be absent."""
OTHERS = "..."  # in a mapping, the shape of every key without a name here; where it is absent, such keys are faults
_NUMBER = (int, float)
_VALUES: list[Shape] = [(int, float, None)]
_SPEC: dict[str, Shape] = {
    "schema_version": int,
    "sampler": {
        "name": str,
        "kind": str,
        "members?": int,
        "decoding?": {OTHERS: object},
        "partial?": {"problems": int, "hash": str},
        OTHERS: object,
    },
    "task": {"name": str, "problems_hash": str, "problems_n": int, "version?": (str, None), OTHERS: object},
    "model": {"name": str, OTHERS: object},
    "n": (int, None),
    "limit": (int, None),
    "numerics": {OTHERS: object},
    "sandbox": str,
    "grading": str,
    "versions": {"python": str, OTHERS: str},
    "code": {"git": (str, None), "dirty": (bool, None), "source": str, "sampler?": str, "engine?": str},
    "data": {OTHERS: object},
    "noise_floor?": (bool, int),  # this and the next two: not in runs of earlier revisions
    "embedding?": {OTHERS: object},
    "metrics?": {OTHERS: str},
}
# a new field of RunSpec needs no shape here; a key that is not a field of RunSpec is a fault
_SPEC |= {f"{f.name}?": object for f in dataclasses.fields(RunSpec) if not {f.name, f"{f.name}?"} & {*_SPEC, "seed"}}
_RUN: dict[str, Shape] = {
    "seed": int,
    "run": str,
    "spec_hash": str,
    "records": str,
    "grades": str,
    "logs": {OTHERS: str},
    "counts": dict.fromkeys(COUNTS, int),
    "verdicts": {OTHERS: int},
    "judged": [str],
    "cost": {
        "seconds?": _NUMBER,
        "stages?": {OTHERS: _NUMBER},
        "peak_memory_mb?": _NUMBER,
        "gpu_seconds?": _NUMBER,
        "price?": _NUMBER,
    },
    "values": dict.fromkeys(KEPT, _VALUES) | {f"{name}?": _VALUES for name in (*KEPT_OF_CHOICES, *KEPT_OF_OPEN)},
    "values_at": {OTHERS: dict.fromkeys(KEPT_AT_SIZES, _VALUES) | {f"{name}?": _VALUES for name in OPEN_KEPT_AT_SIZES}},
}
_ESTIMATE: dict[str, Shape] = {
    "value": (*_NUMBER, None),
    "low": (*_NUMBER, None),
    "high": (*_NUMBER, None),
    "problems": int,
    "reason": str,
}
RESULT: Mapping[str, Shape] = {
    "schema_version": int,
    "measured_by": str,
    "task": str,
    "sampler": str,
    "model": str,
    "group_hash": str,
    "spec": _SPEC,
    "n": (int, None),
    "k": int,
    "members": int,
    "design": str,
    "size": int,
    "problems": [str],
    "runs": [_RUN],
    "metrics": dict.fromkeys(KEPT, _ESTIMATE) | {OTHERS: _ESTIMATE},
}
"""The shape of a result: a type, a tuple of alternatives, [shape] for a list, or keys with shapes; "key?" may be missing.

`str` is text of one printable line, `int` no bool, and numbers are finite and at most `LARGEST`.
"""
_SAID: dict[type | None, str] = {
    str: "one line of printable text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    object: f"plain values, nested at most {_DEEPEST} deep",
    None: "null",
}


def as_stored(estimate: Estimate) -> dict[str, Any]:
    """An estimate as results keep it; `problems` is the number of problems behind it."""
    e = estimate
    return {"value": e.value, "low": e.low, "high": e.high, "problems": e.n, "reason": e.reason}


def as_estimate(stored: Mapping[str, Any]) -> Estimate:
    """The estimate that results keep as `stored`."""
    return Estimate(
        value=stored["value"], low=stored["low"], high=stored["high"], n=stored["problems"], reason=stored["reason"]
    )


def shape_faults(result: object) -> list[str]:
    """The faults that keep `result` out of tables, a sentence each, at most a few; empty when every table can show it."""
    if faults := list(_faults(result, RESULT, ""))[:5]:
        return faults
    assert isinstance(result, dict)
    return list(_table_faults(result))[:5]


def _faults(value: object, shape: Shape, where: str) -> Iterator[str]:
    """Where `value` differs from `shape`; `where` is its place, dotted."""
    if isinstance(shape, Mapping):
        yield from _mapping_faults(value, shape, where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where} is {_shown(value)}; it must be a list"
            return
        for place, item in enumerate(value):
            yield from _faults(item, shape[0], f"{where}[{place}]")
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        if not any(_is(value, kind) for kind in kinds):
            said = [_SAID[kind] for kind in kinds if not (kind is int and float in kinds)]
            yield f"{where} is {_shown(value)}; it must be {' or '.join(said)}"


def _mapping_faults(value: object, shape: Mapping[str, Shape], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'it'} is {_shown(value)}; it must have keys"
        return
    prefix = f"{where}." if where else ""
    known = {key.removesuffix("?"): inner for key, inner in shape.items() if key != OTHERS}
    if missing := [key for key in shape if key != OTHERS and not key.endswith("?") and key not in value]:
        yield f"{where or 'it'} lacks {', '.join(missing)}"
    if OTHERS not in shape and (unknown := sorted(map(ascii, value.keys() - known.keys()))):
        yield f"{where or 'it'} has unknown keys: {', '.join(unknown)[:200]}"
    for key, inner in value.items():
        if not _is(key, str):
            yield f"{where or 'it'} has the key {_shown(key)}; it must be {_SAID[str]}"
        elif key in known or OTHERS in shape:
            yield from _faults(inner, known.get(key, shape.get(OTHERS)), f"{prefix}{key}")


def _is(value: object, kind: type | None) -> bool:
    if kind is object:
        return _plain(value, 0)
    if kind is None:
        return value is None
    if kind is str:
        return isinstance(value, str) and value.isprintable()
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return abs(value) <= LARGEST  # a NaN fails this comparison


def _plain(value: object, depth: int) -> bool:
    """Whether a value can be printed and written: text without lone surrogates, finite numbers, not too deep."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return depth < _DEEPEST and all(_plain(item, depth + 1) for item in inner)
    if isinstance(value, str):
        return not any("\ud800" <= sign <= "\udfff" for sign in value)
    return value is None or isinstance(value, bool) or _is(value, float)


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number far too large"
    text = ascii(value) if not isinstance(value, list | dict) else f"a {type(value).__name__}"
    return shortened(text, 60)


def _table_faults(result: Mapping[str, Any]) -> Iterator[str]:
    """Faults that types do not show: lengths, rates, sizes."""
    problems, runs = len(result["problems"]), result["runs"]
    if not problems or not runs:
        yield f"it has {problems} problems and {len(runs)} runs; it must have both"
    for name in ("task", "sampler"):
        if not result[name] or "/" in result[name]:  # they are parts of the file's name
            yield f"{name} is {result[name]!r}; it must be a name without a slash"
    for run in runs:
        tables = {"values": run["values"]} | {f"values_at.{size}": table for size, table in run["values_at"].items()}
        for place, table in tables.items():
            for name, values in table.items():
                if len(values) != problems:
                    yield f"seed {run['seed']}: {place}: {name} has {len(values)} values for {problems} problems"
                elif is_rate(name) and not all(0 <= v <= 1 for v in values if v is not None):
                    yield f"seed {run['seed']}: {place}: {name} has values outside its range of 0 to 1"
        if run["values"].keys() != runs[0]["values"].keys():
            yield f"seed {run['seed']}: values has other metrics than that of seed {runs[0]['seed']}"
        if run["values_at"].keys() != runs[0]["values_at"].keys():
            yield f"seed {run['seed']}: values_at has other sizes than that of seed {runs[0]['seed']}"
    for size in runs[0]["values_at"] if runs else ():
        if not (size.isascii() and size.isdigit() and len(size) < 10 and str(int(size)) == size and int(size) > 0):
            yield f"values_at has the size {size!r}; it must be a number of samples"
