"""Whether a returned value is right: evalplus' rules (evalplus/eval/__init__.py, `unsafe_execute`), on plain values.

The oracle of a problem with several right answers is asked first, and whether values are equal only where it wants to know;
elsewhere equal values are right. Where the expected value is a float, or a list or tuple of floats, or the problem has a
tolerance, values of the same type that `numpy.allclose` (rtol 1e-7) accepts are right too.

`Grading.EVALPLUS` repeats evalplus 0.3.1; the default differs where that is a mistake:

- HumanEval/32 (`poly`): evalplus never counts its tests as passed, so no solution passes. Here they count.
- evalplus lets the tolerance of one float leak into all later tests of the problem. Here each test has its own.
- A NaN is right here where NaN is expected; in evalplus no answer is.
- numpy scalars count as the Python numbers they hold; evalplus refuses them where a tolerance applies.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import OrderedDict, UserList, deque
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from decimal import Decimal
from numbers import Number
from typing import Any

from spa_bench.grading.base import Grading
from spa_bench.sandbox.inside import wire

_FLOAT_ATOL = 1e-6
_BROADCAST = 1 << 20  # items that numpy may make of two values which hold fewer
_DTYPE = re.compile(r"[<>|=]([biuf][1248]|c8|c16|f2)")  # types of the arrays that are built here


def is_floats(value: Any) -> bool:
    """Whether the value has a tolerance of its own: a float, or a list or tuple of floats that is not empty."""
    if type(value) in (list, tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def is_right(answer: Any, expected: Any, arguments: Any, *, oracle: str, atol: float, grading: Grading) -> bool:
    """Whether `answer` (from wire.decode) is right for `arguments`.

    No answer raises: one that cannot be compared is wrong. `atol` is the problem's tolerance (see `leaked`); for floats it is
    at least 1e-6.
    """
    try:
        value = _real(answer) if grading is Grading.EVALPLUS else _real(answer, scalars=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if oracle == "poly":
                return grading is Grading.DEFAULT and abs(_poly(arguments[0], value)) <= atol
            costly = value is not answer and _is_costly(value, expected)

            def equals() -> bool:
                if costly:
                    return False
                return bool(value == expected) or (grading is Grading.DEFAULT and _both_nan(value, expected))

            equal = ORACLES[oracle](equals, value, expected, arguments, atol)
            atol = _FLOAT_ATOL if atol == 0 and is_floats(expected) else atol
            if equal or atol == 0 or costly:
                return bool(equal)
            if type(value) is not type(expected) or _is_of_another_type(answer, grading):
                return False
            if isinstance(expected, list | tuple) and len(value) != len(expected):
                return False
            import numpy as np

            shapes = _shape(value), _shape(expected)
            if math.prod(np.broadcast_shapes(*shapes)) > max(_BROADCAST, *map(math.prod, shapes)):
                return False
            return bool(np.allclose(value, expected, rtol=1e-07, atol=atol, equal_nan=grading is Grading.DEFAULT))
    except Exception:  # as in evalplus: an answer whose comparison raises is wrong
        return False


def _is_costly(value: Any, expected: Any) -> bool:
    """Whether `==` would take far more memory or time than the values themselves, in code that no signal interrupts.

    An array compares with all items of the other value. An array of several items equals nothing (numpy does not say whether
    it does), so no right answer is lost. A Decimal writes the integer that it is compared with in base ten. An expected
    Decimal beside a long integer is not detected: no benchmark here expects a Decimal.
    """
    leaves, wanted = list(_leaves(value)), list(_leaves(expected))
    largest = max((getattr(leaf, "size", 1) for leaf in leaves), default=1)
    if largest > 1 and largest * len(wanted) > _BROADCAST:
        return True
    wide = any(type(leaf) is int and leaf.bit_length() > wire.DECIMAL_BITS for leaf in wanted)
    return wide and any(isinstance(leaf, Decimal) for leaf in leaves)


def _leaves(value: Any) -> Iterator[Any]:
    """The parts of a value that are not containers: numbers, texts, whole arrays."""
    if isinstance(value, UserList):
        value = value.data
    if isinstance(value, Mapping | ItemsView):
        value = [item for pair in (value.items() if isinstance(value, Mapping) else value) for item in pair]
    elif isinstance(value, KeysView | ValuesView | deque):
        value = list(value)
    if type(value) in (list, tuple, set, frozenset):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of the array that numpy would make of numbers in lists. Raises TypeError or ValueError where there is none.

    Texts are refused: numpy would make each as long as the longest, so that one long text among many takes all memory.
    """
    if type(value) in (list, tuple):
        kinds = set(map(type, value))
        # most values are long lists of plain numbers
        inner = {()} if kinds <= {int, float} else {_shape(item) for item in value}
        if len(inner) > 1:
            raise ValueError(f"items of the shapes {inner}")
        return (len(value), *(inner.pop() if inner else ()))
    if not isinstance(value, Number) and not hasattr(value, "shape"):
        raise TypeError(f"{type(value).__name__} is no number")
    return tuple(getattr(value, "shape", ()))


