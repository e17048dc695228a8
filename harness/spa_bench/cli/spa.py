"""The commands `spa-bench spa attribute|partition|adapt|describe`: the stages of a sampler by themselves, from one cache."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from spa_bench.cli.values import data_of, seeds_of
from spa_bench.errors import UsageError

if TYPE_CHECKING:
    from spa_bench.spa.stages import Stages
    from spa_bench.support.console import Reporter


def _attribute(a: argparse.Namespace) -> None:
    stages, console, row = _stages(a, needs_scores=True)
    _print(a, console, row, stages.attribute(), table=False)


def _partition(a: argparse.Namespace) -> None:
    _check_against(a)
    stages, console, row = _stages(a)
    _print(a, console, row, stages.partition(), table=True)


def _adapt(a: argparse.Namespace) -> None:
    stages, console, row = _stages(a, any_adapters=True)
    _print(a, console, row, stages.adapters()[0].parent, table=False)


def _describe(a: argparse.Namespace) -> None:
    from spa_bench.spa.describe import describe, text
    from spa_bench.spa.picture import check_place, draw
    from spa_bench.support.console import Reporter

    if a.out:
        check_place(a.out)
    found = describe(a.folder, a.against)
    if a.out:
        if not found.report:
            raise UsageError(f"{a.folder}: the parts of these adapters are not beside them, so there is nothing to draw")
        draw(found.report, a.out, (found.parts or found.folder).name)
        Reporter().note(f"picture: {a.out}")
    print(json.dumps([found.to_json()], indent=1) if a.json else text(found))


def _check_against(a: argparse.Namespace) -> None:
    """Raises, before anything is computed, for a partition that cannot be read."""
    from spa_bench.spa.describe import other_labels

    if a.against:
        other_labels(a.against)


def _stages(
    a: argparse.Namespace, *, needs_scores: bool = False, any_adapters: bool = False
) -> tuple[Stages, Reporter, dict[str, Any]]:
    """The stages of the options' sampler, where to report, and what a row says of them.

    Raises UsageError for a sampler without the stage.
    """
    from spa_bench.cards.reading import parse_overrides
    from spa_bench.cards.sampler import load_sampler_card
    from spa_bench.runs.reopen import load_model
    from spa_bench.spa.partition import needs_scores as looks_at_scores
    from spa_bench.spa.stages import Stages, load_data
    from spa_bench.support.cache import stage_cache
    from spa_bench.support.console import Reporter

    [seed] = seeds_of(a)
    settings, task = parse_overrides(a.settings)
    if task:
        raise UsageError(f"spa has no task: --set takes keys of the sampler's card; got task.{next(iter(task))}")
    card = load_sampler_card(a.sampler, settings | data_of(a))
    if card.adapters == "none" or (card.adapters != "parts" and not any_adapters):
        trains = "trains nothing" if card.adapters == "none" else "trains on all data and has no parts"
        raise UsageError(f'the sampler {card.name!r} {trains}; use one with adapters = "parts", such as spa-influence')
    if needs_scores and not looks_at_scores(card.partition.method):
        raise UsageError(
            f"partition.method {card.partition.method!r} of {card.name!r} looks at no scores: there is nothing to attribute; "
            "--set partition.method=argmax has some"
        )
    console = Reporter()
    model = load_model(a.model, a)
    data = load_data(card, model, seed)
    for line in data.notes(card):
        console.note(line)
    row = {"sampler": card.name, "model": model.name, "seed": seed, "examples": len(data.examples), "skipped": data.skipped}
    return Stages(card, data, model, seed, stage_cache(), console), console, row


def _print(a: argparse.Namespace, console: Reporter, row: Mapping[str, Any], folder: Any, *, table: bool) -> None:
    """The folder on stdout, or a row; with `table` the report as notes."""
    from spa_bench.spa.describe import describe, text

    found = describe(folder, getattr(a, "against", None))
    if a.json:
        print(json.dumps([{**row, **found.to_json()}], indent=1))
        return
    if table:
        console.note(text(found))
    console.note(f"look at it with: spa-bench spa describe {folder}")
    print(folder)


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "spa attribute": _attribute,
    "spa partition": _partition,
    "spa adapt": _adapt,
    "spa describe": _describe,
}
