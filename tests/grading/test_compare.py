"""Which answers are right: closed forms of each rule, and evalplus' own verdicts on a table of values."""

import json
import math
import re
import subprocess
import sys
from collections import Counter, OrderedDict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from spa_bench.grading import Grading
from spa_bench.grading.compare import ORACLES, is_floats, is_right, leaked
from spa_bench.sandbox.inside import wire
from spa_bench.types import CallSuite

DEFAULT, EVALPLUS = Grading.DEFAULT, Grading.EVALPLUS
BOTH = (DEFAULT, EVALPLUS)
NAN = float("nan")
Pair = namedtuple("Pair", "a b")


class MyInt(int):
    pass


class MyFloat(float):
    pass


class Equal:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def right(
    answer: Any,
    expected: Any,
    grading: Grading = DEFAULT,
    *,
    oracle: str = "equal",
    atol: float = 0.0,
    arguments: Any = (),
    floats_before: bool = False,
) -> bool:
    """What a worker says of an answer that crossed."""
    sent, wanted = wire.decode(wire.encode(answer)), wire.natural(wire.decode(wire.encode(expected)))
    atol = leaked(atol, floats_before, grading)
    return is_right(sent, wanted, list(arguments), oracle=oracle, atol=atol, grading=grading)


# equality ------------------------------------------------------------------------------------------------------------


