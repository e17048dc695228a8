"""Passing tests that are code without being right: the judge is another process, with plain data between."""

from collections.abc import Callable

import pytest

from attack_cases import cases
from spa_bench.grading import Check, Outcome, Program
from spa_bench.sandbox import Sandbox
from spa_bench.sandbox.attacks import CHECK
from spa_bench.sandbox.attacks.cheating import FORGED, REPLIES

attack = pytest.mark.attack


@pytest.mark.parametrize((), cases("pass by forged answers under tests that are code"))
def test_a_forged_reply_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised", "refused")


SWALLOWS = "def check(candidate):\n    for _ in range(2):\n        try: candidate(1)\n        except Exception: pass\n"
NONSENSE = {name: FORGED[name] for name in ("nonsense", "nothing", "a deep value", "a decimal", "keys that cannot be")}


@pytest.mark.parametrize(
    (), [pytest.param(marks=attack(REPLIES + text, check=SWALLOWS), id=name) for name, text in NONSENSE.items()]
)
def test_nonsense_is_no_exception_that_tests_can_swallow(found: Outcome) -> None:
    assert found.verdict == "crashed"


GREEDY = "def check(candidate):\n    try: candidate(1)\n    except BaseException: pass\n"


@attack("import os\ndef f(x):\n    os._exit(0)\n", check=GREEDY)
def test_leaving_is_a_crash_even_for_tests_that_swallow_everything(found: Outcome) -> None:
    assert found.verdict == "crashed"


@attack("class A: pass\ndef f(x):\n    return A()\n", check=GREEDY)
def test_a_value_that_cannot_cross_is_refused_even_for_tests_that_swallow_everything(found: Outcome) -> None:
    assert (found.verdict, found.mark) == ("refused", "unproxied")


OUTLIVES = """
import os, struct, threading, time
def later():
    while True:
        try: os.write(6, struct.pack('<sI', b'O', 12) + b'(\\2\\0\\0\\0i\\2\\0\\0\\0N'[:12])
        except OSError: return
def f(x):
    threading.Thread(target=later, daemon=True).start()
    return 0
"""


@attack(OUTLIVES, check=CHECK)
def test_a_thread_that_outlives_its_call_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed")


@attack("import sys\ndef f(x):\n    sys.modules.clear()\n    return x + 1\n", check="import math\n" + CHECK)
def test_the_tests_have_modules_of_their_own(found: Outcome) -> None:
    assert found.verdict == "passed"


@attack("class A(AssertionError): pass\ndef f(x):\n    raise A('x')\n", check=SWALLOWS.replace("Exception", "AssertionError"))
def test_an_exception_crosses_as_the_nearest_one_of_python(found: Outcome) -> None:
    assert found.verdict == "passed"


def test_tests_and_program_share_a_process_only_when_they_have_to_and_are_allowed_to(
    jail: Sandbox, grades: Callable[..., list[Outcome]]
) -> None:
    check = "def check(candidate):\n    assert candidate(1)(1) == 2\n"
    one, two = [
        Program(source=source, entry_point="f", tests=Check(check, one_process=True))
        for source in ("def f(x):\n    return lambda y: x + y\n", "f = 1 / 0")
    ]
    assert [(found.verdict, found.mark) for found in grades(jail, one, two)] == [("passed", "one process"), ("raised", "")]


NONSENSE_REPORTS = ["b'xyz' * 99", "b'J' + bytes(12)", "b'J' + bytes(8) + b'\\2\\0\\0\\0[]'", "b'J' + bytes(8) + b'\\xff' * 99"]


@pytest.mark.parametrize("report", NONSENSE_REPORTS)
def test_in_one_process_a_nonsense_report_is_a_crash(jail: Sandbox, grades: Callable[..., list[Outcome]], report: str) -> None:
    source = f"import os\nos.write(3, {report})\ndef f(x):\n    return f\n"
    check = "def check(candidate):\n    candidate(1)\n"
    [found] = grades(jail, Program(source=source, entry_point="f", tests=Check(check, one_process=True)))
    assert found.verdict == "crashed"
