"""Passing without being right: values that lie, forged answers, patched modules, and looking for what is expected."""

import marshal
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attack_cases import cases
from spa_bench.grading import Calls, Grader, Outcome, Program
from spa_bench.sandbox import Sandbox, choose
from spa_bench.sandbox.attacks import ADDS_ONE, CHECK
from spa_bench.sandbox.attacks.cheating import FORGE
from spa_bench.sandbox.inside import wire
from spa_bench.types import CallSuite

attack = pytest.mark.attack

# values that lie -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("pass by values that lie"))
def test_a_value_that_equals_everything_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised") or (found.verdict, found.mark) == ("refused", "unproxied")


@pytest.mark.parametrize((), cases("pass by values that lie under tests that are code"))
def test_a_value_that_equals_everything_does_not_pass_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "refused")
    assert (found.mark == "unproxied") == (found.verdict == "refused")


@attack("class A(int):\n    __eq__ = lambda *_: False\n    __repr__ = lambda *_: 1 / 0\ndef f(x):\n    return A(x + 1)\n")
def test_a_right_number_that_denies_it_is_right(found: Outcome) -> None:
    assert found.verdict == "passed"


@pytest.mark.parametrize((), cases("pass by classes that lie"))
def test_a_class_that_lies_about_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised") or (found.verdict, found.mark) == ("refused", "unproxied")


@pytest.mark.parametrize((), cases("pass as a class of a library"))
def test_a_class_that_poses_as_one_of(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised")


@pytest.mark.parametrize((), cases("pass by odd values"))
def test_this_value_is_wrong(found: Outcome) -> None:
    assert found.verdict == "wrong"


@pytest.mark.parametrize((), cases("pass by deep values"))
def test_a_deep_value_is_wrong(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "crashed")


@attack("def f(x):\n    found = []\n    found.append(found)\n    return found\n")
def test_a_list_that_holds_itself_is_wrong(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack("def f(x):\n    found = []\n    found.append(found)\n    return found\n", check=CHECK)
def test_a_list_that_holds_itself_cannot_cross_to_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict == "refused"


@attack("def f(x):\n    found = {}\n    found[1] = found\n    return found\n")
def test_a_dict_that_holds_itself_is_wrong(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack("def f(x):\n    found = 1\n    for _ in range(50): found = [found, found]\n    return found\n", seconds=0.5)
def test_a_list_of_the_same_list_without_end_does_not_pass_or_hang(found: Outcome) -> None:
    assert found.verdict in ("wrong", "memory", "timeout")


@attack("class L(list): pass\ndef f(x):\n    found = 1\n    for _ in range(50): found = L([found, found])\n    return found\n")
def test_a_subclass_of_the_same_without_end_does_not_pass_or_hang(found: Outcome) -> None:
    assert found.verdict in ("wrong", "memory", "timeout")


# forged answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("pass by forged answers"))
def test_a_forged_answer_does_not_pass_or_end_the_run(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised")


@attack(FORGE + "put(b'i\\2\\0\\0\\0')\nput(b'i\\4\\0\\0\\0', size=6)\n" + ADDS_ONE)
def test_half_an_answer_does_not_count_for_the_last_one(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack(FORGE + "while True: put(b'', b'P')\n")
def test_errors_without_end_are_one_error(found: Outcome) -> None:
    assert found.verdict == "raised"


MEMORY_OF_THE_GRADER = """
import resource, sys
from pathlib import Path
from spa_bench.grading import Calls, Grader, Program
from spa_bench.sandbox import choose
from spa_bench.types import CallSuite
tests = Calls((CallSuite(name="base", inputs=lambda: [[1]]),), {reference!r})
programs = [Program(source=source, entry_point="f", tests=tests, seconds=2) for source in {sources!r}]
grader = Grader(sandbox=choose({name!r}), cache=Path({cache!r}), workers=1)
print([outcome.verdict for _, outcome in grader.run(programs)])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


@pytest.mark.parametrize("kind", ["E", "O"])
def test_a_flood_of_answers_does_not_fill_the_memory_of_the_grader(kind: str, tmp_path: Path) -> None:
    flood = FORGE + f"put(b'', b'{kind}', 2**32 - 1)\nblock = bytes(1 << 16)\nwhile True: os.write(3, block)\n"
    script = MEMORY_OF_THE_GRADER.format(reference=ADDS_ONE, sources=[flood], name=choose().name, cache=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    verdicts, megabytes = done.stdout.splitlines()
    assert "passed" not in verdicts
    assert int(megabytes) < 300


def test_integers_that_collide_do_not_hold_up_whoever_reads_them() -> None:
    integers = [marshal.dumps(n * (2**61 - 1), 2) for n in range(60_000)]
    data = b"<" + struct.pack("<I", len(integers)) + b"".join(integers)

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises((TimeoutError, wire.WireError)):
            wire.natural(wire.decode(data))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 15


def test_a_long_range_that_is_compared_as_a_set_is_wrong_at_once(jail: Sandbox, cache: Path) -> None:
    suite = CallSuite(name="base", inputs=lambda: [[1]], oracle="as sets")
    program = Program(
        source="def f(x):\n    return range(10 ** 7)\n", entry_point="f", tests=Calls((suite,), "def f(x):\n    return [x]\n")
    )
    start = time.monotonic()
    [(_, outcome)] = Grader(sandbox=jail, cache=cache).run([program])
    assert outcome.verdict == "wrong"
    assert time.monotonic() - start < 20


# patches ---------------------------------------------------------------------------------------------------------------

FRAME_WALK = """
import sys
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()):
        if isinstance(value, dict) and value is not globals():
            for key in list(value):
                if key in ('suite', 'verdict', 'tests', 'helpers', 'check', 'sizes'): value[key] = 'passed'
    frame = frame.f_back
"""


@pytest.mark.parametrize((), cases("pass by patches"))
def test_patching_does_not_make_a_wrong_program_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised")


@pytest.mark.parametrize((), cases("pass by patches under tests that are code"))
def test_patching_does_not_pass_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised", "timeout")


@attack(FRAME_WALK + "def f(x):\n    return 0\n")
def test_changing_the_frames_below_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "crashed")


@attack(FRAME_WALK + "def f(x):\n    return 0\n", check=CHECK)
def test_changing_the_frames_below_does_not_pass_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "crashed")
