"""Tests that are data: answers that iterate or equal as the expected value does, and those that nobody can judge outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spa_bench.grading import Calls, Check, Grader, Grading, Outcome, Program
from spa_bench.sandbox import Limits
from spa_bench.types import CallSuite, Verdict

HEAD = "import array, collections, datetime, decimal, fractions, itertools, types, weakref\n"
HEAD += "from collections import *\nimport numpy as np\n"


def program(returned: str, reference: str, oracle: str = "equal") -> Program:
    suite = CallSuite(name="base", inputs=lambda: [[[3, 1, 2]]], oracle=oracle, atol=0.0, identity="")  # type: ignore[arg-type]
    source, right = (f"{HEAD}class Own:\n    {{}}\ndef f(x):\n    return {text}\n" for text in (returned, reference))
    body = "def __init__(self, *a): self.a = a\n    def __iter__(self): return iter(self.a)\n"
    body += "    def __eq__(self, other): return other == 2"
    tests = Calls((suite,), right.replace("{}", "pass"))
    return Program(source=source.replace("{}", body), entry_point="f", tests=tests, problem="m/1", seconds=1.0)


def verdicts(grader: Grader, programs: list[Program]) -> list[Outcome]:
    found = dict(grader.run(programs))
    return [found[i] for i in range(len(programs))]


AS_SETS = [
    "(n for n in x)", "filter(None, x)", "map(int, x)", "iter(x)", "reversed(x)", "itertools.chain(x, x)", "zip(x)",
    "itertools.islice(x, 3)", "{n: 0 for n in x}.keys()", "dict(enumerate(x)).values()", "np.array(x)", "np.unique(x)",
    "deque(x)", "UserList(x)", "Counter(x)", "OrderedDict.fromkeys(x)", "ChainMap(dict.fromkeys(x))", "Own(*x)", "range(1, 4)",
    "types.MappingProxyType(dict.fromkeys(x))", "array.array('i', x)", "bytes(x)", "memoryview(bytes(x))", "tuple(x * 2)",
    "frozenset(x)", "set(np.array(x))", "{np.int64(n): 0 for n in x}", "Counter(np.array(x))",
]  # fmt: skip


@pytest.mark.parametrize("grading", [Grading.DEFAULT, Grading.EVALPLUS])
def test_whatever_holds_the_items_is_right_where_sets_are_compared(grading: Grading, grader: Grader):
    grader = replace(grader, grading=grading)
    found = verdicts(grader, [program(text, "x", "as sets") for text in AS_SETS])
    wrong = {text for text, outcome in zip(AS_SETS, found, strict=True) if outcome.verdict is not Verdict.PASSED}
    assert wrong == {"zip(x)"}  # of tuples
    others = ["np.array([3, 1])", "(n for n in x[1:])", "itertools.repeat(3)", "(n / 0 for n in x)", "np.array([x])", "None"]
    found = verdicts(grader, [program(text, "x", "as sets") for text in others])
    assert [o.verdict for o in found] == ["wrong", "wrong", "timeout", "raised", "wrong", "wrong"]


EQUAL = {
    "Counter(x)": "{3: 1, 1: 1, 2: 1}", "Counter(x) ": "Counter({3: 1, 1: 1, 2: 1, 7: 0})", "defaultdict(int, a=1)": "{'a': 1}",
    "OrderedDict(a=1, b=2)": "{'b': 2, 'a': 1}", "ChainMap({1: 2}, {1: 3, 4: 5})": "{1: 2, 4: 5}", "UserDict(a=1)": "{'a': 1}",
    "types.MappingProxyType({1: 2})": "{1: 2}", "UserList(x)": "[3, 1, 2]", "UserString('a')": "'a'", "bytearray(b'a')": "b'a'",
    "memoryview(b'a')": "b'a'", "{1: 2}.keys()": "{1}", "OrderedDict(a=1).keys()": "{'a'}",
    "UserDict(a=1).items()": "{('a', 1)}", "deque(x, 9)": "deque([3, 1, 2])", "range(3)": "range(0, 3)",
    "fractions.Fraction(4, 2)": "2",
    "decimal.Decimal('2.0')": "2", "namedtuple('P', 'a b')(1, 2)": "(1, 2)", "[Counter(x)]": "[{3: 1, 1: 1, 2: 1}]",
    "dict(zip(*np.unique(x, return_counts=True)))": "{1: 1, 2: 1, 3: 1}", "{(np.int64(1), np.str_('a'))}": "{(1, 'a')}",
    "Counter(np.array(x))": "Counter(x)", "frozenset({np.float64(0.5)})": "{0.5}",
}  # fmt: skip
UNEQUAL = {
    "{3: 1, 1: 1, 2: 1}": "Counter({3: 1, 1: 1, 2: 1, 7: 0})",
    "OrderedDict([(1, 0), (2, 0)])": "OrderedDict([(2, 0), (1, 0)])", "(n for n in x)": "[3, 1, 2]", "UserList(x)": "(3, 1, 2)",
    "deque(x)": "[3, 1, 2]", "{1: 2}.values()": "[2]", "Counter(a=2)": "{'a': 1}", "len": "3", "Own": "2",
}  # fmt: skip


@pytest.mark.parametrize("grading", [Grading.DEFAULT, Grading.EVALPLUS])
def test_values_of_the_library_equal_what_python_says(grading: Grading, grader: Grader):
    pairs = [*EQUAL.items(), *UNEQUAL.items()]
    found = verdicts(replace(grader, grading=grading), [program(*pair) for pair in pairs])
    wanted = ["passed"] * len(EQUAL) + ["wrong"] * len(UNEQUAL)
    assert [str(o.verdict) for o in found] == wanted, list(zip(pairs, found, strict=True))


@pytest.mark.parametrize("grading", [Grading.DEFAULT, Grading.EVALPLUS])
def test_what_its_own_class_compares_is_refused_and_marked(grading: Grading, grader: Grader):
    returned = ["Own()", "[Own()]", "{1: (Own(),)}", "np.longdouble(2)", "Counter(a=Own())"]
    for found in verdicts(replace(grader, grading=grading), [program(text, "2") for text in returned]):
        assert (found.verdict, found.mark, found.suite) == (Verdict.REFUSED, "unproxied", "base")
        assert "whose class decides what it equals" in found.message


UNREAD = {  # of these only the name of the type crosses
    "datetime.date(2020, 1, 2)": "datetime.date(2020, 1, 2)",
    "[int, 3]": "[int, 3]", "{'a': slice(1, 2)}": "{'a': slice(1, 2)}",
    "array.array('i', x)": "array.array('i', x)", "weakref.WeakValueDictionary()": "dict()",
    "memoryview(array.array('i', x))": "array.array('i', x)",
}  # fmt: skip
READ = {"datetime.datetime(2020, 1, 2)": "datetime.date(2020, 1, 2)", "[int, 4]": "[int, 3]", "5": "datetime.date(2020, 1, 2)"}


@pytest.mark.parametrize("grading", [Grading.DEFAULT, Grading.EVALPLUS])
def test_what_the_reference_returns_and_nobody_can_read_outside_makes_no_answer_wrong(grading: Grading, grader: Grader):
    pairs = [*UNREAD.items(), *READ.items()]
    found = verdicts(replace(grader, grading=grading), [program(*pair) for pair in pairs])
    wanted = [("refused", "unproxied")] * len(UNREAD) + [("wrong", "")] * len(READ)
    assert [(str(o.verdict), o.mark) for o in found] == wanted, list(zip(pairs, found, strict=True))


THREADS = """
import threading
def f(n):
    together, seen = threading.Barrier(n), []
    threads = [threading.Thread(target=lambda: (together.wait(), seen.append(1))) for _ in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(seen)
"""


@pytest.mark.parametrize("count", [50, 100])
def test_a_right_program_may_have_many_threads(count: int, grader: Grader):
    tests = Check(f"def check(candidate):\n    assert candidate({count}) == {count}\n")
    roomy = replace(grader, limits=Limits())
    [found] = verdicts(roomy, [Program(source=THREADS, entry_point="f", tests=tests, problem="t/1", seconds=5.0)])
    assert found == Outcome(verdict=Verdict.PASSED)
