"""Suites of calls: their files, what references return, and the limits that follow."""

import platform
import re
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spa_bench.errors import DataError
from spa_bench.grading import Calls, Grader, Grading, Outcome, Program, sessions
from spa_bench.grading.suites import FrameFile, SuiteFiles, count_frames, key, write_frames
from spa_bench.grading.worker import Suite
from spa_bench.sandbox.inside import wire
from spa_bench.types import CallSuite, Verdict

Outcomes = Callable[[Grader, Sequence[Program]], list[Outcome]]
ADD = "def f(x):\n    return x + 1\n"
TWO = CallSuite(name="base", inputs=lambda: [[1], [3]])
BURN = "import time\ndef f(x):\n    end = time.process_time() + {}\n"
BURN += "    while time.process_time() < end:\n        pass\n    return x\n"


def program(source: str, suites: tuple[CallSuite, ...] = (TWO,), reference: str = ADD, seconds: float = 0.5) -> Program:
    return Program(source=source, entry_point="f", tests=Calls(suites, reference), problem="set/7", seconds=seconds)


def suite(*arguments: Any, **changes: Any) -> CallSuite:
    """Calls with one argument each."""
    return CallSuite(**{"name": "base", "inputs": lambda: [[a] for a in arguments], **changes})


def files(grader: Grader, tests: CallSuite, reference: str) -> SuiteFiles:
    return SuiteFiles(grader.cache / "suites", key(tests, reference, "f"))


# files ---------------------------------------------------------------------------------------------------------------


def test_frames_come_back_as_they_were(tmp_path: Path):
    frames = [b"", b"\n", b"spa-bench frames 1\n", bytes(range(256)) * 999, b""]
    write_frames(tmp_path / "new" / "x", frames, odd=[1])
    found = FrameFile(tmp_path / "new" / "x")
    assert [found[i] for i in range(len(found))] == frames
    assert [found.size(i) for i in range(len(found))] == list(map(len, frames))


def test_an_odd_frame_equals_nothing_not_even_its_own_bytes(tmp_path: Path):
    write_frames(tmp_path / "x", [b"ab", b"ab"], odd=[1])
    found = FrameFile(tmp_path / "x")
    assert [found.equals(0, data) for data in (b"ab", b"a", b"abc", b"xb", b"")] == [True, False, False, False, False]
    assert not found.equals(1, b"ab")


def test_a_frame_beyond_the_last_is_an_index_error(tmp_path: Path):
    write_frames(tmp_path / "x", [b"a"])
    for index in (1, -1):
        with pytest.raises(IndexError):
            FrameFile(tmp_path / "x")[index]


