"""Functions that the YAML files beside this one call: the questions of mini-nlu in the form that lm-eval reads."""

from __future__ import annotations

from typing import Any

from spa_bench.mini.text.data import documents


def rows(family: str, **_: object) -> dict[str, Any]:
    """The 48 documents of `family` as the split `test`. lm-eval passes the task's metadata, which has no effect."""
    from datasets import Dataset

    return {"test": Dataset.from_list(documents(family))}
