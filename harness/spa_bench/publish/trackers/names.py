"""Names of metrics for trackers that accept letters, digits and few other characters, in a form that can be read back.

`vendi[ngram,q=1]` is `vendi/ngram q:eq:1`, and `pass@1/low` is `pass:at:1/low`. `[` becomes `/`, so that a tracker groups
metrics of one name; `]` is dropped; `,` becomes a space; any other character is replaced by its name between colons.
"""

from __future__ import annotations

import re

PARTS = ("low", "high", "n")  # the parts of an estimate beside its value: NAME/low
_WORDS = {"!=": "ne", "@": "at", "=": "eq", "<": "lt", ">": "gt", "+": "plus", "*": "times", "|": "or"}
_CHARACTERS = {word: text for text, word in _WORDS.items()}
_SPECIAL = re.compile("!=|[^A-Za-z0-9_.-]")
_PARAMETERS = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
_PART = re.compile(rf"(.+)/({'|'.join(PARTS)})", re.DOTALL)


def plain(name: str) -> str:
    """`name` in letters, digits, `_.-`, space, colon and slash."""
    part = _PART.fullmatch(name)
    head, tail = (part[1], f"/{part[2]}") if part else (name, "")
    match = _PARAMETERS.fullmatch(head)
    if match is None:
        return _escaped(head) + tail
    inside = " ".join(map(_escaped, match[2].split(",")))
    if inside in PARTS:  # the metric x[low] is not the part `low` of x
        inside = f":x{ord(inside[0]):x}:{inside[1:]}"
    return f"{_escaped(match[1])}/{inside}{tail}"


def path(name: str) -> str:
    """A name of ours such as `attribution (influence)/done` in the same characters; slashes and spaces are kept."""
    return re.sub(r"[^A-Za-z0-9_.\-/ ]", lambda m: f":x{ord(m[0]):x}:", name)


def original(name: str) -> str:
    """The name from which `plain` made this name."""
    head, *rest = name.split("/")
    tail = f"/{rest.pop()}" if rest and rest[-1] in PARTS else ""
    return _read(head) + (f"[{','.join(map(_read, rest[0].split(' ')))}]" if rest else "") + tail


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda m: f":{_WORDS.get(m[0]) or f'x{ord(m[0]):x}'}:", text)


def _read(text: str) -> str:
    return re.sub(r":(\w+?):", lambda m: _CHARACTERS.get(m[1]) or chr(int(m[1][1:], 16)), text)
