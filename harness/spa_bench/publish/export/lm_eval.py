"""A task of lm-eval (0.4.13) that grades a run's samples: task folder, cache of answers, and its own sample log.

lm-eval has no input for samples, but `--use_cache` answers a request from a database before it calls the model, so
`--model dummy` is enough. Three limits of that cache shape this file. Its key is the prompt and the generation arguments
alone, so `repeats: n` would get one answer n times: the n samples of a problem are one cached value, a list, and `repeats`
is 1. It is not read for `do_sample: true`. Two problems with one prompt would share a value, so they are refused.
lm-eval's own tasks (`humaneval`) cannot be used: they have other prompts and stop strings, and download their metric.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sqlite3
import unicodedata
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from spa_bench.errors import DataError
from spa_bench.publish.export import lm_eval_results
from spa_bench.publish.export.evalplus import base_only, dataset
from spa_bench.publish.export.lm_eval_results import METRICS
from spa_bench.publish.export.samples import Content, Samples, check_programs
from spa_bench.types import Problem, Record, Verdict

TASKS, CACHE = "task", "cache/samples"
LEFT_OUT = (
    "our divergences between members and values problem by problem (--to parquet has them)",
    "the run's decoding: lm-eval reads its cache for greedy requests alone",
)


def content(samples: Samples) -> Content:
    """task/ (YAML, problems, grader), cache/, README.md and, for a graded run, logged/ in the format of --log_samples.

    Raises UsageError where the answers are not programs with tests, and DataError when two problems have the same prompt, and
    when tests are neither code nor data of evalplus.
    """
    check_programs(samples, "lm-eval")
    if dataset(samples) is None and any(problem.suites for problem, _ in samples.problems):
        raise DataError(f"the tests of {samples.task.name} are data that evalplus does not have, so no grader goes with it")
    name = f"spa_bench_{samples.task.name}"
    arguments = {"until": list(samples.card["stop"]), "max_gen_toks": samples.card["max_new_tokens"], "do_sample": False}
    docs = [_doc(samples, problem, records) for problem, records in samples.problems]
    files = {
        f"{TASKS}/{name}.yaml": _yaml(samples, name, arguments).encode(),
        f"{TASKS}/problems.jsonl": "".join(json.dumps(doc) + "\n" for doc in docs).encode(),
        f"{TASKS}/grader.py": Path(__file__).with_name("grader.py").read_bytes(),
        f"{CACHE}_rank0.db": _cache(samples, arguments),
        "README.md": _readme(samples, name).encode(),
    }
    if not samples.graded:
        ungraded = ("the run is not graded: logged/ with our verdicts is left out; see `spa-bench grade`",)
        return Content(files, ungraded, LEFT_OUT)
    rows = [_logged(samples, i, doc, arguments) for i, doc in enumerate(docs)]
    log = f"logged/spa-bench/samples_{name}_{lm_eval_results.date_of(samples)}.jsonl"
    files[log] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files |= lm_eval_results.result_files(samples, under="logged/spa-bench")
    return Content(files, left_out=LEFT_OUT)


def _answer(record: Record) -> str:
    """The text that lm-eval's model would have returned; "" where there is no answer."""
    return "" if record.failure else record.graded


def _doc(samples: Samples, problem: Problem, records: tuple[Record, ...]) -> dict[str, Any]:
    """A row of problems.jsonl; all rows have the same keys in the same order."""
    of_evalplus = bool(problem.suites)
    return {
        "task_id": problem.id,
        "prompt": problem.prompt,
        "entry_point": unicodedata.normalize("NFKC", problem.entry_point),  # as Python reads names
        "tests": problem.tests,
        "reference": "" if of_evalplus else problem.prompt + problem.reference,  # a program; tests may use names of it
        "seconds": float(samples.card["seconds"]),
        "memory_mb": samples.card["memory_mb"],
        "evalplus": (dataset(samples) or "") if of_evalplus else "",  # the data set of evalplus that has the tests
        "suites": [s.name for s in problem.suites],
        "members": [r.member for r in records],
        "draws": [r.draw for r in records],
        "whole": [r.whole for r in records],  # the answer is a program, not a continuation of the prompt
    }


