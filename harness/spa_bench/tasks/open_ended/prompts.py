"""Prompts in NoveltyBench's file shape: rows of id and prompt, and perhaps a category."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from spa_bench.errors import DataError
from spa_bench.support.files import unpacked
from spa_bench.support.hub import HUB, Located, hub_rows
from spa_bench.support.user_json import read_json
from spa_bench.tasks.open_ended.options import SHIPPED
from spa_bench.types import Problem

_OURS = Path(__file__).with_name("prompts.jsonl")


def read_prompts(source: str) -> tuple[list[Problem], str]:
    """(the problems of a file, of the hub or of the package, in order; where they were found).

    A row has the texts `id` and `prompt`; `category`, where it is there, becomes a tag. A row whose prompt is blank, as the
    benchmark's set of conversations may have, is left out, and the second text says so. Raises DataError that names the line or
    row, and for an id that is there twice.
    """
    located = (
        hub_rows(source) if source.startswith(HUB) else read_lines(_OURS if source == SHIPPED else Path(source), "prompts")
    )
    problems = problems_of(located, source)
    blank = len(located) - len(problems)
    return problems, source + (f" ({blank} rows with a blank prompt are left out)" if blank else "")


def problems_of(located: Iterable[Located], source: str) -> list[Problem]:
    """The problems of rows. Raises DataError as read_prompts."""
    problems: dict[str, Problem] = {}
    ids: set[str] = set()
    for place, row in located:
        for key in ("id", "prompt"):
            if not isinstance(row, dict) or not isinstance(row.get(key), str) or (key == "id" and not row[key].strip()):
                has = f"the keys {', '.join(map(str, row))}" if isinstance(row, dict) else json.dumps(row, default=str)[:60]
                raise DataError(f"{place} lacks the text {key!r}; a row of prompts has id and prompt, and this one has {has}")
        assert isinstance(row, dict)
        if row["id"] in ids:
            raise DataError(f"{place} repeats the id {row['id']!r}; each prompt has its own")
        ids.add(row["id"])
        category = row.get("category")
        if category is not None and not isinstance(category, str):
            raise DataError(f"{place}: category is {json.dumps(category, default=str)[:60]}; it must be a text")
        if row["prompt"].strip():
            problems[row["id"]] = Problem(id=row["id"], prompt=row["prompt"], tags=(category,) if category else ())
    if not problems:
        raise DataError(f"{source} holds no prompts; a line is an object with id and prompt")
    return list(problems.values())


def read_lines(path: Path, what: str) -> list[Located]:
    """(`FILE, line N`, value) of each line of JSON in a .jsonl or .jsonl.gz. Raises DataError."""
    try:
        text = unpacked(path).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read the {what} in {path}: {said}") from error
    placed = [(f"{path}, line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(place, read_json(line, place)) for place, line in placed]
