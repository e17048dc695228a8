"""Our own attribution queries: one for each of the 12 subjects a domain that the SPA paper names (arXiv 2411.06722).

The paper prints the titles of its queries; instructions and answers here are ours, in `code.toml` and `text.toml`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from spa_bench.spa.data.shapes import Instruction

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Query:
    """One query and what it is about."""

    subject: str
    row: Instruction


def written(domain: str) -> list[Query]:
    """The queries of "code" or "text", in the paper's order of subjects."""
    content = tomllib.loads((_FOLDER / f"{domain}.toml").read_text(encoding="utf-8"))
    return [
        Query(subject, Instruction((("user", query["instruction"]),), query["answer"].rstrip("\n")))
        for subject, query in content.items()
    ]
