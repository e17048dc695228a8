"""What the files of a run hold: the types of their values, checked when a file is read.

A checksum says that nothing changed, not who wrote it: a folder from a stranger can hold anything under checksums that fit.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from spa_bench.support.text import shortened

REST = "..."  # in a mapping, the shape of every key that is not named; where it is absent, such keys hold anything

Shape = type | None | tuple["Shape", ...] | list["Shape"] | Mapping[str, "Shape"]
"""A type, None for null, a tuple of alternatives, [shape] for a list, or keys with shapes; "key?" may be missing."""

_NUMBER: Shape = (int, float)
_VALUE: Shape = (int, float, None)
_COUNTS: Shape = {REST: int}
COUNTS = ("samples", "failed", "truncated", "refused", "timed out", "out of memory", "crashed", "invalid")
"""What metrics.json and results count samples by."""
_ESTIMATE: Shape = {"value": _VALUE, "low": _VALUE, "high": _VALUE, "n": int, "reason": str}
SPEC: Shape = {
    "sampler": {"name": str, "kind?": str, "members?": int, "adapters?": str, "decoding?": dict},
    "task": {"name": str, "kind?": str, "problems?": str, "version?": (str, None), "problems_hash?": str, "problems_n": int},
    "model": {"name": str, "hash?": str},
    "n": (int, None),
    "seed": int,
    "limit": (int, None),
    "data?": dict,
    "numerics?": dict,
    "sandbox?": str,
    "grading?": str,
    "noise_floor?": (bool, int),
    "embedding?": {REST: (str, int, float, bool, None)},
    "engine?": dict,
    "metrics?": {REST: str},
    "versions?": {REST: str},
    "code?": {"packages?": {REST: str}},
}
FILES: Mapping[str, Shape] = {
    "metrics.json": {
        "n": (int, None),
        "k": int,
        "members": int,
        "design": str,
        "size": int,
        "problems": [str],
        "counts": dict.fromkeys(COUNTS, int),
        "verdicts": _COUNTS,
        "marks?": _COUNTS,
        "finish": _COUNTS,
        "failures": _COUNTS,
        "notes?": _COUNTS,
        "values": {REST: [_VALUE]},
        "values_at": {REST: {REST: [_VALUE]}},
        "estimates": {REST: _ESTIMATE},
    },
    "added.json": {"metrics": {REST: str}, "estimates": {REST: _ESTIMATE}},
    "judged.json": {"by": [{"sandbox": str}]},
    "task_file.json": {"file?": str, REST: (str, [str])},
    "data_files.json": {REST: str},
}
_WORDS: Mapping[object, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object",
    list: "a list", None: "null",
}  # fmt: skip


def fault(content: object, shape: Shape, where: str = "") -> str:
    """What `content` holds that `shape` does not allow, in words that begin with its place; "" where it fits."""
    if isinstance(shape, tuple):
        found = [fault(content, one, where) for one in shape]
        wanted = " or ".join(dict.fromkeys(_said(one) for one in shape))
        return "" if "" in found else f"{where or 'it'} is {_shown(content)}, not {wanted}"
    if isinstance(shape, list):
        if not isinstance(content, list):
            return f"{where or 'it'} is {_shown(content)}, not a list"
        if set(map(type, content)) <= _plain_types(shape[0]):  # the usual case, for columns of millions
            return ""
        return next(filter(None, (fault(one, shape[0], f"{where}[{i}]") for i, one in enumerate(content))), "")
    if isinstance(shape, Mapping):
        return _mapping_fault(content, shape, where)
    fits = content is None if shape is None else type(content) is shape or (shape is float and type(content) is int)
    return "" if fits else f"{where or 'it'} is {_shown(content)}, not {_said(shape)}"


def _mapping_fault(content: object, shape: Mapping[str, Shape], where: str) -> str:
    if not isinstance(content, dict):
        return f"{where or 'it'} is {_shown(content)}, not an object"
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if name == REST:
            named = {known.removesuffix("?") for known in shape}
            faults: Iterator[str] = (fault(v, inner, f"{where}.{k}".strip(".")) for k, v in content.items() if k not in named)
            if found := next(filter(None, faults), ""):
                return found
        elif key in content:
            if found := fault(content[key], inner, f"{where}.{key}".strip(".")):
                return found
        elif key == name:
            return f"{where or 'it'} lacks {key!r}"
    return ""


def _plain_types(shape: Shape) -> set[type]:
    """The types of values without parts that fit `shape`."""
    alternatives = shape if isinstance(shape, tuple) else (shape,)
    return {types.NoneType if one is None else one for one in alternatives if one is None or isinstance(one, type)}


def _said(shape: Shape) -> str:
    return "a list" if isinstance(shape, list) else "an object" if isinstance(shape, Mapping) else _WORDS.get(shape, str(shape))


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return _WORDS[type(value)]
    if isinstance(value, int) and abs(value) > 2**64:
        return "a huge number"
    text = ascii(value)
    return shortened(text, 60)


def row_check(kind: type) -> Callable[[Mapping[str, object]], str]:
    """A function that says which field of a row of the dataclass `kind` has a wrong type; "" where all fit."""
    hints = typing.get_type_hints(kind)
    shapes = [(field.name, _shape_of(hints[field.name])) for field in dataclasses.fields(kind)]
    quick = [(name, frozenset(_plain_types(shape))) for name, shape in shapes]

    fitting: set[tuple[object, ...]] = set()  # names and types of the rows that were seen to fit; there are few

    def check(row: Mapping[str, object]) -> str:
        signature = (*row, *map(type, row.values())) if isinstance(row, dict) else ()
        if signature in fitting:
            return ""
        plain = True
        for (name, allowed), (_, shape) in zip(quick, shapes, strict=True):
            if name in row and type(row[name]) not in allowed:
                if found := fault(row[name], shape, name):
                    return found
                plain = False  # a list or an object: the next one may hold something else
        if plain and signature:
            fitting.add(signature)
        return ""

    return check


def _shape_of(hint: object) -> Shape:
    """The shape of JSON that a type in the annotations of a row stands for."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return tuple(_shape_of(one) for one in inner)
    if origin is typing.Literal:
        return str
    if origin is list:
        return [_shape_of(inner[0])]
    if origin is dict:
        return {REST: _shape_of(inner[1])}
    if hint is types.NoneType:
        return None
    if isinstance(hint, type) and issubclass(hint, Enum):
        return str
    return hint if isinstance(hint, type) else object
