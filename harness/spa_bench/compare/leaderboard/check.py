"""Finds contradictions in results that others send.

It checks hashes of the specs, counts, ranges, nulls, relations between metrics, and the estimates of all metrics that are kept
problem by problem or follow from those. It cannot see whether samples were drawn as the spec says, whether records and grades
have these hashes (the file does not hold them), whether the names of problems are true, or values that are wrong but possible.
Estimates of metrics whose values are not kept are compared only with their ranges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.measurers import line_fault
from spa_bench.compare.leaderboard.pooled import following
from spa_bench.compare.leaderboard.ranges import runs_code, value_faults
from spa_bench.compare.leaderboard.results import OTHER_LOGS, Result, file_name, load_all
from spa_bench.compare.leaderboard.schema import as_stored, shape_faults
from spa_bench.errors import StoreError
from spa_bench.metrics.suite import ALIASES, estimates, known, sizes_up_to, value_bounds
from spa_bench.runs.folder import SCHEMA_VERSION, from_elsewhere, group_hash, problem_count, spec_hash
from spa_bench.runs.measure import design
from spa_bench.runs.partial import is_partial, partial_fault
from spa_bench.sandbox import NOT_NEEDED, SANDBOXES
from spa_bench.sandbox.none import NoSandbox
from spa_bench.types import Verdict

_SAME_AS_VERDICTS = {"timed out": "timeout", "refused": "refused", "crashed": "crashed", "out of memory": "memory"}
_MOST = 1_000_000  # answers a problem: nobody draws more, and pass@k would take all memory
_LOG_HASH = re.compile("[0-9a-f]{32}")


def check(path: Path) -> list[str]:
    """The faults of a result file that somebody sends, a sentence each; empty when it is complete and consistent.

    Shape and checksum come first, then the spec, every run, and the estimates. A later part is checked only when the parts that
    it depends on are in order.
    """
    try:
        results = load_all(path)
    except StoreError as error:
        return [str(error)]
    for result in results:
        if faults := shape_faults(result):
            return [f"{path} is not shaped like a result: {fault}" for fault in faults]
    several = len(results) > 1
    inside = [f"{r['sampler']}: {fault}" if several else fault for r in results for fault in _faults(r)]
    return [*_place_faults(path, results), *inside]


def _place_faults(path: Path, results: Sequence[Result]) -> Iterator[str]:
    """Faults of a file's name and order: several results are named after their task, and a group of runs is there once."""
    tasks = sorted({result["task"] for result in results})
    wanted = [f"{tasks[0]}.json"] if len(tasks) == 1 else []
    if len(results) == 1:
        wanted.append(file_name(results[0]))
    if not wanted:
        yield f"it has results of {', '.join(tasks)}; give each task a file"
    elif path.name not in wanted:
        yield f"it should be called {' or '.join(reversed(wanted))}"
    seen: set[str] = set()
    for result in results:
        if result["group_hash"] in seen:
            yield f"{result['sampler']} {result['group_hash']} is there twice"
        seen.add(result["group_hash"])


def _faults(result: Result) -> list[str]:
    faults = [*_named_faults(result), *_design_faults(result)]
    if not faults:
        for run in result["runs"]:
            faults += [f"seed {run['seed']}: {fault}" for fault in _run_faults(result, run)]
        faults += _twin_faults(result)
    return faults or [*_kept_faults(result), *_other_faults(result)]


def _named_faults(result: Result) -> Iterator[str]:
    """Faults of names, hashes of the spec and the sandbox."""
    spec = result["spec"]
    if spec["schema_version"] != SCHEMA_VERSION:
        yield f"its spec has schema {spec['schema_version']}, not {SCHEMA_VERSION}"
    if result["group_hash"] != group_hash(spec):
        yield f"group_hash is {result['group_hash']}, but its spec gives {group_hash(spec)}"
    if result["measured_by"] and (fault := line_fault(result["measured_by"])):
        yield f"measured_by has {len(result['measured_by'])} characters; {fault}"
    named = {"task": spec["task"]["name"], "sampler": spec["sampler"]["name"], "model": spec["model"]["name"], "n": spec["n"]}
    for key, value in named.items():
        if result[key] != value:
            yield f"{key} is {result[key]!r}, but its spec says {value!r}"
    if fault := _sandbox_fault(spec, spec["sandbox"]):
        yield f"its spec says that it is {fault}"
    seeds = [run["seed"] for run in result["runs"]]
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        yield f"seeds are {seeds}: none may be below 0, and none twice"


