"""Runs in the shared schema Every Eval Ever (0.3.0, arXiv 2606.14516): an aggregate file and a file of samples for each run.

The paths are those of its datastore, data/BENCHMARK/DEVELOPER/MODEL/UUID.json and UUID_samples.jsonl, and the UUID follows from
the run's hash. `python -m every_eval_ever validate FILES`, run in the export's folder, is its own check. A record is of a
model; ours is of a sampler, which is in `generation_config` and in `model_info.additional_details`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from spa_bench.errors import StoreError
from spa_bench.publish.export import facts
from spa_bench.publish.export.facts import MetricRow
from spa_bench.publish.export.samples import Content, Samples, check_judged
from spa_bench.support.files import file_safe
from spa_bench.support.text import utf8
from spa_bench.types import Problem, Record

SCHEMA = "0.3.0"
UNKNOWN = "unknown"
_PASS = re.compile(r"pass@(\d+)")
_OPEN = {"embedded", "smollm2"}
_ENGINES = {"hf": "transformers"}
_LACKS = ("divergences", "values", "code", "suites", "options", "embeddings", "adapters", "noise")
_USAGE = "`token_usage`: a run does not keep the tokens of prompts (those of answers are in `metadata`)"


def content(runs: Sequence[Samples], organisation: str = UNKNOWN) -> Content:
    """data/BENCHMARK/DEVELOPER/MODEL/UUID.json and UUID_samples.jsonl for each run, and README.md.

    Raises StoreError where a run is not graded, and UsageError where answers are neither right nor wrong.
    """
    files: dict[str, bytes] = {}
    for samples in runs:
        check_judged(samples, "every-eval-ever")
        if not samples.graded:
            raise StoreError(samples.run.ungraded())
        place = _place(samples)
        options = facts.options_of(samples)
        rows = [_instance(samples, problem, record, options) for problem, records in samples.problems for record in records]
        lines = facts.json_lines(rows)
        files[f"{place}_samples.jsonl"] = lines
        files[f"{place}.json"] = _json(_aggregate(samples, organisation, f"{place}_samples.jsonl", lines, len(rows)))
    left_out = (*facts.not_utf8(runs), *facts.left_out(runs, *_LACKS), _USAGE)
    notes = tuple(f"{s.run.path.name} has no date: its timestamps are 0" for s in runs if not facts.finished(s))
    if organisation == UNKNOWN:
        notes += ("who measured is 'unknown' there: --organization NAME says it",)
    paths = "\n".join(f"- `{name}`" for name in files)
    readme = f"""# {facts.title(runs)}, in the schema Every Eval Ever {SCHEMA}

{paths}

In this folder, with Python 3.12 or newer and `pip install every-eval-ever`:

    python -m every_eval_ever validate 'data/*/*/*/*.json' 'data/*/*/*/*.jsonl'

An aggregate has a result for each metric, with our interval. A row of samples is one answer with its verdict, and belongs to
the result `pass@1`; the draws of a problem share its `sample_id`, and `metadata` has member and draw.
`evaluator_relationship` is "other", and `source_organization_name` is {organisation!r}.

{facts.run_lines(runs)}
{facts.said_left_out(left_out)}"""
    return Content({**files, "README.md": readme.encode()}, notes, left_out)


def _place(samples: Samples) -> str:
    """The path of a run's files, without their endings."""
    digest = hashlib.sha256(f"every-eval-ever\0{samples.run.hash}".encode()).digest()
    developer, _, model = facts.model_id(samples).partition("/")
    return f"data/{file_safe(samples.task.name)}/{developer}/{model}/{uuid.UUID(bytes=digest[:16], version=4)}"


def _evaluation_id(samples: Samples) -> str:
    return f"{samples.task.name}/{facts.model_id(samples)}/{samples.run.hash}/{_epoch(samples)}"


def _epoch(samples: Samples) -> str:
    """When the run was finished, in seconds since 1970; "0" where that is unknown."""
    date = facts.finished(samples)
    return str(int(datetime.fromisoformat(date).timestamp())) if date else "0"


def _aggregate(samples: Samples, organisation: str, place: str, lines: bytes, rows: int) -> dict[str, Any]:
    spec, date = samples.run.spec, facts.finished(samples)
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(samples),
        **({"evaluation_timestamp": date} if date else {}),
        "retrieved_timestamp": _epoch(samples),
        "source_metadata": {
            "source_name": "spa-bench",
            "source_type": "evaluation_run",
            "source_organization_name": organisation,
            "evaluator_relationship": "other",
            "additional_details": {"spec_hash": samples.run.hash},
        },
        "eval_library": {
            "name": "spa-bench",
            "version": str(spec.get("versions", {}).get("spa-bench") or UNKNOWN),
            "additional_details": {
                "git": str(spec.get("code", {}).get("git") or UNKNOWN),
                "versions": json.dumps(spec.get("versions", {}), sort_keys=True),
                "design": str(samples.run.metrics()["design"]),
            },
        },
        "model_info": _model(samples),
        "evaluation_results": [_result(samples, row) for row in facts.measured(samples)],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": place,
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines).hexdigest(),
            "total_rows": rows,
        },
    }


