"""Runs as tables of Arrow, each with the types of its columns: runs, samples, problems, metrics, values, divergences."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from spa_bench.errors import UsageError
from spa_bench.publish.export import facts
from spa_bench.publish.export.samples import Samples
from spa_bench.runs.folder import ADDED
from spa_bench.support.text import utf8

# column -> type; the names are those of the columns that `sb.load` gives in Python
_RUN = {"run": "string", "task": "string", "sampler": "string", "model": "string", "seed": "int64"}
_COLUMNS: dict[str, dict[str, str]] = {
    "runs": {
        **_RUN,
        "n": "int64",
        "limit": "int64",
        "members": "int64",
        "task_version": "string",
        "problems_hash": "string",
        "model_hash": "string",
        "finished": "string",
        "seconds": "double",
        "spa_bench": "string",
        "spec": "string",
    },
    "samples": {
        **_RUN,
        "problem": "string",
        "member": "int32",
        "draw": "int32",
        "text": "string",
        "raw": "string",
        "program": "string",
        "verdict": "string",
        "passed": "bool",
        "message": "string",
        "call": "string",
        "suite": "string",
        "mark": "string",
        "finish": "string",
        "failure": "string",
        "tokens": "int64",
        "spent": "int64",
        "draw_seed": "int64",
        "choice": "int32",
        "behaviour": "string",
        "ran": "bool",
        "right_probes": "int32",
        "probes": "int32",
        "quality": "double",
    },
    "problems": {
        "task": "string",
        "problem": "string",
        "prompt": "string",
        "reference": "string",
        "entry_point": "string",
        "tests": "string",
        "tags": "list",
        "choices": "int32",
        "texts_of_choices": "list",
    },
    "metrics": {
        **_RUN,
        "metric": "string",
        "at_n": "int64",
        "value": "double",
        "low": "double",
        "high": "double",
        "n": "int64",
        "reason": "string",
    },
    "values": {**_RUN, "problem": "string", "metric": "string", "at_n": "int64", "value": "double"},
    "options": {
        **_RUN,
        "problem": "string",
        "member": "int32",
        "option": "int32",
        "text": "string",
        "logprob": "double",
        "greedy": "bool",
        "tokens": "int64",
    },
    "divergences": {
        **_RUN,
        "problem": "string",
        "measure": "string",
        "member": "int32",
        "other": "int32",
        "value": "double",
        "tokens": "int64",
    },
}
ABOUT = {
    "runs": "a row for each run: what made it, when, and its whole spec as JSON",
    "samples": "a row for each answer: the text that was judged, what the model wrote (`raw`), the whole program, the verdict",
    "problems": "a row for each problem that was asked",
    "metrics": "a row for each metric of a run, with its 95 % interval; `n` counts problems, `at_n` the answers to a problem",
    "values": "a row for each problem and metric: what paired comparisons need",
    "options": "a row for each option of a multiple-choice problem and member: its log-probability (nats) after its context",
    "divergences": "a row for each problem and pair of members (nats a token; `other` is null for a measure of one member)",
}


def left_out(runs: Sequence[Samples]) -> tuple[str, ...]:
    """What of the runs no table has, in words."""
    return (*facts.not_utf8(runs), *facts.left_out(runs, "suites", "embeddings", "adapters", "noise"))


def tables(runs: Sequence[Samples]) -> dict[str, bytes]:
    """Name of a table -> a Parquet file. Tables without rows are left out; the same runs give the same bytes.

    Raises UsageError without pyarrow, and StoreError for a damaged file of a run.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"Parquet needs pyarrow ({error}): pip install 'spa-bench[data]'") from error
    kinds = {"list": pa.list_(pa.string()), "bool": pa.bool_(), "string": pa.string(), "double": pa.float64()}
    kinds |= {"int32": pa.int32(), "int64": pa.int64()}
    rows = {
        "runs": [_of_run(s) for s in runs],
        "samples": [row for s in runs for row in _samples(s)],
        "problems": _problems(runs),
        "metrics": [row for s in runs for row in _metrics(s)],
        "values": [row for s in runs for row in _values(s)],
        "options": [row for s in runs for row in _options(s)],
        "divergences": [row for s in runs for row in _divergences(s)],
    }
    files = {}
    for name, of_table in rows.items():
        if of_table:
            schema = pa.schema([(column, kinds[kind]) for column, kind in _COLUMNS[name].items()])
            sink = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(of_table, schema=schema), sink, compression="zstd")
            files[name] = sink.getvalue()
    return files


def _named(samples: Samples) -> dict[str, Any]:
    spec = samples.run.spec
    return {
        "run": samples.run.hash,
        "task": samples.task.name,
        "sampler": utf8(str(spec["sampler"]["name"])),
        "model": facts.model_id(samples),
        "seed": int(spec["seed"]),
    }


