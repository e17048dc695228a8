"""The prompts of problems: run folders hold none, so they come from the task, where that is quick and needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from spa_bench.cards.task import build_task_card
from spa_bench.errors import DataError
from spa_bench.runs.folder import TASK_FILE, RunFolder
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import task_of
from spa_bench.support.hub import HUB

Questions = Callable[[RunFolder], Mapping[str, str]]
"""From a run to problem -> prompt; raises a SpaBenchError with the reason where they cannot be had."""
_AT_HAND = {"mini-code", "jsonl"}  # problems that need neither a download nor a heavy package


def at_hand(folder: RunFolder) -> Mapping[str, str]:
    """Prompts of problems that are in the package or in a local file. Raises DataError for other problems."""
    stored = folder.spec["task"]
    if stored.get("kind") == "open" and not str(stored["options"]["prompts"]).startswith(HUB):
        return {p.id: p.prompt for p in task_of(folder).problems}
    if stored.get("kind", "code") != "code" or stored.get("problems") not in _AT_HAND:
        raise DataError("prompts of this task are only loaded on request: spa-bench report --problems load")
    content = {k: v for k, v in stored.items() if k not in {"problems_hash", "problems_n", "scoring"}} | {"description": ""}
    if stored["problems"] == "jsonl":
        place = (folder.read_json(TASK_FILE) or {}).get("file")
        if place is None or not Path(place).exists():
            raise DataError(f"the file of problems is not where it was ({place})")
        content["file"] = place
    task = load_task(build_task_card(content, str(folder.path)))
    if task.describe()["problems_hash"] != stored["problems_hash"]:
        raise DataError("the problems here are others than those of the run")
    return {p.id: p.prompt for p in task.problems}


def none(folder: RunFolder) -> Mapping[str, str]:
    """No prompts: only run folders are read."""
    return {}
