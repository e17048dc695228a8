"""Strategies that make odd JSON values, and copies of good values and bytes with a few odd changes."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "x\udfff", "\x1b[31mred\x1b[0m", "\u202e", "a\nb", "\r", "..", "../..", "/etc/passwd", "~",
    "a/b", "-", "--help", "nan", "inf", "1e999", "os:system", "os.path:join", "a:b", ":", "%s%n", "{prompt}", "{0.__class__}",
    "<script>alert(1)</script>", "| a | b |", "[x](javascript:alert(1))", "`", "hub:x", "file:///etc/passwd",
    "x" * 3000, "é", "𝟘",
    "'; DROP", "*", "[", "\\", "$(touch x)", "NaN", "null", "true",
)  # fmt: skip
ODD_NUMBERS = (
    0, -1, 1, 2, 3, 7, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400, 0.5, -0.0,
    1e308, 5e-324, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
ODD_KEYS = ("", "name", "kind", "__class__", "__proto__", "sum", "\ud800", "a.b", "x" * 300, "0", "problem", "value")


def texts() -> st.SearchStrategy[str]:
    """Texts: odd ones, and any characters, half surrogate pairs too."""
    return st.one_of(st.sampled_from(ODD_TEXTS), st.text(st.characters(), max_size=20))


def scalars() -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), st.integers(), st.floats(), texts())


def deep(levels: int) -> Any:
    """A list in a list, so many levels deep."""
    value: Any = 0
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def values() -> st.SearchStrategy[Any]:
    """JSON values of any kind, with NaN, huge numbers and, now and then, deep nesting."""
    small = st.recursive(
        scalars(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(ODD_KEYS), texts()), inner, max_size=4)
        ),
        max_leaves=8,
    )
    return st.one_of(small, small, small, st.sampled_from([60, 400]).map(deep))


def paths_of(value: Any, most: int = 4000) -> list[tuple[Any, ...]]:
    """The paths of all values in `value`, itself first."""
    found: list[tuple[Any, ...]] = [()]
    for path in found:
        inner = at(value, path)
        keys = list(inner) if isinstance(inner, dict) else range(min(len(inner), 8)) if isinstance(inner, list) else []
        found += [(*path, key) for key in keys]
        if len(found) > most:
            break
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """`value` with `new` at `path`; `value` itself is changed."""
    if not path:
        return new
    at(value, path[:-1])[path[-1]] = new
    return value


@st.composite
def changed(draw: st.DrawFn, good: Any, most: int = 3) -> Any:
    """A copy of the JSON value `good` with 1 to `most` changes: another value, a key or an entry less or more, two swapped."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(paths_of(value)))
        here = at(value, path)
        act = draw(st.sampled_from(["put", "put", "put", "drop", "add", "swap", "nudge", "copy"]))
        if act == "drop" and path:
            del at(value, path[:-1])[path[-1]]
        elif act == "add" and isinstance(here, dict):
            here[draw(st.one_of(st.sampled_from(ODD_KEYS), texts()))] = draw(values())
        elif act == "add" and isinstance(here, list):
            here.append(copy.deepcopy(draw(st.sampled_from(here))) if here and draw(st.booleans()) else draw(values()))
        elif act == "swap":
            other = at(value, draw(st.sampled_from(paths_of(value))))
            value = put(value, path, copy.deepcopy(other))
        elif act == "nudge" and isinstance(here, int | float) and not isinstance(here, bool):
            value = put(value, path, draw(st.sampled_from([here + 1, here - 1, -here, here * 10, float(here), str(here)])))
        elif act == "nudge" and isinstance(here, str):
            value = put(
                value, path, draw(st.sampled_from([here + "x", here[:-1], here.upper(), [here], here + "\n", "/" + here]))
            )
        else:
            value = put(value, path, draw(values()))
    return value


@st.composite
def damaged(draw: st.DrawFn, good: bytes, most: int = 3) -> bytes:
    """`good` with 1 to `most` faults: flipped bits, other bytes, a part cut out, doubled or moved, an end cut off."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "set", "cut", "drop", "double", "insert", "line", "nothing"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place:]
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 200))]
            case "insert":
                data[place:place] = draw(
                    st.one_of(st.binary(max_size=20), texts().map(lambda t: t.encode("utf-8", "surrogatepass")))
                )
            case "line":
                lines = bytes(data).splitlines(keepends=True)
                if lines:
                    one = draw(st.sampled_from(range(len(lines))))
                    lines.insert(draw(st.integers(0, len(lines))), lines.pop(one) if draw(st.booleans()) else lines[one])
                data = bytearray(b"".join(lines))
            case "nothing":
                data = bytearray(draw(st.sampled_from([b"", b"\0" * 8, b"\xff\xfe", b"{", b"[]", b"null", b"[" * 3000])))
    return bytes(data)


def as_json(value: Any) -> bytes:
    """`value` as JSON with NaN and infinity as Python writes them, and half surrogate pairs as escapes."""
    return json.dumps(value).encode()


def wrapped(data: bytes, how: str) -> bytes:
    """`data` as a file may come: gzip, with a byte order mark, in UTF-16, or as it is."""
    import gzip

    match how:
        case "gzip":
            return gzip.compress(data, mtime=0)
        case "bom":
            return b"\xef\xbb\xbf" + data
        case "utf-16":
            return data.decode("utf-8", "replace").encode("utf-16")
        case "half gzip":
            return gzip.compress(data, mtime=0)[:-9]
        case _:
            return data


WRAPS = ("", "", "", "gzip", "bom", "utf-16", "half gzip")


def as_toml(content: dict[str, Any]) -> str:
    """`content` as TOML lines with inline tables; what TOML lacks, a null or half a surrogate pair, becomes what it may."""
    return "".join(f"{_toml_key(key)} = {_toml(value)}\n" for key, value in content.items())


def _toml_key(key: object) -> str:
    return json.dumps(str(key))


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)  # nan and inf are TOML's own words
        case dict():
            return "{" + ", ".join(f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case None:
            return '""'
        case _:
            return json.dumps(value)
