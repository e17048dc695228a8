"""What reasoning models write before their reply: it holds no answer, no list and no verdict."""

from __future__ import annotations


def without_thoughts(text: str) -> str:
    """`text` behind a <think> block, which reasoning models write first; one that does not end reaches to the end."""
    if "</think>" in text:
        return text.rpartition("</think>")[2].lstrip("\n")
    return "" if text.lstrip().startswith("<think>") else text
