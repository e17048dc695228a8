"""Results of earlier schemas, brought to the schema of today one step at a time, so that old files are read for ever.

| schema | change |
|---|---|
| 2 | the first that result files had |
| 3 | who measured, hashes of all logs, `any_of_n` at smaller sizes; one name a metric, whose `n` became `problems` |

A new schema is a new number, a function here that makes it of the one before, and a file of the old one in tests/golden. A step
changes no number. It takes what it knows and leaves the rest as it is: the shape is checked after the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from spa_bench.compare.leaderboard.coverage import any_of_column
from spa_bench.metrics.suite import ALIASES

SCHEMA = 3
"""The schema of results that are written."""
OLDEST = 2
"""The oldest schema that a result file can have."""

Content = dict[str, Any]


def migrated(result: Mapping[str, Any]) -> Content:
    """`result`, of a schema from OLDEST to SCHEMA, in the schema of today."""
    content = dict(result)
    while (version := content["schema_version"]) < SCHEMA:
        content = {**STEPS[version](content), "schema_version": version + 1}
    return content


def _from_2(result: Content) -> Content:
    metrics = result["metrics"]
    named = {ALIASES.get(name, name): e for name, e in metrics.items()} | {n: e for n, e in metrics.items() if n not in ALIASES}
    return {
        **result,
        "measured_by": "",
        "runs": [_run_from_2(result, run) for run in result["runs"]],
        "metrics": {name: _estimate_from_2(e) for name, e in named.items()},
    }


def _estimate_from_2(estimate: object) -> object:
    if not isinstance(estimate, dict):
        return estimate
    return {("problems" if key == "n" else key): value for key, value in estimate.items()}


def _run_from_2(result: Content, run: object) -> object:
    if not isinstance(run, dict):
        return run
    sizes = run.get("values_at")
    if isinstance(sizes, dict):
        run = {**run, "values_at": {at: _size_from_2(result, run, at, table) for at, table in sizes.items()}}
    return {**run, "logs": {}}


def _size_from_2(result: Content, run: Content, at: str, table: object) -> object:
    if not isinstance(table, dict):
        return table
    try:
        column = any_of_column(run["values"], result["n"], result["members"], int(at))
    except (KeyError, TypeError, ValueError, AttributeError):  # of another shape, which the check of the shape says
        column = None
    return {**table, "any_of_n": [None] * len(next(iter(table.values()), [])) if column is None else column}


STEPS: Mapping[int, Callable[[Content], Content]] = MappingProxyType({2: _from_2})
"""Schema -> the function that makes the next one of it."""
