"""Values as plain bytes, and back: how arguments and results cross between a program and what judges it.

The bytes are version 2 of Python's marshal format, which is the fastest there is in the standard library and the same
for equal values of equal types (no references, no interning). Untrusted bytes are read by `decode`, never by
`marshal.loads`, which trusts its input. What is not plain is written as a tagged tuple and read as `Foreign`: a
collection of the standard library, a range or a numpy scalar with its content (library.py), a subclass with the value of its
base; anything else only as the name of its type. That is `opaque` where the value equals itself alone (a generator, a
function), `kin` where it equals values of its type alone (a date), and `own` where its class decides what it equals: such a
value cannot be judged outside its process, and one of kin only where no value of its type is expected.
"""

from __future__ import annotations

import marshal
import re
import reprlib
import struct
from collections.abc import Iterable
from typing import Any

from spa_bench.sandbox.inside import library

MAX_DEPTH = 100  # of nesting
_READ_DEPTH = 250  # the same with tags, which take up to two levels each; well within Python's own limit
MAX_ITEMS = 30_000_000  # values in one value
# C code that takes quadratic time is interrupted by no signal:
_FRACTION_BITS = 1 << 18  # of numerator and denominator, whose common divisor is looked for
DECIMAL_BITS = 1 << 16  # of an integer that is compared with a Decimal, and is written in base ten for that
_TAG = StopIteration  # marshal can write it, and it is no plain value
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
_PLAIN = ATOMS | _CONTAINERS
_SETS = frozenset({set, frozenset})
_SET_LEVELS = 10  # a set counts as this many: marshal writes its items twice, and the items of nested sets ever more often
_BASES = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)


class WireError(ValueError):
    """The bytes are not what `encode` writes, or hold more than the limits allow."""


class Foreign:
    """A value that is not plain. It equals nothing; `natural` turns one of a known kind into the value it stands for."""

    __slots__ = ("kind", "name", "value")

    def __init__(self, kind: str, name: str, value: Any):
        self.kind, self.name, self.value = kind, name, value

    def __repr__(self) -> str:
        return f"<{self.name}>" if self.kind in ("opaque", "kin", "own") else f"{self.name}({self.value!r})"


def encode(value: Any) -> bytes:
    """The bytes of any value. Raises WireError when it is too deep (or cyclic) or too large."""
    if type(value) in ATOMS or is_plain(value):
        return marshal.dumps(value, 2)
    return marshal.dumps(_tagged(value, 0, [MAX_ITEMS]), 2)


def encode_items(value: Any) -> bytes:
    """As `encode`, but what is not plain and can be iterated is written with the items that `set(value)` would read.

    Raises WireError as `encode`.
    """
    kind = type(value)
    known = kind in _PLAIN or library.of(kind) is not None or kind is range
    if known or any(base in _CONTAINERS and kind.__iter__ is base.__iter__ for base in library.bases(kind)):  # type: ignore[attr-defined]
        return encode(value)
    try:
        iterator = iter(value)
    except TypeError:
        return encode(value)
    items = []
    for item in iterator:
        items.append(item)
        if len(items) > MAX_ITEMS:
            raise WireError(f"more than {MAX_ITEMS:,} values")
    return marshal.dumps((_TAG, "iterable", _name(kind), _tagged(items, 1, [MAX_ITEMS])), 2)


def is_plain(value: Any) -> bool:
    """Whether marshal writes `value` as it is. marshal would write any object with a buffer (a numpy array) as bytes.

    Raises WireError as `encode`.
    """
    level, seen, depth = [value], 0, 0
    while depth < MAX_DEPTH:
        kinds = set(map(type, level))
        if kinds <= ATOMS:
            return True
        if not kinds <= _PLAIN:
            return False
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                inner.extend(item)
                inner.extend(item.values())
            elif kind in _CONTAINERS:
                inner.extend(item)
        level = inner
        depth += _SET_LEVELS if kinds & _SETS else 1
        seen += len(level)
        if seen > MAX_ITEMS:
            raise WireError(f"more than {MAX_ITEMS:,} values")
    raise WireError(f"nested deeper than {MAX_DEPTH} levels")


def _tagged(value: Any, depth: int, room: list[int]) -> Any:
    room[0] -= 1
    if room[0] < 0:
        raise WireError(f"more than {MAX_ITEMS:,} values")
    if depth > MAX_DEPTH:
        raise WireError(f"nested deeper than {MAX_DEPTH} levels")
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind in _CONTAINERS:
        return _of_base(value, kind, depth, room)
    lineage = library.bases(kind)
    found = next(((base, of) for base in lineage if (of := library.of(base))), None)
    if found:
        name, content = found[1](value)
        inner = (_TAG, name, _name(found[0]), _tagged(content, depth + 1, room))
        return inner if kind is found[0] else (_TAG, "subclass", _name(kind), inner)
    if library.module_of(kind) == "numpy" and (float in lineage or complex in lineage):
        return (_TAG, "numpy", _name(kind), (value.dtype.str, value.item()))
    for base in _BASES:
        if base in lineage:
            return (_TAG, "subclass", _name(kind), _of_base(value, base, depth, room))
    known = _library(value, kind)
    if known is None:
        return (_TAG, library.equality_of(kind), _name(kind), None)
    return (_TAG, known[0], _name(kind), _tagged(known[1], depth + 1, room))


