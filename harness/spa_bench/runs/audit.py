"""The audit of a source of training pairs against a task, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.runs.job import load_task
from spa_bench.spa.data.overlap import Audit, audit_numbered
from spa_bench.spa.data.sets import each_example


def audit_data(task: str, data: str, settings: Sequence[str], note: Callable[[str], None]) -> Audit:
    """Compare all pairs of `data` with the problems of `task`; `settings` as --set takes them. Raises a SpaBenchError.

    Pairs are read one after another (spa.data.sources.each_row), so that memory does not grow with their number.
    """
    given = parse_overrides(settings)
    card = load_sampler_card("single", {**given.sampler, "data.examples": data})
    loaded = load_task(load_task_card(task, given.task))
    note(f"task: {loaded.name} {loaded.version}, {len(loaded.problems)} problems, found: {loaded.found}")
    read, told = each_example(card.data)
    found = audit_numbered(read, loaded.problems)
    if line := told():
        note(line)
    return found
