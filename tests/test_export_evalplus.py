"""evalplus itself on exported samples: it takes the file, and its verdict on each sample is ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doubles import Lines
from export_runs import command_of, follow, record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.publish.export import export
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import read_samples
from spa_bench.runs.job import load_task
from spa_bench.tasks.base import Task
from spa_bench.tasks.code import CodeTask
from spa_bench.types import Key, Record

PROBLEMS = [
    ("HumanEval/0", "plus_one", "x", "    return x + 1\n", [[1], [2]], [[3], [-1]]),
    ("HumanEval/1", "halves", "xs", "    return [x / 2 for x in xs]\n", [[[1.0]]], [[[]], [[3.0, 4.0]]]),
]
ANSWERS = {  # right; wrong in base; wrong in plus; raises; leaves early; says nothing
    "HumanEval/0": ["    return x + 1", "    return x", "    return x + (x < 3)", "    return y", "    exit(0)", ""],
    "HumanEval/1": ["    return [x / 2 for x in xs]", "    return xs", "    return [xs[0] / 2]", "    1 +", "    quit()", ""],
}
# evalplus.evaluate as a function: its command waits 20 s for a thread of its own that sleeps
EVALUATE = """
import os, sys
from evalplus.evaluate import evaluate
evaluate("humaneval", sys.argv[1], parallel=1)
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CodeTask:
    """HumanEval+ with two problems of our own, for us and for evalplus."""
    pytest.importorskip("evalplus")
    lines = []
    for task_id, name, arguments, solution, base, plus in PROBLEMS:
        row = {
            "task_id": task_id,
            "prompt": f'def {name}({arguments}):\n    """What {name} says."""\n',
            "entry_point": name,
            "canonical_solution": solution,
            "base_input": base,
            "plus_input": plus,
            "contract": "",
            "atol": 0,
            "test": "",
        }
        lines.append(json.dumps(row) + "\n")
    (tmp_path / "small.jsonl").write_text("".join(lines))
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(tmp_path / "small.jsonl"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))  # evalplus' own cache
    task = load_task(load_task_card("humaneval-plus", {"sha256": ""}))
    assert isinstance(task, CodeTask)
    return task


def graded(tmp_path: Path, task: Task, records: list[Record], sandbox: str) -> RunFolder:
    n = len(records) // len(task.problems)
    run = stored(tmp_path / "runs", task, records, n=n, sandbox=sandbox, grading="evalplus")
    grade(run, task, Lines(), sandbox=None, workers=2)  # type: ignore[arg-type]
    return run


def theirs(results: Path, run: RunFolder) -> dict[Key, tuple[bool, bool]]:
    """(base, plus) of each sample: evalplus' n-th of a problem is our n-th by member and draw."""
    found = json.loads(results.read_text())["eval"]
    verdicts = {}
    for problem, rows in found.items():
        keys = sorted(key for key in run.records() if key.problem == problem)
        for key, row in zip(keys, rows, strict=True):
            verdicts[key] = (row["base_status"] == "pass", row["base_status"] == row["plus_status"] == "pass")
    return verdicts


def ours(run: RunFolder) -> dict[Key, tuple[bool, bool]]:
    return {k: (g.verdict == "passed" or g.suite == "plus", g.verdict == "passed") for k, g in run.grades().items()}


def test_evalplus_says_of_each_sample_what_we_say(small: CodeTask, bwrap: str, tmp_path: Path):
    records = [
        record(problem, i % 2, i // 2, text, failure="no answer" if i == 5 else "")
        for problem, texts in ANSWERS.items()
        for i, text in enumerate(texts)
    ]
    run = graded(tmp_path, small, records, bwrap)
    notes = export(run, small, to="evalplus", out=tmp_path / "out")
    assert notes[:-1] == ("2 of 12 samples have no answer; they are exported as empty ones, so that counts stay right",)
    assert notes[-1].startswith("left out: ")
    command = [sys.executable, "-c", EVALUATE, str(tmp_path / "out" / "samples.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = theirs(tmp_path / "out" / "samples_eval_results.json", run)
    assert found == ours(run)
    assert sorted(found.values()) == [(False, False)] * 8 + [(True, False)] * 2 + [(True, True)] * 2


def test_a_run_with_a_limit_is_told_that_evalplus_will_refuse_it_and_it_does(small: CodeTask, tmp_path: Path):
    run = stored(tmp_path / "runs", small, [record("HumanEval/0", 0, 0, "    return x + 1")], n=1, limit=1)
    note, _ = export(run, small, to="evalplus", out=tmp_path / "out")
    assert note.startswith(
        "evalplus.evaluate needs samples of all 2 problems and 1 have none here: it will refuse samples.jsonl"
    )
    assert note in (tmp_path / "out" / "README.md").read_text()
    command = [sys.executable, "-c", EVALUATE, str(tmp_path / "out" / "samples.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert "Missing problems in samples" in done.stderr


@pytest.mark.parametrize(
    ("name", "suites", "arguments"),
    [
        ("humaneval-plus", [], "--dataset humaneval --samples samples.jsonl"),
        ("humaneval-plus", ["base"], "--dataset humaneval --samples samples.jsonl --base-only"),
        ("mbpp-plus", [], "--dataset mbpp --samples samples.jsonl"),
        ("humaneval", [], "--dataset humaneval --samples samples.jsonl --base-only"),
    ],
)
def test_the_command_names_data_set_and_tests(
    name: str, suites: list[str], arguments: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    task = load_task(load_task_card(name, {"suites": suites}))
    run = stored(tmp_path / "runs", task, [record(p.id, 0, 0, p.reference) for p in task.problems], n=1)
    [left_out] = export(run, task, to="evalplus", out=tmp_path / "out")
    assert left_out.startswith("left out: ")
    assert command_of(tmp_path / "out" / "README.md") == f"evalplus.evaluate {arguments}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "differing"),
    [
        ("humaneval-plus", set()),
        ("humaneval", {Key("HumanEval/32", 0, 0)}),  # which nothing passes in evalplus 0.3.1: OpenAI's tests pass it
    ],
)
def test_the_command_of_the_readme_agrees_with_us_on_all_of_humaneval(
    name: str, differing: set[Key], data: Path, bwrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Canonical solutions, a model's answers (part of them wrong), programs that do nothing and failures: 656 samples."""
    pytest.importorskip("evalplus")
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    task = load_task(load_task_card(name))
    assert isinstance(task, CodeTask)
    generations = data / "generations" / "starcoder2-15b-instruct" / "evalplus-starcoder2-15b-instruct-v0.1-humaneval.jsonl"
    records = [record(r.problem, 1, 0, r.graded, whole=r.whole) for r in read_samples(generations, task, cut=False)]
    for p in task.problems:
        records += [record(p.id, 0, 0, p.reference), record(p.id, 0, 1, "    pass")]
        records += [record(p.id, 1, 1, "", failure="no answer")]
    run = graded(tmp_path, task, records, bwrap)
    export(run, task, to="evalplus", out=tmp_path / "out")
    override = str(data / "humanevalplus" / "HumanEvalPlus.jsonl.gz")
    environment = {"HUMANEVAL_OVERRIDE_PATH": override, "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    follow(tmp_path / "out" / "README.md", environment)
    found, mine = theirs(tmp_path / "out" / "samples_eval_results.json", run), ours(run)
    column = 1 if name == "humaneval-plus" else 0
    assert len(mine) == 656
    assert {key for key in mine if found[key][column] != mine[key][1]} == differing
