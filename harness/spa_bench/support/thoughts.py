"""What reasoning models write before their reply: it holds no answer, no list and no verdict.

An answer that is a program is read line by line instead: see without_drafts of tasks/answer_text.py.
"""

from __future__ import annotations

import re

_NAMES = "think|thinking|thought|seed:think"
_BEGIN = re.compile(rf"\s*(?:<(?:{_NAMES})>|\[THINK\])")
_END = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]")


def without_thoughts(text: str) -> str:
    """`text` behind a block of thoughts, which reasoning models write first; one that does not end reaches to the end.

    A block is <think>, <thinking>, <thought>, <seed:think> or [THINK] to its end. The first may have begun in the prompt.
    """
    ends = list(_END.finditer(text))
    if ends:
        return text[ends[-1].end() :].lstrip("\n")
    return "" if _BEGIN.match(text) else text
