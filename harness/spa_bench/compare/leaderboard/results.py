"""A result holds what a leaderboard knows of one sampler on one task over its training seeds, from run folders or a file.

A result file can be sent by pull request: it holds the specs, the hashes of the samples, counts, and the values problem by
problem that paired comparisons need, so that much of it can be recomputed (`check`). Logs are read when a result is
made, so its hashes are those of undamaged files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.coverage import any_of_column
from spa_bench.compare.leaderboard.migrate import OLDEST, SCHEMA, migrated
from spa_bench.compare.leaderboard.pooled import one_a_group
from spa_bench.compare.leaderboard.schema import (
    KEPT,
    KEPT_OF_CHOICES,
    KEPT_OF_OPEN,
    OPEN_KEPT_AT_SIZES,
    as_stored,
    shape_faults,
)
from spa_bench.errors import StoreError
from spa_bench.metrics.suite import ALIASES, estimates
from spa_bench.runs.embeddings import ARRAY
from spa_bench.runs.find import given_files, nothing_in, opened, run_paths
from spa_bench.runs.folder import LOGS, RESULTS, RunFolder, check_place, group_hash, is_run, open_run
from spa_bench.runs.measure import design, own_estimates
from spa_bench.support import provenance
from spa_bench.support.files import file_safe, replace_file
from spa_bench.types import Estimate

Result = dict[str, Any]
OTHER_LOGS = (*(name for name in LOGS if name not in {"records.jsonl", "grades.jsonl"}), ARRAY)
"""Files of samples beside records and grades, whose hashes a result has under `logs`."""


def find_results(paths: Sequence[Path]) -> list[Result]:
    """Results at `paths`: run folders (those that differ in the seed alone become one), result files, or folders of either.

    Folders are searched as runs.find does. A result that is there twice, as a run and as its file or copy, counts once, and
    seeds of one sampler from several places become one (`pooled`). Raises StoreError when there is no result, a run is not
    graded yet, a seed is in two run folders, a file is damaged, or two places hold one seed with other numbers.
    """
    return find_with_runs(paths)[0]


def find_with_runs(paths: Sequence[Path]) -> tuple[list[Result], list[RunFolder]]:
    """(what `find_results` finds, the run folders among it). Raises as that."""
    runs, from_files = _found(paths)
    in_files = {result["group_hash"] for _, result in from_files}
    beside = [run for run in runs if group_hash(run.spec) in in_files]  # each alone as well: that says more of its seed
    facts = {run.hash: LogFacts.of(run) for run in beside}
    made = [*from_runs(runs, facts), *(result for run in beside for result in from_runs([run], facts))]
    places = {run.hash: str(run.path) for run in runs}
    return one_a_group([*((places[result["runs"][0]["spec_hash"]], result) for result in made), *from_files]), runs


def _found(paths: Sequence[Path]) -> tuple[list[RunFolder], list[tuple[str, Result]]]:
    """(run folders, (place, result) of each result in a file) at `paths`."""
    runs: dict[Path, RunFolder] = {}
    from_files: list[tuple[str, Result]] = []
    for path in paths:
        if path.suffix == ".json" and path.is_file():
            from_files += [(str(path), result) for result in read_all(path)]
            continue
        check_place(path, RESULTS)
        if is_run(path):
            runs[path.resolve()] = open_run(path)
        else:
            inside = opened(run_paths(path))
            files = [(str(p), result) for p in given_files(path) for result in read_all(p)]
            if not inside and not files:
                raise StoreError(nothing_in(path))
            runs |= {run.path.resolve(): run for run in inside}
            from_files += files
    return list(runs.values()), from_files


@dataclass(frozen=True)
class LogFacts:
    """What a result needs to know of the logs of a run."""

    records: int
    verdicts: Mapping[str, int]  # verdict -> its grades
    fault: str = ""  # why a log is not whole

    @staticmethod
    def of(run: RunFolder) -> LogFacts:
        """Read from the logs. Raises StoreError, with file and line, unless every line of records and grades is whole."""
        return LogFacts(run.record_log.count_whole(), Counter(str(grade.verdict) for grade in run.grade_log.each_whole()))


def from_runs(runs: Sequence[RunFolder], facts: Mapping[str, LogFacts] | None = None) -> list[Result]:
    """A result for each group of runs that differ in the seed alone. Raises as `find_results`.

    The logs of runs whose hashes are not in `facts` are read.
    """
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(group_hash(run.spec), []).append(run)
    return [_from_group(sorted(group, key=lambda r: int(r.spec["seed"])), facts or {}) for group in groups.values()]


def _from_group(group: Sequence[RunFolder], facts: Mapping[str, LogFacts]) -> Result:
    for one, other in pairwise(group):
        if one.spec["seed"] == other.spec["seed"]:
            sampler = one.spec["sampler"]["name"]
            raise StoreError(f"seed {one.spec['seed']} of {sampler} is there twice: {one.path} and {other.path}")
    contents = [_metrics(run, facts.get(run.hash)) for run in group]
    _check_sizes(group, contents)
    first, spec = contents[0], {k: v for k, v in group[0].spec.items() if k != "seed"}
    every = [name for name in first["values"] if all(name in c["values"] for c in contents)]
    by_name = estimates({name: [c["values"][name] for c in contents] for name in every}, size=first["size"])
    return {
        "schema_version": SCHEMA,
        "measured_by": "",
        "task": spec["task"]["name"],
        "sampler": spec["sampler"]["name"],
        "model": spec["model"]["name"],
        "group_hash": group_hash(spec),
        "spec": spec,
        "n": first["n"],
        "k": first["k"],
        "members": first["members"],
        "design": design(spec),  # of merged members an earlier revision said that their draws are chosen together
        "size": first["size"],
        "problems": first["problems"],
        "runs": [_of_run(run, content) for run, content in zip(group, contents, strict=True)],
        "metrics": {name: as_stored(e) for name, e in by_name.items() if name not in ALIASES} | _own(contents),
    }


def _check_sizes(group: Sequence[RunFolder], contents: Sequence[Mapping[str, Any]]) -> None:
    """Raise StoreError unless all seeds are measured at one number of answers, as pass@K and all that depends on n are."""
    for (one, mine), (other, theirs) in pairwise(zip(group, contents, strict=True)):
        if mine["size"] != theirs["size"]:
            raise StoreError(
                f"{one.path} and {other.path} are seeds of one {one.spec['sampler']['name']} and measured at other numbers of "
                f"answers: {mine['size']} and {theirs['size']}, the fewest to a problem; give one of them, or score as many in "
                "each seed"
            )


def _own(contents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`own[NAME,METRIC]` -> estimate: the library's own scores, mean over members and seeds, where every seed has them."""
    if not all("own_scores" in c for c in contents):
        return {}
    each = [own_estimates(c) for c in contents]
    failed = {f"own[{key}]": why for c in contents for key, why in c["own_scores"].get("failed", {}).items() if "," in key}
    return {name: as_stored(Estimate.missing(why)) for name, why in failed.items()} | {
        name: as_stored(replace(first, value=float(np.mean(np.array([found[name].value for found in each], float)))))
        for name, first in each[0].items()
        if all(name in found for found in each)
    }


