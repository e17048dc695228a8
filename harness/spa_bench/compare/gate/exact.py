"""Runs of one spec, seed included, must be the same: texts, verdicts and values, with no tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spa_bench.runs.folder import from_elsewhere

Run = Mapping[str, Any]
_LOGS = {"records": "texts (records.jsonl)", "grades": "verdicts (grades.jsonl)"}


def twins(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[Run, Run]]:
    """(run of `before`, run of `after`) for every spec hash that both results have, in the order of `after`.

    The spec of answers from elsewhere does not say which answers they are: such runs are twins when their texts are the same.
    """
    known = {run["spec_hash"]: run for run in before["runs"]}
    pairs = [(known[run["spec_hash"]], run) for run in after["runs"] if run["spec_hash"] in known]
    return [pair for pair in pairs if not from_elsewhere(after["spec"]) or pair[0]["records"] == pair[1]["records"]]


def differences(
    before: Run, after: Run, problems: list[str], sides: tuple[str, str] = ("in the baseline", "now")
) -> list[tuple[str, str]]:
    """(what differs, how in words) between two runs of one spec, whose sides `sides` names; empty when they are the same."""
    return [
        *_values("", before["values"], after["values"], problems, sides),
        *_sizes(before, after, problems, sides),
        *_logs(before, after, sides),
    ]


def _sizes(before: Run, after: Run, problems: list[str], sides: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for size in sorted(before["values_at"].keys() | after["values_at"].keys(), key=int):
        one, other = (run["values_at"].get(size, {}) for run in (before, after))
        yield from _values(f" at n = {size}", one, other, problems, sides)


def _values(where: str, before: Run, after: Run, problems: list[str], sides: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys([*before, *after]):
        ours, theirs = before.get(name), after.get(name)
        if ours == theirs:
            continue
        if ours is None or theirs is None:
            yield name + where, f"only {sides[ours is None]}"
            continue
        places = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        first = places[0]
        yield (
            name + where,
            (
                f"{len(places)} of {len(ours)} problems differ, the first is {problems[first]}: "
                f"{_said(ours[first])} {sides[0]}, {_said(theirs[first])} {sides[1]}"
            ),
        )


def _logs(before: Run, after: Run, sides: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for key, what in _LOGS.items():
        if before[key] != after[key]:
            yield what, f"their hash is {before[key]} {sides[0]}, {after[key]} {sides[1]}"


def _said(value: object) -> str:
    return "no value" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)
