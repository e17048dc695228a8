"""Which answers are programs, what their trees are like, and whether they run and pass their own tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from doubles import SANDBOX
from spa_bench.datasets.pairs import Item
from spa_bench.datasets.programs import code_of, depth_of, kinds_of, run_programs
from spa_bench.grading import Grader
from spa_bench.sandbox import choose
from spa_bench.types import Example


def item(asked: str, answer: str, tests: str = "", entry_point: str = "") -> Item:
    return Item(asked=asked, answer=answer, example=Example(asked, answer), tests=tests, entry_point=entry_point)


BODY = item("def double(x):\n", "    return 2 * x\n")


def test_a_body_is_a_program_together_with_its_prompt():
    code = code_of(BODY)
    assert code is not None
    assert code.source == "def double(x):\n    return 2 * x\n"
    assert code.tree is not None


@pytest.mark.parametrize(
    "answer",
    [
        "def f(x):\n    return x\n",
        "Here it is:\n\n```python\ndef f(x):\n    return x\n```\nIt returns x.",
        "```\nx = 1\n```",
        "x = 1",
    ],
)
def test_a_program_is_found_plain_and_in_fences(answer: str):
    code = code_of(item("Write it.", answer))
    assert code is not None
    assert code.tree is not None
    assert "Here" not in code.source


@pytest.mark.parametrize(
    "answer", ["def f(x:\n    return x\n", "import os\nfor x in y print(x)\nprint(x)", "var x = 1;\nfoo(x);\n"]
)
def test_a_program_that_does_not_parse_is_one_all_the_same(answer: str):
    code = code_of(item("Write it.", answer))
    assert code is not None
    assert code.tree is None


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "The answer is 4.",
        "yes",
        "4",
        "a and b",
        "First, add the numbers. Then divide.",
        "```javascript\nlet x = 1;\n```",
    ],
)
def test_prose_and_other_languages_in_fences_are_no_code(answer: str):
    assert code_of(item("What is it?", answer)) is None


def test_a_very_long_line_costs_no_more_than_a_short_one():
    assert code_of(item("What?", "a" * 3_000_000)) is None


def test_depth_and_kinds_of_a_tree_by_hand():
    tree = ast.parse("x = 1")  # Module > Assign > Name > Store
    assert depth_of(tree) == 4
    assert kinds_of(tree) == 5  # Module, Assign, Name, Store, Constant
    assert depth_of(ast.parse("")) == 1
    assert depth_of(ast.parse("(" * 50 + "1" + ")" * 50)) == 3


def test_programs_run_pass_and_fail_their_own_tests(tmp_path: Path):
    items = [
        item("Double.", "def double(x):\n    return 2 * x\n", tests="assert double(2) == 4"),
        item("Double.", "def double(x):\n    return x\n", tests="assert double(2) == 4"),
        item(
            "Double.", "def double(x):\n    return 2 * x\n", tests="def check(f):\n    assert f(1) == 2\n", entry_point="double"
        ),
        item("Double.", "def double(x):\n    return x\n", tests="def check(f):\n    assert f(1) == 2\n", entry_point="double"),
        item("Fail.", "raise ValueError(1)"),
        item("Break.", "def f(:\n    pass"),
        item("Read.", "x = input()"),
        item("Say.", "Nothing to say."),
        BODY,
    ]
    grader = Grader(sandbox=choose(SANDBOX), cache=tmp_path, workers=1, packages=())
    runs, passes = run_programs([code_of(one) for one in items], items, grader, seconds=2)
    assert runs == [True, True, True, True, False, False, False, None, True]
    assert passes == [True, False, True, False, None, None, None, None, None]