def _model(samples: Samples) -> dict[str, Any]:
    spec, identity = samples.run.spec, facts.model_id(samples)
    engine = str(spec.get("engines", {}).get("draw", ""))
    deployed = (
        UNKNOWN if not facts.drawn(samples) or not engine else "externally_managed" if engine == "openai" else "self_deployed"
    )
    library = _ENGINES.get(engine, engine)
    return {
        "name": utf8(identity.partition("/")[2]),
        "id": identity,
        "developer": identity.partition("/")[0],
        **(
            {"inference_engine": {"name": library, "version": str(spec.get("versions", {}).get(library, UNKNOWN))}}
            if library
            else {}
        ),
        "additional_details": {
            "deployment_type": deployed,
            "model_availability": "open_weights" if str(spec["model"]["name"]) in _OPEN else UNKNOWN,
            "sampler": str(spec["sampler"]["name"]),
            "members": str(facts.members(samples)),
            **{key: str(spec["model"][key]) for key in ("hash", "revision") if spec["model"].get(key)},
        },
    }


def _result(samples: Samples, row: MetricRow) -> dict[str, Any]:
    spec, found = samples.run.spec, row.estimate
    date = facts.finished(samples)
    details = {
        "problems": str(found.n),
        **({"at_n": str(row.at_n)} if row.at_n else {}),
        **({"reason": found.reason} if found.reason else {}),
    }
    uncertainty: dict[str, Any] = {"num_samples": found.n}
    if found.low is not None and found.high is not None:
        interval = {"lower": found.low, "upper": found.high, "confidence_level": 0.95, "method": facts.INTERVAL}
        uncertainty |= {"confidence_interval": interval, "num_bootstrap_samples": 2000}
    return {
        "evaluation_result_id": row.name,
        "evaluation_name": samples.task.name,
        "source_data": {
            "dataset_name": samples.task.name,
            "source_type": "other",
            "additional_details": {
                "version": str(samples.task.version),
                "problems_hash": str(spec["task"].get("problems_hash", "")),
                "problems": str(len(samples.problems)),
                "problems_of_task": str(spec["task"]["problems_n"]),
            },
        },
        **({"evaluation_timestamp": date} if date else {}),
        "metric_config": _metric(samples, row),
        "score_details": {"score": found.value, "details": details, "uncertainty": uncertainty},
        "generation_config": _generation(samples),
    }


def _metric(samples: Samples, row: MetricRow) -> dict[str, Any]:
    """The metric in the schema's words. Only pass@k of exchangeable draws is the field's; of members it is ours."""
    least, most = row.bounds or (-math.inf, math.inf)
    ks = _PASS.fullmatch(row.name)
    fields = {"metric_id": f"spa-bench.{row.name}", "metric_name": row.name}
    if ks and (facts.members(samples) == 1 or ks[1] == "1"):
        fields |= {"metric_id": "pass_at_k", "metric_kind": "pass_rate"}
    return {
        **fields,
        **({"metric_parameters": {"k": int(ks[1])}} if ks else {}),
        **({"evaluation_description": row.description} if row.description else {}),
        **({"metric_unit": "proportion"} if row.rate else {}),
        "lower_is_better": facts.lower_is_better(row.name),
        "score_type": "continuous",
        "min_score": least if math.isfinite(least) else "-Infinity",
        "max_score": most if math.isfinite(most) else "Infinity",
    }


def _generation(samples: Samples) -> dict[str, Any]:
    spec, decoding, card = samples.run.spec, facts.decoding(samples), samples.card
    drawn = facts.drawn(samples)
    most = card.get("max_new_tokens") if drawn else None
    arguments: dict[str, Any] = {key: decoding[key] for key in ("temperature", "top_p", "top_k") if key in decoding}
    arguments |= {"max_tokens": most} if most else {}
    arguments |= {"sandbox": {"type": str(spec.get("sandbox", UNKNOWN))}} if samples.task.runs_code else {}
    details = {
        "sampler": json.dumps(spec["sampler"], sort_keys=True),
        "n": str(spec["n"]),
        **({"seed": str(spec["seed"]), "stop": json.dumps(card.get("stop", []))} if drawn else {}),
        **{key: str(value) for key, value in decoding.items() if key not in {"temperature", "top_p", "top_k"}},
    }
    return {"generation_args": arguments, "additional_details": details}


def _instance(samples: Samples, problem: Problem, record: Record, options: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    choice = facts.chosen(record, options)
    grade, right = samples.grades[record.key], bool(facts.passed(samples, record))
    prompt, reference = utf8(problem.prompt), [utf8(problem.reference)] if problem.reference else []
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(samples),
        "model_id": facts.model_id(samples),
        "evaluation_name": samples.task.name,
        "evaluation_result_id": "pass@1",
        "sample_id": problem.id,
        "sample_hash": hashlib.sha256((prompt + "".join(reference)).encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {
            "raw": prompt,
            "reference": reference,
            **({"choices": list(options[problem.id])} if problem.id in options else {}),
        },
        "output": {"raw": [utf8(record.raw)]},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": utf8(facts.answer(samples, record)) if choice is None else choice,
                "extraction_method": str(samples.card.get("sanitiser") or "task") if choice is None else "log_probability",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": float(right), "is_correct": right},
        **({"error": utf8(record.failure)} if record.failure else {}),
        "metadata": {
            "member": str(record.member),
            "draw": str(record.draw),
            "verdict": str(grade.verdict),
            **({"message": utf8(grade.message)} if grade.message else {}),
            **(_of_draw(record) if facts.drawn(samples) else {}),
            **({"choice": str(record.choice)} if record.choice is not None else {}),
            **({"tags": ", ".join(problem.tags)} if problem.tags else {}),
        },
    }


def _of_draw(record: Record) -> dict[str, str]:
    """What is known of an answer that the run drew."""
    return {"draw_seed": str(record.seed), "output_tokens": str(record.tokens), "finish": record.finish}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
