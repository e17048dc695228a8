"""Behaviours: what programs do on the first inputs of their problem, right or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spa_bench.errors import SandboxError, UsageError
from spa_bench.grading import Behaved, Calls, Check, Grader, Grading, Program
from spa_bench.grading.behave import Prober
from spa_bench.grading.probes import PROBES
from spa_bench.sandbox import choose
from spa_bench.types import CallSuite, Verdict

ADD = "def f(x):\n    return x + 1\n"
TWENTY = CallSuite(name="base", inputs=lambda: [[i] for i in range(20)])
DATA = Calls((TWENTY,), ADD)
CODE = Check("def check(candidate):\n    for i in range(20):\n        assert candidate(i) == i + 1\n", ADD)
KINDS = {"data": DATA, "code": CODE}


def program(source: str, tests: Calls | Check = DATA, seconds: float = 0.4) -> Program:
    return Program(source=source, entry_point="f", tests=tests, problem="set/7", seconds=seconds)


def suite(*arguments: Any, **changes: Any) -> CallSuite:
    return CallSuite(**{"name": "base", "inputs": lambda: [[a] for a in arguments], **changes})


def returning(expression: str) -> str:
    return f"def f(x):\n    return {expression}\n"


Behave = Callable[..., list[Behaved]]


@pytest.fixture(scope="session")
def behave(grader: Grader) -> Behave:
    """Behaviours in the order of the programs; each index comes once."""

    def run(*programs: Program, by: Grader = grader) -> list[Behaved]:
        pairs = list(by.behaviours(programs))
        found = dict(pairs)
        assert len(pairs) == len(found) == len(programs)
        return [found[i] for i in range(len(programs))]

    return run


def sources(behave: Behave, tests: Calls | Check, *texts: str, **how: Any) -> list[Behaved]:
    return behave(*(program(text, tests) for text in texts), **how)


# the same and not the same -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_programs_that_differ_in_code_alone_have_one_digest(kind: str, behave: Behave):
    other = (
        "def g(n):\n    return n\ndef f(number):\n    for _ in range(1):\n        number = g(number) + 1.0\n    return number\n"
    )
    found = sources(behave, KINDS[kind], ADD, other, ADD + "# a comment\n")
    assert found == [Behaved(found[0].digest, True, PROBES, PROBES)] * 3
    assert len(bytes.fromhex(found[0].digest)) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_on_one_probe_is_a_difference(kind: str, behave: Behave):
    first, last, beyond, reference = sources(
        behave,
        KINDS[kind],
        *(returning(f"x + 1 if x != {place} else 99") for place in (0, PROBES - 1, PROBES)),
        ADD,
    )
    assert first.digest != last.digest
    assert first.digest != reference.digest != last.digest
    assert beyond == reference, "what comes after the last probe is not seen"
    assert (first.ran, first.right, last.right) == (True, PROBES - 1, PROBES - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_that_are_wrong_in_different_ways_ran_and_differ(kind: str, behave: Behave):
    found = sources(behave, KINDS[kind], returning("x"), returning("x - 1"), returning("None"), returning("x * 1"))
    assert all(b.ran and b.right == 0 for b in found)
    assert len({b.digest for b in found}) == 3
    assert found[0].digest == found[3].digest


def test_sets_and_dictionaries_have_no_order(behave: Behave):
    wanted = returning("({'a', 'b', x}, {'k': x, 'l': 2})")
    tests = Calls((suite(1, 5),), wanted)
    first, second, list_ = sources(
        behave, tests, wanted, returning("({x, 'b', 'a'}, {'l': 2, 'k': x})"), returning("(['a', 'b', x], {'k': x, 'l': 2})")
    )
    assert first == second
    assert list_.digest != first.digest
    assert (first.right, list_.right) == (2, 0)


GARBAGE = [
    "def f(x:\n",
    "def g(x):\n    return x\n",
    "import nothing\n",
    "raise SystemExit\n",
    "def f():\n    return 1\n",
    "f = 3\n",
]


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_did_not_run(kind: str, behave: Behave):
    found = sources(behave, KINDS[kind], ADD, *GARBAGE, returning("y"))
    assert all(not b.ran and b.right == 0 and b.probes == PROBES for b in found[1:])
    assert found[0].digest not in {b.digest for b in found[1:]}


def test_an_exception_does_not_end_a_program_and_its_class_is_what_it_did(behave: Behave):
    texts = ["    if x == 3:\n        raise {}('{}')\n    return x + 1\n".format(*pair) for pair in
             (("ValueError", "a"), ("ValueError", "b"), ("KeyError", "a"))]  # fmt: skip
    value, message, key = sources(behave, DATA, *("def f(x):\n" + text for text in texts))
    assert value == message
    assert value.digest != key.digest
    assert value.right == PROBES - 1
    assert not value.ran


def test_raising_where_the_reference_raises_is_right_and_running(behave: Behave):
    reference = "def f(x):\n    if x < 2:\n        raise ValueError(x)\n    return x\n"
    body = "def check(candidate):\n    for i in range(4):\n        try:\n            assert candidate(i) == i\n"
    tests = Check(body + "        except ValueError:\n            assert i < 2\n", reference)
    for kind in (tests, Calls((suite(0, 1, 2, 3),), reference)):
        same, other, never, too_often = sources(
            behave, kind, reference, reference.replace("Value", "Key"), returning("x"), reference.replace("2", "3")
        )
        assert (same.ran, same.right) == (True, 4)
        assert (other.ran, other.right) == (True, 2)
        assert (never.ran, never.right) == (True, 2)
        assert (too_often.ran, too_often.right) == (False, 3)
        assert len({b.digest for b in (same, other, never, too_often)}) == 4


# arguments -----------------------------------------------------------------------------------------------------------


def test_what_a_program_does_to_its_arguments_stays_in_that_call(behave: Behave):
    shared = [1, 2]
    tests = Calls((suite(shared, shared, [3]),), "def f(x):\n    return sum(x)\n")
    spoils = "kept = []\ndef f(x):\n    n = sum(x)\n    kept.append(x)\n    for k in kept:\n        k.append(9)\n    return n\n"
    clean, spoiled = sources(behave, tests, tests.reference, spoils)
    assert clean == spoiled
    assert clean.right == 3


def test_state_of_a_program_stays_in_it_and_goes_from_probe_to_probe(behave: Behave):
    counts = "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n\n"
    first, second, right = sources(behave, DATA, counts, counts + "#\n", ADD)
    assert first == second == right, "on the probes 0, 1, ... it cannot be told from the reference"


def test_tests_that_are_code_give_their_first_distinct_calls(behave: Behave):
    reference = "def f(a, b=0, *, c=0):\n    return [a, b, c]\n"
    calls = "candidate(1), candidate(1), candidate(1, 2), candidate(a=1, c=3), candidate([1], c=range(2)), candidate(1)"
    tests = Check(f"def check(candidate):\n    {calls}\n    assert candidate(1, 2) == [1, 2, 0]\n", reference)
    right, keyword = sources(behave, tests, reference, "def f(a, b=0, **k):\n    return [a, b, k.get('c', 7)]\n")
    assert (right.right, right.probes) == (4, 4)
    assert (keyword.right, keyword.ran) == (2, True)


NO_PROBES = {
    "a reference that does not pass": Check("def check(candidate):\n    assert candidate(1) == 3\n", ADD),
    "no reference": Check("def check(candidate):\n    assert candidate(1) == 2\n", "def f(x):\n"),
    "a function as an argument": Check("def check(candidate):\n    candidate(len)\n", "def f(x):\n    return 1\n"),
    "a generator as a result": Check("def check(candidate):\n    list(candidate(1))\n", "def f(x):\n    yield x\n"),
    "no call": Check("def check(candidate):\n    pass\n", ADD),
    "no inputs": Calls((suite(),), ADD),
    "no suites": Calls((), ADD),
    "a reference that leaves": Calls((TWENTY,), "import os\ndef f(x):\n    os._exit(0)\n"),
}


@pytest.mark.parametrize("why", NO_PROBES)
def test_a_problem_without_probes_has_no_digests(why: str, behave: Behave):
    assert sources(behave, NO_PROBES[why], ADD, "nonsense") == [Behaved("", False, 0, 0)] * 2


def test_a_probe_where_the_reference_s_value_is_too_large_is_left_out(behave: Behave):
    reference = returning("[[]] if x else (lambda a: (a.append(a), a)[1])([])")
    [found] = sources(behave, Calls((suite(0, 1, 2),), reference), reference)
    assert (found.probes, found.right, found.ran) == (2, 2, True)


# ends ----------------------------------------------------------------------------------------------------------------

ENDS = {
    "loops": "        while True: pass\n",
    "sleeps": "        __import__('time').sleep(60)\n",
    "takes memory": "        bytearray(1 << 34)\n",
    "leaves": "        raise SystemExit\n",
    "exits": "        __import__('os')._exit(0)\n",
    "kills itself": "        __import__('os').kill(__import__('os').getpid(), 9)\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_who_does_not_come_to_the_last_probe_did_not_run_and_what_came_before_counts(kind: str, behave: Behave):
    texts = [f"def f(x):\n    if x == {at}:\n{end}    return x + 1\n" for end in ENDS.values() for at in (0, 3)]
    found = behave(*(program(text, KINDS[kind], seconds=0.1) for text in [ADD, *texts]))
    assert [(b.ran, b.right, b.probes) for b in found[1:]] == [(False, right, PROBES) for _ in ENDS for right in (0, 3)]
    assert len({b.digest for b in found}) == 1 + 2 * 3, "timeout, memory and crashed are told apart, each at both places"


def test_a_program_may_take_four_times_what_the_reference_takes_here(behave: Behave):
    burn = (
        "import time\ndef f(x):\n    end = time.process_time() + {}\n    while time.process_time() < end: pass\n    return x\n"
    )
    tests = Calls((suite(1, 2),), burn.format(0.2))
    twice, eight = behave(*(program(burn.format(seconds), tests, seconds=0.05) for seconds in (0.3, 1.6)))
    assert (twice.ran, twice.right) == (True, 2)
    assert (eight.ran, eight.right) == (False, 0)


# hostile values ------------------------------------------------------------------------------------------------------

LIES = "class A({}):\n    __eq__ = lambda *_: True\n    __hash__ = lambda *_: 1\n    __ne__ = lambda *_: False\n"
LIES += "    __int__ = __index__ = __add__ = __len__ = lambda *_: 1\n    __class__ = property(lambda _: int)\n"
LIES += "def f(x):\n    return A()\n"
META = "class M(type):\n    __name__ = __module__ = property(lambda _: 1 / 0)\nclass A({}, metaclass=M): pass\n"
META += "def f(x):\n    {} A()\n"
FORGE = "import os\ndef f(x):\n    os.write(3, {})\n    os._exit(0)\n"
HOSTILE = [
    *(LIES.format(base) for base in ("object", "int", "float", "str", "list", "dict", "set", "tuple")),
    META.format("object", "return"),
    META.format("ValueError", "raise"),
    returning("(lambda a: (a.append(a), a)[1])([])"),
    returning("(lambda a: (a.update(a=a), a)[1])({})"),
    returning("float('nan')"),
    returning("10 ** 100_000"),
    returning("'a' * (1 << 23)"),
    returning("[0] * (1 << 20)"),
    returning("(x for x in ())"),
    returning("f"),
    returning("type(x)"),
    returning("globals()"),
    returning("{i * (2 ** 61 - 1) for i in range(20_000)}"),
    "from functools import reduce\ndef f(x):\n    return reduce(lambda a, _: (a, a), range(40), ())\n",
    FORGE.format("b'x' * 99"),
    FORGE.format("b'O' + bytes(8) + b'\\xff' * 4"),
    FORGE.format("(b'O' + bytes(8) + b'\\x01\\x00\\x00\\x00z') * 16"),
    FORGE.format("(b'O' + bytes(8) + b'\\x02\\x00\\x00\\x00(\\xff') * 16"),
    "import mmap, gc\nfor o in gc.get_objects():\n    if isinstance(o, mmap.mmap):\n        o[:] = b'\\xff' * len(o)\n"
    + returning("0"),
    "import sys\nsys.modules['spa_bench.sandbox.inside.wire'].encode = lambda v: b'N'\ndef f(x):\n    return 0\n",
]


@pytest.mark.parametrize("sandbox", ["bwrap", "landlock"])
def test_hostile_values_never_crash_and_never_pass_for_the_reference(sandbox: str, behave: Behave, grader: Grader):
    try:
        jail = choose(sandbox)
    except SandboxError as error:
        pytest.skip(str(error))
    found = behave(*(program(text) for text in [*HOSTILE, ADD]), by=replace(grader, sandbox=jail, workers=2))
    right = found.pop()
    assert right == Behaved(right.digest, True, PROBES, PROBES), "the program that comes last is none the worse"
    for text, behaved in zip(HOSTILE, found, strict=True):
        assert behaved.digest != right.digest, text
        assert behaved.right <= 1, text  # f(0) == 1 may be met by chance


def test_a_value_larger_than_any_honest_one_is_its_type(behave: Behave):
    texts = [returning(f"{value} * (1 << 24)") for value in ("'a'", "'b'", "b'a'")]
    a, b, other = sources(behave, DATA, *texts)
    assert a == b
    assert a.digest != other.digest
    assert (a.ran, a.right) == (True, 0)


def test_a_program_finds_its_arguments_in_memory_and_no_expected_value(behave: Behave):
    looks = "import gc\nWORD = 'SEC' + 'RET'\ndef f(x):\n    near = (i for o in gc.get_objects() if type(o) in (list, tuple)"
    looks += " for i in o)\n"
    looks += "    return any(type(i) in (str, bytes) and WORD in str(i) and i is not WORD for i in near)\n"
    hidden = "def f(x):\n    return ['SEC' 'RET']\n"
    [among_arguments] = sources(behave, Calls((suite("SECRET"),), returning("True")), looks)
    [among_results] = sources(behave, Calls((suite("x"),), hidden), looks)
    [says_no] = sources(behave, Calls((suite("x"),), hidden), returning("False"))
    assert among_arguments.right == 1, "this is a way to look"
    assert among_results.digest == says_no.digest


# rules ---------------------------------------------------------------------------------------------------------------


def test_right_is_by_the_rules_of_the_comparison(behave: Behave):
    reference = returning("[x / 3]")
    near = returning("[x / 3 + 4e-7]")
    close, far = sources(behave, Calls((suite(1.0, 2.0),), reference), near, returning("[x / 3 + 4e-6]"))
    assert (close.right, far.right) == (2, 0)
    sets = Calls((suite([1, 2], oracle="as sets"),), returning("x"))
    assert sources(behave, sets, returning("x[::-1]"))[0].right == 1
    there = Calls((suite("a", oracle="not none"),), returning("__import__('re').match('a', x) and 5"))
    assert [b.right for b in sources(behave, there, returning("True"), returning("'x'"), returning("None"))] == [1, 1, 0]
    wide = Calls((suite(1, atol=0.5),), returning("x"))
    assert [b.right for b in sources(behave, wide, returning("x + 0"), returning("[x]"))] == [1, 0]


def test_whose_rules_decide_is_the_grader_s(behave: Behave, grader: Grader):
    nan = returning("float('nan')")
    tests = Calls((suite(1),), nan)
    assert sources(behave, tests, nan)[0].right == 1
    theirs = sources(behave, tests, nan, by=replace(grader, grading=Grading.EVALPLUS))
    assert (theirs[0].right, theirs[0].ran) == (0, True)


# many ----------------------------------------------------------------------------------------------------------------


def mixed() -> list[Program]:
    texts = [ADD, returning("{str(x), 'b', 'c'}"), returning("1 / (x - 2)"), *HOSTILE[:4], *GARBAGE, returning("object()")]
    texts += ["import random\n" + returning("random.random()"), f"def f(x):\n    if x == 5:\n{ENDS['loops']}    return x\n"]
    texts += [returning(f"x * {i}") for i in range(9)]
    return [program(text, tests, seconds=0.1) for text in texts for tests in KINDS.values()]


@pytest.mark.slow
def test_behaviours_do_not_depend_on_workers_sandbox_order_or_cache(behave: Behave, grader: Grader, tmp_path: Path):
    first = behave(*mixed())
    assert behave(*mixed(), by=replace(grader, workers=3)) == first
    assert behave(*reversed(mixed()), by=replace(grader, cache=tmp_path))[::-1] == first
    for name in ("bwrap", "landlock"):
        try:
            sandbox = choose(name)
        except SandboxError:
            continue
        assert behave(*mixed(), by=replace(grader, sandbox=sandbox)) == first, name


def test_equal_programs_run_once(fresh: Grader, behave: Behave, monkeypatch: pytest.MonkeyPatch):
    ran: list[Sequence[Any]] = []
    execute = Grader._execute

    def watched(self: Grader, jobs: Sequence[Any]) -> Any:
        ran.append(jobs)
        return execute(self, jobs)

    monkeypatch.setattr(Grader, "_execute", watched)
    found = behave(*[program(ADD), program(returning("x"))] * 3, program(ADD, CODE), by=fresh)
    assert [len(jobs) for jobs in ran] == [2, 3]  # two references, three programs
    assert found[0] == found[2] == found[4] == found[6]
    assert found[1] == found[3] == found[5] != found[0]


def test_probes_that_are_known_are_not_looked_for_again_unless_broken(fresh: Grader, behave: Behave):
    told: list[int] = []
    watched = replace(fresh, progress=lambda done, total: told.append(total))
    first = sources(behave, CODE, ADD, by=watched)
    assert sources(behave, CODE, ADD, by=watched) == first
    assert told == [1]
    for damage in ("*.inputs", "*.expected", "*.json"):
        [path] = (fresh.cache / "probes").glob(damage)
        path.write_bytes(path.read_bytes()[:-3])
        assert sources(behave, CODE, ADD, by=watched) == first
    assert told == [1] * 4


def test_no_workers_and_a_cache_that_cannot_be_written_are_one_line(fresh: Grader, behave: Behave, tmp_path: Path):
    with pytest.raises(UsageError, match="workers=0; at least 1 is needed"):
        behave(program(ADD), by=replace(fresh, workers=0))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write the cache .*file/probes: .*; set SPA_BENCH_CACHE"):
        behave(program(ADD), by=replace(fresh, cache=tmp_path / "file"))


def test_nothing_to_run_is_nothing(behave: Behave):
    assert behave() == []


def test_a_program_with_which_the_sandbox_ended_did_not_run(fresh: Grader, behave: Behave):
    behave(program(ADD), by=fresh)
    [path] = (fresh.cache / "probes").glob("*.expected")
    job = {"cache": str(path.parent), "key": path.stem, "seconds": 1.0, "together": False, "oracle": "equal", "atol": 0.0}
    prober = Prober(None, Grading.DEFAULT)  # type: ignore[arg-type]  # there is none any more
    ends = [prober.gone({**job, "do": "behave"}, verdict) for verdict in (Verdict.CRASHED, Verdict.TIMEOUT)]
    assert [(e["ran"], e["right"], e["probes"]) for e in ends] == [(False, 0, PROBES)] * 2
    assert ends[0]["digest"] != ends[1]["digest"]
    assert prober.gone({**job, "do": "probes"}, Verdict.CRASHED) == {"probes": 0}
