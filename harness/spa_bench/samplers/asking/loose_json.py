"""Decodes JSON as models write it: with Python's literals, long strings, bare keys and spare commas, or broken off."""

from __future__ import annotations

import contextlib
import json
import re

_SPACE = re.compile(r"\s*")
_STRING = re.compile(
    r'"""(?P<long>.*?)"""(?=\s*(?:[,\]}:]|\Z))'
    r"|'''(?P<other>.*?)'''(?=\s*(?:[,\]}:]|\Z))"
    r'|"(?P<plain>(?:\\.|[^"\\])*)"'
    r"|'(?P<single>(?:\\.|[^'\\])*)'",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_BARE = re.compile(r"[^,\]}\[{\n\"']{1,60}")  # a value without quotes: a number, true, None, 1/4, < 0.05
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|\n|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_BEHIND = r"(?=\s*(?:,\s*(?:[\"'\[{\]}]|$|\Z)|[\]}]|\Z))"
_COMPLETE = re.compile(
    r"(?:^[ \t]*|[\[,:{][ \t]*)"
    rf"(?:\"((?:\\.|(?!\"\s*:)[^\\\n]){{0,2000}}?)\"|'((?:\\.|(?!'\s*:)[^\\\n]){{0,2000}}?)'){_BEHIND}",
    re.MULTILINE,
)
_DEEPEST = 40


def value_at(text: str, place: int) -> tuple[object, int]:
    """(the value that begins at `place`, the place behind it). Raises ValueError where there is none that ends."""
    try:
        found: tuple[object, int] = json.JSONDecoder(strict=False).raw_decode(text, place)  # lines may break within texts
    except (ValueError, RecursionError):
        return _value(text, place, 0)
    return found


def complete_texts(text: str) -> list[str]:
    """The closed string literals of a list or object that breaks off, without the keys; each in one line of its own."""
    return [_unescaped(double or single) for double, single in _COMPLETE.findall(text)]


def _value(text: str, place: int, deep: int) -> tuple[object, int]:
    place = _behind_space(text, place)
    opening = text[place : place + 1]
    if deep > _DEEPEST:
        raise ValueError("too deep")
    if opening == "[":
        return _list(text, place + 1, deep)
    if opening == "{":
        return _object(text, place + 1, deep)
    if found := _STRING.match(text, place):
        return _text_of(found), found.end()
    if (found := _BARE.match(text, place)) and any(c.isalnum() for c in found[0]):
        return _bare(found[0].strip()), found.end()
    raise ValueError(f"no value at {place}")


def _list(text: str, place: int, deep: int) -> tuple[list[object], int]:
    found: list[object] = []
    while True:
        place = _behind_space(text, place)
        if text[place : place + 1] == "]":
            return found, place + 1
        value, end = _value(text, place, deep + 1)
        if isinstance(value, str) and text[place] not in "\"'":
            raise ValueError(f"bare words at {place}")  # which is prose in brackets
        found.append(value)
        place = _behind_comma(text, end, "]")


def _object(text: str, place: int, deep: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    while True:
        place = _behind_space(text, place)
        if text[place : place + 1] == "}":
            return found, place + 1
        key = _STRING.match(text, place) or _NAME.match(text, place)
        if key is None:
            raise ValueError(f"no key at {place}")
        colon = _behind_space(text, key.end())
        if text[colon : colon + 1] != ":":
            raise ValueError(f"no colon at {colon}")
        value, end = _value(text, colon + 1, deep + 1)
        found[_text_of(key) if key.re is _STRING else key[0]] = value
        place = _behind_comma(text, end, "}")


def _behind_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found
    return found.end()


def _behind_comma(text: str, place: int, closing: str) -> int:
    """The place behind a comma, or of the closing bracket."""
    place = _behind_space(text, place)
    if text[place : place + 1] == ",":
        return place + 1
    if text[place : place + 1] == closing:
        return place
    raise ValueError(f"neither a comma nor {closing} at {place}")


def _bare(word: str) -> object:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word


def _text_of(found: re.Match[str]) -> str:
    long = found["long"] if found["other"] is None else found["other"]
    if long is not None:
        return long.strip("\n")
    return _unescaped(found["plain"] if found["single"] is None else found["single"])


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    quoted = '"' + re.sub(r'(\\.)|"', lambda m: m[1] or '\\"', text, flags=re.DOTALL) + '"'
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1]) or (chr(int(m[1][1:], 16)) if len(m[1]) > 1 else m[1]), text)
