"""The audit of a source of training pairs against a task, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.runs.job import load_task
from spa_bench.spa.data.overlap import Audit, audit
from spa_bench.spa.data.sets import example_rows


def audit_data(task: str, data: str, settings: Sequence[str], note: Callable[[str], None]) -> Audit:
    """Compare all pairs of `data` with the problems of `task`; `settings` as --set takes them. Raises a SpaBenchError."""
    given = parse_overrides(settings)
    card = load_sampler_card("single", {**given.sampler, "data.examples": data})
    loaded = load_task(load_task_card(task, given.task))
    read = example_rows(card.data)
    note(f"task: {loaded.name} {loaded.version}, {len(loaded.problems)} problems, found: {loaded.found}")
    if read.told:
        note(read.told)
    return audit(read.rows, loaded.problems, read.numbers)