def _of_base(value: Any, base: Any, depth: int, room: list[int]) -> Any:
    """The content of an instance of a subclass, by the methods of its base, not by its own."""
    if base is dict:
        return {_tagged(k, depth + 1, room): _tagged(v, depth + 1, room) for k, v in dict.items(value)}
    if base in _CONTAINERS:
        inner = depth + (_SET_LEVELS if base in _SETS else 1)
        return base(_tagged(item, inner, room) for item in base.__iter__(value))
    if base in (str, bytes):
        return base.__getitem__(value, slice(None)) if type(value) is base else base.__add__(value, base())
    return value if base is bool else base.__add__(value, base())


def _library(value: Any, kind: type) -> tuple[str, Any] | None:
    """(kind, plain content) of values from well-known libraries that equal plain ones, or hold them."""
    module, name = kind.__module__, kind.__name__
    if kind is range:
        return "range", (value.start, value.stop, value.step)
    if kind is bytearray:
        return "bytearray", bytes(value)
    if kind is memoryview and value.format == "B" and value.ndim == 1:
        return "memoryview", bytes(value)
    if module == "fractions" and name == "Fraction":
        return "fraction", (value.numerator, value.denominator)
    if module == "decimal" and name == "Decimal":
        return "decimal", str(value)
    if module == "numpy" and name == "ndarray":
        return "ndarray", [value.dtype.str, value.tolist()]
    if module == "numpy" and type(item := value.item()) in ATOMS:  # the item of a longdouble is a longdouble again
        return "numpy", (value.dtype.str, item)  # as it is in a set, its content can be in one
    return None


def _name(kind: type) -> str:
    module = kind.__module__
    name = f"{module}.{kind.__qualname__}" if isinstance(module, str) and module != "builtins" else kind.__qualname__
    return name[:100]


def decode(data: bytes, *, max_items: int = MAX_ITEMS) -> Any:
    """The value that `encode` wrote. Whatever the bytes are, none of them is run and only WireError is raised."""
    reader = _Reader(data, max_items)
    try:
        value = reader.read(0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"broken bytes: {error}") from error
    if reader.at != len(data):
        raise WireError("bytes behind the value")
    if reader.decimals and reader.widest > DECIMAL_BITS:
        raise WireError("a Decimal beside an integer that is too long to compare with it")
    return value


def natural(value: Any) -> Any:
    """`value` with each Foreign of a known kind replaced by the value that it stands for; opaque ones stay.

    Raises TypeError, ValueError or ArithmeticError where a program wrote bytes that no value encodes to.
    """
    if isinstance(value, Foreign):
        make = library.NATURAL.get(value.kind)
        return make(natural(value.value)) if make else value
    kind = type(value)
    if kind is dict:
        return {natural(k): natural(v) for k, v in value.items()}
    if kind in (set, frozenset):
        return kind(set_of(map(natural, value)))
    return kind(map(natural, value)) if kind in _CONTAINERS else value


def set_of(items: Iterable[Any]) -> set[Any]:
    """The same as set(items), but a signal can interrupt it: values with colliding hashes take quadratic time."""
    unique = set()
    for item in items:
        unique.add(item)
    return unique


def short(value: Any) -> str:
    """A shortened repr of any value of `decode` or `natural`."""
    try:
        return reprlib.repr(value)
    except Exception:  # an integer of more digits than Python prints
        return f"<{type(value).__name__}>"


def foreigners(value: Any) -> list[Foreign]:
    """All Foreign values in `value`, the outer ones first."""
    if isinstance(value, Foreign):
        return [value, *foreigners(value.value)]
    if type(value) is dict:
        return [f for pair in value.items() for item in pair for f in foreigners(item)]
    return [f for item in value for f in foreigners(item)] if type(value) in _CONTAINERS else []


def undecided(value: Any) -> Foreign | None:
    """The first value in `value` of which its own class decides what it equals, so that nobody else can; None without one."""
    return next((f for f in foreigners(value) if f.kind == "own"), None)


def by_name(value: Any) -> Any:
    """`value` with the name of its type in the place of each `kin`, so that two of one type are equal."""
    if isinstance(value, Foreign) and value.kind == "kin":
        return (_TAG, value.name)
    if isinstance(value, Foreign):
        return Foreign(value.kind, value.name, by_name(value.value))
    kind = type(value)
    if kind is dict:
        return {by_name(k): by_name(v) for k, v in value.items()}
    if kind in (set, frozenset):
        return kind(set_of(map(by_name, value)))
    return kind(map(by_name, value)) if kind in _CONTAINERS else value


