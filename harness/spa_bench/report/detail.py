"""A sampler in detail: its spec, what it cost, its members one by one, how far they are apart, what they were trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spa_bench.report.data import ReportData, Section
from spa_bench.report.runs import RunView
from spa_bench.report.table import Cell, head_of, said_of
from spa_bench.types import Estimate

_MEMBER = re.compile(r"pass@1\[member=(\d+)\]")


@dataclass(frozen=True)
class Detail:
    """One sampler on one task."""

    id: str
    label: str
    facts: dict[str, str]  # for a reader
    spec: dict[str, Any]
    estimates: tuple[tuple[str, str, Cell], ...]  # metric, definition, estimate
    members: tuple[tuple[str, Cell], ...]  # pass@1 of each member; empty with one member
    cost: tuple[tuple[str, str], ...]
    runs: tuple[tuple[int, RunView], ...]  # those that are here, with their number


def details_of(data: ReportData, section: Section) -> tuple[Detail, ...]:
    """Of every row, in the order of the tables, then of groups of runs that are in no table."""
    numbered = list(enumerate(data.runs))
    found, seen = [], set()
    for row in section.rows:
        group = row.result["group_hash"]
        seen.add(group)
        mine = tuple((i, run) for i, run in numbered if run.group == group)
        result, spec = row.result, row.result["spec"]
        facts = {
            "model": str(spec["model"]["name"]),
            "draws": str(result["design"]),
            "n": "varies" if result["n"] is None else str(result["n"]),
            "seeds": ", ".join(map(str, row.seeds)),
            "spec": ", ".join(run["spec_hash"] for run in result["runs"]),
            "group": group,
            "judged in": ", ".join(sorted({name for run in result["runs"] for name in run["judged"]})),
        }
        verdicts: dict[str, int] = {}
        for run in result["runs"]:
            for name, count in run["verdicts"].items():
                verdicts[name] = verdicts.get(name, 0) + count
        facts["verdicts"] = ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))
        costs = [run["cost"] for run in result["runs"]]
        found.append(_detail(f"sampler-{group}", row.label, facts, spec, row.metrics, costs, mine))
    for group in dict.fromkeys(data.runs[i].group for i in section.runs if data.runs[i].group not in seen):
        mine = tuple((i, run) for i, run in numbered if run.group == group)
        first = mine[0][1]
        facts = {
            "model": str(first.spec["model"]["name"]),
            "seeds": ", ".join(str(run.seed) for _, run in mine),
            "group": group,
            "state": "; ".join(_state(run) for _, run in mine),
        }
        estimates = {name: Estimate(**e) for name, e in first.estimates.items()} if len(mine) == 1 else {}
        found.append(
            _detail(f"sampler-{group}", first.sampler, facts, first.spec, estimates, [run.cost for _, run in mine], mine)
        )
    return tuple(found)


def _detail(
    anchor: str,
    label: str,
    facts: Mapping[str, str],
    spec: Mapping[str, Any],
    metrics: Mapping[str, Estimate],
    costs: list[dict[str, Any]],
    runs: tuple[tuple[int, RunView], ...],
) -> Detail:
    added = {name: Estimate(**e) for _, run in runs[:1] for name, e in run.estimates.items() if len(runs) == 1}
    estimates = {**added, **metrics}
    members = sorted((int(m[1]), e) for name, e in estimates.items() if (m := _MEMBER.fullmatch(name)))
    return Detail(
        anchor,
        label,
        {k: v for k, v in facts.items() if v},
        {k: v for k, v in spec.items() if k != "schema_version"},
        tuple((head_of(n), said_of(n), Cell(e, False)) for n, e in estimates.items() if e.value is not None),
        tuple((str(k), Cell(e, False)) for k, e in members),
        _cost(costs),
        runs,
    )


def _state(run: RunView) -> str:
    of = "" if run.expected is None else f" of {run.expected}"
    return f"seed {run.seed}: {run.samples}{of} samples, {run.graded} graded"


def _cost(costs: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Means over seeds: seconds in all and by stage, memory, GPU seconds, price."""
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