def _design_faults(result: Result) -> Iterator[str]:
    """Faults of the numbers of problems, members and draws."""
    spec, problems, n, size = result["spec"], result["problems"], result["n"], result["size"]
    wanted = problem_count(spec)
    if len(problems) != wanted or len(set(problems)) != wanted:
        yield f"{len(set(problems))} different problems of {len(problems)}, but its spec gives {wanted}"
    if is_partial(spec) and (not from_elsewhere(spec) or wanted >= spec["task"]["problems_n"]):
        yield f"its spec says that it covers {wanted} of {spec['task']['problems_n']} problems; only samples from elsewhere can"
    elif fault := partial_fault(spec, problems):
        yield fault
    members = spec["sampler"].get("members", 1)
    if result["members"] != members or members < 1:
        yield f"members is {result['members']}, but its spec says {members}"
        return
    if n is not None and (not 1 <= n <= _MOST or n % members):
        yield f"n is {n}; it must be a multiple of the {members} members, at most {_MOST}"
        return
    if n is None and not from_elsewhere(spec):
        yield "n is null; only samples from elsewhere are not the same number for every problem"
    if size < 1 or (n is not None and size != n):
        yield f"size is {size}, but n is {n}"
    if result["k"] != (members if members > 1 else size):
        yield f"k is {result['k']}; it must be {members if members > 1 else size}, from {members} members and n = {n}"
    if result["design"] != design(spec):
        yield f"design is {result['design']!r}; it must be {design(spec)!r}"
    sizes = {str(s) for s in sizes_up_to(size) if s != size} if size >= 1 else set()
    for run in result["runs"][:1]:  # all runs have the same, as the shape has checked
        if run["values_at"].keys() != sizes:
            yield f"values_at has the sizes {sorted(run['values_at'])}; they must be {sorted(sizes)}"


def _sandbox_fault(spec: Mapping[str, Any], name: str) -> str:
    if name == NOT_NEEDED and not runs_code(spec) and spec["task"].get("kind", "code") != "code":
        return ""
    if name == NoSandbox.name:
        return f"judged without a sandbox ({name})"
    return "" if name in SANDBOXES else f"judged in {name!r}, which is no sandbox of ours"


def _run_faults(result: Result, run: Mapping[str, Any]) -> Iterator[str]:
    """Faults of the counts, hashes and values of one run."""
    wanted = spec_hash({**result["spec"], "seed": run["seed"]})
    if run["spec_hash"] != wanted:
        yield f"spec_hash is {run['spec_hash']}, but its spec gives {wanted}"
    for name in ("records", "grades"):
        if not _LOG_HASH.fullmatch(run[name]):
            yield f"{name} is {run[name]!r}; it must be a hash of 32 hexadecimal digits"
    for name, digest in run["logs"].items():
        if name not in OTHER_LOGS or not _LOG_HASH.fullmatch(digest):
            yield f"logs has {name!r}: {digest!r}; it must be a hash of 32 hexadecimal digits of one of {', '.join(OTHER_LOGS)}"
    if not run["judged"] or len(set(run["judged"])) != len(run["judged"]):
        yield f"judged is {run['judged']}: a sandbox must be named, and none twice"
    yield from filter(None, (_sandbox_fault(result["spec"], name) for name in run["judged"]))
    yield from _cost_faults(run["cost"])
    counted = list(_count_faults(result, run))
    yield from counted or value_faults(result, run)


def _cost_faults(cost: Mapping[str, Any]) -> Iterator[str]:
    flat = {**{k: v for k, v in cost.items() if k != "stages"}, **{f"stages.{k}": v for k, v in cost.get("stages", {}).items()}}
    for name, value in flat.items():
        if value < 0:
            yield f"cost.{name} is {value}; it must be at least 0"