class _Reader:
    """Reads the types that `encode` writes, and no other type of marshal."""

    def __init__(self, data: bytes, room: int):
        self.data, self.at, self.room = data, 0, room
        self.decimals, self.widest = False, 0  # whether there is a Decimal; bits of the longest integer

    def read(self, depth: int) -> Any:
        if depth > _READ_DEPTH:
            raise WireError("nested too deep")
        self.room -= 1
        if self.room < 0:
            raise WireError("too many values")
        code = self.data[self.at]
        self.at += 1
        if code == 0x69:  # i
            return int.from_bytes(self._take(4), "little", signed=True)
        if code == 0x67:  # g
            return float(struct.unpack("<d", self._take(8))[0])
        if code == 0x75:  # u
            return self._take(self._size()).decode("utf-8", "surrogatepass")
        if code == 0x5B:  # [
            return [self.read(depth + 1) for _ in range(self._size())]
        if code == 0x28:  # (
            return self._tuple(depth)
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        return self._rare(code, depth)

    def _rare(self, code: int, depth: int) -> Any:
        if code == 0x7B:  # {
            mapping: dict[Any, Any] = {}
            while self.data[self.at] != 0x30:
                key = self.read(depth + 1)
                mapping[key] = self.read(depth + 1)
            self.at += 1
            return mapping
        if code == 0x6C:  # l
            return self._long()
        if code in (0x3C, 0x3E):  # < >
            items = set_of(self.read(depth + 1) for _ in range(self._size()))
            return items if code == 0x3C else frozenset(items)
        if code == 0x73:  # s
            return self._take(self._size())
        if code == 0x79:  # y
            return complex(*struct.unpack("<dd", self._take(16)))
        raise WireError(f"unknown type {code:#x}")

    def _tuple(self, depth: int) -> Any:
        items = [self.read(depth + 1) for _ in range(self._size())]
        if not items or items[0] is not _TAG:
            return tuple(items)
        if len(items) != 4 or not isinstance(items[1], str) or not isinstance(items[2], str):
            raise WireError("broken tag")
        self.decimals |= items[1] == "decimal"
        return _checked(Foreign(*items[1:]))

    def _size(self) -> int:
        size = int.from_bytes(self._take(4), "little", signed=True)
        if size < 0 or size > len(self.data) - self.at:  # each item takes a byte at least
            raise WireError("a length beyond the end")
        return size

    def _take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise WireError("cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def _long(self) -> int:
        """An integer from digits of 15 bits, joined in pairs so that long ones do not take quadratic time."""
        count = int.from_bytes(self._take(4), "little", signed=True)
        raw = self._take(2 * abs(count))
        self.widest = max(self.widest, 15 * abs(count))
        digits = list(struct.unpack(f"<{abs(count)}H", raw)) or [0]
        if max(digits) >= 1 << 15:
            raise WireError("broken integer")
        width = 15
        while len(digits) > 1:
            digits.append(0)
            digits = [digits[i] | digits[i + 1] << width for i in range(0, len(digits) - 1, 2)]
            width *= 2
        return int(-digits[0] if count < 0 else digits[0])


_CONSTANTS: dict[int, Any] = {0x4E: None, 0x54: True, 0x46: False, 0x2E: ..., 0x53: _TAG}


def _checked(foreign: Foreign) -> Foreign:
    """The same, or opaque when its content is not what its kind says or too costly to compare: any bytes can come."""
    value, kind = foreign.value, foreign.kind
    parts: Any = value if type(value) in (tuple, list) else ()
    whole = all(type(part) is int for part in parts)
    fits = {
        "own": value is None,
        "kin": value is None,
        "range": type(value) is tuple and len(parts) == 3 and whole and parts[2] != 0 and _length(*parts) <= MAX_ITEMS,
        "fraction": type(value) is tuple and len(parts) == 2 and whole and parts[1] > 0 and _bits(parts) <= _FRACTION_BITS,
        "decimal": type(value) is str and len(value) < 10_000 and _is_decimal(value),
        "bytearray": type(value) is bytes,
        "memoryview": type(value) is bytes,
        "ndarray": type(value) is list and len(parts) == 2 and type(parts[0]) is str,
        "numpy": len(parts) == 2 and type(parts[0]) is str and type(parts[1]) in ATOMS,
        "iterable": type(value) is list,
        "subclass": type(value) in _PLAIN or (isinstance(value, Foreign) and value.kind in library.KINDS),
    }.get(kind, kind in library.KINDS and library.fits(kind, value, _kind_of))
    return foreign if fits else Foreign("opaque", foreign.name, None)


def _kind_of(value: Any) -> str:
    """The name of the plain type of a value that was read, or the kind of a Foreign."""
    return value.kind if isinstance(value, Foreign) else type(value).__name__


def _bits(parts: Iterable[int]) -> int:
    return max(part.bit_length() for part in parts)


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+(\.\d*)?(E[+-]?\d{1,9})?|Infinity|NaN)", text, re.ASCII) is not None


def _length(start: int, stop: int, step: int) -> int:
    """Items of a range of any size; len() stops at 2**63."""
    return max(0, (stop - start + step - (1 if step > 0 else -1)) // step)
