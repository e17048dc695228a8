"""The example of a data set in HumanEval's shape: MBPP's own file, converted by the script beside its card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spa_bench.cards.task import load_task_card
from spa_bench.grading import Grader
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks.code import CodeTask
from spa_bench.types import Record

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SOME = [2, 3, 7, 82, 124, 233, 427, 590, 737, 794]  # with and without imports; what they return may not cross


@pytest.fixture(scope="module")
def task(data: Path, tmp_path_factory: pytest.TempPathFactory) -> CodeTask:
    """The card beside its converted file."""
    folder = tmp_path_factory.mktemp("mbpp")
    (folder / "card.toml").write_text((EXAMPLES / "sanitized-mbpp.toml").read_text())
    source, target = data / "mbpp" / "sanitized-mbpp.json", folder / "sanitized_mbpp.jsonl"
    command = [sys.executable, EXAMPLES / "sanitized_mbpp.py", source, target]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"427 problems in {target}\n"
    found = load_task(load_task_card(str(folder / "card.toml")))
    assert isinstance(found, CodeTask)
    return found


def canonical(task: CodeTask, numbers: list[int]) -> list[Record]:
    wanted = {f"sanitized-mbpp/{i}" for i in numbers}
    return [
        Record(problem=p.id, member=0, draw=0, raw=p.reference, graded=p.reference, finish="stop", tokens=1, seed=0)
        for p in task.problems
        if p.id in wanted
    ]


def test_ten_lines_of_a_card_make_it_a_task(task: CodeTask):
    assert len((EXAMPLES / "sanitized-mbpp.toml").read_text().splitlines()) <= 10
    assert len(task.problems) == 427
    first = task.problems[0]
    assert first.prompt.endswith('\nassert set(similar_elements((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))\n"""\n')
    assert "candidate((3, 4, 5, 6), (5, 7, 4, 10))" in first.tests
    assert "similar_elements" not in first.tests
    assert any(p.tests.startswith("import math\n") for p in task.problems)


def test_canonical_solutions_pass_and_nothing_else_does(task: CodeTask, bwrap: str, tmp_path: Path):
    right = canonical(task, SOME)
    assert len(right) == len(SOME)
    entry = {p.id: p.entry_point for p in task.problems}
    wrong = [
        Record(
            problem=r.problem,
            member=0,
            draw=1,
            raw="",
            graded=f"def {entry[r.problem]}(*_):\n    return 'no'\n",
            finish="stop",
            tokens=1,
            seed=0,
        )
        for r in right
    ]
    grades = list(task.score([*right, *wrong], Grader(sandbox=choose(bwrap), cache=tmp_path, workers=1, limits=task.limits)))
    assert [(g.problem, g.message) for g in grades if (g.verdict == "passed") != (g.draw == 0)] == []


@pytest.mark.slow
def test_all_canonical_solutions_pass(task: CodeTask, bwrap: str, tmp_path: Path):
    records = [
        Record(problem=p.id, member=0, draw=0, raw=p.reference, graded=p.reference, finish="stop", tokens=1, seed=0)
        for p in task.problems
    ]
    grades = list(task.score(records, Grader(sandbox=choose(bwrap), cache=tmp_path, workers=2, limits=task.limits)))
    assert [(g.problem, g.message) for g in grades if g.verdict != "passed"] == []


def test_a_problem_whose_tests_call_nothing_of_it_is_named(tmp_path: Path):
    row = {
        "task_id": 5,
        "prompt": "x",
        "code": "def f(x):\n    return x",
        "test_list": ["assert g(1) == 1"],
        "test_imports": [],
    }
    (tmp_path / "m.json").write_text(json.dumps([row]))
    command = [sys.executable, EXAMPLES / "sanitized_mbpp.py", tmp_path / "m.json", tmp_path / "out.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: problem 5: no test calls one of f\n")
