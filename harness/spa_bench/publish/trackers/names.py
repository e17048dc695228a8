"""Names of metrics for trackers that take letters, digits and few other characters, in a form that can be read back.

`vendi[ngram,q=1]` is `vendi/ngram q:eq:1`, and `pass@1/low` is `pass:at:1/low`: `[` becomes `/`, so that a tracker makes a
group of what has one name, its `]` goes, `,` becomes a space, and any other character has its name between colons.
"""

from __future__ import annotations

import re

PARTS = ("low", "high", "n")  # what an estimate has beside its value: NAME/low
_WORDS = {"!=": "ne", "@": "at", "=": "eq", "<": "lt", ">": "gt", "+": "plus", "*": "times", "|": "or"}
_CHARACTERS = {word: text for text, word in _WORDS.items()}
_SPECIAL = re.compile("!=|[^A-Za-z0-9_.-]")
_PARAMETERS = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
_PART = re.compile(rf"(.+)/({'|'.join(PARTS)})", re.DOTALL)


def plain(name: str) -> str:
    """`name` in letters, digits, `_.-`, space, colon and slash."""
    part = _PART.fullmatch(name)
    head, tail = (part[1], f"/{part[2]}") if part else (name, "")
    found = _PARAMETERS.fullmatch(head)
    if found is None:
        return _escaped(head) + tail
    inside = " ".join(map(_escaped, found[2].split(",")))
    if inside in PARTS:  # x[low] is no part of x
        inside = f":x{ord(inside[0]):x}:{inside[1:]}"
    return f"{_escaped(found[1])}/{inside}{tail}"


def path(name: str) -> str:
    """A name of ours such as `attribution (influence)/done` in the same letters; slashes and spaces stay."""
    return re.sub(r"[^A-Za-z0-9_.\-/ ]", lambda m: f":x{ord(m[0]):x}:", name)


def original(name: str) -> str:
    """The name of which `plain` made this one."""
    head, *rest = name.split("/")
    tail = f"/{rest.pop()}" if rest and rest[-1] in PARTS else ""
    return _read(head) + (f"[{','.join(map(_read, rest[0].split(' ')))}]" if rest else "") + tail


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda m: f":{_WORDS.get(m[0]) or f'x{ord(m[0]):x}'}:", text)


def _read(text: str) -> str:
    return re.sub(r":(\w+?):", lambda m: _CHARACTERS.get(m[1]) or chr(int(m[1][1:], 16)), text)
