"""Runs as logs of Inspect (inspect_ai): a JSON log for each run, which `inspect view` opens and inspect_ai.log reads.

An epoch is a draw: the answers to a problem are epochs 1, 2, ... by member and draw, and `metadata` of a sample has both. The
output is what the model wrote, and a score's answer is what was judged: a text, of a code task the whole program, of multiple
choice the chosen option (after which the output goes on).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spa_bench.publish.export import facts
from spa_bench.publish.export.samples import Content, Samples
from spa_bench.support.files import file_safe
from spa_bench.support.text import utf8
from spa_bench.types import Problem, Record

SCORER = "spa_bench"
_PROVIDERS = {"vllm": "vllm", "openai": "openai-api"}  # engine -> provider of Inspect; of all others hf
UNDATED = "1970-01-01T00:00:00+00:00"
_STOPS = {"stop": "stop", "length": "max_tokens"}
_LACKS = ("divergences", "values", "code", "suites", "options", "embeddings", "adapters", "noise")


def content(runs: Sequence[Samples]) -> Content:
    """logs/DATE_TASK_HASH.json for each run, and README.md. A run that is not graded has no scores there."""
    files = {f"logs/{_name(s)}": (json.dumps(_log(s), indent=1, allow_nan=False) + "\n").encode() for s in runs}
    left_out = (*facts.not_utf8(runs), *facts.left_out(runs, *_LACKS))
    notes = tuple(f"{s.run.path.name} is not graded: its log has no scores" for s in runs if not s.graded)
    readme = f"""# {facts.title(runs)}, as logs of Inspect

    inspect view --log-dir logs

A log holds one run: an epoch is a draw (its member and draw are in the sample's metadata), `C` and `I` are our verdicts, the
explanation has the verdict's kind and message, and the results have our metrics with `low` and `high` in their metadata. The
spec is in the log's metadata. Inspect's own mean and standard error take answers as independent; ours take whole problems.

{facts.run_lines(runs)}
{facts.said_left_out(left_out)}"""
    return Content({**files, "README.md": readme.encode()}, notes, left_out)


def _name(samples: Samples) -> str:
    date = (facts.finished(samples) or UNDATED).replace(":", "-")
    return f"{date}_{file_safe(samples.task.name)}_{samples.run.hash}.json"


def _log(samples: Samples) -> dict[str, Any]:
    spec, date = samples.run.spec, facts.finished(samples) or UNDATED
    decoding, model = facts.decoding(samples), _model(samples)
    options = facts.options_of(samples)
    generation = {key: decoding[key] for key in ("temperature", "top_p", "top_k") if decoding.get(key)}
    if "temperature" in decoding:
        generation["temperature"] = decoding["temperature"]
    drawn, most = facts.drawn(samples), samples.card.get("max_new_tokens")
    if drawn:
        generation |= {"stop_seqs": list(samples.card.get("stop", ())), "seed": spec["seed"]}
        generation |= {"max_tokens": most} if most else {}
    metadata = {"spec_hash": samples.run.hash, "spec": spec}
    return {
        "version": 2,
        "status": "success" if samples.count >= samples.wanted else "cancelled",
        "eval": {
            "eval_id": samples.run.hash,
            "run_id": samples.run.hash,
            "task_id": samples.run.hash,
            "created": date,
            "task": samples.task.name,
            "task_version": samples.task.version,
            "task_args": {"sampler": spec["sampler"]["name"], "members": facts.members(samples), "seed": spec["seed"]},
            "tags": ["spa-bench", str(spec["sampler"]["name"])],
            "dataset": {
                "name": samples.task.name,
                "samples": len(samples.problems),
                "sample_ids": [p.id for p, _ in samples.problems],
                "shuffled": spec["task"].get("shuffle") is not None,
            },
            "model": model,
            "model_generate_config": generation,
            "config": {"epochs": max(len(records) for _, records in samples.problems), "limit": spec["limit"]},
            "packages": {"spa_bench": str(spec.get("versions", {}).get("spa-bench", ""))},
            "scorers": [{"name": SCORER}],
            "metadata": metadata,
        },
        "plan": {"name": "plan", "steps": [{"solver": "spa_bench", "params": {"sampler": spec["sampler"]}}], "config": {}},
        "results": _results(samples),
        "stats": {"started_at": date, "completed_at": date, "model_usage": {}},
        "samples": [
            _sample(samples, problem, record, epoch, options)
            for problem, records in samples.problems
            for epoch, record in enumerate(records, 1)
        ],
    }


def _model(samples: Samples) -> str:
    """The model as Inspect names it: PROVIDER/ORGANISATION/NAME."""
    engine = str(samples.run.spec.get("engines", {}).get("draw", "hf"))
    return f"{_PROVIDERS.get(engine, 'hf')}/{facts.model_id(samples)}"


def _results(samples: Samples) -> dict[str, Any]:
    metrics = {
        row.name: {
            "name": row.name,
            "value": row.estimate.value,
            "metadata": {
                "low": row.estimate.low,
                "high": row.estimate.high,
                "problems": row.estimate.n,
                "at_n": row.at_n,
                "reason": row.estimate.reason,
            },
        }
        for row in facts.measured(samples)
    }
    scores = [{"name": SCORER, "scorer": SCORER, "params": {}, "metrics": metrics, "metadata": {"interval": facts.INTERVAL}}]
    return {"total_samples": samples.wanted, "completed_samples": samples.count, "scores": scores if metrics else []}


def _of_draw(record: Record) -> dict[str, Any]:
    """What is known of an answer that the run drew; its seed of 63 bits is a text, because JavaScript counts to 53."""
    return {"seed": str(record.seed), "tokens": record.tokens, "finish": record.finish}


def _sample(
    samples: Samples, problem: Problem, record: Record, epoch: int, options: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    prompt, text = utf8(problem.prompt), "" if record.failure else utf8(record.raw)
    model = _model(samples)
    message = {"role": "assistant", "content": text, "source": "generate", "model": model}
    output: dict[str, Any] = {
        "model": model,
        "choices": [
            {"message": message, "stop_reason": _STOPS.get(record.finish, "unknown") if facts.drawn(samples) else "unknown"}
        ],
        "completion": text,
    }
    if record.failure:
        output["error"] = utf8(record.failure)
    grade = samples.grades.get(record.key)
    scored = {}
    if grade is not None:
        said = "; ".join(
            utf8(part) for part in (str(grade.verdict), grade.message, grade.call and f"call: {grade.call}") if part
        )
        choice = facts.chosen(record, options)
        judged = utf8(facts.answer(samples, record)) if choice is None else choice
        right = facts.passed(samples, record)
        value = grade.quality if right is None else "C" if right else "I"  # an answer that is neither may have a quality
        scored = {} if value is None else {SCORER: {"value": value, "answer": judged, "explanation": said}}
    return {
        "id": problem.id,
        "epoch": epoch,
        "input": prompt,
        **({"choices": list(options[problem.id])} if problem.id in options else {}),
        "target": utf8(problem.reference),
        "messages": [{"role": "user", "content": prompt, "source": "input"}, message],
        "output": output,
        "scores": scored,
        "metadata": {
            "member": record.member,
            "draw": record.draw,
            **(_of_draw(record) if facts.drawn(samples) else {}),
            **({"choice": record.choice} if record.choice is not None else {}),
            "tags": list(problem.tags),
        },
        "model_usage": {},
    }
