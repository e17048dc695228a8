"""A sampler in detail: its spec, its costs, each of its members, their divergence, and their training data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.metrics.suite import ALIASES
from spa_bench.publish.report.data import ReportData, Section
from spa_bench.publish.report.runs import RunView
from spa_bench.publish.report.table import Cell, head_of, said_of
from spa_bench.types import Estimate

Numbered = tuple[tuple[int, RunView], ...]  # runs with their index in ReportData.runs
_MEMBER = re.compile(r"pass@1\[member=(\d+)\]")


@dataclass(frozen=True, kw_only=True)
class Detail:
    """One sampler on one task."""

    id: str
    label: str
    facts: dict[str, str]  # name -> value, in words for a reader
    spec: dict[str, Any]
    estimates: tuple[tuple[str, str, Cell], ...]  # metric, definition, estimate
    members: tuple[tuple[str, Cell], ...]  # pass@1 of each member; empty with one member
    cost: tuple[tuple[str, str], ...]
    runs: Numbered  # the available runs


def details_of(data: ReportData, section: Section) -> tuple[Detail, ...]:
    """The details of every row, in the order of the tables, then of groups of runs that are in no table."""
    numbered = list(enumerate(data.runs))
    groups = dict.fromkeys([*(row.result["group_hash"] for row in section.rows), *(data.runs[i].group for i in section.runs)])
    runs = {group: tuple((i, run) for i, run in numbered if run.group == group) for group in groups}
    of_rows = [_of_row(row, runs.pop(row.result["group_hash"])) for row in section.rows]
    return (*of_rows, *map(_of_runs, runs.values()))


def _of_row(row: LeaderboardRow, runs: Numbered) -> Detail:
    result, spec = row.result, row.result["spec"]
    verdicts: Counter[str] = Counter()
    for run in result["runs"]:
        verdicts.update(run["verdicts"])
    facts = {
        "model": str(spec["model"]["name"]),
        "draws": str(result["design"]),
        "n": "varies" if result["n"] is None else str(result["n"]),
        "seeds": ", ".join(map(str, row.seeds)),
        "spec": ", ".join(run["spec_hash"] for run in result["runs"]),
        "group": str(result["group_hash"]),
        "measured by": row.measured_by,
        "judged in": ", ".join(sorted({name for run in result["runs"] for name in run["judged"]})),
        "verdicts": ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items())),
    }
    return _detail(row.label, facts, spec, metrics=row.metrics, costs=[run["cost"] for run in result["runs"]], runs=runs)


def _of_runs(runs: Numbered) -> Detail:
    """The detail of runs that are in no table."""
    first = runs[0][1]
    facts = {
        "model": str(first.spec["model"]["name"]),
        "seeds": ", ".join(str(run.seed) for _, run in runs),
        "group": first.group,
        "state": "; ".join(_state(run) for _, run in runs),
    }
    return _detail(first.sampler, facts, first.spec, metrics={}, costs=[run.cost for _, run in runs], runs=runs)


def _detail(
    label: str,
    facts: Mapping[str, str],
    spec: Mapping[str, Any],
    *,
    metrics: Mapping[str, Estimate],
    costs: list[dict[str, Any]],
    runs: Numbered,
) -> Detail:
    """The detail with the estimates of `metrics` and the estimates that a single run has."""
    alone = (
        {name: Estimate(**e) for _, run in runs for name, e in run.estimates.items() if name not in ALIASES}
        if len(runs) == 1
        else {}
    )
    estimates = {**alone, **metrics}
    members = sorted((int(m[1]), e) for name, e in estimates.items() if (m := _MEMBER.fullmatch(name)))
    return Detail(
        id=f"sampler-{facts['group']}",
        label=label,
        facts={k: v for k, v in facts.items() if v},
        spec={k: v for k, v in spec.items() if k != "schema_version"},
        estimates=tuple((head_of(n), said_of(n), Cell(e, False)) for n, e in estimates.items() if e.value is not None),
        members=tuple((str(k), Cell(e, False)) for k, e in members),
        cost=_cost(costs),
        runs=runs,
    )


def _state(run: RunView) -> str:
    of = "" if run.expected is None else f" of {run.expected}"
    return f"seed {run.seed}: {run.samples}{of} samples, {run.graded} graded"


def _cost(costs: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Means over seeds: total seconds, seconds of each stage, memory, GPU seconds, price."""
    rows: list[tuple[str, str]] = []
    units = {"seconds": "s", "gpu_seconds": "s", "peak_memory_mb": "MiB", "price": ""}
    names = {"seconds": "in all", "gpu_seconds": "GPU", "peak_memory_mb": "peak memory", "price": "price"}
    for key, unit in units.items():
        values = [c[key] for c in costs if isinstance(c.get(key), int | float)]
        if values:
            rows.append((names[key], f"{sum(values) / len(values):.4g} {unit}".strip()))
    stages: dict[str, float] = {}
    for cost in costs:
        for name, seconds in (cost.get("stages") or {}).items():
            stages[name] = stages.get(name, 0.0) + seconds / len(costs)
    return (*rows, *((name, f"{seconds:.4g} s") for name, seconds in sorted(stages.items(), key=lambda kv: -kv[1])))
