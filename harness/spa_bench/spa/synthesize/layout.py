"""A pair as one text, as a model reads and writes it without being asked, and a text read back into a pair.

`code`: prompt and completion joined, for targets whose prompt is a Python function up to the end of its docstring (of its first
line where it has none), as in HumanEval and in the embedded code world. A text is split there.

`pairs`: both under headings, as Alpaca's template has them. A text is split at the second heading.

A layout is used where it reads every target back as it was; `auto` takes code where that holds, else pairs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spa_bench.errors import DataError
from spa_bench.types import Example

LAYOUTS = ("auto", "code", "pairs")
UNREADABLE = {
    "code": "has no function with a body to split it at",
    "pairs": "lacks a heading, or text below one",
}

_HEAD = re.compile(
    r"""(?P<line>(?:async\ )?def\ \w+\((?:[^()]|\([^()]*\))*\)[^\n:]*:[ \t]*\n)          # the first line of a function
        (?P<doc>[ \t]+[rRuU]?(?P<quote>\"{3}|'{3}).*?(?P=quote)[ \t]*\n)?  # its docstring""",
    re.VERBOSE | re.DOTALL,
)
_PROMPT, _COMPLETION = "### Instruction:\n", "\n\n### Response:\n"


class Layout(Protocol):
    """How pairs become texts, and texts pairs."""

    @property
    def name(self) -> str:
        """One of LAYOUTS, without auto."""
        ...

    def text(self, example: Example) -> str:
        """A pair as one text."""
        ...

    def read(self, text: str) -> Example | None:
        """The pair in a text; None where there is none."""
        ...


@dataclass(frozen=True)
class Code:
    """The layout `code`."""

    name: str = "code"

    def text(self, example: Example) -> str:
        """See Layout.text."""
        return example.prompt + example.completion

    def read(self, text: str) -> Example | None:
        """See Layout.read: what stands before the function belongs to the prompt."""
        found = re.search(r"^" + _HEAD.pattern, text, _HEAD.flags | re.MULTILINE)
        if found is None or not text[found.end() :].strip():
            return None
        return Example(text[: found.end()], text[found.end() :])


@dataclass(frozen=True)
class Pairs:
    """The layout `pairs`."""

    name: str = "pairs"

    def text(self, example: Example) -> str:
        """See Layout.text."""
        return f"{_PROMPT}{example.prompt}{_COMPLETION}{example.completion}"

    def read(self, text: str) -> Example | None:
        """See Layout.read."""
        before, found, completion = text.partition(_COMPLETION)
        prompt = before.removeprefix(_PROMPT)
        if not found or prompt == before or not prompt.strip() or not completion.strip():
            return None
        return Example(prompt, completion)


_LAYOUTS: tuple[Layout, ...] = (Code(), Pairs())


def pair_in(layout: Layout, text: str, *, drawn: bool, ended: bool) -> tuple[Example | None, str]:
    """(the pair in a text that a model wrote, why there is none); `drawn`: there is a text, `ended`: by an end token."""
    if not drawn:
        return None, "could not be drawn"
    if not ended:
        return None, "did not end within the most new tokens"
    pair = layout.read(text)
    return pair, "" if pair else UNREADABLE[layout.name]


def layout_of(name: str, targets: Sequence[Example]) -> Layout:
    """The layout of that name, or with auto the first that reads all `targets` back.

    Raises DataError naming a target that it does not read back as it was.
    """
    bad = 0
    for layout in _LAYOUTS:
        if name in ("auto", layout.name):
            unread = (i for i, target in enumerate(targets) if not _same(layout.read(layout.text(target)), target))
            found = next(unread, None)
            if found is None:
                return layout
            bad = found
    raise DataError(
        f"target {bad + 1} cannot be read back from its text in the layout {name}, which {UNREADABLE[_last(name)]}: "
        + ("use synthesize.options.layout = 'auto'" if name == "code" else "take it out of the targets")
    )


def _last(name: str) -> str:
    return _LAYOUTS[-1].name if name == "auto" else name


def _same(read: Example | None, target: Example) -> bool:
    return read is not None and (read.prompt, read.completion) == (target.prompt, target.completion)
