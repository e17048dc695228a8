"""A slow problem's tests in pieces: which programs are split, how, and that verdicts stay those of the whole."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from spa_bench.grading import Calls, Grader, Grading, Outcome, Program, pieces, pool
from spa_bench.grading.suites import SuiteFiles, key
from spa_bench.types import CallSuite, Verdict

Outcomes = Callable[[Grader, Sequence[Program]], list[Outcome]]

NOTHING = {
    "a function": "def f(x):\n    return x + 1\n",
    "imports and constants": '"""Text."""\nimport math\nfrom typing import List\nA = -1e-6\nT = (1, "a")\ndef f(x): return A\n',
    "its own lists": "def f(x):\n    seen = []\n    seen.append(x)\n    seen[0] = 2\n    return seen\n",
    "an inner function": "def f(x):\n    def g(y, z=1):\n        return y\n    return sorted([x], key=lambda a: g(a))\n",
    "functions of modules": "import copy, re\ndef f(x):\n    return re.sub('a', 'b', x), copy.copy([x]), [x].copy()\n",
    "a constant default": "def f(x, y=(1, 2)):\n    return x\n",
}
SOMETHING = {
    "a list of the module": "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n",
    "a default list": "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)\n",
    "a default list of a keyword": "def f(x, *, seen=[]):\n    seen.append(x)\n    return len(seen)\n",
    "a default of a lambda": "def f(x):\n    return x\ng = lambda x, seen=[]: x\n",
    "global": "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n\n",
    "an attribute": "def f(x):\n    f.n = 1\n    return x\n",
    "an attribute that is deleted": "import math\ndef f(x):\n    del math.pi\n",
    "a name with an underscore": "def f(x):\n    return f.__dict__\n",
    "a cache": "import functools\n@functools.cache\ndef f(x):\n    return x\n",
    "a class": "class A:\n    n = []\ndef f(x):\n    return x\n",
    "random numbers": "import random\ndef f(x):\n    return random.random()\n",
    "a module that holds state": "import sys\ndef f(x):\n    sys.setrecursionlimit(5000)\n    return x\n",
    "a relative import": "from . import g\ndef f(x):\n    return x\n",
    "getattr": "def f(x):\n    return getattr(f, 'x')\n",
    "a call at the beginning": "import itertools\nn = itertools.count()\ndef f(x):\n    return next(n)\n",
    "a module behind a module": "import re\ndef f(x):\n    re.enum.sys.modules['n'] = x\n    return x\n",
    "a module from a module": "from statistics import random\ndef f(x):\n    return random.random()\n",
    "a table of a module": "import copy\ndef f(x):\n    copy.dispatch_table['n'] = x\n    return x\n",
    "what typing remembers": "from typing import *\ndef f(x):\n    overload(f)\n    return len(get_overloads(f))\n",
    "the name of a function": "import functools\ndef f(x):\n    functools.update_wrapper(f, sorted)\n    return repr(f)\n",
    "no Python": "def f(x:\n",
}


@pytest.mark.parametrize("name", NOTHING)
def test_plain_programs_keep_nothing(name: str) -> None:
    assert pieces.keeps_nothing(NOTHING[name])


@pytest.mark.parametrize("name", SOMETHING)
def test_what_may_keep_something_is_never_split(name: str) -> None:
    assert not pieces.keeps_nothing(SOMETHING[name])


def test_pieces_are_of_like_length_and_hold_every_call_once_in_order() -> None:
    job = {"source": "", "suites": [{"key": "a"}, {"key": "b"}]}
    times = [[0.1, 0.1], [1.0, 0.1, 0.1, 0.9, 0.9, 0.1]]
    found = pieces.split(job, times, 3)
    assert all(part["piece"] for part in found)
    calls = [(place["key"], i) for part in found for place in part["suites"] for i in range(place["from"], place["to"])]
    assert calls == [("a", 0), ("a", 1), *(("b", i) for i in range(6))]
    seconds = [sum(sum(times["ab".index(p["key"])][p["from"] : p["to"]]) for p in part["suites"]) for part in found]
    assert len(found) in (3, 4)
    assert max(seconds) < 1.3


def test_one_call_that_takes_all_the_time_stays_whole() -> None:
    [one] = pieces.split({"suites": [{"key": "a"}]}, [[5.0]], 4)
    assert [(place["from"], place["to"]) for place in one["suites"]] == [(0, 1)]


PASSED, WRONG = {"verdict": "passed", "message": ""}, {"verdict": "wrong", "message": "m"}


@pytest.mark.parametrize(
    ("answers", "whole"),
    [
        ([(0, PASSED), (1, PASSED)], [PASSED]),
        ([(1, PASSED), (0, PASSED)], [PASSED]),
        ([(0, WRONG), (1, PASSED)], [WRONG]),
        ([(1, WRONG), (0, PASSED)], [None]),
        ([(1, PASSED), (0, {"broken": "k"})], [None]),
        ([(0, {**PASSED, "cpu": 30.0}), (1, {**PASSED, "cpu": 30.0})], [None]),
        ([(0, PASSED)], []),
    ],
)
def test_a_failure_of_a_later_piece_and_too_much_time_run_the_whole(answers: list[tuple[int, Any]], whole: list[Any]) -> None:
    taken = pieces.Whole(2)
    assert [found for place, answer in answers for found in taken.add(place, dict(answer))] == whole


BURN = "def f(x):\n    for i in range({}):\n        pass\n    return x{}\n"


@pytest.fixture
def split(fresh: Grader, monkeypatch: pytest.MonkeyPatch) -> tuple[Grader, list[list[dict[str, Any]]]]:
    """A grader of two workers that splits whatever may be split, and the pieces that it made."""
    made: list[list[dict[str, Any]]] = []
    whole = pieces.split
    monkeypatch.setattr(pool.pieces, "LEAST_SECONDS", 1e-9)
    monkeypatch.setattr(pool.pieces, "split", lambda *parts: made.append(whole(*parts)) or made[-1])
    grader = replace(fresh, workers=2)
    tests = program("").tests
    assert isinstance(tests, Calls)
    grader.prepare([program("")])
    for suite in tests.suites:  # as measured where a clock is fine enough
        SuiteFiles(grader.cache / "suites", key(suite, tests.reference, "f")).write_times([0.01] * 8)
    return grader, made


def program(source: str, count: int = 8) -> Program:
    suites = (
        CallSuite(name="base", inputs=lambda: [[i] for i in range(count)]),
        CallSuite(name="plus", inputs=lambda: [[10 + i] for i in range(count)]),
    )
    return Program(source=source, entry_point="f", tests=Calls(suites, BURN.format(100, "")), problem="set/1", seconds=1.0)


@pytest.mark.parametrize(
    "source",
    [
        BURN.format(100, ""),
        BURN.format(100, " + (x == 2)"),
        BURN.format(100, " + (x == 16)"),
        BURN.format(100, " // (x - 17) * 0 + x"),
        "def f(x):\n    return g\n",
        "def f(x):\n    return x if x != 15 else sorted\n",
    ],
)
def test_outcomes_in_pieces_are_those_of_the_whole(source: str, split: Any, outcomes: Outcomes) -> None:
    grader, made = split
    one = program(source)
    found = outcomes(grader, [one])
    assert len(made) == 1
    assert len(made[0]) == 2
    assert found == outcomes(replace(grader, workers=1), [one])
    assert len(made) == 1


def test_a_program_that_keeps_state_is_not_split(split: Any, outcomes: Outcomes) -> None:
    grader, made = split
    counts = "n = []\ndef f(x):\n    n.append(x)\n    return x if len(n) < 8 else -1\n"
    [outcome] = outcomes(grader, [program(counts)])
    assert (outcome.verdict, outcome.suite, made) == (Verdict.WRONG, "base", [])


def test_the_rules_of_evalplus_are_not_split(split: Any, outcomes: Outcomes) -> None:
    grader, made = split
    [outcome] = outcomes(replace(grader, grading=Grading.EVALPLUS), [program(BURN.format(100, ""))])
    assert (outcome.verdict, made) == (Verdict.PASSED, [])
