# ruff: noqa: E501 -- tables of code snippets
"""Passing tests that are code without being right: the judge is another process, with plain data between."""

from collections.abc import Callable

import pytest

from spa_bench.grading import Check, Outcome, Program
from spa_bench.sandbox import Sandbox

attack = pytest.mark.attack
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(3) == 4\n"

REPLIES = """
import json, marshal, os, struct
def put(descriptor, kind, data):
    try: os.write(descriptor, struct.pack('<sI', kind, len(data)) + data)
    except OSError: pass
def f(x):
    return 0
"""
REPORT = "json.dumps(dict(verdict='passed', message='', call='')).encode()"
FORGED = {
    "the report on every descriptor": f"[os.write(n, struct.pack('<sdI', b'J', 0.0, len(d)) + d) for d in [{REPORT}] for n in (3, 6)]",
    "a report as reply": f"put(6, b'J', {REPORT})",
    "the end as reply": f"put(6, b'E', {REPORT})",
    "an exception of another kind": "put(6, b'E', marshal.dumps(((['SystemExit', 'object'], [0], 'x'), None), 2))",
    "an exception of every kind": "put(6, b'E', marshal.dumps(((['BaseExceptionGroup', 'UnicodeDecodeError', 'Warning'], [], 'x'), None), 2))",
    "an exception that is no exception": "put(6, b'E', marshal.dumps((7, None), 2))",
    "names that are none": "put(6, b'E', marshal.dumps((([7, 'exit', '__import__', 'print'], ['os'], 'x'), None), 2))",
    "an unknown kind": "put(6, b'?', marshal.dumps((2, None), 2))",
    "nonsense": "put(6, b'O', b'xyz')",
    "nothing": "put(6, b'O', b'')",
    "too many": "put(6, b'O', bytes(1 << 16))",
    "a huge size": "os.write(6, struct.pack('<sI', b'O', 2**32 - 1))",
    "a deep value": "put(6, b'O', b'(\\2\\0\\0\\0' + b'[\\1\\0\\0\\0' * 590 + b'NN')",
    "changes of nothing": "put(6, b'O', marshal.dumps((2, (1, 2, 3)), 2))",
    "changes of arguments that cannot be": "put(6, b'O', marshal.dumps((2, ([{}], 7)), 2))",
    "an opaque value": "put(6, b'O', marshal.dumps(((StopIteration, 'opaque', 'x', None), None), 2))",
    "a decimal": "put(6, b'O', marshal.dumps(((StopIteration, 'decimal', 'x', 'abc'), None), 2))",
    "keys that cannot be": "put(6, b'O', marshal.dumps(((StopIteration, 'dict_keys', 'x', [[1]]), None), 2))",
    "requests to itself": "put(5, b'C', marshal.dumps(([1], {}), 2))",
}


@pytest.mark.parametrize(
    (), [pytest.param(marks=attack(REPLIES + text, check=CHECK), id=name) for name, text in FORGED.items()]
)
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
