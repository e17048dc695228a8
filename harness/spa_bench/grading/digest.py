"""Plain values as bytes that are equal where the values count as one behaviour.

The relation is Python's equality on what `wire.decode` reads, as in compare.py, made coarser where two runs of one
algorithm may differ: 1, 1.0 and True are one; sets and dictionaries have no order; -0.0 is 0.0 and NaN equals NaN;
floats count to 6 significant digits, but never coarser than units (so that 1234567.0 stays the integer it equals), and
below 1e-9 as 0. An instance of a subclass counts as its base, and a numpy scalar as the number it holds. A value without
plain content counts as the name of its type.

Limits: any rounding has borders, and noise across a border still makes two values differ. Integers, and floats without a
fraction, are never rounded: two floats of 1e20 with noise in the last digit are two values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from spa_bench.sandbox.inside import wire

_ZERO = 1e-9  # the rounding error in a difference of equal numbers is smaller
_COARSE = 1e5  # above this, 6 significant digits would be coarser than units
_MOST_DIGITS = 20_000  # of a Decimal that is written as a number


def canonical(value: Any) -> bytes:
    """The bytes of a value from `wire.decode`; the bytes of one value are never the beginning of another's.

    The time is linear in the value's size, except for sets and dictionaries, which are sorted.
    """
    make = _KINDS.get(type(value))
    return make(value) if make else _sized(b"?", type(value).__name__.encode())


def _sized(tag: bytes, data: bytes) -> bytes:
    return tag + len(data).to_bytes(8, "little") + data


def _number(value: float | Fraction) -> bytes:
    """The bytes of an int, a float or a fraction."""
    if isinstance(value, float) and not math.isfinite(value):
        return _sized(b"f", repr(value).encode())
    number: float | int = value if isinstance(value, int) else _rounded(value)
    return _sized(b"i", hex(number).encode()) if isinstance(number, int) else _sized(b"f", repr(number).encode())


def _rounded(value: float | Fraction) -> float | int:
    """6 significant digits, but never coarser than units; an int where that leaves no fraction."""
    if value.is_integer() if isinstance(value, float) else value.denominator == 1:
        return int(value)
    if not -(2**53) < value < 2**53:  # only a Fraction has a fractional part there, and perhaps no float is near it
        return round(value)
    number = float(value)
    if abs(number) < _ZERO:
        return 0
    # in two steps, so that the noise of 12345.65000000001 is gone before the border at 12345.65 matters
    near = round(round(number, 6)) if abs(number) >= _COARSE else float(f"{float(f'{number:.12g}'):.5e}")
    return int(near) if near == int(near) else near


def _complex(value: complex) -> bytes:
    real, imaginary = _number(value.real), _number(value.imag)
    return real if imaginary == _number(0) else _sized(b"j", real + imaginary)


def _sequence(tag: bytes, items: Iterable[Any]) -> bytes:
    parts = []
    for item in items:  # no comprehension, so that a level takes one frame of Python
        parts.append(canonical(item))
    return _sized(tag, b"".join(parts))


def _set(items: Iterable[Any]) -> bytes:
    parts = set()
    for item in items:
        parts.add(canonical(item))
    return _sized(b"{", b"".join(sorted(parts)))


def _dict(value: dict[Any, Any]) -> bytes:
    parts = set()
    for key, item in value.items():
        parts.add(canonical(key) + canonical(item))
    return _sized(b":", b"".join(sorted(parts)))


def _foreign(value: wire.Foreign) -> bytes:
    make = _FOREIGN.get(value.kind)
    return make(value.value) if make else _sized(b"o", value.name.encode("utf-8", "surrogatepass"))


def _range(parts: tuple[int, int, int]) -> bytes:
    """The bytes of a range. Ranges are equal as sequences: without a second item the step has no effect."""
    numbers = range(*parts)
    return _sequence(b"r", [len(numbers), *([numbers.start] if numbers else []), *([numbers.step] if len(numbers) > 1 else [])])


def _decimal(text: str) -> bytes:
    from decimal import Decimal

    number = Decimal(text)
    if not number.is_finite():
        return _number(float(number))
    return _number(Fraction(number)) if abs(number.adjusted()) < _MOST_DIGITS else _sized(b"m", text.encode())


_KINDS: dict[type, Callable[[Any], bytes]] = {
    bool: _number,
    int: _number,
    float: _number,
    complex: _complex,
    str: lambda value: _sized(b"s", value.encode("utf-8", "surrogatepass")),
    bytes: lambda value: _sized(b"b", value),
    list: lambda value: _sequence(b"[", value),
    tuple: lambda value: _sequence(b"(", value),
    set: _set,
    frozenset: _set,
    dict: _dict,
    wire.Foreign: _foreign,
}
_FOREIGN: dict[str, Callable[[Any], bytes]] = {  # by kind; see wire
    "subclass": canonical,
    "numpy": lambda parts: canonical(parts[1]),
    "range": _range,
    "bytearray": canonical,  # equals bytes
    "memoryview": canonical,
    "counter": lambda counts: _dict({key: count for key, count in counts.items() if count != 0}),
    "ordered": _dict,
    "defaultdict": lambda parts: _dict(parts[1]),
    "chainmap": lambda maps: _dict({key: item for each in reversed(maps) for key, item in wire.natural(each).items()}),
    "userdict": canonical,
    "userlist": canonical,
    "userstring": canonical,
    "mappingproxy": canonical,
    "iterable": lambda items: _sequence(b"e", items),
    "dict_keys": _set,
    "dict_items": _set,
    "dict_values": lambda items: _sequence(b"v", items),
    "deque": lambda parts: _sequence(b"d", parts[0]),
    "fraction": lambda parts: _number(Fraction(*parts)),
    "decimal": _decimal,
    "ndarray": lambda parts: _sequence(b"a", parts[1:]),
}
