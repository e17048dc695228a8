"""References that do not pass their own tests are named before programs are graded."""

from __future__ import annotations

from dataclasses import replace

from spa_bench.grading import Calls, Check, Grader, Program
from spa_bench.sandbox import Limits
from spa_bench.types import CallSuite, Verdict

HEAD = "def f(x):\n    'Do it.'\n"


def coded(problem: str, reference: str, body: str = "assert candidate(1) == 2") -> Program:
    tests = Check(f"def check(candidate):\n    {body}\n", reference)
    return Program(source="def f(x):\n    return 2\n", entry_point="f", tests=tests, problem=problem, seconds=1.0)


def with_data(problem: str, reference: str) -> Program:
    suite = CallSuite(name="base", inputs=lambda: [[1]], oracle="equal", atol=0.0, identity="")
    tests = Calls((suite,), reference)
    return Program(source=reference, entry_point="f", tests=tests, problem=problem, seconds=1.0)


def told(grader: Grader, *programs: Program) -> tuple[list[str], list[Verdict]]:
    lines: list[str] = []
    found = dict(replace(grader, tell=lines.append).run(programs))
    return lines, [found[i].verdict for i in range(len(programs))]


def test_a_reference_that_fails_its_tests_is_named_each_time_and_the_programs_are_graded(fresh: Grader):
    programs = coded("k/a", "def f(x):\n    return 3\n"), coded("k/b", "def f(x):\n    return 2\n")
    for _ in range(2):
        lines, verdicts = told(fresh, *programs)
        assert lines == [
            "the reference solutions of 1 of 2 problems do not pass their own tests, so verdicts on these problems mean "
            "little: k/a (wrong: AssertionError at: assert candidate(1) == 2)"
        ]
        assert verdicts == [Verdict.PASSED] * 2


def test_a_reference_that_cannot_be_judged_apart_is_named(fresh: Grader):
    [line], _ = told(fresh, coded("k/c", "class P: pass\ndef f(x):\n    return P()\n"))
    assert "k/c (refused: returned __spa_bench__.P, which cannot cross between program and tests)" in line


def test_nothing_is_said_where_there_is_no_reference_or_all_pass(fresh: Grader):
    lines, _ = told(
        fresh, coded("k/d", HEAD), coded("k/e", "def f(x):\n    return 2\n"), with_data("k/f", "def f(x):\n    return x\n")
    )
    assert lines == []


def test_a_reference_whose_values_equal_nothing_is_named(fresh: Grader):
    own = "class P:\n    def __eq__(self, other):\n        return True\n\ndef f(x):\n    return P()\n"
    nan, generator = "def f(x):\n    return float('nan')\n", "def f(x):\n    yield x\n"
    for _ in range(2):
        lines, verdicts = told(fresh, with_data("k/g", own), with_data("k/h", nan), with_data("k/i", generator))
        assert verdicts == [Verdict.REFUSED, Verdict.PASSED, Verdict.WRONG]
        [line] = lines
        assert "of 2 of 3 problems" in line
        assert "k/g (on test input 0 it returns <__spa_bench__.P>, which equals no other value); k/i (" in line


def test_a_reference_is_tried_again_where_other_packages_or_more_memory_are_there(fresh: Grader):
    numeric = coded("k/j", "import numpy\ndef f(x):\n    return int(numpy.int64(x)) + 1\n")
    large = coded("k/k", "def f(x):\n    kept = bytearray(300 << 20)\n    return x + 1\n")
    poor = replace(fresh, packages=(), limits=Limits(memory_mb=256))
    [line], _ = told(poor, numeric, large)
    assert "k/j (raised: ModuleNotFoundError: No module named 'numpy'); k/k (memory: " in line
    assert told(fresh, numeric, large)[0] == []
    assert len(told(poor, numeric, large)[0]) == 1
