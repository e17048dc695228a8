"""The code filter: what a program is, and what parse, run and pass ask of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spa_bench.errors import SandboxError
from spa_bench.grading.to_its_end import parsed
from spa_bench.mini.data import instructions
from spa_bench.mini.text.data import instructions as sentences
from spa_bench.sandbox import choose
from spa_bench.spa.synthesize.base import Draft
from spa_bench.spa.synthesize.programs import CodeFilter, are_programs, in_sandbox, program_in
from spa_bench.types import Example

HEAD = "def double(x):\n"


def draft(prompt: str, completion: str, tests: str = "") -> Draft:
    return Draft(text=prompt + completion, example=Example(prompt, completion), tests=tests)


def never(programs: Sequence[str]) -> list[str]:
    raise AssertionError(f"nothing is to be run, and {len(programs)} programs came")


@pytest.fixture(scope="module")
def sandboxed():
    try:
        choose(None, ("numpy",))
    except SandboxError as error:
        pytest.skip(f"no sandbox works here: {error}")
    return in_sandbox()


def test_a_signature_and_its_body_are_one_program():
    assert program_in(Example(HEAD, "    return 2 * x\n")) == "def double(x):\n    return 2 * x\n"


def test_the_fenced_code_of_an_answer_is_the_program():
    answer = "Use this:\n\n```python\nprint(1)\n```\n\nIt prints 1."
    assert program_in(Example("Print one.", answer)) == "print(1)\n"


@pytest.mark.parametrize(
    "prompt",
    ["from the list [1, 2] pick the largest", "import taxes: add them up", "class sizes are given; average them"],
)
def test_a_question_that_begins_with_a_word_of_python_begins_no_program(prompt: str):
    assert program_in(Example(prompt, "```python\nprint(1)\n```")) == "print(1)\n"


@pytest.mark.parametrize(
    "prompt",
    [
        "import numpy as np\n",
        "import os, sys\n",
        "import os.path\n\n",
        "from a.b import c\n",
        "from . import c\n",
        "class A:\n",
        "class A(B):\n",
        "@cache\n",
        "\nasync def f():\n",
        "def f[T](x: T):\n",
    ],
)
def test_a_line_of_python_begins_a_program(prompt: str):
    assert program_in(Example(prompt, "    pass\n")) == prompt + "    pass\n"


def test_words_are_no_program_even_where_they_parse():
    assert parsed("Paris") is not None
    assert program_in(Example("What is the capital of France?", "Paris")) is None


def test_targets_are_programs_where_most_of_them_are():
    assert are_programs(instructions())
    assert not are_programs(sentences())
    one, other = Example(HEAD, "    return x\n"), Example("Who?", "Ann")
    assert are_programs([one, one, other])
    assert not are_programs([one, other])


def test_programs_end_as_they_do(sandboxed):
    programs = [
        "def f():\n    return undefined\n",  # a function is defined, not called
        "raise ValueError('x')\n",
        "import sys\nsys.exit(0)\n",
        "x = [1, 2]\nx[5]\n",
    ]
    assert sandboxed(programs) == ["", "raised ValueError", "crashed", "raised IndexError"]


def test_a_draft_passes_its_own_tests_or_falls(sandboxed):
    drafts = [
        draft(HEAD, "    return 2 * x\n", "assert double(3) == 6"),
        draft(HEAD, "    return x\n", "assert double(3) == 6"),
        draft(HEAD, "    return x\n"),
        draft(HEAD, "    return x\n", "assert double(3) =="),
        draft(HEAD, "    import sys; sys.exit(0)\n", "double(1)\nassert False"),
    ]
    found = CodeFilter(level="pass", programs=True, run=sandboxed).failures(drafts)
    assert found == [
        "",
        "with its own tests: raised AssertionError",
        "has no tests",
        "its tests do not parse",
        "with its own tests: crashed",
    ]


@pytest.mark.parametrize(
    ("level", "programs", "tests", "wanted"),
    [
        ("auto", True, "", "run"),
        ("auto", True, "assert True", "pass"),
        ("auto", False, "", "none"),
        ("auto", False, "assert True", "pass"),
        ("parse", True, "assert True", "parse"),
        ("none", True, "assert True", "none"),
    ],
)
def test_what_is_asked_of_a_draft(level: str, programs: bool, tests: str, wanted: str):
    assert CodeFilter(level=level, programs=programs, run=never).wanted(draft(HEAD, "    pass\n", tests)) == wanted


def test_what_does_not_parse_is_not_run():
    found = CodeFilter(level="run", programs=True, run=never).failures([draft(HEAD, "    return (\n"), draft("Who?", "Ann")])
    assert found == ["does not parse", "holds no program"]


def test_equal_programs_run_once():
    ran: list[str] = []

    def run(programs: Sequence[str]) -> list[str]:
        ran.extend(programs)
        return ["raised X"] * len(programs)

    code = CodeFilter(level="run", programs=True, run=run)
    one = draft(HEAD, "    return x\n")
    assert code.failures([one, one]) == ["raised X", "raised X"]
    assert code.failures([one]) == ["raised X"]
    assert len(ran) == 1


def test_the_report_says_what_auto_does():
    assert "its program runs" in CodeFilter(level="auto", programs=True, run=never).said
    assert "no programs" in CodeFilter(level="auto", programs=False, run=never).said