def _count_faults(result: Result, run: Mapping[str, Any]) -> Iterator[str]:
    counts, verdicts = run["counts"], run["verdicts"]
    samples, problems, n = counts["samples"], len(result["problems"]), result["n"]
    if unknown := sorted(verdicts.keys() - {str(v) for v in Verdict}):
        yield f"it has the verdicts {', '.join(unknown)}, which are none of ours"
    for name, count in (*counts.items(), *verdicts.items()):
        if not 0 <= count <= samples:
            yield f"{count} {name} of {samples} samples"
    if n is not None and samples != n * problems:
        yield f"{samples} samples, but n × problems is {n * problems}"
    if n is None and samples < result["size"] * problems:
        yield f"{samples} samples, but at least {result['size']} for each of {problems} problems"
    if sum(verdicts.values()) != samples:
        yield f"{sum(verdicts.values())} verdicts on {samples} samples"
    for name, verdict in _SAME_AS_VERDICTS.items():
        if counts[name] != verdicts.get(verdict, 0):
            yield f"{counts[name]} {name}, but {verdicts.get(verdict, 0)} verdicts say {verdict}"
    if counts["failed"] + verdicts.get("passed", 0) > samples:
        yield f"{counts['failed']} samples without an answer and {verdicts.get('passed', 0)} right ones of {samples}"


def _twin_faults(result: Result) -> Iterator[str]:
    """Seeds with the same logs, which cannot be: every line has a checksum over the spec, which holds the seed."""
    for name in ("records", "grades"):
        first: dict[str, int] = {}
        for run in result["runs"]:
            if run[name] in first:
                yield f"seeds {first[run[name]]} and {run['seed']} have the same hash of {name}: one is a copy"
            first.setdefault(run[name], run["seed"])


# estimates -----------------------------------------------------------------------------------------------------------


def _kept_faults(result: Result) -> Iterator[str]:
    """Estimates that the values do not give."""
    runs = result["runs"]
    values: dict[str, list[Any]] = {name: [run["values"][name] for run in runs] for name in runs[0]["values"]}
    derived = [following(result, run["values"]) for run in runs]
    values |= {name: [table[name] for table in derived] for name in derived[0] if name in result["metrics"]}
    for name, estimate in estimates(values, size=result["size"]).items():
        if name in ALIASES:
            continue
        stored, computed = result["metrics"].get(name), as_stored(estimate)
        if stored is None or any(not close(stored[k], v) for k, v in computed.items()):
            yield f"metrics: {name} is not what its values give ({computed['value']})"


def _other_faults(result: Result) -> Iterator[str]:
    """Estimates that no built-in metric can have. The spec has the number of the user's own metrics, but not their names."""
    metrics, own = result["metrics"], result["spec"].get("metrics", {})
    if len(unknown := [name for name in metrics if not _has(result, name)]) > len(own):
        yield f"metrics: {', '.join(unknown)} are none of ours, and its spec has {len(own)} of the user's own"
    for name, stored in metrics.items():
        yield from (f"metrics: {name} {fault}" for fault in _estimate_faults(result, name, stored))


def _has(result: Result, name: str) -> bool:
    """Whether a result of this design can have a built-in metric of that name."""
    member = re.fullmatch(r"pass@1\[member=(0|[1-9]\d{0,8})\]", name)
    if name.startswith("own["):  # a score of the library behind the task, which chooses the names
        return not runs_code(result["spec"])
    return int(member[1]) < result["members"] > 1 if member else known(name) and name not in ALIASES


def _estimate_faults(result: Result, name: str, stored: Mapping[str, Any]) -> Iterator[str]:
    value, low, high, n = (stored[key] for key in ("value", "low", "high", "problems"))
    if value is None:
        if low is not None or high is not None or n != 0 or not stored["reason"]:
            yield "has no value; it must have a reason, problems = 0 and no interval"
        return
    if not 1 <= n <= len(result["problems"]):
        yield f"is of {n} problems, but there are {len(result['problems'])}"
    if (low is None) != (high is None) or (low is None and not stored["reason"]):
        yield "has half an interval, or none without a reason"
    inside = [value] if low is None or high is None else [low, value, high]
    if any(a > b and not close(float(a), float(b)) for a, b in pairwise(inside)):
        yield f"is {value}, outside its interval from {low} to {high}"
    least, most = value_bounds(name, result["size"]) or (-math.inf, math.inf)
    if name.startswith("vendi"):
        least = 0.0  # where nothing was answered
    slack = 1e-6 * max(1.0, abs(value))
    if min(inside) < least - slack or max(inside) > most + slack:
        yield f"is {value} [{low}, {high}]; it lies between {least} and {most}"


def close(a: object, b: object) -> bool:
    """Whether two values of a result are the same, but for the last digits of numbers."""
    if isinstance(a, float | int) and isinstance(b, float | int):
        return bool(np.isclose(a, b, rtol=1e-6, atol=1e-9))
    return bool(a == b)