def _is_of_another_type(answer: Any, grading: Grading) -> bool:
    """Whether the program returned something else than the plain type as which the answer is compared."""
    kinds = ("iterable", "subclass") if grading is Grading.EVALPLUS else ("iterable",)
    return isinstance(answer, wire.Foreign) and answer.kind in kinds


def reads_items(oracle: str) -> bool:
    """Whether the oracle reads the items of an answer, whatever holds them."""
    return oracle == "as sets"


def leaked(atol: float, floats_before: bool, grading: Grading) -> float:
    """The tolerance that a test begins with; `floats_before` says whether an earlier one of the suite expected floats."""
    return _FLOAT_ATOL if atol == 0 and floats_before and grading is Grading.EVALPLUS else atol


def _real(value: Any, *, scalars: bool = True) -> Any:
    """wire.natural, but numpy's arrays (and scalars) stay numpy's, because they compare in their own way."""
    if isinstance(value, wire.Foreign):
        if value.kind == "ndarray" or (value.kind == "numpy" and scalars):
            import numpy as np

            kind, content = value.value
            if not _DTYPE.fullmatch(kind):
                return value
            array = np.array(content, dtype=kind)
            return array if value.kind == "ndarray" else array[()]
        return wire.natural(value)
    if not wire.foreigners(value):
        return value
    if isinstance(value, dict):
        return {_real(k, scalars=scalars): _real(v, scalars=scalars) for k, v in value.items()}
    items = (_real(item, scalars=scalars) for item in value)
    return type(value)(wire.set_of(items) if isinstance(value, set | frozenset) else items)


def _both_nan(a: Any, b: Any) -> bool:
    """Whether the values are equal once NaN equals NaN."""
    if type(a) is not type(b):
        return bool(a == b)
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_both_nan, a, b))
    if isinstance(a, OrderedDict) and list(a) != list(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_both_nan(a[k], b[k]) for k in a)
    return bool(a == b)


# oracles: (whether they are equal, answer, expected, arguments, tolerance) -> right ---------------------------------


def _surface(base: Any, height: Any) -> Any:
    """Mbpp/581, with the height from base to apex."""
    slant = math.sqrt((base / 2) ** 2 + height**2)
    return round(base**2 + 4 * (base * slant) / 2)


def _digit_distance(first: Any, second: Any) -> int:
    """Mbpp/558, the shorter number padded with zeros."""
    a, b = str(first), str(second)
    width = max(len(a), len(b))
    return sum(abs(int(x) - int(y)) for x, y in zip(a.zfill(width), b.zfill(width), strict=True))


def _poly(coefficients: Any, x: Any) -> Any:
    """HumanEval/32: the polynomial's value at x."""
    return sum(coefficient * math.pow(x, i) for i, coefficient in enumerate(coefficients))


def _not_none(equals: Callable[[], bool], answer: Any, expected: Any, arguments: Any, atol: float) -> bool:
    return bool(answer == expected) if isinstance(answer, bool) else bool(expected == (answer is not None))


ORACLES: dict[str, Callable[[Callable[[], bool], Any, Any, Any, float], Any]] = {  # see spa_bench.types.CallSuite
    "equal": lambda equals, answer, expected, arguments, atol: equals(),
    "anything": lambda equals, answer, expected, arguments, atol: True,
    "or zero": lambda equals, answer, expected, arguments, atol: equals() or answer == 0,
    "surface area": lambda equals, answer, expected, arguments, atol: equals() or abs(answer - _surface(*arguments)) <= atol,
    "digit distance": lambda equals, answer, expected, arguments, atol: equals() or answer == _digit_distance(*arguments),
    "as sets": lambda equals, answer, expected, arguments, atol: wire.set_of(answer) == set(expected),
    "not none": _not_none,
    "poly": lambda equals, answer, expected, arguments, atol: equals(),  # decided before the oracles
}
