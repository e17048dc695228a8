"""Grades answers for lm-eval: `problems` and `score` of the task beside this file. It does not need spa-bench.

Each program runs in a process of its own, with limits on CPU, memory and time; a program that ends early does not pass. That
is no sandbox: a program has the rights, the files and the network of the user, and a program that is written to cheat can.
So nothing runs unless HF_ALLOW_CODE_EVAL=1 is set. evalplus runs its own tests, and is no sandbox either.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_ALLOWED = "HF_ALLOW_CODE_EVAL"
_PATIENCE = 5.0  # seconds by the clock that a child may have to wait for a core
# The child process: it reads a job, limits its CPU and memory, keeps the channel to us, and sends the word when tests pass.
_CHILD = """
import json, os, resource, sys, types
job = json.loads(sys.stdin.buffer.read())
for kind, limit in ((resource.RLIMIT_CPU, job["cpu"]), (resource.RLIMIT_AS, job["memory"]), (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(kind, (limit, limit))
channel, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
word, write = job.pop("word").encode(), os.write
tests = {"__name__": "__tests__"}
try:
    exec(compile(job["reference"], "<reference>", "exec", dont_inherit=True), tests)
except BaseException:
    tests = {"__name__": "__tests__"}
module = types.ModuleType("program")
sys.modules["program"] = module
exec(compile(job["program"], "<program>", "exec", dont_inherit=True), vars(module))
candidate = tests[job["entry_point"]] = getattr(module, job["entry_point"])
exec(compile(job["tests"], "<tests>", "exec", dont_inherit=True), tests)
tests["check"](candidate)
write(channel, word)
os._exit(0)
"""


def problems(**_: Any) -> dict[str, Any]:
    """The rows of problems.jsonl as the split `test`. lm-eval passes the task's metadata, which has no effect here."""
    from datasets import Dataset

    with Path(__file__).with_name("problems.jsonl").open(encoding="utf-8") as stream:
        return {"test": Dataset.from_list([json.loads(line) for line in stream])}


def score(doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """`pass@1`, `any` and `passed` (0 or 1 for each answer) of one problem; `results` is [its answers].

    Raises RuntimeError when the answers do not come from the cache, and where running programs is not allowed.
    """
    [answers] = results
    if not isinstance(answers, list) or len(answers) != len(doc["members"]):
        raise RuntimeError(
            f"{doc['task_id']}: the answer is not from the cache; call lm_eval as README.md says, with --use_cache "
            "and without options that change prompts or generation"
        )
    if os.environ.get(_ALLOWED) != "1":
        raise RuntimeError(f"grading runs programs that a model wrote, without a sandbox; set {_ALLOWED}=1 to allow it")
    programs = [
        (answer if whole else doc["prompt"] + answer) if answer.strip() else ""
        for answer, whole in zip(answers, doc["whole"], strict=True)
    ]
    different = [program for program in dict.fromkeys(programs) if program]
    verdicts = {"": False, **dict(zip(different, _verdicts(doc, different), strict=True))}
    passed = [int(verdicts[program]) for program in programs]
    return {"pass@1": sum(passed) / len(passed), "any": float(any(passed)), "passed": passed}


def share(passed: Iterable[Sequence[int]]) -> float:
    """The share of all samples that pass; it aggregates `passed`."""
    flat = [value for values in passed for value in values]
    return sum(flat) / len(flat)


def _verdicts(doc: dict[str, Any], programs: Sequence[str]) -> list[bool]:
    if doc["suites"]:
        return [_passes_evalplus(doc, program) for program in programs]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda program: passes(doc, program), programs))


def passes(doc: dict[str, Any], program: str) -> bool:
    """Whether `program` passes the tests of `doc` in a process of its own."""
    word = secrets.token_hex(16)
    job = {key: doc[key] for key in ("reference", "tests", "entry_point")}
    limits = {"cpu": math.ceil(doc["seconds"]), "memory": doc["memory_mb"] << 20}
    command = [sys.executable, "-I", "-c", _CHILD]
    with tempfile.TemporaryDirectory(prefix="grader-") as folder:
        environment = {"PATH": os.defpath, "HOME": folder, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, env=environment,
            start_new_session=True,
        ) as child:  # fmt: skip
            try:
                text = json.dumps({**job, **limits, "program": program, "word": word}).encode()
                out, _ = child.communicate(text, timeout=4 * doc["seconds"] + _PATIENCE)
            except subprocess.TimeoutExpired:
                out = b""
            finally:  # end the processes that the program started, too
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
    return out == word.encode()


def _passes_evalplus(doc: dict[str, Any], program: str) -> bool:
    """Whether `program` passes the suites of `doc` by evalplus' own check, with expected outputs of evalplus' own solution."""
    from evalplus.evaluate import MBPP_OUTPUT_NOT_NONE_TASKS, check_correctness
    from evalplus.gen.util import trusted_exec

    problem = _evalplus_problem(doc)
    solution = problem["prompt"] + problem["canonical_solution"]
    not_none = doc["evalplus"] == "mbpp" and doc["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS
    expected = {}
    for suite in ("base", "plus"):
        inputs = problem[f"{suite}_input"]
        outputs = trusted_exec(solution, inputs, doc["entry_point"], record_time=True, output_not_none=not_none)
        expected[suite], expected[f"{suite}_time"] = outputs
    verdicts = check_correctness(doc["evalplus"], 0, problem, program, expected, base_only="plus" not in doc["suites"])
    return all(verdicts[suite][0] == "pass" for suite in doc["suites"])


_EVALPLUS: dict[str, dict[str, Any]] = {}  # evalplus' problems, read once


def _evalplus_problem(doc: dict[str, Any]) -> dict[str, Any]:
    name = doc["evalplus"]
    if name not in _EVALPLUS:
        from evalplus.data import get_human_eval_plus, get_mbpp_plus

        _EVALPLUS[name] = {"humaneval": get_human_eval_plus, "mbpp": get_mbpp_plus}[name]()
    problem: dict[str, Any] = _EVALPLUS[name].get(doc["task_id"], {})
    if problem.get("prompt") != doc["prompt"]:
        raise RuntimeError(
            f"evalplus' data here has not the problem {doc['task_id']} that was sampled; use the version of the run"
        )
    return problem