def _of_run(samples: Samples) -> dict[str, Any]:
    spec, timings = samples.run.spec, samples.run.timings()
    return {
        **_named(samples),
        "n": spec["n"],
        "limit": spec["limit"],
        "members": facts.members(samples),
        "task_version": str(samples.task.version),
        "problems_hash": str(spec["task"].get("problems_hash", "")),
        "model_hash": str(spec["model"].get("hash", "")),
        "finished": facts.finished(samples),
        "seconds": timings.get("seconds"),
        "spa_bench": str(spec.get("versions", {}).get("spa-bench", "")),
        "spec": json.dumps(spec, sort_keys=True),
    }


def _samples(samples: Samples) -> Iterator[dict[str, Any]]:
    named, runs_code, drawn = _named(samples), samples.task.runs_code, facts.drawn(samples)
    behaviours = {b.key: b for b in samples.run.behaviour_log.rows()}
    for record in facts.each_record(samples):
        grade, behaviour = samples.grades.get(record.key), behaviours.get(record.key)
        yield {
            **named,
            "problem": record.problem,
            "member": record.member,
            "draw": record.draw,
            "text": utf8(record.graded),
            "raw": utf8(record.raw),
            "program": utf8(facts.answer(samples, record)) if runs_code and not record.failure else None,
            "verdict": str(grade.verdict) if grade else None,
            "passed": facts.passed(samples, record),
            "message": utf8(grade.message) if grade else None,
            "call": utf8(grade.call) if grade else None,
            "suite": grade.suite if grade else None,
            "mark": grade.mark if grade else None,
            "finish": record.finish if drawn else None,
            "failure": utf8(record.failure),
            "tokens": record.tokens if drawn else None,
            "spent": (record.tokens if record.spent is None else record.spent) if drawn else None,
            "draw_seed": record.seed if drawn else None,
            "choice": record.choice,
            "behaviour": (behaviour.digest or None) if behaviour else None,
            "ran": behaviour.ran if behaviour else None,
            "right_probes": behaviour.right if behaviour else None,
            "probes": behaviour.probes if behaviour else None,
            "quality": grade.quality if grade else None,
        }


def _problems(runs: Sequence[Samples]) -> list[dict[str, Any]]:
    """The problems of all runs; one that several runs asked is there once."""
    rows: dict[str, dict[str, Any]] = {}
    for samples in runs:
        options = facts.options_of(samples)
        for problem, _ in samples.problems:
            row = {
                "task": samples.task.name,
                "problem": problem.id,
                "prompt": utf8(problem.prompt),
                "reference": utf8(problem.reference),
                "entry_point": problem.entry_point,
                "tests": utf8(problem.tests),
                "tags": list(problem.tags),
                "choices": problem.choices,
                "texts_of_choices": options.get(problem.id),
            }
            rows.setdefault(json.dumps(row), row)
    return list(rows.values())


def _metrics(samples: Samples) -> Iterator[dict[str, Any]]:
    named = _named(samples)
    for row in facts.metric_rows(samples):
        found = row.estimate
        yield {
            **named,
            "metric": row.name,
            "at_n": row.at_n,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "n": found.n,
            "reason": found.reason,
        }


def _values(samples: Samples) -> Iterator[dict[str, Any]]:
    named, content = _named(samples), samples.run.read_json("metrics.json")
    if content is None:
        return
    added = samples.run.read_json(ADDED) or {"values": {}}
    sizes = [(int(content["size"]), {**content["values"], **added["values"]})]
    sizes += [(int(at), values) for at, values in content["values_at"].items()]
    for at, values in sizes:
        for metric, column in values.items():
            at_n = facts.at_n(metric, at)
            for problem, value in zip(content["problems"], column, strict=True):
                if value is not None:
                    yield {**named, "problem": problem, "metric": metric, "at_n": at_n, "value": value}


def _options(samples: Samples) -> Iterator[dict[str, Any]]:
    named = _named(samples)
    texts = {one.problem_id: one.texts for one in samples.task.options(None)}
    for row in samples.run.choice_log.rows():
        of_problem = texts.get(row.problem, ())
        for member, logprobs in enumerate(row.logprobs):
            for option, logprob in enumerate(logprobs):
                yield {
                    **named,
                    "problem": row.problem,
                    "member": member,
                    "option": option,
                    "text": utf8(of_problem[option]) if option < len(of_problem) else None,
                    "logprob": logprob,
                    "greedy": row.greedy[member][option],
                    "tokens": row.tokens[option],
                }


def _divergences(samples: Samples) -> Iterator[dict[str, Any]]:
    named = _named(samples)
    for row in samples.run.divergence_log.rows():
        if not row.tokens:
            continue
        of_problem = {**named, "problem": row.problem, "tokens": row.tokens}
        for measure, matrix in row.matrices.items():
            for i, line in enumerate(matrix):
                for j, value in enumerate(line):
                    if i != j:
                        yield {**of_problem, "measure": measure, "member": i, "other": j, "value": value}
        for measure, each in row.members.items():
            for i, value in enumerate(each):
                yield {**of_problem, "measure": measure, "member": i, "other": None, "value": value}