def test_writing_leaves_no_other_file_behind(tmp_path: Path):
    for frames in ([b"a"], [b"b", b"c"]):
        write_frames(tmp_path / "x", frames)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert FrameFile(tmp_path / "x")[1] == b"c"


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path):
    write_frames(tmp_path / "x", [b"a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel refuses more, as it does where there is no room
    try:
        with pytest.raises(OSError, match="File too large"):
            write_frames(tmp_path / "x", [bytes(100_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert FrameFile(tmp_path / "x")[0] == b"a"


BREAK: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "another magic": lambda data: b"S" + data[1:],
    "cut off": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "another byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a head that is no JSON": lambda data: data.replace(b'{"sizes"', b'{"sizes', 1),
    "a head without sizes": lambda data: data.replace(b'"sizes"', b'"sices"', 1),
    "a head that is a list": lambda data: re.sub(rb"\{.*\}", b"[1]", data, count=1),
    "sizes that are texts": lambda data: re.sub(rb"\[[\d, ]+\]", b'["a"]', data, count=1),
    "only its magic": lambda data: data[: data.index(b"\n") + 1],
}


@pytest.mark.parametrize("damage", BREAK)
def test_a_broken_file_is_a_value_error(damage: str, tmp_path: Path):
    write_frames(tmp_path / "x", [b"abc", b"de"])
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(BREAK[damage](data))
    assert (tmp_path / "x").read_bytes() != data
    with pytest.raises(ValueError, match=r"\w"):
        FrameFile(tmp_path / "x")


@pytest.mark.parametrize("which", ["inputs", "expected", "times"])
def test_a_broken_or_missing_file_of_a_suite_is_made_anew(which: str, fresh: Grader):
    right = program(ADD)
    fresh.prepare([right])
    path: Path = getattr(files(fresh, TWO, ADD), which)
    whole = path.read_bytes()
    for damaged in (
        whole[:-2],
        whole.replace(b"se", b"ze"),
        whole.replace(b"size", b"zise"),
        b"{}",
        b'{"seconds": [0.1]}',
        None,
    ):
        if damaged == whole:
            continue
        path.unlink() if damaged is None else path.write_bytes(damaged)
        replace(fresh).prepare([right])
        assert path.read_bytes() == whole or which == "times"
        assert len(files(fresh, TWO, ADD).read_times()) == 2


@pytest.mark.parametrize("which", ["inputs", "expected"])
def test_other_bytes_of_the_right_length_are_found_when_they_are_read_and_made_anew(
    which: str, fresh: Grader, outcomes: Outcomes
):
    right = program(ADD)
    fresh.prepare([right])
    path: Path = getattr(files(fresh, TWO, ADD), which)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [outcome.verdict for outcome in outcomes(fresh, [right, program("def f(x):\n    return 0\n")])] == [
        Verdict.PASSED,
        Verdict.WRONG,
    ]
    assert path.read_bytes() == whole


def test_files_of_a_suite_that_do_not_fit_together_have_no_count(tmp_path: Path):
    files = SuiteFiles(tmp_path, "k")
    assert files.count(count_frames) is None
    for kept in (files.inputs, files.expected):
        write_frames(kept, [])
    files.write_times([])
    assert files.count(count_frames) == 0  # Mbpp/793 has no plus inputs
    for kept in (files.inputs, files.expected):
        write_frames(kept, [b"a", b"b"])
    assert files.count(count_frames) is None
    files.write_times([0.1, 0.2])
    assert files.count(count_frames) == files.count(lambda path: len(FrameFile(path))) == 2
    files.expected.write_bytes(files.expected.read_bytes()[:-1] + b"c")  # as long, with another checksum
    assert files.count(count_frames) == 2
    assert files.count(lambda path: len(FrameFile(path))) is None


def test_frames_are_counted_from_the_head_alone(tmp_path: Path):
    write_frames(tmp_path / "x", [b"abc", b"", b"\n"])
    assert count_frames(tmp_path / "x") == 3
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-1])
    with pytest.raises(ValueError, match="broken"):
        count_frames(tmp_path / "x")


def test_a_suite_that_is_there_is_not_made_again(fresh: Grader, outcomes: Outcomes):
    told: list[tuple[int, int]] = []
    watched = replace(fresh, progress=lambda done, total: told.append((done, total)))
    outcomes(watched, [program(ADD)])
    outcomes(watched, [program(ADD), program("def f(x):\n    return 0\n")])
    assert told == [(1, 1)]


# keys ----------------------------------------------------------------------------------------------------------------


def test_the_key_says_reference_function_oracle_and_arguments():
    keys = [
        key(suite(1), ADD, "f"),
        key(suite(1), ADD + "\n", "f"),
        key(suite(1), ADD, "g"),
        key(suite(1, oracle="as sets"), ADD, "f"),
        key(suite(2), ADD, "f"),
        key(suite(1, 1), ADD, "f"),
        key(suite(1.0), ADD, "f"),
        key(suite(True), ADD, "f"),
        key(suite([1]), ADD, "f"),
        key(suite((1,)), ADD, "f"),
        key(CallSuite(name="base", inputs=lambda: [[1, 1]]), ADD, "f"),
        key(suite(), ADD, "f"),
        key(suite(1, identity="one"), ADD, "f"),
        key(suite(1, identity="two"), ADD, "f"),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_say_name_and_tolerance():
    assert key(suite(1, name="plus", atol=0.5), ADD, "f") == key(suite(1), ADD, "f")


def test_the_key_says_which_python(monkeypatch: pytest.MonkeyPatch):
    before = key(TWO, ADD, "f")
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    assert key(TWO, ADD, "f") != before


def test_arguments_with_an_identity_are_not_asked_for_until_they_are_needed():
    def asked() -> list[list[int]]:
        raise AssertionError

    key(CallSuite(name="base", inputs=asked, identity="x"), ADD, "f")


# what references return ----------------------------------------------------------------------------------------------


def test_a_reference_that_returns_nan_is_matched_by_nan_but_in_evalplus(grader: Grader, outcomes: Outcomes):
    nan = "def f(x):\n    return [x, float('nan')]\n"
    programs = [program(nan, reference=nan), program("def f(x):\n    return [x, 0.0]\n", reference=nan)]
    assert [o.verdict for o in outcomes(grader, programs)] == [Verdict.PASSED, Verdict.WRONG]
    theirs = outcomes(replace(grader, grading=Grading.EVALPLUS), programs)
    assert [o.verdict for o in theirs] == [Verdict.WRONG, Verdict.WRONG]


NOT_PLAIN = [  # (what the reference returns, an answer that equals it, another answer)
    ("__import__('collections').Counter('aab')", "{'a': 2, 'b': 1}", "{'a': 2}"),
    ("range(x)", "range(0, x, 1)", "list(range(x))"),
    ("{x: 1}.keys()", "{x}", "[x]"),
    ("__import__('fractions').Fraction(x, 2)", "x / 2", "x // 2 + 0.25"),
    ("__import__('decimal').Decimal(x)", "x", "str(x)"),
    ("type('N', (int,), {})(x)", "x", "x + 1"),
    ("__import__('collections').deque([x])", "__import__('collections').deque((x,))", "[x]"),
    ("bytearray(x)", "bytes(x)", "x"),
]
NUMPY = ("[__import__('numpy').int64(x)]", "[x]", "[x + 1]")
RETURNS = "def f(x):\n    return {}\n".format


@pytest.mark.parametrize("grading", list(Grading))
@pytest.mark.parametrize("cases", [NOT_PLAIN, [NUMPY]], ids=["standard library", "numpy"])
def test_values_that_are_not_plain_are_compared_by_what_they_stand_for(
    cases: list[tuple[str, str, str]], grading: Grading, grader: Grader, outcomes: Outcomes
):
    programs = [program(RETURNS(text), reference=RETURNS(case[0])) for case in cases for text in case]
    found = outcomes(replace(grader, grading=grading), programs)
    three = [tuple(str(o.verdict) for o in found[i : i + 3]) for i in range(0, len(found), 3)]
    assert dict(zip(cases, three, strict=True)) == dict.fromkeys(cases, ("passed", "passed", "wrong"))


def test_the_bytes_of_a_value_that_is_not_plain_say_nothing(grader: Grader):
    grader.prepare([program(ADD, reference=RETURNS(text)) for text, *_ in NOT_PLAIN])
    for text, *_ in NOT_PLAIN:
        expected = FrameFile(files(grader, TWO, RETURNS(text)).expected)
        assert not expected.equals(0, expected[0])


def test_a_reference_whose_generator_cannot_be_compared_is_matched_by_nothing(grader: Grader, outcomes: Outcomes):
    generates = "def f(x):\n    return (i for i in range(x))\n"
    found = outcomes(grader, [program(source, reference=generates) for source in (generates, ADD)])
    assert [o.verdict for o in found] == [Verdict.WRONG] * 2


DEEP = "def f(x):\n    if x == 3:\n        for _ in range(120):\n            x = [x]\n    return x\n"


def test_a_test_whose_expected_value_is_too_deep_to_keep_is_left_out(grader: Grader, outcomes: Outcomes):
    sources = [DEEP, "def f(x):\n    return x if x < 3 else 'anything'\n", "def f(x):\n    return -x if x < 3 else x\n"]
    found = outcomes(grader, [program(s, (suite(1, 3, 2),), DEEP) for s in sources])
    assert [o.verdict for o in found] == [Verdict.PASSED, Verdict.PASSED, Verdict.WRONG]


def test_the_test_behind_one_that_is_left_out_is_counted(grader: Grader, outcomes: Outcomes):
    [found] = outcomes(grader, [program("def f(x):\n    return 0 if x == 2 else x\n", (suite(1, 3, 2),), DEEP)])
    assert (found.verdict, found.call) == (Verdict.WRONG, "2")
    assert found.message == "returned 0, expected 2"


def test_a_test_whose_expected_value_is_too_deep_is_wrong_for_all_in_evalplus(grader: Grader, outcomes: Outcomes):
    found = outcomes(
        replace(grader, grading=Grading.EVALPLUS),
        [program(s, (suite(1, 3, 2),), DEEP) for s in (DEEP, "def f(x):\n    return x\n")],
    )
    assert [o.verdict for o in found] == [Verdict.WRONG] * 2
    assert found[1].call == "3"


def test_where_nothing_can_be_kept_the_program_passes(grader: Grader, outcomes: Outcomes):
    assert outcomes(grader, [program(DEEP, (suite(3),), DEEP)])[0].verdict == Verdict.PASSED


def test_only_whether_there_was_a_match_is_kept_where_only_that_counts(grader: Grader, outcomes: Outcomes):
    reference = "import re\ndef f(x):\n    return re.match('a', x)\n"
    tests = suite("a", "b", oracle="not none")
    sources = [
        reference,
        "def f(x):\n    return x == 'a'\n",
        "def f(x):\n    return x if x == 'a' else None\n",
        ADD[:-3] + "'a'\n",
    ]
    found = outcomes(grader, [program(s, (tests,), reference) for s in sources])
    assert [o.verdict for o in found] == [Verdict.PASSED] * 3 + [Verdict.WRONG]
    kept = FrameFile(files(grader, tests, reference).expected)
    assert [wire.decode(kept[i]) for i in (0, 1)] == [True, False]


# times ---------------------------------------------------------------------------------------------------------------


def test_the_time_of_each_call_of_the_reference_is_kept(grader: Grader, outcomes: Outcomes):
    reference = BURN.format("0.15 * (x == 3)")
    outcomes(grader, [program("def f(x):\n    return x\n", reference=reference)])
    quick, slow = files(grader, TWO, reference).read_times()
    assert 0 <= quick < 0.1
    assert 0.15 <= slow < 0.6


@pytest.mark.parametrize(("seconds", "times", "limits"), [(1.0, [0.0, 0.3], [1.0, 1.2]), (0.2, [0.05, 1.0], [0.2, 4.0])])
def test_a_call_may_take_the_seconds_or_four_times_the_reference(
    seconds: float, times: list[float], limits: list[float], tmp_path: Path
):
    there = SuiteFiles(tmp_path, "k")
    there.write_inputs(TWO)
    write_frames(there.expected, [wire.encode(2), wire.encode(4)])
    there.write_times(times)
    job = {"cache": str(tmp_path), "grading": "default", "seconds": seconds}
    loaded = Suite("n", job, {"key": "k", "oracle": "equal", "atol": 0.0})
    assert loaded.limits == limits
    assert loaded.seconds() == sum(limits) + 1


def test_all_calls_together_may_take_a_minute_and_a_second(tmp_path: Path):
    there = SuiteFiles(tmp_path, "k")
    there.write_inputs(suite(*range(100)))
    write_frames(there.expected, [wire.encode(0)] * 100)
    there.write_times([0.0] * 100)
    job = {"cache": str(tmp_path), "grading": "default", "seconds": 3.0}
    assert Suite("n", job, {"key": "k", "oracle": "equal", "atol": 0.0}).seconds() == 61


def test_a_program_as_slow_as_a_slow_reference_passes(grader: Grader, outcomes: Outcomes):
    slow, endless = BURN.format(0.25), BURN.format(99)
    found = outcomes(grader, [program(s, (suite(1),), slow, seconds=0.1) for s in (slow + "# mine\n", endless)])
    assert [o.verdict for o in found] == [Verdict.PASSED, Verdict.TIMEOUT]
    assert found[1].call == "1"


def test_a_program_slower_than_the_seconds_times_out_where_the_reference_is_quick(grader: Grader, outcomes: Outcomes):
    quick = "def f(x):\n    return x\n"
    found = outcomes(grader, [program(BURN.format(s), (suite(1, 5),), quick, seconds=0.3) for s in (0.05, 3)])
    assert [o.verdict for o in found] == [Verdict.PASSED, Verdict.TIMEOUT]
    assert found[1].message.startswith("still running after 0.3 s of CPU")


# references that do not run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("def f(x):\n    return 1 / (3 - x)\n", "on test input 1: ZeroDivisionError: division by zero"),
        ("def f(x) return x\n", "on test input 0: SyntaxError: "),
        ("def g(x):\n    return x\n", "on test input 0: f is not defined"),
        ("import nothing\ndef f(x):\n    return x\n", "on test input 0: ModuleNotFoundError: No module named 'nothing'"),
        ("def f(x):\n    if x == 3:\n        exit()\n    return x\n", "on test input 1: SystemExit"),
        ("import os\ndef f(x):\n    if x == 3:\n        os._exit(0)\n    return x\n", "on test input 1: exited with status 0"),
        ("def f(x):\n    raise ValueError('a\\nb\\x1b')\n", "on test input 0: ValueError: a b"),
        ("def f(x):\n    return bytearray(1 << 30)\n", "on test input 0: MemoryError"),
    ],
    ids=lambda text: text.strip().replace("\n", " ")[:40],
)
def test_a_reference_that_fails_is_one_line_with_problem_and_input(reference: str, why: str, fresh: Grader):
    with pytest.raises(DataError) as caught:
        list(fresh.run([program(ADD, reference=reference)]))
    message = str(caught.value)
    assert message.startswith(f"the reference solution of set/7 does not run in the sandbox: {why}")
    assert message.isprintable()


def test_a_reference_that_hangs_is_one_line_with_problem_and_input(fresh: Grader, monkeypatch: pytest.MonkeyPatch):
    soon = "import spa_bench.grading.worker as w; w.REFERENCE_SECONDS = 0.3; w.main(sys.argv[2])"
    monkeypatch.setattr(sessions, "_START", f"import sys; sys.path.insert(0, sys.argv[1]); {soon}")
    reference = "def f(x):\n    while x == 3:\n        pass\n    return x\n"
    with pytest.raises(DataError, match=r"of set/7 does not run in the sandbox: on test input 1: still running after 0.3 s"):
        list(fresh.run([program(ADD, reference=reference)]))


def test_a_reference_that_failed_is_tried_again_the_next_time(fresh: Grader):
    for _ in range(2):
        with pytest.raises(DataError):
            list(fresh.run([program(ADD, reference="def f(x):\n    raise ValueError\n")]))


def test_the_problem_whose_reference_fails_is_named_among_others(fresh: Grader):
    bad = Program(source=ADD, entry_point="f", tests=Calls((TWO,), "def f(x):\n    raise ValueError\n"), problem="set/8")
    with pytest.raises(DataError, match="the reference solution of set/8 "):
        list(fresh.run([program(ADD), bad, program(ADD, reference=ADD + "#\n")]))


# several suites ------------------------------------------------------------------------------------------------------


def test_the_suite_that_failed_is_named_and_those_behind_it_do_not_run(grader: Grader, outcomes: Outcomes):
    both = (suite(1, 3), suite(5, 7, name="plus"))
    sources = [ADD, "def f(x):\n    return x + (x < 7)\n", "def f(x):\n    return x + (x > 3)\n"]
    found = outcomes(grader, [program(s, both) for s in sources])
    assert [(o.verdict, o.suite, o.call) for o in found] == [
        (Verdict.PASSED, "", ""),
        (Verdict.WRONG, "plus", "7"),
        (Verdict.WRONG, "base", "1"),
    ]


def test_each_suite_runs_in_a_fresh_process(grader: Grader, outcomes: Outcomes):
    remembers = "seen = []\ndef f(x):\n    seen.append(x)\n    return x + 1 if len(seen) <= 2 else 0\n"
    [found] = outcomes(grader, [program(remembers, (suite(1, 3), suite(5, 7, name="plus")))])
    assert found.verdict == Verdict.PASSED


def test_an_empty_suite_passes_and_hides_nothing(grader: Grader, outcomes: Outcomes):
    both = (suite(1, 3), suite(name="plus"))
    found = outcomes(grader, [program(s, both) for s in (ADD, "def f(x):\n    return x\n", "def f(x) 1\n")])
    assert [(o.verdict, o.suite) for o in found] == [(Verdict.PASSED, ""), (Verdict.WRONG, "base"), (Verdict.RAISED, "base")]


def test_what_a_program_does_to_its_arguments_stays_with_it(grader: Grader, outcomes: Outcomes):
    sums = "def f(xs):\n    return sum(xs)\n"
    clears = "def f(xs):\n    total = sum(xs)\n    xs.clear()\n    return total\n"
    tests = suite([1, 2], [3, 4])
    found = outcomes(grader, [program(s, (tests,), sums) for s in (clears, sums, clears, sums)])
    assert [o.verdict for o in found] == [Verdict.PASSED] * 4


def test_more_suites_than_a_worker_keeps_are_still_told_apart(grader: Grader, outcomes: Outcomes):
    of = "def f(x):\n    return x + {}\n".format
    programs = [program(of(i), reference=of(i % 7)) for i in range(14)]
    assert [o.verdict for o in outcomes(grader, programs)] == [Verdict.PASSED] * 7 + [Verdict.WRONG] * 7
    assert [o.verdict for o in outcomes(grader, programs[::-1])] == [Verdict.WRONG] * 7 + [Verdict.PASSED] * 7


# how programs of suites fail -----------------------------------------------------------------------------------------


FAILURES = [  # (source, verdict, message, arguments of the first call that failed)
    ("def f(x):\n    return 2\n", Verdict.WRONG, "returned 2, expected 4", "3"),
    ("def f(x):\n    return object()\n", Verdict.WRONG, "returned <object>, expected 2", "1"),
    ("def f(x):\n    return {'a': (x for x in ())}\n", Verdict.WRONG, "returned {'a': <generator>}, expected 2", "1"),
    ("def f(x):\n    return {'a': [x] * 99}\n", Verdict.WRONG, "returned {'a': [1, 1, 1, 1, 1, 1, ...]}, expected 2", "1"),
    ("def f(x):\n    return x + 1 if x < 3 else 1 / 0\n", Verdict.RAISED, "ZeroDivisionError: division by zero", "3"),
    ("def f(x):\n    return f(x)\n", Verdict.RAISED, "RecursionError: maximum recursion depth exceeded", "1"),
    ("1 / 0\ndef f(x):\n    return x + 1\n", Verdict.RAISED, "ZeroDivisionError: division by zero", ""),
    ("def f(x)\n", Verdict.RAISED, "SyntaxError: expected ':' (<program>, line 1)", ""),
    ("def g(x):\n    return x\n", Verdict.RAISED, "f is not defined", ""),
    ("f = 3\n", Verdict.RAISED, "TypeError: 'int' object is not callable", "1"),
    ("def f():\n    return 2\n", Verdict.RAISED, "TypeError: f() takes 0 positional arguments but 1 was given", "1"),
    ("def f(x):\n    return bytearray(1 << 30)\n", Verdict.MEMORY, "MemoryError", "1"),
    ("def f(x):\n    exit()\n", Verdict.CRASHED, "SystemExit before its tests were done", "1"),
    ("exit()\n", Verdict.CRASHED, "SystemExit before its tests were done", "1"),
    ("import os\ndef f(x):\n    os._exit(3)\n", Verdict.CRASHED, "exited with status 3 before its tests were done", "1"),
]
PROGRAMS = {source: program(source) for source, *_ in FAILURES}


@pytest.mark.parametrize(("source", "verdict", "message", "call"), FAILURES, ids=repr)
def test_an_outcome_says_how_it_failed_and_in_which_call(
    source: str, verdict: Verdict, message: str, call: str, graded: dict[str, Outcome]
):
    found = graded[source]
    assert (found.verdict, found.message, found.call) == (verdict, message, call)
    assert (found.suite, found.mark) == ("base", "")
