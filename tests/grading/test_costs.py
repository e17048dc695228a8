"""What a hostile answer can cost the worker that compares it: memory and time stay near those of the values themselves."""

import itertools
import time
import tracemalloc
from collections import ChainMap
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spa_bench.grading import Grading, Outcome
from spa_bench.grading import worker as worker_module
from spa_bench.grading.answers import Suite
from spa_bench.grading.compare import is_right
from spa_bench.grading.ends import TooLong, no_longer_than
from spa_bench.grading.suites import SuiteFiles, write_frames
from spa_bench.grading.worker import Worker
from spa_bench.sandbox.inside import wire
from spa_bench.types import Verdict

MANY = 50_000
LIMIT = 1 << 18  # bits of the parts of a Fraction
MIXED = 1 << 16  # bits of an integer beside a Decimal


def right(answer: Any, expected: Any, grading: Grading = Grading.DEFAULT, *, oracle: str = "equal", atol: float = 0.0) -> bool:
    crossed = wire.decode(wire.encode(answer))
    return is_right(crossed, expected, [], oracle=oracle, atol=atol, grading=grading)


def peak_megabytes(act: Callable[[], object]) -> float:
    """Memory at its highest beyond what was there before."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


INTEGERS = list(range(MANY))
FLOATS = [float(i) for i in INTEGERS]
COLUMN = np.ones((4000, 1), dtype=bool)
LARGE = {  # each would take 200 MB or more
    "an array of another shape": (COLUMN, INTEGERS),
    "an array in a list": ([COLUMN], [INTEGERS]),
    "an array in a dictionary": ({"a": (COLUMN,)}, {"a": (INTEGERS,)}),
    "an array that meets floats": (COLUMN, FLOATS),
    "a column of lists": ([[0.5]] * 6000, FLOATS[:6000]),
    "a long text among short ones": ([*[""] * 999, "a" * 100_000], FLOATS[:1000]),
    "long bytes among short ones": ([*[b""] * 999, b"a" * 400_000], FLOATS[:1000]),
}


@pytest.mark.parametrize("grading", Grading)
@pytest.mark.parametrize("name", LARGE)
def test_values_are_not_blown_up_to_compare_them(name: str, grading: Grading) -> None:
    answer, expected = LARGE[name]
    crossed = wire.decode(wire.encode(answer))
    found = []
    how: dict[str, Any] = {"oracle": "equal", "atol": 1e-3, "grading": grading}
    assert peak_megabytes(lambda: found.append(is_right(crossed, expected, [], **how))) < 60
    assert found == [False]


def test_small_columns_compare_as_numpy_compares_them() -> None:
    assert right([[1.0], [1.0]], [1.0, 1.0 + 1e-9])
    assert not right([[1.0], [2.0]], [1.0, 1.0 + 1e-9])
    assert not right([[1.0], [1.0, 2.0]], [1.0, 1.0 + 1e-9])
    assert right(np.array([2]), 2)
    assert not right(np.array([2, 2]), [2, 2])


def test_long_answers_of_the_right_shape_have_their_tolerance() -> None:
    count = (1 << 20) + 1  # one more than what may be made of smaller values
    expected = [1.0] * count
    assert right([1.0 + 1e-9] * count, expected)
    assert not right([1.0 + 1e-3] * count, expected)
    rows = [[1.0, 2.0], [3.0, 4.0]]
    assert right([[1.0, 2.0], [3.0, 4.0 + 1e-9]], rows, atol=1e-6)


NUMBERS = [1, True, 1 + 0j, np.float64(1), np.int32(1)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_all_kinds_of_numbers_in_lists_have_the_tolerance_of_floats(number: Any) -> None:
    assert right([number, 2.0 + 1e-9], [1.0, 2.0])
    assert not right([number, 2.1], [1.0, 2.0])


# time ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "kind"), [(LIMIT, "fraction"), (LIMIT + 1, "opaque")])
@pytest.mark.parametrize("upper", [True, False])
def test_parts_of_a_fraction_have_a_longest_length(bits: int, kind: str, upper: bool) -> None:
    long, short = (1 << bits) - 1, 1
    crossed = wire.decode(wire.encode(Fraction(*((long, short) if upper else (short, long)))))
    assert isinstance(crossed, wire.Foreign)
    assert crossed.kind == kind


def test_a_fraction_that_is_not_reduced_takes_no_time() -> None:
    answer = Fraction(0)
    answer._numerator, answer._denominator = 3**2_700_000, 7**1_600_000  # type: ignore[attr-defined]
    data = wire.encode(answer)
    began = time.process_time()
    assert not is_right(wire.decode(data), 1, [], oracle="equal", atol=0.0, grading=Grading.DEFAULT)
    assert time.process_time() - began < 5  # 28 s were it reduced


def test_a_decimal_that_meets_a_long_integer_takes_no_time() -> None:
    began = time.process_time()
    assert not right(Decimal("1E5"), 1 << 3_300_000)
    assert not right([1, Decimal("1E5")], [1, 1 << 3_300_000])
    assert time.process_time() - began < 3  # 20 s each
    assert right(Decimal(1 << 2000), 1 << 2000)
    assert right([Decimal(2)], [2])


@pytest.mark.parametrize(("bits", "fits"), [(MIXED - 100, True), (MIXED + 100, False)])
def test_a_decimal_beside_a_long_integer_cannot_be_read(bits: int, fits: bool) -> None:
    data = wire.encode([1 << bits, Decimal(1)])
    if fits:
        assert wire.natural(wire.decode(data)) == [1 << bits, Decimal(1)]
    else:
        with pytest.raises(wire.WireError, match="too long to compare"):
            wire.decode(data)
    assert wire.decode(wire.encode([1 << bits, 1.0])) == [1 << bits, 1.0]


def test_a_busy_machine_does_not_make_a_comparison_too_long() -> None:
    with no_longer_than(0.1):
        time.sleep(0.3)  # somebody else has the processor
    with pytest.raises(TooLong), no_longer_than(0.1):
        all(True for _ in itertools.count())


def test_right_values_that_take_long_have_an_end_together(tmp_path: Path) -> None:
    expected = {i: i for i in range(20)}
    slow = wire.encode(ChainMap(*[{}] * 10_000, expected))  # each key is looked for in all of them
    files = SuiteFiles(tmp_path, "k")
    write_frames(files.inputs, [wire.encode([1])])
    write_frames(files.expected, [wire.encode(expected)])
    files.write_times([0.1])
    place = {"key": "k", "oracle": "equal", "atol": 0.0}
    suite = Suite("k", {"cache": str(tmp_path), "seconds": 1.0, "grading": "default"}, place)
    worker = Worker({"grading": "default"})
    assert worker._wrong(suite, 0, b"O", slow) is None
    taken = worker_module._COMPARE_ALL_SECONDS - worker._patience
    assert taken > 0
    worker._patience = taken / 2
    found = worker._wrong(suite, 0, b"O", slow)
    assert found == Outcome(verdict=Verdict.WRONG, message="returned values that take too long to compare", call="1")
    assert worker._wrong(suite, 0, b"O", slow) == found
