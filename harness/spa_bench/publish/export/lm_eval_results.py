"""Runs in the shape of lm-eval's output (0.4.13): results_DATE.json and samples_TASK_DATE.jsonl, in a folder for each model.

This is what `lm_eval --output_path --log_samples` would leave, so that readers of lm-eval's results (tables, dashboards,
converters) take our numbers as they are. It is a format of its own beside `lm-eval`, which makes lm-eval grade the answers
again: results exist for every task, such a task for programs alone. Where lm-eval itself scored a run (tasks of lm-eval), each
member has a file of those scores too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from spa_bench.errors import StoreError
from spa_bench.publish.export import facts
from spa_bench.publish.export.samples import Content, Samples, check_judged
from spa_bench.support.files import file_safe
from spa_bench.types import Problem, Record

UNDATED = "1970-01-01T00-00-00.000000"
METRICS = ("pass@1", "any", "passed")
_LACKS = ("divergences", "values", "code", "suites", "options", "embeddings", "adapters", "noise")


def content(runs: Sequence[Samples]) -> Content:
    """MODEL/results_DATE.json and MODEL/samples_TASK_DATE.jsonl for each run, MODEL-member-K/ for lm-eval's own scores.

    Raises StoreError where a run is not graded, and UsageError where answers are neither right nor wrong.
    """
    files: dict[str, bytes] = {}
    for samples in runs:
        check_judged(samples, "lm-eval-results")
        if not samples.graded:
            raise StoreError(samples.run.ungraded())
        files |= result_files(samples)
        folder, date = folder_name(samples), date_of(samples)
        files[f"{folder}/samples_{samples.task.name}_{date}.jsonl"] = _lines(
            [_row(samples, i) for i in range(len(samples.problems))]
        )
    left_out = facts.left_out(runs, *_LACKS)
    readme = f"""# {facts.title(runs)}, as lm-eval's results

Each folder is what lm-eval 0.4.13 leaves for one model: `results_DATE.json` and, for the sampler as a whole,
`samples_TASK_DATE.jsonl`, whose rows have the n answers to a problem in `resps`. `spa-bench score --samples` reads them too.

- Keys of `results` are `METRIC,none`; a comma within a metric's name is a semicolon there (`vendi[ngram;q=1],none`).
- Standard errors are "N/A": our intervals are not symmetric. They are under `spa_bench`, in `intervals`, beside the spec.
- `...-member-K/` has lm-eval's own scores of one member, where the task is lm-eval's.
- `pass@1`, `any` and `passed` of a row: share of its answers that pass, whether any does, and a 0 or 1 for each.

{facts.run_lines(runs)}
{facts.said_left_out(left_out)}"""
    return Content({**files, "README.md": readme.encode()}, left_out=left_out)


def result_files(samples: Samples, *, under: str = "") -> dict[str, bytes]:
    """results_DATE.json of a graded run, and one for each member that lm-eval scored; paths begin with `under`."""
    folder, date = under or folder_name(samples), date_of(samples)
    rows = {row.name: row for row in facts.measured(samples) if not row.name.startswith("own[")}
    name, length = samples.task.name, len(samples.problems)
    table: dict[str, Any] = {"alias": name, "sample_len": length}
    for metric, row in rows.items():
        table |= {f"{_key(metric)},none": row.estimate.value, f"{_key(metric)}_stderr,none": "N/A"}
    ours = _results(samples, {name: table}) | {
        "higher_is_better": {name: {_key(metric): not facts.lower_is_better(metric) for metric in rows}}
    }
    files = {f"{folder}/results_{date}.json": _json(ours)}
    metrics = samples.run.metrics()
    for member, scores in enumerate(metrics.get("own_scores", {}).get("members", ())):
        own = _results(samples, {task: {"alias": task, **values} for task, values in scores.items()})
        own["lm_eval_version"] = str(metrics["own_scores"]["harness"]).removeprefix("lm-eval ")
        own["spa_bench"]["member"] = member
        files[f"{folder}-member-{member}/results_{date}.json"] = _json(own)
    return files


def folder_name(samples: Samples) -> str:
    """The name of a run's folder: model, sampler, seed and the beginning of the run's hash."""
    model = facts.model_id(samples).replace("/", "__")
    sampler, seed = samples.run.spec["sampler"]["name"], samples.run.spec["seed"]
    return file_safe(f"{model}__{sampler}-s{seed}-{samples.run.hash[:8]}")


def date_of(samples: Samples) -> str:
    """The date of the run in the form of lm-eval's file names; a fixed day where the date is unknown."""
    said = facts.finished(samples)
    return said[:19].replace(":", "-") + ".000000" if said else UNDATED


def logged(
    index: int, doc: Mapping[str, Any], *, target: str, arguments: Mapping[str, Any], answers: Answers
) -> dict[str, Any]:
    """A row in the format of `lm_eval --log_samples`, with our verdicts."""
    resps, filtered, passed = answers
    return {
        "doc_id": index,
        "doc": dict(doc),
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": doc["prompt"], "arg_1": dict(arguments)}},
        "resps": resps,
        "filtered_resps": filtered,
        "filter": "none",
        "metrics": list(METRICS),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(doc["prompt"]),
        "target_hash": _hash(target),
        "pass@1": sum(passed) / len(passed),
        "any": float(any(passed)),
        "passed": list(passed),
    }


