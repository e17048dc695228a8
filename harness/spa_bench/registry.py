"""Which code stands behind a name: readable tables, loaded on first use."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from spa_bench.errors import UsageError

TABLES: dict[str, dict[str, str]] = {
    "sampler": {
        "mixture": "spa_bench.samplers.mixture:build",
    },
    "task": {
        "code": "spa_bench.tasks.code:build",
    },
    "problems": {
        "mini-code": "spa_bench.mini.data:problems",
        "humaneval": "spa_bench.tasks.evalplus:humaneval",
        "humaneval-plus": "spa_bench.tasks.evalplus:humaneval_plus",
        "mbpp-plus": "spa_bench.tasks.evalplus:mbpp_plus",
        "jsonl": "spa_bench.tasks.code:problems_from_file",
    },
    "attribution": {
        "influence": "spa_bench.spa.attribution.influence:build",
        "bm25": "spa_bench.spa.attribution.bm25:build",
        "random": "spa_bench.spa.attribution.random:build",
    },
    "partition": {
        "argmax": "spa_bench.spa.partition:argmax",
        "balanced": "spa_bench.spa.partition:balanced",
    },
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when something known is close, otherwise the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def load(table: str, name: str) -> Any:
    """The object behind `name` in `table`. Raises UsageError with the closest known name."""
    entries = TABLES[table]
    if name not in entries:
        raise UsageError(f"unknown {table} {name!r}{did_you_mean(name, entries)}")
    module, _, attribute = entries[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