def _yaml(samples: Samples, name: str, arguments: Mapping[str, Any]) -> str:
    """The task's YAML. JSON values are valid YAML; only the !function lines are not JSON."""
    aggregations = dict.fromkeys(METRICS, "mean") | {"passed": "!function grader.share"}
    metrics = "".join(
        f"  - metric: {json.dumps(metric)}\n    aggregation: {how}\n    higher_is_better: true\n"
        for metric, how in aggregations.items()
    )
    generation = "".join(f"  {key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in arguments.items())
    return (
        f"task: {json.dumps(name)}\n"
        "custom_dataset: !function grader.problems\n"
        "test_split: test\n"
        "output_type: generate_until\n"
        "unsafe_code: true\n"
        "doc_to_text: prompt\n"
        "doc_to_target: tests\n"
        "process_results: !function grader.score\n"
        f"generation_kwargs:\n{generation}"
        "repeats: 1\n"
        "num_fewshot: 0\n"
        f"metric_list:\n{metrics}"
        f"metadata:\n  version: {json.dumps(samples.task.version)}\n"
    )


def request_hash(prompt: str, arguments: Mapping[str, Any]) -> str:
    """The key of a generate_until request in lm-eval's cache (lm_eval.api.model.hash_args)."""
    return hashlib.sha256(json.dumps(["generate_until", prompt, dict(arguments)]).encode()).hexdigest()


def _cache(samples: Samples, arguments: Mapping[str, Any]) -> bytes:
    """The SQLite database that CachingLM reads through sqlitedict: hash of the request -> pickled list of answers."""
    rows: dict[str, bytes] = {}
    owners: dict[str, str] = {}
    for problem, records in samples.problems:
        key = request_hash(problem.prompt, arguments)
        if key in owners:
            raise DataError(
                f"{owners[key]} and {problem.id} have the same prompt, and lm-eval's cache cannot tell them apart; "
                "use --to evalplus"
            )
        owners[key] = problem.id
        # pickle writes a repeated object as a reference, so equal texts must either always or never be the same object
        same: dict[str, str] = {}
        rows[key] = pickle.dumps([same.setdefault(t, t) for t in map(_answer, records)], protocol=4)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE "unnamed" (key TEXT PRIMARY KEY, value BLOB)')
        connection.executemany('INSERT INTO "unnamed" VALUES (?, ?)', rows.items())
        connection.commit()
        return connection.serialize()


def _logged(samples: Samples, index: int, doc: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A row in the format of `lm_eval --log_samples`, with our verdicts."""
    _, records = samples.problems[index]
    passed = [int(samples.grades[r.key].verdict == Verdict.PASSED) for r in records]
    answers = [_answer(r) for r in records]
    return lm_eval_results.logged(
        index, doc, target=doc["tests"], arguments=arguments, answers=([[answers]], [answers], passed)
    )


def _readme(samples: Samples, name: str) -> str:
    tests = "the tests in `problems.jsonl`, in a process for each, with limits of time and memory"
    if name_of_set := dataset(samples) if samples.problems[0][0].suites else None:
        tests = (
            f"evalplus' own functions and data ({'base tests' if base_only(samples) else 'base and plus tests'}): it must be "
            f"installed, and `{name_of_set.upper()}_OVERRIDE_PATH` names its data without internet"
        )
    size = f"{samples.count} samples of {len(samples.problems)} problems"
    return f"""# {samples.task.name} {samples.task.version}: {size}, for lm-eval

In this folder, with lm-eval 0.4.13:

    HF_HUB_OFFLINE=1 HF_ALLOW_CODE_EVAL=1 lm_eval run --model dummy --include_path {TASKS} --tasks {name} \\
      --use_cache {CACHE} --confirm_run_unsafe_code --output_path results --log_samples

`--use_cache` is where the samples are; the model is never asked (offline, because lm-eval would fetch the tokenizer that
its dummy model names). The other two permissions are needed because **programs of a model are executed without a sandbox**:
by {tests}.
Use a machine that you can lose, or `spa-bench grade`.

- `pass@1`: share of a problem's samples that pass, averaged over problems. `any`: share of problems with a sample that
  passes. `passed`: share of all samples; in the sample log a 0 or 1 for each, in the order of the row's `members` and `draws`.
- `repeats` is 1 and the n samples of a problem are one cached answer (a list): lm-eval's cache gives equal requests equal
  answers. Its standard error is over problems. There is no pass@k for other k: members are not exchangeable.
- `--gen_kwargs`, `--apply_chat_template`, `--system_instruction` and `--num_fewshot` change the requests, and the cache
  is then not found: the grader stops with an error instead of grading the dummy model.
- A sample without an answer is an empty text and does not pass.
- `logged/`, where it is there, has the same rows as `--log_samples` writes, with spa-bench's verdicts, and `results_*.json`
  with our metrics in lm-eval's shape (as `--to lm-eval-results` writes them, for any task).

Left out, because lm-eval has no place for it: {"; ".join(LEFT_OUT)}.
"""
