"""Reads replies: the answer behind a marker, and the items of a list.

Models keep to a format loosely. An answer is wanted behind a line `### Answer`; a reply without the line is the answer as a
whole. A list is wanted with an item a line; numbers, bullets, headings and a JSON list are understood too.
"""

from __future__ import annotations

import json
import re

from spa_bench.samplers.replies import parse_reply

_MARKER = re.compile(r"[#*_> \t]*(?:final )?answer[*_ \t]*(?::[*_ \t]*([^\n]*)|#*)", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`\n]*")
_BULLET = re.compile(r"[ \t]*(?:[-*•+]|\(?\d{1,3}[.):]|[#*_ \t]*(?:\w+[ \t]+)?#?\d{1,3}[*_ \t]*[:.)])[*_ \t]*(?=\S|$)")
_MOST_ITEMS = 1000


def without_thoughts(text: str) -> str:
    """`text` behind a <think> block, which reasoning models write first; one that does not end reaches to the end."""
    if "</think>" in text:
        return text.rpartition("</think>")[2].lstrip("\n")
    return "" if text.lstrip().startswith("<think>") else text


def answer_in(reply: str, *, program: bool) -> str:
    """The answer that a reply holds: what comes behind the last marker line, and all of it where there is none.

    Of a program in one fenced block it is the block; with several blocks or none the task's sanitiser finds the program.
    """
    text = _behind_marker(without_thoughts(reply))
    if not program:
        return text.strip()
    if sum(bool(_FENCE.fullmatch(line)) for line in text.splitlines()) <= 2 and len(blocks := parse_reply(text)) == 1:
        return blocks[0].text
    return text.strip("\n")


def _behind_marker(reply: str) -> str:
    """The text behind the last marker line outside of fences that has text behind it; the whole reply where there is none."""
    lines = reply.splitlines(keepends=True)
    fence, found = "", reply
    for i, line in enumerate(lines):
        bare = line.rstrip("\r\n")
        mark = _FENCE.fullmatch(bare)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and bare.strip() == mark[1]:
            fence = ""
        elif not fence and (marker := _MARKER.fullmatch(bare)):
            rest = (f"{marker[1]}\n" if (marker[1] or "").strip() else "") + "".join(lines[i + 1 :])
            if rest.strip():
                found = rest
    return found


def items_in(reply: str) -> list[str]:
    """The items of a list in a reply, in order and without doubles: a JSON list of texts, or its lines that begin an item.

    Lines without a bullet or number belong to the item above them. Lines before the first item are left out; where no line has
    a bullet or number, each line is an item.
    """
    text = without_thoughts(reply)
    found = _json_list(text)
    if not found:
        for line in text.splitlines():
            mark = _BULLET.match(line)
            if mark and line[mark.end() :].strip():
                found.append(line[mark.end() :].strip())
            elif found and line.strip() and not _FENCE.fullmatch(line):
                found[-1] += f" {line.strip()}"
    if not found:
        found = [line.strip() for line in text.splitlines() if line.strip() and not _FENCE.fullmatch(line)]
    clean = (" ".join(item.strip(' \t*_"').split()) for item in found)
    return [item for item in dict.fromkeys(clean) if item][:_MOST_ITEMS]


def _json_list(text: str) -> list[str]:
    """The first JSON list of texts in `text`; empty where there is none."""
    start = text.find("[")
    if start < 0:
        return []
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return []
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
