"""The answers of a program, compared with the expected frames as their bytes arrive."""

import itertools
import mmap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spa_bench.grading import Calls, Grader, Outcome, Program
from spa_bench.grading.answers import TOO_LONG, Answers, Suite
from spa_bench.grading.suites import SuiteFiles, write_frames
from spa_bench.sandbox.inside import calls, wire
from spa_bench.types import CallSuite, Verdict

Outcomes = Callable[[Grader, Sequence[Program]], list[Outcome]]
VALUES = [1, "two" * 50, [3.0], None, 5]


def suite(folder: Path, *, oracle: str = "equal", odd: Sequence[int] = (), **piece: int) -> Suite:
    """The suite that expects VALUES."""
    found = SuiteFiles(folder, "k")
    write_frames(found.inputs, [wire.encode([i]) for i in range(len(VALUES))])
    write_frames(found.expected, list(map(wire.encode, VALUES)), odd)
    found.write_times([0.1] * len(VALUES))
    job = {"cache": str(folder), "seconds": 1.0, "grading": "default"}
    return Suite("k", job, {"key": "k", "oracle": oracle, "atol": 0.0, **piece})


def sent(*values: Any) -> bytes:
    """What a program sends that returns these."""
    frames = map(wire.encode, values)
    return b"".join(calls.FRAME.pack(b"O", 0.0, len(frame)) + frame for frame in frames)


def taken(tests: Suite, pieces: Sequence[bytes]) -> tuple[list[tuple[int, Any]], int]:
    """([(test, value) of each frame that is handed on], tests that are answered) once all pieces came."""
    answers = Answers(tests)
    found = [(index, wire.decode(data)) for piece in pieces for index, _, data in answers.take(piece)]
    return found, answers.done()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(values=st.tuples(*(st.sampled_from([value, 7]) for value in VALUES)), cuts=st.lists(st.integers(0, 300), max_size=8))
@pytest.mark.parametrize("odd", [(), (2,)])
def test_however_the_bytes_arrive_each_other_value_is_handed_on_in_its_place(
    odd: tuple[int, ...], values: tuple[Any, ...], cuts: list[int], tmp_path: Path
) -> None:
    data = sent(*values)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found, done = taken(suite(tmp_path, odd=odd), [data[a:b] for a, b in itertools.pairwise(places)])
    assert done == len(VALUES)
    assert found == sorted(found)
    others = [(i, value) for i, value in enumerate(values) if value != VALUES[i] or i in odd]
    assert [pair for pair in found if pair[1] != VALUES[pair[0]] or pair[0] in odd] == others


def test_all_expected_bytes_are_one_comparison(tmp_path: Path) -> None:
    assert taken(suite(tmp_path), [sent(*VALUES)]) == ([], 5)


def test_with_another_rule_every_frame_is_judged(tmp_path: Path) -> None:
    assert taken(suite(tmp_path, oracle="as sets"), [sent(*VALUES)]) == (list(enumerate(VALUES)), 5)


def test_a_piece_of_a_suite_expects_its_own_tests(tmp_path: Path) -> None:
    part = suite(tmp_path, **{"from": 1, "to": 3})
    assert (len(part), wire.decode(part.arguments(0))) == (2, [1])
    assert taken(part, [sent(*VALUES[1:3])]) == ([], 2)
    assert taken(part, [sent(VALUES[1]), sent(9)]) == ([(1, 9)], 2)


def test_an_answer_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    [(index, code, text)] = Answers(suite(tmp_path)).take(calls.FRAME.pack(b"O", 0.0, 3 << 20))
    assert (index, code, text) == (0, TOO_LONG, b"3")


def test_what_comes_behind_the_last_answer_is_not_kept(tmp_path: Path) -> None:
    answers = Answers(suite(tmp_path))
    assert list(answers.take(sent(*VALUES))) == []
    for _ in range(3):
        assert list(answers.take(bytes(1 << 16))) == []
    assert not answers._buffer
    assert answers.done() == len(VALUES)


def test_what_is_shown_comes_again(tmp_path: Path) -> None:
    answers = Answers(suite(tmp_path))
    assert list(answers.take(sent(1))) == []
    for _ in range(2):
        assert [index for index, *_ in answers.show(sent(9))] == [1]
    assert answers.done() == 1
    assert [index for index, *_ in answers.take(sent(9))] == [1]


@pytest.mark.parametrize(("call", "shown"), [(5, True), (4, False)])
def test_what_waits_is_shown_while_the_call_runs_that_was_looked_at_and_not_a_later_one(call: int, shown: bool) -> None:
    """Behind that call the pipe may hold answers that nobody passed on yet: those that wait would be taken for them."""
    shared, copy = mmap.mmap(-1, calls.SHARED), mmap.mmap(-1, calls.SHARED)
    waiting = sent(7)
    calls.HEADER.pack_into(shared, 0, 5, 0.0, len(waiting), 0)
    shared[calls.HEADER.size : calls.HEADER.size + len(waiting)] = waiting
    size = calls.peek(shared, copy, call)
    assert copy[:size] == (waiting if shown else b"")


def test_a_wrong_answer_ends_a_program_that_is_busy_with_the_next_call(fresh: Grader, outcomes: Outcomes) -> None:
    tests = Calls((CallSuite(name="base", inputs=lambda: [[0], [1], [2]]),), "def f(x):\n    return x\n")
    source = "def f(x):\n    while x == 2:\n        pass\n    return x if x < 1 else 7\n"
    slow = Program(source=source, entry_point="f", tests=tests, problem="p", seconds=30.0)
    fresh.prepare([slow])
    began = time.monotonic()
    [outcome] = outcomes(fresh, [slow])
    assert (outcome.verdict, outcome.message) == (Verdict.WRONG, "returned 7, expected 1")
    assert time.monotonic() - began < 20
