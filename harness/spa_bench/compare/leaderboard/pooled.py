"""Results of one sampler that come from several places: one result with the seeds of all, each run where and when it suited."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.schema import as_stored
from spa_bench.errors import StoreError
from spa_bench.metrics.pass_at_k import pass_at_k
from spa_bench.metrics.suite import estimates
from spa_bench.metrics.table import KS
from spa_bench.support.rounding import same_values
from spa_bench.types import Estimate

Result = dict[str, Any]
Run = Mapping[str, Any]
Placed = tuple[str, Result]  # where a result was found, and the result

_DESIGN = ("n", "k", "members", "design", "size", "problems")
_OF_THE_PLACE = {"run", "cost", "logs", "values_at"}  # of a run: where and when it was, and what older schemas lack
NO_INTERVAL = "seeds from several result files, which do not keep it problem by problem: no interval"
UNSAID = "not said"
"""What stands for a measurer who is not named."""
LONGEST_LINE = 200
"""The most characters of `measured_by`."""


def with_runs(result: Result, runs: Iterable[Run], names: Iterable[str] = ()) -> Result:
    """`result` with `runs` in place of its own, in the order of their seeds.

    It has the metrics that a result keeps problem by problem, and those of its own and of `names` that follow from them: values
    of others are in the run folders alone.
    """
    ordered = sorted(runs, key=_seed)
    kept = [name for name in ordered[0]["values"] if all(name in run["values"] for run in ordered)]
    ordered = [{**run, "values": {name: run["values"][name] for name in kept}} for run in ordered]
    values: dict[str, list[Any]] = {name: [run["values"][name] for run in ordered] for name in kept}
    each = [following(result, run["values"]) for run in ordered]
    order = list(dict.fromkeys([*result["metrics"], *names]))
    values |= {name: [table[name] for table in each] for name in each[0] if name in order}
    found = estimates(values, size=result["size"])
    return {**result, "runs": ordered, "metrics": {name: as_stored(found[name]) for name in order if name in found}}


def following(result: Result, values: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """The values, problem by problem, of metrics that follow from those of a run that are kept; empty where none does."""
    n, share = result["n"], values["pass@1"]
    if n is None or None in share:  # numbers of answers that differ, or problems without a right answer
        return {}
    right = np.round(np.array(share, float) * n).astype(int)
    distinct = [None if some is None else float(round(some * n)) for some in values["effective_diversity[ast,correct]"]]
    found: dict[str, list[float | None]] = {"any_of_n": [float(c > 0) for c in right], "distinct_correct[ast]": distinct}
    if result["members"] in {1, n}:  # with one draw from each member the two estimators are one
        for k in KS:
            found[f"pass@{k}"] = [float(f"{v:.10g}") for v in pass_at_k(right, n, k)] if k <= n else [None] * len(right)
    return found


def one_a_group(placed: Iterable[Placed]) -> list[Result]:
    """One result for each group. Raises StoreError as `pooled`."""
    groups: dict[str, list[Placed]] = {}
    for one in placed:
        groups.setdefault(one[1]["group_hash"], []).append(one)
    return [pooled(group) for group in groups.values()]


def pooled(placed: Sequence[Placed]) -> Result:
    """One result for all of one group, whatever their order: one that has the seeds of all, or one that is put together.

    Raises StoreError, with both places and what differs, where a seed has other numbers in one than in another, or two have
    other problems or numbers of answers.
    """
    if len(placed) == 1:
        return placed[0][1]
    ordered = sorted(placed, key=lambda one: _key(one[1]))
    for (before, known), (place, result) in pairwise(ordered):
        if any(known[key] != result[key] for key in _DESIGN):
            raise _contradict(before, place, known, "with other problems or numbers of answers")
    runs = _runs(ordered)
    results = [result for _, result in ordered]
    whole = [one for one in ordered if len(one[1]["runs"]) == len(runs)]
    if whole:
        return {**_fullest(whole), "measured_by": _measurers([result for _, result in whole if result["measured_by"]])}
    names = list(dict.fromkeys(name for result in results for name in result["metrics"]))
    put = with_runs(results[0], runs.values(), names)
    means = _means(results, set(runs))
    metrics = {name: put["metrics"].get(name) or means[name] for name in names if name in put["metrics"] or name in means}
    return {**put, "metrics": metrics, "measured_by": _measurers(results)}


def _seed(run: Run) -> int:
    return int(run["seed"])


def _key(result: Result) -> tuple[list[int], int, str]:
    """What puts results of one group in order, so that what they give does not depend on the order of the arguments."""
    return sorted(map(_seed, result["runs"])), -len(_with_interval(result)), json.dumps(result, sort_keys=True)


def _contradict(one: str, other: str, result: Result, how: str) -> StoreError:
    return StoreError(f"{one} and {other} hold the same {result['sampler']} {how}; give one of them")


def _runs(ordered: Sequence[Placed]) -> dict[int, Run]:
    """Seed -> its run; of copies the one with the most logs. Raises StoreError where copies differ."""
    found: dict[int, tuple[str, Run]] = {}
    for place, result in ordered:
        for run in result["runs"]:
            before, known = found.setdefault(_seed(run), (place, run))
            if not _same(known, run):
                raise _contradict(before, place, result, "with other numbers")
            if len(run["logs"]) > len(known["logs"]):
                found[_seed(run)] = before, run
    return {seed: run for seed, (_, run) in sorted(found.items())}


def _fullest(whole: Sequence[Placed]) -> Result:
    """The result with the most intervals of those that have all seeds. Raises StoreError where their metrics differ."""
    for (before, known), (place, result) in pairwise(whole):
        shared = _with_interval(known) & _with_interval(result)
        if not same_values(*({name: one["metrics"][name] for name in shared} for one in (known, result))):
            raise _contradict(before, place, known, "with other numbers")
    results = [result for _, result in whole]
    return max(results, key=lambda r: (len(_with_interval(r)), *(len(run["logs"]) for run in r["runs"])))


def _with_interval(result: Result) -> set[str]:
    """The metrics of `result` that are not a mean over seeds from several files."""
    return {name for name, found in result["metrics"].items() if found["reason"] != NO_INTERVAL}


def _same(one: Run, other: Run) -> bool:
    """Whether two runs of one seed are the same run; any_of_n is not in the results of older schemas."""
    runs = [{k: v for k, v in run.items() if k not in _OF_THE_PLACE} for run in (one, other)]
    sizes = [{at: {**table, "any_of_n": None} for at, table in run["values_at"].items()} for run in (one, other)]
    return same_values(*runs) and same_values(*sizes)


def _measurers(results: Sequence[Result]) -> str:
    """All who measured, each once, in the order of `results`. Raises StoreError where the line gets too long."""
    names = [name for result in results for name in (result["measured_by"].split("; ") if result["measured_by"] else [UNSAID])]
    said = "; ".join(dict.fromkeys(names)) if set(names) != {UNSAID} else ""
    if len(said) > LONGEST_LINE:
        raise StoreError(
            f"results of {results[0]['sampler']} name {len(set(names))} measurers in {len(said)} characters, and a line has at "
            f"most {LONGEST_LINE}; give results with shorter names"
        )
    return said


def _means(results: Sequence[Result], seeds: set[int]) -> dict[str, Any]:
    """Metrics without an interval: the mean over `seeds`, where it follows from results that have them apart.

    That is so where a result has one seed, and a value for every problem: of several seeds a result does not say which of them
    lack a problem. A mean that was put together in this way before is as good.
    """
    found: dict[str, Any] = {}
    names = dict.fromkeys(name for result in results for name in result["metrics"])
    for name in names:
        missing, left, parts = None, set(seeds), list[float]()
        for result in sorted(results, key=lambda r: len(r["runs"])):
            one, mine = result["metrics"].get(name), set(map(_seed, result["runs"]))
            if one is None or not mine <= left or (len(mine) > 1 and one["reason"] != NO_INTERVAL):
                continue
            if one["value"] is None:
                missing = one
            elif one["problems"] == len(result["problems"]):
                parts.append(one["value"] * len(mine))
            else:
                continue
            left -= mine
        if left or (missing and parts):
            continue
        found[name] = missing or as_stored(
            Estimate(value=math.fsum(parts) / len(seeds), n=len(results[0]["problems"]), reason=NO_INTERVAL)
        )
    return found