Answers = tuple[list[Any], list[Any], Sequence[int]]
"""Of one problem's samples: texts and texts after filters, as lm-eval nests them, and 1 for each that passed, else 0."""


def _row(samples: Samples, index: int) -> dict[str, Any]:
    problem, records = samples.problems[index]
    target = problem.tests or problem.reference
    raw = ["" if r.failure else r.raw for r in records]
    judged = [_filtered(samples, r) for r in records]
    answers = ([raw], [judged], [int(bool(facts.passed(samples, r))) for r in records])
    return logged(index, _doc(samples, problem, records), target=target, arguments=_arguments(samples), answers=answers)


def _filtered(samples: Samples, record: Record) -> str:
    """What was judged: the prompt and the program that continues it, or the answer."""
    return facts.answer(samples, record) if samples.task.runs_code else ("" if record.failure else record.graded)


def _doc(samples: Samples, problem: Problem, records: Sequence[Record]) -> dict[str, Any]:
    return {
        "task_id": problem.id,
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "reference": problem.reference,
        "tags": list(problem.tags),
        "members": [r.member for r in records],
        "draws": [r.draw for r in records],
        "verdicts": [str(samples.grades[r.key].verdict) for r in records],
        **({"chosen": [r.choice for r in records]} if any(r.choice is not None for r in records) else {}),
    }


def _arguments(samples: Samples) -> dict[str, Any]:
    """The generation arguments in lm-eval's words; none of samples from elsewhere."""
    if not facts.drawn(samples):
        return {}
    decoding, card = facts.decoding(samples), samples.card
    said = {
        "until": list(card.get("stop", ())),
        "max_gen_toks": card.get("max_new_tokens"),
        "do_sample": float(decoding.get("temperature", 0.0)) > 0,
    }
    return {**said, **decoding}


def _results(samples: Samples, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What results_DATE.json says of a run, with these tables of scores."""
    spec, date = samples.run.spec, facts.finished(samples)
    shots = {name: _shots(samples, name) for name in tables}
    asked = "multiple_choice" if any(r.choice is not None for r in facts.each_record(samples)) else "generate_until"
    model = facts.model_id(samples)
    sampler = {"sampler": spec["sampler"]["name"], "members": facts.members(samples), "n": spec["n"], "seed": spec["seed"]}
    intervals = {
        row.name: {"low": e.low, "high": e.high, "problems": e.n, "at_n": row.at_n, "reason": e.reason}
        for row in facts.measured(samples)
        for e in (row.estimate,)
    }
    return {
        "results": {name: dict(table) for name, table in tables.items()},
        "group_subtasks": {name: [] for name in tables},
        "configs": {
            name: {
                "task": name,
                "output_type": asked,
                "generation_kwargs": _arguments(samples),
                "repeats": spec["n"],
                "num_fewshot": shots[name],
                "metadata": {"version": samples.task.version},
            }
            for name in tables
        },
        "versions": dict.fromkeys(tables, samples.task.version),
        "n-shot": shots,
        "n-samples": _counts(samples, tables),
        "config": {
            "model": "spa-bench",
            "model_args": {"pretrained": model, **sampler},
            "model_dtype": spec.get("numerics", {}).get("dtype"),
            "model_revision": spec["model"].get("revision"),
            "model_sha": samples.run.timings().get("model_commit"),
            "device": spec.get("numerics", {}).get("device"),
            "limit": spec["limit"],
            "bootstrap_iters": 2000,
            "gen_kwargs": _arguments(samples),
            "random_seed": spec["seed"],
        },
        "git_hash": spec.get("code", {}).get("git"),
        "date": datetime.fromisoformat(date).timestamp() if date else 0.0,
        "transformers_version": spec.get("versions", {}).get("transformers"),
        "lm_eval_version": None,
        "model_source": "spa-bench",
        "model_name": model,
        "model_name_sanitized": model.replace("/", "__"),
        "total_evaluation_time_seconds": str(samples.run.timings().get("seconds", "")),
        "spa_bench": {
            "version": spec.get("versions", {}).get("spa-bench"),
            "spec_hash": samples.run.hash,
            "interval": facts.INTERVAL,
            "intervals": intervals,
            "spec": spec,
        },
    }


def _shots(samples: Samples, name: str) -> int:
    """How many examples a prompt of `name` begins with: a task of lm-eval, or several of them that agree; else 0."""
    scoring: Mapping[str, Mapping[str, Any]] = samples.run.spec["task"].get("scoring", {})
    each = {int(one["examples"] or 0) for one in ([scoring[name]] if name in scoring else scoring.values())}
    return each.pop() if len(each) == 1 else 0


def _counts(samples: Samples, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many problems each of `tables` has, and how many of them were scored; groups of lm-eval's tasks have no entry."""
    whole = {"original": int(samples.run.spec["task"]["problems_n"]), "effective": len(samples.problems)}
    of = Counter(tag for problem in samples.task.problems for tag in problem.tags)
    scored = Counter(tag for problem, _ in samples.problems for tag in problem.tags)
    tasks = samples.run.spec["task"].get("scoring", {})
    ours = {name: {"original": of[name], "effective": scored[name]} for name in tables if name in tasks}
    return {name: whole for name in tables if name == samples.task.name} | ours


def _key(metric: str) -> str:
    """A metric's name in lm-eval's keys, which are METRIC,FILTER."""
    return metric.replace(",", ";")


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
