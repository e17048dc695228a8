"""Results of one sampler that come from several places: one result with the seeds of all, each run where and when it suited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.schema import as_stored
from spa_bench.metrics.pass_at_k import pass_at_k
from spa_bench.metrics.suite import estimates
from spa_bench.metrics.table import KS
from spa_bench.support.rounding import same_values
from spa_bench.types import Estimate

Result = dict[str, Any]
Run = Mapping[str, Any]

_DESIGN = ("n", "k", "members", "design", "size", "problems")
_OF_THE_PLACE = {"run", "cost", "logs", "values_at"}  # of a run: where and when it was, and what older schemas lack
NO_INTERVAL = "seeds from several result files, which do not keep it problem by problem: no interval"
UNSAID = "not said"
"""What stands for a measurer who is not named."""


def with_runs(result: Result, runs: Sequence[Run]) -> Result:
    """`result` with `runs` in place of its own, in the order of their seeds.

    It has the metrics that a result keeps problem by problem, and those that follow from them: values of others are in the run
    folders alone.
    """
    ordered = sorted(runs, key=lambda run: int(run["seed"]))
    names = [name for name in ordered[0]["values"] if all(name in run["values"] for run in ordered)]
    values: dict[str, list[Any]] = {name: [run["values"][name] for run in ordered] for name in names}
    each = [following(result, run["values"]) for run in ordered]
    values |= {name: [table[name] for table in each] for name in each[0] if name in result["metrics"]}
    found = estimates(values, size=result["size"])
    return {**result, "runs": ordered, "metrics": {name: as_stored(found[name]) for name in result["metrics"] if name in found}}


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


def pooled(known: Result, other: Result) -> Result:
    """One result for two of one group: with the seeds of both, or the fuller one where that has all of them.

    Raises ValueError, with what differs, where a seed has other numbers in the one than in the other, or the two have other
    problems or numbers of answers.
    """
    if any(known[key] != other[key] for key in _DESIGN):
        raise ValueError("with other problems or numbers of answers")
    of_known, of_other = ({run["seed"]: run for run in result["runs"]} for result in (known, other))
    if not all(_same(of_known[seed], of_other[seed]) for seed in of_known.keys() & of_other.keys()):
        raise ValueError("with other numbers")
    if of_known.keys() == of_other.keys():
        shared = _with_interval(known) & _with_interval(other)
        if not same_values(*({name: result["metrics"][name] for name in shared} for result in (known, other))):
            raise ValueError("with other numbers")
        fuller = known if len(_with_interval(known)) >= len(_with_interval(other)) else other
        return {**fuller, "measured_by": known["measured_by"] or other["measured_by"]}
    if of_known.keys() > of_other.keys() or of_other.keys() > of_known.keys():
        return known if len(of_known) > len(of_other) else other
    measurers = list(dict.fromkeys(result["measured_by"] for result in (known, other)))
    said = "; ".join(name or UNSAID for name in measurers) if any(measurers) else ""
    whole = with_runs(known, list((of_other | of_known).values()))
    if not of_known.keys() & of_other.keys():
        whole["metrics"] = {**_means(known, other), **whole["metrics"]}
    return {**whole, "measured_by": said}


def _means(known: Result, other: Result) -> dict[str, Any]:
    """Every metric that both have, in their order, without an interval: the mean over their seeds, of all problems.

    A metric that has no value for some problems is left out, for its mean over both is unknown.
    """
    found: dict[str, Any] = {}
    shares = [len(result["runs"]) for result in (known, other)]
    for name, one in known["metrics"].items():
        two = other["metrics"].get(name)
        if two is None:
            continue
        if one["value"] is None and two["value"] is None:
            found[name] = one
        elif one["problems"] == two["problems"] == len(known["problems"]):
            value = (shares[0] * one["value"] + shares[1] * two["value"]) / sum(shares)
            found[name] = as_stored(Estimate(value=value, n=one["problems"], reason=NO_INTERVAL))
    return found


def _with_interval(result: Result) -> set[str]:
    """The metrics of `result` that are not a mean over seeds from several files."""
    return {name for name, found in result["metrics"].items() if found["reason"] != NO_INTERVAL}


def _same(one: Run, other: Run) -> bool:
    """Whether two runs of one seed are the same run; any_of_n is not in the results of older schemas."""
    runs = [{k: v for k, v in run.items() if k not in _OF_THE_PLACE} for run in (one, other)]
    sizes = [{at: {**table, "any_of_n": None} for at, table in run["values_at"].items()} for run in (one, other)]
    return same_values(*runs) and same_values(*sizes)