def named(value: object) -> str:
    """A value in the name of a test, without its address: workers side by side must agree on the names."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize("grading", BOTH)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (1, 1),
        (1.0, 1),
        (True, 1),
        (1 + 0j, 1),
        (-0.0, 0.0),
        (10**400, 10**400),
        (None, None),
        ("a\x00\ud800", "a\x00\ud800"),
        (b"a", bytearray(b"a")),
        ([1, [2, (3, {4})]], [1, [2, (3, {4})]]),
        (frozenset({1}), {1}),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        ({1: 2}.keys(), {1}),
        (range(1, 4), range(1, 5, 1)[:3]),
        (deque([1]), deque([1])),
        (Fraction(1, 2), 0.5),
        (Decimal("0.5"), 0.5),
        (Pair(1, 2), (1, 2)),
        (MyInt(3), 3),
        (math.inf, math.inf),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        ([np.float64(0.5)], [0.5]),
    ],
    ids=named,
)
def test_values_that_python_calls_equal_are_right(answer: Any, expected: Any, grading: Grading):
    assert right(answer, expected, grading)


@pytest.mark.parametrize("grading", BOTH)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (1, 2),
        (None, False),
        (None, 0),
        ("1", 1),
        ("a", b"a"),
        ([1, 2], (1, 2)),
        ([1, 2], [1, 2, 3]),
        ([1, 2, 3], [1, 2]),
        ([[1]], [1]),
        ({1, 2}, [1, 2]),
        (range(3), [0, 1, 2]),
        (deque([1]), [1]),
        ({1: 2}.values(), [2]),
        ({1: 2}, {1: 3}),
        (math.inf, -math.inf),
        (10**400, 10**400 + 1),
        ((x for x in (1, 2)), [1, 2]),
        (map(int, "12"), [1, 2]),
        (int, int),
        (len, len),
        (Equal(), 1),
        ([Equal()], [1]),
        (np.array([1, 2]), [1, 2]),
        (NAN, 1.0),
        (1.0, NAN),
    ],
    ids=named,
)
def test_other_values_are_wrong(answer: Any, expected: Any, grading: Grading):
    assert not right(answer, expected, grading)


def test_a_nan_is_right_where_one_is_expected_but_never_in_evalplus():
    for answer, expected in [(NAN, NAN), ([1, NAN], [1, NAN]), ({"a": (NAN,)}, {"a": (NAN,)}), ([[NAN]], [[NAN]])]:
        assert right(answer, expected, DEFAULT)
        assert not right(answer, expected, EVALPLUS)


@pytest.mark.parametrize(
    ("answer", "expected"), [([NAN], [NAN, NAN]), ([NAN, 1], [NAN, 2]), ({1: NAN}, {2: NAN}), ((NAN,), [NAN])]
)
def test_a_nan_in_the_right_place_excuses_nothing_else(answer: Any, expected: Any):
    assert not right(answer, expected, DEFAULT)


# tolerance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "floats"),
    [
        (1.0, True),
        ([1.0, NAN], True),
        ((1.0,), True),
        ([], False),
        ((), False),
        ([1.0, 1], False),
        ([[1.0]], False),
        ({1.0}, False),
        (1, False),
        (True, False),
        (1j, False),
        (None, False),
        ("1.0", False),
    ],
    ids=named,
)
def test_a_float_and_a_flat_list_or_tuple_of_them_have_a_tolerance_of_their_own(value: Any, floats: bool):
    assert is_floats(value) is floats


def test_the_tolerance_of_the_problem_wins():
    assert [leaked(1e-4, True, grading) for grading in BOTH] == [1e-4] * 2


def test_the_tolerance_of_an_earlier_test_counts_in_evalplus_alone():
    assert leaked(0, True, DEFAULT) == 0
    assert leaked(0, True, EVALPLUS) == 1e-6
    assert not right([[1.0]], [[1.0 + 1e-8]], DEFAULT, floats_before=True)
    assert right([[1.0]], [[1.0 + 1e-8]], EVALPLUS, floats_before=True)


@pytest.mark.parametrize("grading", BOTH)
@pytest.mark.parametrize("off", [1e-8, 1e-6, 1.09e-6])
def test_floats_within_a_millionth_and_a_bit_are_right(off: float, grading: Grading):
    assert right(1.0 + off, 1.0, grading)
    assert right([2.0, 1.0 - off], [2.0, 1.0], grading)
    assert right((1.0 + off,), (1.0,), grading)


@pytest.mark.parametrize("grading", BOTH)
@pytest.mark.parametrize("off", [1.2e-6, 1e-3, NAN, math.inf])
def test_floats_further_off_are_wrong(off: float, grading: Grading):
    assert not right(1.0 + off, 1.0, grading)
    assert not right([2.0, 1.0 + off], [2.0, 1.0], grading)


@pytest.mark.parametrize("grading", BOTH)
def test_the_relative_tolerance_is_a_ten_millionth(grading: Grading):
    assert right(1e9 + 100, 1e9, grading)
    assert not right(1e9 + 101, 1e9, grading)


@pytest.mark.parametrize("grading", BOTH)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (10**9, 10**9 + 0.5),
        ((1.0,), [1.0 + 1e-8]),
        ([1.0], [1.0 + 1e-8, 1.0]),
        ([1.0 + 1e-8, 1.0], [1.0]),
        ("1.0", 1.0),
        (None, 1.0),
        (Fraction(1, 3), 1 / 3),
        (deque([1.0]), [1.0]),
        ([None], [1.0]),
        (np.array([1.0, 2.0]), [1.0, 2.0]),
    ],
    ids=named,
)
def test_a_tolerance_is_for_values_of_the_same_type_and_length(answer: Any, expected: Any, grading: Grading):
    assert not right(answer, expected, grading, atol=1e-3)


@pytest.mark.parametrize("answer", [np.float64(1 + 1e-8), MyFloat(1 + 1e-8)], ids=named)
def test_a_number_of_another_type_near_the_right_one_is_right_but_in_evalplus(answer: Any):
    assert right(answer, 1.0, DEFAULT)
    assert not right(answer, 1.0, EVALPLUS)


@pytest.mark.parametrize("grading", BOTH)
def test_a_narrow_float_of_numpy_is_right_where_the_number_it_holds_is(grading: Grading):
    assert right(np.float32(0.1), 0.1, grading)
    assert not right(np.float32(0.1), 0.2, grading)


@pytest.mark.parametrize("grading", BOTH)
def test_equal_values_of_other_types_are_right_in_spite_of_a_tolerance(grading: Grading):
    assert right(1, 1.0, grading)
    assert right(np.float64(1), 1.0, grading)


def test_a_number_that_python_has_no_type_for_crosses():
    assert not right(np.longdouble(1), 2)


def test_comparing_never_raises():
    deep: Any = 1.0
    for _ in range(95):
        deep = [deep]
    for answer in (deep, {"a": object()}, [[1.0], 2.0], 10**5000, "x", {1.0}, [None, [1]], np.array([])):
        for grading in BOTH:
            assert right(answer, [1.0, 2.0], grading) is False
            assert right([1.0, 2.0], answer, grading, atol=0.1) is False


# problems with several right answers ---------------------------------------------------------------------------------


def test_every_oracle_that_a_suite_can_name_is_known():
    assert CallSuite(name="base", inputs=list).oracle in ORACLES


@pytest.mark.parametrize("grading", BOTH)
def test_anything_is_right_for_are_equivalent(grading: Grading):
    assert all(right(answer, True, grading, oracle="anything") for answer in (False, None, "x", [1], math.nan))


@pytest.mark.parametrize("grading", BOTH)
def test_zero_is_right_for_sum_div(grading: Grading):
    assert right(0, 7, grading, oracle="or zero")
    assert right(7, 7, grading, oracle="or zero")
    assert not right(1, 7, grading, oracle="or zero")


@pytest.mark.parametrize("grading", BOTH)
def test_the_surface_of_a_pyramid_may_take_the_height_from_base_to_apex(grading: Grading):
    # base 6, height 4: slant 5, 6² + 4 · 6 · 5 / 2 = 96; taken as slant, 4 gives 36 + 48 = 84
    assert right(96, 84, grading, oracle="surface area", arguments=(6, 4))
    assert right(84, 84, grading, oracle="surface area", arguments=(6, 4))
    assert not right(95, 84, grading, oracle="surface area", arguments=(6, 4))
    assert right(96.5, 84, grading, oracle="surface area", arguments=(6, 4), atol=0.5)
    assert not right("96", 84, grading, oracle="surface area", arguments=(6, 4))


@pytest.mark.parametrize("grading", BOTH)
def test_the_distance_of_digits_may_pad_the_shorter_number(grading: Grading):
    # 012 and 123: 1 + 1 + 1
    assert right(3, 99, grading, oracle="digit distance", arguments=(12, 123))
    assert right(99, 99, grading, oracle="digit distance", arguments=(12, 123))
    assert not right(2, 99, grading, oracle="digit distance", arguments=(12, 123))


@pytest.mark.parametrize("grading", BOTH)
def test_order_repetition_and_container_do_not_matter_where_sets_are_compared(grading: Grading):
    for answer in ([2, 1], (1, 2, 2), {1, 2}, {1: None, 2: None}, range(1, 3), deque([1, 2])):
        assert right(answer, (1, 2), grading, oracle="as sets")
    for answer in ([1], [1, 2, 3], None, 3, [[1], [2]]):
        assert not right(answer, (1, 2), grading, oracle="as sets")


@pytest.mark.parametrize("grading", BOTH)
def test_a_match_is_as_good_as_true(grading: Grading):
    assert all(right(answer, True, grading, oracle="not none") for answer in (True, "match", 0, [], object(), len))
    assert all(right(answer, False, grading, oracle="not none") for answer in (False, None))
    assert not right(None, True, grading, oracle="not none")
    assert not right(False, True, grading, oracle="not none")
    assert not right("match", False, grading, oracle="not none")


def test_a_root_of_the_polynomial_is_right_but_never_in_evalplus():
    one_or_two = {"oracle": "poly", "arguments": ([2, -3, 1],), "atol": 1e-4}  # (x - 1)(x - 2)
    assert right(1.0, 2.0, DEFAULT, **one_or_two)
    assert right(2.0 + 5e-5, 1.0, DEFAULT, **one_or_two)
    assert not right(2.0 + 5e-4, 2.0, DEFAULT, **one_or_two)
    assert not right(NAN, 2.0, DEFAULT, **one_or_two)
    assert not right(None, 2.0, DEFAULT, **one_or_two)
    assert not right(2.0, 2.0, EVALPLUS, **one_or_two)


# beside evalplus -----------------------------------------------------------------------------------------------------

_PREAMBLE = """
import enum, math
from collections import Counter, OrderedDict, UserList, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
import numpy as np
class MyInt(int): pass
class MyStr(str): pass
class MyFloat(float): pass
class MyList(list): pass
class Level(enum.IntEnum): ONE = 1
Pair = namedtuple('Pair', 'a b')
nan = float('nan')
"""
_UNSORTED = [  # (answer, expected); no float is expected
    *[("1", "1"), ("1", "2"), ("1.0", "1"), ("True", "1"), ("1", "True"), ("False", "0"), ("None", "None"), ("None", "0")],
    *[("None", "False"), ("''", "None"), ("'a'", "'a'"), ("'a'", "'b'"), ("'1'", "1"), ("b'a'", "'a'"), ("b'a'", "b'a'")],
    *[("10**30", "10**30"), ("10**30", "10**30 + 1"), ("10**400", "10**400 + 1"), ("1 + 1e-8", "1"), ("10**7 + 1", "10**7")],
    *[("[1, 2]", "[1, 2]"), ("(1, 2)", "[1, 2]"), ("[1, 2]", "(1, 2)"), ("[1, 2]", "[1, 2, 3]"), ("[]", "()"), ("[]", "[]")],
    *[("[1, [2, (3,)]]", "[1, [2, (3,)]]"), ("[1, [2, [3]]]", "[1, [2, (3,)]]"), ("{1, 2}", "{2, 1}"), ("{1}", "[1]")],
    *[("frozenset({1})", "{1}"), ("{'a': 1}", "{'a': 1}"), ("{'a': 1}", "{'a': 2}"), ("{1: 2}.keys()", "{1}")],
    *[("{1: 2}.values()", "[2]"), ("range(3)", "[0, 1, 2]"), ("range(3)", "range(3)"), ("(x for x in [1])", "[1]")],
    *[("map(int, '1')", "[1]"), ("Counter('aab')", "{'a': 2, 'b': 1}"), ("Counter('aab')", "Counter('aab')")],
    *[("{'a': 2, 'b': 1}", "Counter('aab')"), ("OrderedDict(a=1)", "{'a': 1}"), ("defaultdict(int, a=1)", "{'a': 1}")],
    *[("deque([1])", "[1]"), ("deque([1])", "deque([1])"), ("Decimal('1')", "1"), ("Fraction(4, 2)", "2"), ("Level.ONE", "1")],
    *[("MyInt(2)", "2"), ("MyInt(3)", "2"), ("MyStr('a')", "'a'"), ("MyList([1])", "[1]"), ("Pair(1, 2)", "(1, 2)")],
    *[
        ("np.int64(3)", "3"),
        ("np.int64(3)", "4"),
        ("np.bool_(True)", "True"),
        ("[np.int64(3)]", "[3]"),
        ("np.str_('a')", "'a'"),
    ],
    *[("np.array([1, 2])", "[1, 2]"), ("1j", "1j"), ("1 + 0j", "1"), ("1j * (1 + 1e-8)", "1j"), ("UserList([1])", "[2]")],
    *[("[[1.0 + 1e-8]]", "[[1.0]]"), ("[1.0 + 1e-8, 1]", "[1.0, 1]"), ("{'a': 1.0 + 1e-8}", "{'a': 1.0}")],
    *[("{1.0 + 1e-8}", "{1.0}"), ("(1, 1.0 + 1e-8)", "(1, 1.0)"), ("[[1.0, 2.0], [1.0]]", "[[1.0, 2.0], [1.1]]")],
    *[("[nan, 1]", "[nan, 1]"), ("{'a': nan}", "{'a': nan}"), ("len", "len(Pair._fields)"), ("bytearray(b'a')", "b'a'")],
    *[("True", "False"), ("int", "0"), ("...", "..."), ("'a' * 50", "'a' * 51"), ("[None]", "[None]"), ("-0.0", "0")],
]
_FLOATS = [
    *[("1.0", "1.0"), ("1", "1.0"), ("1.0 + 1e-8", "1.0"), ("1.0 + 1e-6", "1.0"), ("1.0 + 1.2e-6", "1.0"), ("1.001", "1.0")],
    *[("1e9 + 90", "1e9"), ("1e9 + 200", "1e9"), ("nan", "nan"), ("nan", "1.0"), ("math.inf", "math.inf"), ("-0.0", "0.0")],
    *[("-math.inf", "math.inf"), ("1e308", "math.inf"), ("[1.0 + 1e-8]", "[1.0]"), ("(1.0 + 1e-8,)", "[1.0]"), ("[]", "[1.0]")],
    *[("[1.0]", "[1.0, 1.0]"), ("[1.0, nan]", "[1.0, nan]"), ("[1, 2]", "[1.0, 2.0]"), ("[1, 2]", "[1.0, 2.00000001]")],
    *[("np.float64(1.0)", "1.0"), ("np.float64(1 + 1e-8)", "1.0"), ("np.float32(1.1)", "1.5"), ("np.int64(1)", "1.0")],
    *[("[np.float64(1 + 1e-8)]", "[1.0]"), ("np.array([1.0, 2.0])", "[1.0, 2.0]"), ("MyFloat(1 + 1e-8)", "1.0")],
    *[("MyList([1.0 + 1e-8])", "[1.0]"), ("Pair(1.0, 2.0)", "(1.0, 2.0)"), ("Pair(1.0 + 1e-8, 2.0)", "(1.0, 2.0)")],
    *[("Fraction(1, 3)", "1 / 3"), ("Fraction(1, 2)", "0.5"), ("Decimal('0.5')", "0.5"), ("Decimal('0.1')", "0.1")],
    *[("None", "1.0"), ("'1.0'", "1.0"), ("True", "1.0"), ("1.0 + 1e-9j", "1.0"), ("deque([1.0])", "[1.0]")],
    *[("[1.0, None]", "[1.0, 2.0]"), ("[1.0, [2.0]]", "[1.0, 2.0]"), ("{1.0}", "[1.0]"), ("range(1)", "[0.0]")],
]
_TABLE = _UNSORTED + _FLOATS + _UNSORTED  # the last third after a float was expected
_DIFFERENT = {  # grading=default says "right" where evalplus does not, or the other way round: (answer, expected) -> default
    ("nan", "nan"): True,
    ("[1.0, nan]", "[1.0, nan]"): True,
    ("[nan, 1]", "[nan, 1]"): True,
    ("{'a': nan}", "{'a': nan}"): True,
    ("np.float64(1 + 1e-8)", "1.0"): True,
    ("MyFloat(1 + 1e-8)", "1.0"): True,
    ("MyList([1.0 + 1e-8])", "[1.0]"): True,
    ("Pair(1.0 + 1e-8, 2.0)", "(1.0, 2.0)"): True,
}
_LEAKED = {  # right in evalplus, and only once a float was expected earlier
    *[("10**30", "10**30 + 1"), ("10**7 + 1", "10**7"), ("1j * (1 + 1e-8)", "1j"), ("[[1.0 + 1e-8]]", "[[1.0]]")],
    *[("[1.0 + 1e-8, 1]", "[1.0, 1]"), ("(1, 1.0 + 1e-8)", "(1, 1.0)")],
}
_ARRAYS = [
    ("np.array([1])", "[1]"),
    ("np.array([1])", "[2]"),
    ("np.array([1])", "1"),
    ("np.array(1)", "1"),
    ("np.array([])", "[]"),
]
_ARRAYS += [("[np.array([1])]", "[[1]]"), ("np.array([1.0])", "[1.0]"), ("np.array([1.0 + 1e-8])", "[1.0]")]
_WIDTHS = [("np.float32(0.1)", "0.1"), ("np.float32(0.1)", "0.2"), ("np.float16(0.1)", "0.1"), ("np.float16(0.1)", "0.11")]
_SETS = [
    ("[2, 1]", "(1, 2)"),
    ("(1, 2, 2)", "(1, 2)"),
    ("[1]", "(1, 2)"),
    ("None", "()"),
    ("[]", "()"),
    ("{1: 0, 2: 0}", "[1, 2]"),
]
_SETS += [("(x for x in ())", "(1,)"), ("[[1]]", "[1]"), ("'ab'", "['b', 'a']"), ("range(2)", "{0, 1}"), ("[1.0]", "[1]")]
_MATCHES = [("True", "True"), ("False", "False"), ("None", "False"), ("None", "True"), ("'x'", "True"), ("0", "True")]
_MATCHES += [("''", "False"), ("len", "True"), ("len", "False"), ("[]", "True"), ("False", "True"), ("True", "False")]


@dataclass(frozen=True)
class Group:
    """Tests of one entry point: (answer, expected) of each, as expressions."""

    dataset: str
    entry_point: str
    oracle: str
    pairs: list[tuple[str, str]]
    arguments: tuple[Any, ...] = ()
    atol: float = 0.0

    def verdicts(self, grading: Grading) -> list[bool]:
        """Ours; earlier tests that expected floats count as they do in a suite."""
        scope: dict[str, Any] = {}
        exec(_PREAMBLE, scope)
        values = [(eval(answer, scope), eval(expected, scope)) for answer, expected in self.pairs]
        floats = [is_floats(expected) for _, expected in values]
        how = {"oracle": self.oracle, "atol": self.atol, "arguments": self.arguments}
        return [right(*pair, grading, floats_before=any(floats[:i]), **how) for i, pair in enumerate(values)]


_GROUPS = {
    "equal": Group("humaneval", "f", "equal", _TABLE),
    "tolerance of the problem": Group("mbpp", "f", "equal", _UNSORTED + _FLOATS, atol=1e-3),
    "numpy arrays of one element": Group("humaneval", "f", "equal", _ARRAYS),
    "numpy floats of another width": Group("humaneval", "f", "equal", _WIDTHS),
    "find_zero": Group("humaneval", "find_zero", "poly", [("1.0", "1.0"), ("9.0", "1.0")], ([2, -3, 1],), 1e-4),
    "are_equivalent": Group("mbpp", "are_equivalent", "anything", [("True", "True"), ("None", "True"), ("'x'", "False")]),
    "sum_div": Group(
        "mbpp", "sum_div", "or zero", [("0", "7"), ("7", "7"), ("1", "7"), ("0.0", "7"), ("None", "7"), ("[]", "7")]
    ),
    "surface_Area": Group(
        *("mbpp", "surface_Area", "surface area"),
        [("96", "84"), ("84", "84"), ("95", "84"), ("'96'", "84"), ("96.0", "84"), ("None", "84"), ("96.0 + 1e-7", "84.0")],
        (6, 4),
    ),
    "digit_distance_nums": Group(
        "mbpp", "digit_distance_nums", "digit distance", [("3", "9"), ("9", "9"), ("2", "9"), ("'3'", "9")], (12, 123)
    ),
    "text_match_three": Group("mbpp", "text_match_three", "not none", _MATCHES),
    **{name: Group("mbpp", name, "as sets", _SETS) for name in ("similar_elements", "Diff")},
}
_THEIRS = """
import json, sys
from evalplus.eval import untrusted_check
preamble, groups = json.loads(sys.stdin.read())
found = []
for dataset, entry_point, pairs, arguments, atol in groups:
    # the same arguments in each test: the program counts its calls
    answers = ", ".join(f"lambda: {answer}" for answer, _ in pairs)
    code = f"{preamble}\\nOUT = iter([{answers}])\\ndef {entry_point}(*_):\\n    return next(OUT)()\\n"
    scope = {}
    exec(preamble, scope)
    expected = [eval(e, scope) for _, e in pairs]
    n = len(pairs)
    _, details = untrusted_check(dataset, code, [arguments] * n, entry_point, expected=expected, atol=atol, ref_time=[0.1] * n)
    found.append([bool(d) for d in details] + [False] * (n - len(details)))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def theirs() -> dict[str, list[bool]]:
    """evalplus' verdicts on each group. In a process of its own: evalplus forks."""
    pytest.importorskip("evalplus")
    groups = [(g.dataset, g.entry_point, g.pairs, g.arguments, g.atol) for g in _GROUPS.values()]
    command = [sys.executable, "-c", _THEIRS]
    done = subprocess.run(command, input=json.dumps([_PREAMBLE, groups]), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(zip(_GROUPS, json.loads(done.stdout), strict=True))


def _named(group: Group, verdicts: list[bool]) -> list[tuple[str, str, bool]]:
    return [(*pair, verdict) for pair, verdict in zip(group.pairs, verdicts, strict=True)]


@pytest.mark.parametrize("name", _GROUPS)
def test_verdicts_are_evalplus_own_under_its_grading(name: str, theirs: dict[str, list[bool]]):
    group = _GROUPS[name]
    assert _named(group, group.verdicts(EVALPLUS)) == _named(group, theirs[name])


def test_the_table_has_right_and_wrong_answers(theirs: dict[str, list[bool]]):
    assert len(_UNSORTED) + len(_FLOATS) >= 60
    assert {name for name, verdicts in theirs.items() if len(set(verdicts)) < 2} == {"find_zero", "are_equivalent"}


def test_default_grading_differs_from_evalplus_in_these_values_and_no_others(theirs: dict[str, list[bool]]):
    group = _GROUPS["equal"]
    ours = group.verdicts(DEFAULT)
    differ = [(pair, mine) for pair, mine, other in zip(group.pairs, ours, theirs["equal"], strict=True) if mine != other]
    first = [(pair, mine) for pair, mine in differ if pair not in _LEAKED]
    assert dict(first) == _DIFFERENT
    assert sorted(pair for pair, mine in differ if not mine) == sorted(_LEAKED)


_SPECIAL = [n for n, g in _GROUPS.items() if g.oracle not in ("equal", "poly")]


@pytest.mark.parametrize("name", [*_SPECIAL, "numpy arrays of one element"])
def test_default_grading_agrees_with_evalplus_elsewhere(name: str, theirs: dict[str, list[bool]]):
    group = _GROUPS[name]
    assert _named(group, group.verdicts(DEFAULT)) == _named(group, theirs[name])
