"""Bytes that cross a border between processes: fuzzed, and there and back."""

import marshal
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_bench.grading import Check, Outcome, Program
from spa_bench.sandbox import Sandbox
from spa_bench.sandbox.inside import wire

bounded = settings(max_examples=100, deadline=None, derandomize=True, database=None)
atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.complex_numbers(allow_nan=False),
)
keys = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.tuples(st.integers(), st.text()))
values = st.recursive(
    atoms | st.sets(keys) | st.frozensets(keys),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner),
    max_leaves=20,
)


def alike(a: Any, b: Any) -> bool:
    """Equal, of the same types all the way down."""
    if type(a) is not type(b) or a != b:
        return False
    if isinstance(a, list | tuple):
        return all(map(alike, a, b))
    return all(alike(a[key], b[key]) for key in a) if isinstance(a, dict) else True


@given(values)
@bounded
def test_a_plain_value_goes_there_and_back(value: Any) -> None:
    assert alike(wire.natural(wire.decode(wire.encode(value))), value)
    assert not wire.foreigners(wire.decode(wire.encode(value)))


@given(values)
@bounded
def test_what_is_written_is_what_marshal_reads(value: Any) -> None:
    assert alike(marshal.loads(wire.encode(value)), value)


@given(st.binary(max_size=200))
@bounded
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    check_decode(data)


TYPES = b"igu[({<>lsyNTF.S0rRcftaAzZ\xe9\xfb"


@given(
    st.lists(
        st.sampled_from([bytes([code]) for code in TYPES]) | st.integers(-2, 4).map(lambda n: struct.pack("<i", n)), max_size=40
    )
)
@bounded
def test_random_types_and_sizes_raise_nothing_but_wire_errors(parts: list[bytes]) -> None:
    check_decode(b"".join(parts))


@given(values, st.randoms(use_true_random=False))
@bounded
def test_mutated_bytes_raise_nothing_but_wire_errors(value: Any, chance: random.Random) -> None:
    tagged = (StopIteration, chance.choice(["range", "decimal", "deque", "dict_items", "subclass", "x"]), "x", value)
    data = bytearray(marshal.dumps([tagged, value], 2))
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(data) + 1)
        what = chance.randrange(3)
        if what == 0:
            data[place:place] = bytes([chance.choice(TYPES)])
        elif what == 1:
            del data[place : place + chance.randint(1, 4)]
        elif place < len(data):
            data[place] = chance.randrange(256)
    check_decode(bytes(data))


def check_decode(data: bytes) -> None:
    try:
        value = wire.decode(data, max_items=10_000)
    except wire.WireError:
        return
    wire.foreigners(value)
    repr(value)


HEADS = {
    "list": b"[\1\0\0\0", "tuple": b"(\1\0\0\0", "frozen set": b">\1\0\0\0", "dict": b"{N",
    "tag": b"(\4\0\0\0Su\5\0\0\0dequeu\0\0\0\0[\1\0\0\0",
}  # fmt: skip


@pytest.mark.parametrize("depth", [100, 190, 300, 598, 700, 100_000])
@pytest.mark.parametrize("kind", HEADS)
def test_deep_bytes_raise_nothing_but_wire_errors(kind: str, depth: int) -> None:
    try:
        value = wire.decode(HEADS[kind] * depth + b"N" + (b"0" * depth if kind == "dict" else b""))
    except wire.WireError:
        assert depth >= 190
        return
    wire.foreigners(value)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {1: v}, lambda v: frozenset([v])])
def test_every_depth_that_is_written_is_read(wrap: Callable[[Any], Any]) -> None:
    value: Any = ()
    for _ in range(wire.MAX_DEPTH // 10 - 1 if wrap(()) == {()} else wire.MAX_DEPTH - 2):  # a set counts for ten levels
        value = wrap(value)
    assert wire.natural(wire.decode(wire.encode(value))) == value


@pytest.mark.parametrize("kind", [list, dict])
def test_every_depth_of_subclasses_that_is_written_is_read(kind: type) -> None:
    mine = type("Mine", (kind,), {})
    value = mine()
    for _ in range(wire.MAX_DEPTH - 2):
        value = mine([value]) if kind is list else mine({1: value})
    assert wire.natural(wire.decode(wire.encode(value))) == value


@pytest.mark.parametrize(
    "value", [0, -1, 2**15, -(2**15), 2**31, 2**32 - 1, 2**63, 10**40, -(10**5000), 2**100_000 + 1], ids=range(10)
)
def test_integers_of_every_size_go_there_and_back(value: int) -> None:
    assert wire.decode(wire.encode(value)) == value


def test_nan_infinities_and_negative_zero_go_there_and_back() -> None:
    found = wire.decode(wire.encode([math.nan, math.inf, -math.inf, -0.0]))
    assert math.isnan(found[0])
    assert found[1:3] == [math.inf, -math.inf]
    assert math.copysign(1, found[3]) == -1


@pytest.mark.parametrize("count", [2**31 - 1, -1, -(2**31)])
def test_a_lie_about_the_number_of_digits_is_an_error(count: int) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(b"l" + struct.pack("<i", count))


def test_more_values_than_allowed_are_an_error() -> None:
    with pytest.raises(wire.WireError):
        wire.decode(wire.encode([None] * 100), max_items=100)


def mutants(count: int) -> list[str]:
    """Programs that are almost right, and random ones; each of them fails to be right."""
    chance, sources = random.Random(0), []
    base = "def f(x):\n    y = [n for n in range(x)]\n    return {'a': (x, y)}['a'][0] + len('b') + 1\n"
    for _ in range(count):
        text = list(base)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            text[place : place + chance.randint(0, 3)] = chance.choice(
                ["", " ", "\n", "(", "x", "0", "\0", "\ud800", "\t", "'", "é"]
            )
        sources.append("".join(text))
    sources += ["".join(map(chr, chance.choices(range(0x2100), k=chance.randrange(60)))) for _ in range(count // 3)]
    return sources


def test_random_and_mutated_programs_never_end_the_run(jail: Sandbox, grades: Callable[..., list[Outcome]]) -> None:
    sources = mutants(150)
    check = Check("def check(candidate):\n    assert candidate(1) == 2\n")
    programs: list[str | Program] = [
        *sources,
        *(Program(source=source, entry_point="f", tests=check, problem="id", seconds=0.4) for source in sources[::3]),
    ]
    found = grades(jail, *programs, workers=2)
    assert {outcome.verdict for outcome in found} <= {"passed", "wrong", "raised", "timeout", "refused"}
    assert sum(outcome.verdict == "raised" for outcome in found) > 50