def _metrics(run: RunFolder, facts: LogFacts | None) -> dict[str, Any]:
    content = run.metrics()
    _check_logs(run, content, facts or LogFacts.of(run))
    return content


def _check_logs(run: RunFolder, content: Mapping[str, Any], facts: LogFacts) -> None:
    """Raise StoreError unless every line of records and grades is whole and metrics.json counts them."""
    if facts.fault:
        raise StoreError(facts.fault)
    for name, rows in (("records.jsonl", facts.records), ("grades.jsonl", sum(facts.verdicts.values()))):
        if rows != content["counts"]["samples"]:
            raise StoreError(
                f"{run.path / name} has {rows} lines, but metrics.json is of {content['counts']['samples']} samples; "
                "run the same command again"
            )
    if facts.verdicts != content["verdicts"]:
        raise StoreError(f"{run.path / 'grades.jsonl'} has other verdicts than metrics.json; run `spa-bench grade` again")


def _of_run(run: RunFolder, content: Mapping[str, Any]) -> dict[str, Any]:
    judged = run.read_json("judged.json") or {"by": []}
    timings = run.timings()
    return {
        "seed": run.spec["seed"],
        "run": run.path.name,
        "spec_hash": run.hash,
        "records": provenance.hash_if_there(run.path / "records.jsonl"),
        "grades": provenance.hash_if_there(run.path / "grades.jsonl"),
        "logs": {name: provenance.hash_file(run.path / name) for name in OTHER_LOGS if (run.path / name).exists()},
        "counts": content["counts"],
        "verdicts": content["verdicts"],
        "judged": sorted({by["sandbox"] for by in judged["by"]}),
        "cost": {k: timings[k] for k in ("seconds", "stages", "peak_memory_mb", "gpu_seconds", "price") if k in timings},
        "values": {name: content["values"][name] for name in _kept(content) if name in content["values"]},
        "values_at": {
            size: {name: values[name] for name in (*KEPT, *OPEN_KEPT_AT_SIZES) if name in values} | _any_of(content, int(size))
            for size, values in content["values_at"].items()
        },
    }


def _any_of(content: Mapping[str, Any], size: int) -> dict[str, Any]:
    column = any_of_column(content["values"], content["n"], content["members"], size)
    return {"any_of_n": [None] * len(content["problems"]) if column is None else column}


