"""Instruction sets: reading pairs from files in the shapes the field uses.

A run is told from another by hashes of its pairs and by the files' names. Where the files lie is no part of that: the same
file under another path is the same data, but under another name it makes another run.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spa_bench.cards import SamplerCard
from spa_bench.errors import DataError
from spa_bench.json_rows import read_json
from spa_bench.spa_cards import DataCard
from spa_bench.types import Example

_SAMPLED = 48  # queries that "sample" draws from the data
_ALPACA = "Below is an instruction that describes a task{given}. Write a response that appropriately completes the request.\n\n"


def named(data: DataCard) -> DataCard:
    """`data` with the names of its files in place of their paths; `named` of that is the same."""
    return replace(data, examples=_bare(data.examples, _is_examples_file), queries=_bare(data.queries, _is_queries_file))


def files_of(card: SamplerCard) -> dict[str, str]:
    """Absolute paths of the files that the sampler is trained with: of its `examples`, its `queries`, both or none."""
    found = {}
    if card.adapters != "none" and _is_examples_file(card.data.examples):
        found["examples"] = str(Path(card.data.examples).resolve())
    if card.adapters == "parts" and _is_queries_file(card.data.queries):
        found["queries"] = str(Path(card.data.queries).resolve())
    return found


def is_sampled(queries: str) -> bool:
    """Whether these queries are drawn from the examples, with the seed."""
    return queries == "sample" or queries.startswith("sample:")


def _is_examples_file(source: str) -> bool:
    return source != "mini"


def _is_queries_file(source: str) -> bool:
    return source != "mini" and not is_sampled(source)


def _bare(source: str, is_file: Callable[[str], bool]) -> str:
    if not is_file(source):
        return source
    name = Path(source).name
    return name if is_file(name) else f"./{name}"  # a file may be called mini


def load_examples(source: str) -> list[Example]:
    """Pairs from "mini" or a .json/.jsonl file. Raises DataError naming file, row and what is wrong.

    Rows hold `prompt` and `completion`, or `instruction`, optional `input`, and `output` (put into Alpaca's template).
    """
    if source == "mini":
        from spa_bench.mini.data import instructions

        return instructions()
    return read_pairs(Path(source))


def load_queries(source: str, examples: Sequence[Example], seed: int) -> list[Example]:
    """Attribution queries: "mini", a file, or "sample" (up to 48) or "sample:M" seeded examples of the set itself."""
    if source == "mini":
        from spa_bench.mini.data import queries

        return queries()
    if source == "sample":
        return random.Random(f"queries-{seed}").sample(list(examples), min(_SAMPLED, len(examples)))
    if source.startswith("sample:"):
        count = source.removeprefix("sample:")
        if not count.isdigit() or not 0 < int(count) <= len(examples):
            raise DataError(f"data.queries is {source!r}: sample:M takes M examples of the set, 1 to {len(examples)}")
        return random.Random(f"queries-{seed}").sample(list(examples), int(count))
    return read_pairs(Path(source))


def read_pairs(path: Path) -> list[Example]:
    """All pairs of a .json (one list) or .jsonl file, in order."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the examples in {path}: {getattr(error, 'strerror', None) or error}") from error
    rows: list[tuple[str, object]] = []
    if path.suffix == ".json":
        content = read_json(text, str(path))
        if not isinstance(content, list):
            raise DataError(f"{path} must hold a list of rows; got {type(content).__name__}")
        rows = [(f"{path}, row {i}", row) for i, row in enumerate(content, 1)]
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                rows.append((f"{path}, line {number}", read_json(line, f"{path}, line {number}")))
    if not rows:
        raise DataError(f"{path} holds no examples")
    return [_pair(row, place) for place, row in rows]


def hash_examples(examples: Sequence[Example]) -> str:
    """Hash over all pairs in order."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(json.dumps([example.prompt, example.completion]).encode())
    return digest.hexdigest()


def _pair(row: object, place: str) -> Example:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: expected an object, got {type(row).__name__}")
    if "prompt" in row and "completion" in row:
        prompt, completion = row["prompt"], row["completion"]
    elif "instruction" in row and "output" in row:
        given = row.get("input") or ""
        head = _ALPACA.format(given=", paired with an input that provides further context" if given else "")
        body = f"### Instruction:\n{row['instruction']}\n\n" + (f"### Input:\n{given}\n\n" if given else "")
        prompt, completion = head + body + "### Response:\n", row["output"]
    else:
        raise DataError(
            f"{place}: needs prompt and completion, or instruction and output; it has {', '.join(map(str, row)) or 'no keys'}"
        )
    if not isinstance(prompt, str) or not isinstance(completion, str) or not completion.strip():
        raise DataError(f"{place}: prompt and completion must be text and the completion not empty")
    return Example(prompt, completion)
