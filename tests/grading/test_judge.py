"""Tests that are code: the program is a proxy in them, and little shows of that."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import pytest

from spa_bench.grading import Check, Grader, Outcome, Program
from spa_bench.types import Verdict

Outcomes = Callable[[Grader, Sequence[Program]], list[Outcome]]
PROGRAMS: dict[str, Program] = {}


def case(name: str, source: str, tests: str, *, helpers: str = "", one_process: bool = False, seconds: float = 1.0) -> str:
    """Register a program to be graded with all others of this module; `tests` is the body of check(candidate)."""
    assert name not in PROGRAMS
    body = textwrap.indent(textwrap.dedent(tests).strip(), "    ")
    check = Check(f"def check(candidate):\n{body}\n", helpers, one_process)
    PROGRAMS[name] = Program(source=textwrap.dedent(source), entry_point="f", tests=check, problem="set/7", seconds=seconds)
    return name


def returning(expression: str) -> str:
    return f"import collections, decimal, fractions\nimport numpy as np\ndef f(*a, **k):\n    return {expression}\n"


# right programs ------------------------------------------------------------------------------------------------------

PLAIN = "(None, True, 1, -10**30, 0.1, 1j, 'é\\x00\\ud800', b'a', [1, [2]], (1, (2,)), {1}, frozenset({1}), {'a': {2: 3}}, ...)"
ECHO = "def f(*a, **k):\n    return a, k\n"
PASSES = [
    case("arguments arrive in order", ECHO, "assert candidate(1, 'b', [3]) == ((1, 'b', [3]), {})"),
    case("keyword arguments arrive by name", ECHO, "assert candidate(1, x=2, y=None) == ((1,), {'x': 2, 'y': None})"),
    case(
        "default values hold",
        "def f(a, b=2, *, c=3):\n    return [a, b, c]\n",
        """
        assert candidate(1) == [1, 2, 3]
        assert candidate(1, 5) == [1, 5, 3]
        assert candidate(b=7, a=0, c=9) == [0, 7, 9]
        """,
    ),
    case(
        "arguments of all plain kinds arrive as they are",
        "def f(x):\n    return repr(x), type(x).__name__\n",
        f"for x in {PLAIN}:\n    assert candidate(x) == (repr(x), type(x).__name__), x",
    ),
    case(
        "arguments of other kinds of the standard library arrive as they are",
        "def f(x):\n    return repr(x)\n",
        """
        from collections import deque
        from decimal import Decimal
        from fractions import Fraction
        for x in (range(2, 9, 3), Decimal('1.50'), Fraction(2, 3), deque([1, 2]), bytearray(b'a')):
            assert candidate(x) == repr(x), x
        """,
    ),
    case(
        "a list is changed in place",
        "def f(xs):\n    xs.sort()\n",
        "xs = [3, 1, 2]; assert candidate(xs) is None; assert xs == [1, 2, 3]",
    ),
    case(
        "tests may want StopIteration, or take any exception",
        "def f(x):\n    return next(iter(x))\n",
        """
        for kind in (StopIteration, Exception):
            try:
                candidate([])
                assert False
            except kind:
                pass
        assert list(map(candidate, [[1], [2]])) == [1, 2]
        """,
    ),
    case("a list is emptied in place", "def f(xs):\n    xs.clear()\n", "xs = [3]; candidate(xs); assert xs == []"),
    case(
        "a list grows in place",
        "def f(xs):\n    xs += [4, 5]\n",
        "xs = [3]; also = xs; candidate(xs); assert also == [3, 4, 5]",
    ),
    case(
        "a dictionary is changed in place, order included",
        "def f(d):\n    d['new'] = d.pop('a')\n    d['b'] += 1\n",
        "d = {'a': 1, 'b': 2}; candidate(d); assert list(d.items()) == [('b', 3), ('new', 1)]",
    ),
    case(
        "a set is changed in place", "def f(s):\n    s.discard(1); s.add(3)\n", "s = {1, 2}; candidate(s); assert s == {2, 3}"
    ),
    case(
        "a bytearray is changed in place", "def f(b):\n    b[0] = 66\n", "b = bytearray(b'AA'); candidate(b); assert b == b'BA'"
    ),
    case(
        "what lies in a container is changed in place",
        "def f(x, t):\n    x[0].append(1); x[1]['a'].add(2); t[0].append(3); x.append(4)\n",
        """
        inner, s, third = [], set(), []
        x = [inner, {'a': s}]
        candidate(x, (third, 5))
        assert (inner, s, third, x) == ([1], {2}, [3], [[1], {'a': {2}}, 4])
        """,
    ),
    case(
        "a keyword argument is changed in place",
        "def f(*, xs):\n    xs.append(len(xs))\n",
        "xs = []; candidate(xs=xs); candidate(xs=xs); assert xs == [0, 1]",
    ),
    case(
        "an argument that the program rebinds stays", "def f(xs):\n    xs = [1]\n", "xs = [0]; candidate(xs); assert xs == [0]"
    ),
    case(
        "a deque is changed in place",
        "def f(d):\n    d.append(1)\n",
        "from collections import deque\nd = deque(); candidate(d); assert list(d) == [1]",
    ),
    case("results of all plain kinds come back as they are", returning(PLAIN), f"assert repr(candidate()) == repr({PLAIN})"),
    case("a NaN comes back", returning("float('nan')"), "x = candidate(); assert x != x"),
    case("a very long integer comes back", returning("7 ** 9999"), "assert candidate() == 7 ** 9999"),
    case("a megabyte comes back", returning("'ab' * 500_000"), "assert candidate() == 'ab' * 500_000"),
    case("a megabyte arrives", "def f(x):\n    return len(x)\n", "assert candidate('ab' * 500_000) == 1_000_000"),
    case(
        "a Counter comes back as a dictionary",
        returning("collections.Counter('aab')"),
        "from collections import Counter\nassert candidate() == Counter('aab') == {'a': 2, 'b': 1}",
    ),
    case(
        "a range comes back",
        returning("range(1, 9, 2)"),
        "assert candidate() == range(1, 9, 2) and isinstance(candidate(), range)",
    ),
    case(
        "dictionary views come back",
        returning("({1: 2}.keys(), {1: 2}.values(), {1: 2}.items())"),
        "k, v, i = candidate()\nassert k == {1}; assert list(v) == [2]; assert i == {(1, 2)}",
    ),
    case(
        "exact numbers come back",
        returning("[decimal.Decimal('1.50'), fractions.Fraction(2, 6)]"),
        "from fractions import Fraction\nd, q = candidate()\nassert str(d) == '1.50'; assert q == Fraction(1, 3)",
    ),
    case(
        "a deque comes back",
        returning("collections.deque([1, 2])"),
        "from collections import deque\nassert candidate() == deque([1, 2])",
    ),
    case(
        "numpy scalars come back as they are",
        returning("[np.float64(0.5), np.int32(3), np.bool_(True)]"),
        """
        import numpy as np
        x, y, z = candidate()
        assert (x, y) == (0.5, 3) and x.dtype == 'float64' and y.dtype == 'int32' and z and z is not True
        """,
    ),
    case(
        "exceptions are caught by their class",
        "def f(x):\n    return [1][x]\n",
        """
        try:
            candidate(5)
        except IndexError as error:
            assert str(error) == 'list index out of range'
        else:
            assert False
        """,
    ),
    case(
        "exceptions keep their arguments",
        "def f(x):\n    raise KeyError(x, 7, None)\n",
        """
        try:
            candidate('a')
        except LookupError as error:
            assert error.args == ('a', 7, None)
        else:
            assert False
        """,
    ),
    case(
        "exceptions of the program's own are caught by the classes of Python that they are made of",
        "class Odd(ValueError):\n    pass\nclass Odder(Odd):\n    pass\ndef f():\n    raise Odder('so odd')\n",
        """
        try:
            candidate()
        except ValueError as error:
            assert type(error) is not ValueError and type(error).__name__ == 'Odder' and str(error) == 'so odd'
        else:
            assert False
        """,
    ),
    case(
        "exceptions with arguments that are not plain are caught by their class",
        "def f():\n    return bytes([255]).decode()\n",
        """
        try:
            candidate()
        except ValueError as error:
            assert "can't decode byte 0xff" in str(error)
        else:
            assert False
        """,
    ),
    case(
        "an exception of the program that is a plain Exception is one",
        "class Odd(Exception):\n    pass\ndef f():\n    raise Odd\n",
        """
        try:
            candidate()
        except Exception as error:
            assert type(error).__name__ == 'Odd' and type(error).__base__ is Exception
        else:
            assert False
        """,
    ),
    case(
        "a list that a program changed before it raised is changed",
        "def f(xs):\n    xs.append(1)\n    raise ValueError\n",
        """
        xs = [0]
        try:
            candidate(xs)
        except ValueError:
            pass
        assert xs == [0, 1]
        """,
    ),
    case(
        "errors in how it is called are the caller's",
        "def f(x):\n    return x\n",
        "try:\n    candidate()\nexcept TypeError:\n    return\nassert 0",
    ),
    case(
        "the program is there after an exception",
        "def f(x):\n    return 1 // x\n",
        "try:\n    candidate(0)\nexcept ZeroDivisionError:\n    pass\nassert candidate(1) == 1",
    ),
    case("the candidate has its name", "def f():\n    pass\n", "assert candidate.__name__ == 'f'"),
    case("the candidate is known by its name too", "def f(x):\n    return x\n", "assert f(3) == 3 and f is candidate"),
    case(
        "the candidate is callable and can be handed on",
        "def f(x):\n    return -x\n",
        "assert sorted([1, 2], key=candidate) == [2, 1]",
    ),
    case(
        "tests use helpers of the prompt",
        "def f(xs):\n    return xs\n",
        "assert double(candidate(2)) == 4 and math.pi > 3",
        helpers="import math\ndef double(x):\n    return 2 * x\ndef f(xs):\n    return xs\n",
    ),
    case(
        "the name of the function is the program's, not the reference's",
        "def f():\n    return 'program'\n",
        "assert f() == 'program'",
        helpers="def f():\n    return 'reference'\n",
    ),
    case(
        "helpers that do not run do no harm",
        "def f(x):\n    return x\n",
        "assert candidate(1) == 1",
        helpers="def f(x):\n    '''",
    ),
    case(
        "tests print", "def f(x):\n    print('loud' * 9999)\n    return x\n", "print('tests' * 9999)\nassert candidate(1) == 1"
    ),
    case(
        "tests call it a thousand times",
        "def f(x):\n    return x + 1\n",
        "for i in range(1000):\n    assert candidate(i) == i + 1",
    ),
    case(
        "the program remembers earlier calls",
        "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n",
        "assert [candidate(i) for i in 'abc'] == [1, 2, 3]",
    ),
    case("recursion goes 900 deep", "def f(n):\n    return n and 1 + f(n - 1)\n", "assert candidate(900) == 900"),
    case(
        "endless recursion is an exception that tests can catch",
        "def f(n):\n    return f(n)\n",
        "try:\n    candidate(1)\nexcept RecursionError:\n    return\nassert 0",
    ),
    case("tests import numpy", "def f(x):\n    return x / 3\n", "import numpy as np\nassert np.isclose(candidate(1), 1 / 3)"),
    case(
        "the program imports numpy",
        "import numpy as np\ndef f(xs):\n    return float(np.mean(xs))\n",
        "assert candidate([1, 2]) == 1.5",
    ),
    case(
        "the program defines a dataclass for itself",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x):\n    return P(x).x\n",
        "assert candidate(3) == 3",
    ),
    case(
        "random numbers of the tests are seeded by them",
        "import random\ndef f(s):\n    random.seed(s)\n    return random.random()\n",
        "import random\nrandom.seed(3)\nassert candidate(3) == random.random()",
    ),
    case(
        "a callable that is no function",
        "import functools\nf = functools.partial(max, 3)\n",
        "assert candidate(5) == 5 and candidate(1) == 3",
    ),
    case("a class", "class f:\n    def __new__(cls, text):\n        return int(text)\n", "assert candidate('7') == 7"),
]


@pytest.mark.parametrize("name", PASSES)
def test_a_right_program_passes(name: str, graded: dict[str, Outcome]):
    assert graded[name] == Outcome(verdict=Verdict.PASSED)


# wrong programs ------------------------------------------------------------------------------------------------------

ONE = "assert candidate(1) == 2\nassert candidate(3, k=[4]) == 5, 'for three'"
FAILS = {
    case("an assertion fails", "def f(x, k=0):\n    return 2\n", ONE): (
        *(Verdict.WRONG, "AssertionError: for three at: assert candidate(3, k=[4]) == 5, 'for three'", "3, k=[4]"),
    ),
    case("the first assertion fails", "def f(x, k=0):\n    return 5\n", ONE): (
        *(Verdict.WRONG, "AssertionError at: assert candidate(1) == 2", "1"),
    ),
    case("the program raises", "def f(x, k=0):\n    return 2 if x == 1 else k['a']\n", ONE): (
        *(Verdict.RAISED, "TypeError: list indices must be integers or slices, not str", "3, k=[4]"),
    ),
    case("it does not compile", "def f(x) 1", ONE): (Verdict.RAISED, "SyntaxError: expected ':' (<program>, line 1)", ""),
    case("it raises before the first call", "1 / 0", ONE): (Verdict.RAISED, "ZeroDivisionError: division by zero", ""),
    case("it lacks the function", "def g(x):\n    return 2\n", ONE): (Verdict.RAISED, "f is not defined", ""),
    case("it takes other arguments", "def f():\n    return 2\n", ONE): (
        *(Verdict.RAISED, "TypeError: f() takes 0 positional arguments but 1 was given", "1"),
    ),
    case(
        "it ends a loop of the tests by StopIteration",
        "def f(x):\n    return next(iter(()))\n",
        "for found, wanted in zip(map(candidate, [1, 3]), [2, 4]):\n    assert found == wanted",
    ): (Verdict.RAISED, "StopIteration, which ended a loop of the tests", "1"),
    case(
        "it ends a loop of the tests by a StopIteration of its own",
        "class Stop(StopIteration):\n    pass\ndef f(x):\n    raise Stop(x)\n",
        "assert all(map(lambda pair: candidate(pair[0]) == pair[1], [(1, 2), (3, 4)]))",
    ): (Verdict.RAISED, "Stop: 1, which ended a loop of the tests", "1"),
    case("it recurses for ever", "def f(x):\n    return f(x)\n", ONE): (
        *(Verdict.RAISED, "RecursionError: maximum recursion depth exceeded", "1"),
    ),
    case("it leaves by exit", "def f(x):\n    exit()\n", ONE): (Verdict.CRASHED, "SystemExit before its tests were done", "1"),
    case("it leaves by _exit", "import os\ndef f(x):\n    os._exit(5)\n", ONE): (
        *(Verdict.CRASHED, "exited with status 5 before its tests were done", "1"),
    ),
    case("it leaves before the first call", "exit()", ONE): (Verdict.CRASHED, "SystemExit before its tests were done", ""),
    case("it needs too much memory", "def f(x):\n    return bytearray(1 << 30)\n", ONE): (Verdict.MEMORY, "MemoryError", "1"),
    case("it returns too much", "def f(x):\n    return b'a' * (70 << 20)\n", ONE): (
        *(Verdict.WRONG, "answered with more than 64 MB", "1"),
    ),
    case("the tests raise", "def f(x):\n    return 2\n", "assert candidate(7) == 2\nNone.x"): (
        *(Verdict.RAISED, "AttributeError: 'NoneType' object has no attribute 'x'", "7"),
    ),
    case(
        "an answer is too deep", "def f(x):\n    for _ in range(120):\n        x = [x]\n    return x\n", "assert candidate(1)"
    ): (*(Verdict.REFUSED, "nested deeper than 100 levels", "1"),),
    case("an AssertionError is the program's own", "def f(x):\n    assert x < 0\n", ONE): (
        *(Verdict.WRONG, "AssertionError at: assert candidate(1) == 2", "1"),
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_a_wrong_program_fails_with_the_reason_and_the_call(name: str, graded: dict[str, Outcome]):
    found = graded[name]
    assert (found.verdict, found.message, found.call) == FAILS[name]
    assert found.suite == ""
    assert found.mark == ("unproxied" if found.verdict == Verdict.REFUSED else "")


SLOW = {
    case("it loops for ever", "def f(x):\n    while True:\n        pass\n", ONE, seconds=0.3),
    case("it loops for ever before the first call", "while True:\n    pass\n", ONE, seconds=0.3),
    case("the tests loop for ever", "def f(x):\n    return x\n", "while True:\n    candidate(1)", seconds=0.3),
    case("it sleeps", "import time\ndef f(x):\n    time.sleep(60)\n", ONE, seconds=0.1),
}


@pytest.mark.parametrize("name", sorted(SLOW))
def test_a_program_that_does_not_end_times_out(name: str, graded: dict[str, Outcome]):
    found = graded[name]
    assert found.verdict == Verdict.TIMEOUT
    assert found.message.startswith(f"still running after {PROGRAMS[name].seconds:.3g} s of CPU")


# what cannot cross ---------------------------------------------------------------------------------------------------

OBJECT = "class P:\n    def __eq__(self, other):\n        return True\n"
UNPROXIED = {
    "a generator is returned": ("def f():\n    yield 1\n", "assert list(candidate()) == [1]", "returned generator"),
    "an iterator is returned": ("def f():\n    return map(abs, [1])\n", "assert list(candidate()) == [1]", "returned map"),
    "a function is returned": ("def f():\n    return lambda: 1\n", "assert candidate()() == 1", "returned function"),
    "an object is returned": (OBJECT + "def f():\n    return P()\n", "assert candidate() == 1", "returned __spa_bench__.P"),
    "an object lies in what is returned": (
        OBJECT + "def f():\n    return {'a': [P()]}\n",
        "assert candidate()['a'] == [1]",
        "returned ",
    ),
    "a named tuple is returned": (
        returning("collections.namedtuple('P', 'a b')(1, 2)"),
        "assert candidate().a == 1",
        "returned __spa_bench__.P",
    ),
    "a subclass of int is returned": (
        returning("type('N', (int,), {})(4)"),
        "assert type(candidate()) is not int",
        "returned __spa_bench__.N",
    ),
    "a class is returned": ("def f():\n    return int\n", "assert candidate() is int", "returned type"),
    "an array is returned": (returning("np.array([1])"), "assert candidate()[0] == 1", "returned numpy.ndarray"),
    "a function is an argument": (
        "def f(g):\n    return g(1)\n",
        "assert candidate(lambda x: 1) == 1",
        "an argument is function",
    ),
    "a generator is an argument": (
        "def f(g):\n    return sum(g)\n",
        "assert candidate(x for x in (1, 0)) == 1",
        "an argument is generator",
    ),
    "an array is an argument": (
        "def f(x):\n    return int(x.sum())\n",
        "import numpy\nassert candidate(numpy.array([1])) == 1",
        "an argument is numpy.ndarray",
    ),
    "an object lies in an argument": (
        "def f(x):\n    return 1\n",
        "class Q: pass\nassert candidate([Q()]) == 1",
        "an argument is ",
    ),
}
for _name, (_source, _tests, _) in UNPROXIED.items():
    case(f"{_name}, apart", _source, _tests)
    case(f"{_name}, together", _source, _tests, one_process=True)
    case(f"{_name}, together and wrong", _source, f"{_tests}\nassert 0, 'wrong'", one_process=True)


@pytest.mark.parametrize("name", UNPROXIED)
def test_a_program_whose_values_cannot_cross_is_refused_and_marked(name: str, graded: dict[str, Outcome]):
    found = graded[f"{name}, apart"]
    assert (found.verdict, found.mark) == (Verdict.REFUSED, "unproxied")
    assert found.message.startswith(UNPROXIED[name][2])
    assert found.message.endswith(", which cannot cross between program and tests")


@pytest.mark.parametrize("name", UNPROXIED)
def test_where_the_card_allows_it_such_a_program_is_judged_in_one_process_and_marked(name: str, graded: dict[str, Outcome]):
    assert graded[f"{name}, together"] == Outcome(verdict=Verdict.PASSED, mark="one process")
    wrong = graded[f"{name}, together and wrong"]
    assert (wrong.verdict, wrong.mark) == (Verdict.WRONG, "one process")
    assert wrong.message.startswith("AssertionError: wrong at: ")


GIVEN = "import collections as c\nassert candidate({}) == {}".format
SUBCLASSES = {  # arguments whose class the program may count on
    "a defaultdict": ("def f(d):\n    d['a'].append(1)\n    return len(d)\n", GIVEN("c.defaultdict(list)", "1")),
    "a Counter": ("def f(c):\n    return c.most_common(1)\n", GIVEN("c.Counter('aab')", "[('a', 2)]")),
    "an OrderedDict": ("def f(d):\n    return d.popitem(last=False)\n", GIVEN("c.OrderedDict(a=1, b=2)", "('a', 1)")),
    "a Counter that is changed": (
        "def f(c):\n    c['b'] = 5\n",
        "import collections\nc = collections.Counter('aab'); candidate(c); assert c['b'] == 5",
    ),
    "a named tuple": ("def f(p):\n    return p.a\n", GIVEN("c.namedtuple('P', 'a b')(1, 2)", "1")),
}
for _name, (_source, _tests) in SUBCLASSES.items():
    case(f"{_name} is an argument", _source, _tests)


@pytest.mark.parametrize("name", SUBCLASSES)
def test_a_right_program_is_not_called_wrong_for_the_class_of_its_argument(name: str, graded: dict[str, Outcome]):
    found = graded[f"{name} is an argument"]
    assert found.verdict == Verdict.PASSED or found.mark == "unproxied", found


METHODS = {
    "a Counter": (returning("collections.Counter('aab')"), "assert candidate().most_common(1) == [('a', 2)]"),
    "an OrderedDict": (
        returning("collections.OrderedDict([(2, 1), (1, 1)])"),
        "from collections import OrderedDict as O\nassert candidate() == O([(2, 1), (1, 1)]) != O([(1, 1), (2, 1)])",
    ),
    "a defaultdict": (returning("collections.defaultdict(list)"), "d = candidate(); d['a'].append(1); assert d == {'a': [1]}"),
    "a deque": (returning("collections.deque([1], 3)"), "assert candidate().maxlen == 3"),
    "a ChainMap": (returning("collections.ChainMap({1: 2}, {1: 3, 4: 5})"), "assert candidate().maps[1] == {1: 3, 4: 5}"),
    "a UserDict": (returning("collections.UserDict(a=1)"), "assert candidate().data == {'a': 1} == candidate()"),
    "a numpy scalar": (returning("np.float64(0.5)"), "assert candidate().dtype == 'float64'"),
}
for _name, (_source, _tests) in METHODS.items():
    case(f"methods of {_name} are used", _source, _tests)


@pytest.mark.parametrize("name", METHODS)
def test_a_test_may_use_the_class_of_a_result(name: str, graded: dict[str, Outcome]):
    assert graded[f"methods of {name} are used"] == Outcome(verdict=Verdict.PASSED)


# who judges in one process, and who does not -------------------------------------------------------------------------

APART = case("nothing needs one process", "def f(x):\n    return x\n", "assert candidate(1) == 1", one_process=True)


def test_a_program_whose_values_cross_is_judged_apart_even_where_the_card_allows_one_process(graded: dict[str, Outcome]):
    assert graded[APART] == Outcome(verdict=Verdict.PASSED)


LEFT_OUT = case(
    "a class of the prompt that the program leaves out",
    "def f(h):\n    return h.v\n",
    "assert candidate(N(3)) == 3",
    helpers="class N:\n    def __init__(self, v):\n        self.v = v\ndef f(h):\n    return 0\n",
    one_process=True,
)


def test_tests_beside_a_program_have_the_names_of_the_prompt_too(graded: dict[str, Outcome]):
    assert graded[LEFT_OUT] == Outcome(verdict=Verdict.PASSED, mark="one process")


# a second chance on a slow machine -----------------------------------------------------------------------------------

BURN = "import time\ndef f(x):\n    end = time.process_time() + {}\n"
BURN += "    while time.process_time() < end:\n        pass\n    return x\n"
CHECK = "assert candidate(1) == 1"
CHANCE = {
    case("as slow as a slow reference", BURN.format(0.4) + "# mine\n", CHECK, helpers=BURN.format(0.4), seconds=0.2): "passed",
    case("three times as slow", BURN.format(1.2), CHECK, helpers=BURN.format(0.4), seconds=0.2): "passed",
    case("endless beside a slow reference", BURN.format(99), CHECK, helpers=BURN.format(0.4), seconds=0.2): "timeout",
    case("as slow without a reference", BURN.format(0.4), CHECK, seconds=0.2): "timeout",
    case("slow beside a quick reference", BURN.format(0.6), CHECK, helpers="def f(x):\n    return x\n", seconds=0.2): "timeout",
    case(
        "slow beside a wrong reference", BURN.format(0.6), CHECK, helpers=BURN.format(0.4)[:-2] + "0\n", seconds=0.2
    ): "timeout",
}


@pytest.mark.parametrize("name", CHANCE)
def test_a_program_may_take_four_times_what_the_reference_takes_here(name: str, graded: dict[str, Outcome]):
    assert graded[name].verdict == CHANCE[name]