def _kept(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Metrics whose values are kept; every run has `any_of_n[chance]`, which is empty where there are no choices."""
    of_choices = KEPT_OF_CHOICES if "pass@1[mc]" in content["values"] else ()
    return KEPT + of_choices + (KEPT_OF_OPEN if KEPT_OF_OPEN[0] in content["values"] else ())


# files ---------------------------------------------------------------------------------------------------------------


def file_name(result: Result) -> str:
    """The name of a result's file in a folder of results."""
    return file_safe(f"{result['task']}--{result['sampler']}--{result['group_hash'][:8]}.json")


def save(result: Result, folder: Path) -> Path:
    """Write `result` into `folder`; the same result gives the same bytes. Raises StoreError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror}") from error
    path = folder / file_name(result)
    replace_file(path, _framed({k: v for k, v in result.items() if k != "sum"}))
    return path


def save_all(results: Sequence[Result], place: Path) -> list[Path]:
    """Write `results` into the file `place` where its name ends in .json, else a file each into that folder. See `save`.

    Raises StoreError where a folder cannot be made or a file cannot be written, and for a folder whose name ends in .json.
    """
    if place.suffix != ".json":
        return [save(result, place) for result in results]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {place.parent}: {error.strerror}") from error
    if place.is_dir():
        raise StoreError(f"{place} is a folder; a name that ends in .json is one file for all results")
    ordered = sorted(results, key=file_name)  # so that the file does not depend on the order of the arguments
    whole = [{k: v for k, v in result.items() if k != "sum"} for result in ordered]
    replace_file(place, _framed({"schema_version": SCHEMA, "results": whole}))
    return [place]


def read_all(path: Path) -> list[Result]:
    """The results in a file, in a shape that fits every table. Raises StoreError when there is none."""
    results = load_all(path)
    for result in results:
        if faults := shape_faults(result):
            where = f"{path}, {result['sampler']}," if len(results) > 1 and isinstance(result.get("sampler"), str) else path
            raise StoreError(f"{where} is not shaped like a result: {faults[0]}")
    return results


def load_all(path: Path) -> list[Result]:
    """The content of a file of one or more results, in the schema of today.

    Raises StoreError for another file, a damaged one, or a schema of the future.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data, parse_constant=_refuse)
        if not isinstance(content, dict) or type(content.get("schema_version")) is not int or not _framable(content):
            raise StoreError(f"{path} is no result of spa-bench: it has no schema_version and runs")
        if not OLDEST <= content["schema_version"] <= SCHEMA:
            newer = "; upgrade spa-bench" if content["schema_version"] > SCHEMA else ""
            raise StoreError(f"{path} has schema {content['schema_version']}, this spa-bench reads {OLDEST} to {SCHEMA}{newer}")
        body = {k: v for k, v in content.items() if k != "sum"}
        whole = data == _framed(body)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read the result {path}: {error}") from error
    if not whole:
        raise StoreError(
            f"{path} is damaged, or was edited by hand: its checksum does not fit; make it again with "
            "`spa-bench leaderboard --save`"
        )
    return [migrated(result) for result in (_several(path, body) if "results" in body else [body])]


def _several(path: Path, body: Mapping[str, Any]) -> list[Result]:
    """The results of a file of several. Raises StoreError for anything else."""
    results: list[Result] = body["results"]
    if body.keys() != {"schema_version", "results"} or not results:
        raise StoreError(f"{path} is no file of results of spa-bench: it has other keys, or no result")
    for result in results:
        if result.get("schema_version") != body["schema_version"]:
            raise StoreError(f"{path} has a result of schema {result.get('schema_version')}, not {body['schema_version']}")
    return results


def _refuse(constant: str) -> None:
    raise ValueError(f"it has the number {constant}")


def _framable(content: Mapping[str, Any]) -> bool:
    if "results" in content:
        several = content["results"]
        return isinstance(several, list) and all(isinstance(r, dict) and "results" not in r and _framable(r) for r in several)
    return isinstance(content.get("runs"), list) and isinstance(content.get("metrics"), dict)


def _framed(content: Mapping[str, Any]) -> bytes:
    body = json.dumps(content, sort_keys=True)
    checksum = hashlib.blake2b(body.encode(), digest_size=8).hexdigest()
    return (_lines({**content, "sum": checksum}) + "\n").encode()


def _lines(content: Mapping[str, Any]) -> str:
    inside = ",\n".join(f" {json.dumps(key)}: {_value(content, key)}" for key in content)
    return f"{{\n{inside}\n}}"


def _value(content: Mapping[str, Any], key: str) -> str:
    """The JSON of the value of `key`, with a line for each run and metric, so that differences between files can be read."""
    value = content[key]
    if key == "results":
        return "[\n" + ",\n".join(_lines(result) for result in value) + "\n]"
    if key == "runs":
        return "[\n" + ",\n".join(f"  {json.dumps(run)}" for run in value) + "\n ]"
    if key == "metrics":
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
    return json.dumps(value)
