"""`spa-bench spa synthesize|attribute|partition|adapt|describe`: the stages of a sampler by themselves, with one cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spa_bench.cli.options import (
    OUTPUT,
    WHAT,
    Json,
    Machine,
    Model,
    Pairs,
    Sampler,
    a_count,
    a_path,
    name_tasks,
    option,
    overrides,
)
from spa_bench.errors import UsageError
from spa_bench.mini.embedded import EMBEDDED

if TYPE_CHECKING:
    from spa_bench.runs.stages import StageOptions
    from spa_bench.support.console import Reporter

Settings = Annotated[
    tuple[str, ...], overrides("override a card's key, e.g. partition.method=kmeans or attribution.method=bm25")
]
Seed = Annotated[int, a_count("seed of attribution, partition and training", WHAT)]
Compared = Annotated[
    str | None,
    option(
        "count training pairs that overlap this task's problems; --decontaminate leaves them out",
        WHAT,
        metavar="NAME|CARD.toml",
        completer=name_tasks,
    ),
]
Against = Annotated[
    Path | None,
    a_path(
        "say how alike (NMI) another partition is: a folder of parts, or a file with a label for each example",
        OUTPUT,
        metavar="DIR|FILE",
    ),
]


def synthesize(
    *,
    sampler: Sampler,
    model: Model = EMBEDDED,
    task: Annotated[
        str | None,
        option(
            "leave out pairs that overlap this task's problems; `run` names its task by itself",
            WHAT,
            metavar="NAME|CARD.toml",
            completer=name_tasks,
        ),
    ] = None,
    settings: Settings = (),
    seed: Annotated[int, a_count("seed of everything that is drawn", WHAT)] = 0,
    machine: Machine | None = None,
    as_json: Json = False,
) -> None:
    """Make the training pairs of a sampler with [synthesize]; prints the folder with pairs, drafts and report."""
    from spa_bench.runs.synthesize import synthesize_stage
    from spa_bench.support.console import Reporter

    made = synthesize_stage(sampler, _options(model, None, task, settings=settings, seed=seed, machine=machine))
    if as_json:
        print(json.dumps([{"folder": str(made.folder), **made.report}], indent=1))
        return
    Reporter().note(f"look at it with: cat {made.folder / 'report.md'}")
    print(made.folder)


def attribute(
    *,
    sampler: Sampler,
    model: Model = EMBEDDED,
    pairs: Pairs | None = None,
    task: Compared = None,
    settings: Settings = (),
    seed: Seed = 0,
    machine: Machine | None = None,
    as_json: Json = False,
) -> None:
    """Score every training example against every query; prints the folder of the scores."""
    from spa_bench.runs.stages import open_stages

    with open_stages(
        sampler, _options(model, pairs, task, settings=settings, seed=seed, machine=machine), last="attribute"
    ) as opened:
        _print(opened.console, opened.row, opened.stages.attribute(), as_json=as_json)


def partition(
    *,
    sampler: Sampler,
    model: Model = EMBEDDED,
    pairs: Pairs | None = None,
    task: Compared = None,
    settings: Settings = (),
    seed: Seed = 0,
    machine: Machine | None = None,
    against: Against = None,
    as_json: Json = False,
) -> None:
    """Make K parts of the data, and report on them; prints the folder of the parts."""
    from spa_bench.runs.stages import open_stages
    from spa_bench.spa.describe import other_labels

    if against:  # an unreadable file is reported before anything is computed
        other_labels(against)
    with open_stages(
        sampler, _options(model, pairs, task, settings=settings, seed=seed, machine=machine), last="partition"
    ) as opened:
        _print(opened.console, opened.row, opened.stages.partition(), against=against, table=True, as_json=as_json)


def adapt(
    *,
    sampler: Sampler,
    model: Model = EMBEDDED,
    pairs: Pairs | None = None,
    task: Compared = None,
    settings: Settings = (),
    seed: Seed = 0,
    machine: Machine | None = None,
    as_json: Json = False,
) -> None:
    """Train the adapters; prints their folder."""
    from spa_bench.runs.stages import open_stages

    with open_stages(
        sampler, _options(model, pairs, task, settings=settings, seed=seed, machine=machine), last="adapt"
    ) as opened:
        _print(opened.console, opened.row, opened.adapters()[0].parent, as_json=as_json)


def describe(
    folder: Annotated[Path, a_path("a folder that one of the stages printed", metavar="DIR")],
    /,
    *,
    against: Against = None,
    out: Annotated[
        Path | None,
        a_path("draw sizes, scores and the mean scores of each part", OUTPUT, metavar="FILE.png|svg|pdf"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tables and a picture of a folder that one of the stages printed."""
    from spa_bench.spa import describe as stage
    from spa_bench.spa.picture import check_place, draw
    from spa_bench.support.console import Reporter

    if out:
        check_place(out)
    said = stage.describe(folder, against)
    if out:
        if not said.report:
            raise UsageError(f"{folder}: the parts of these adapters are not beside them, so there is nothing to draw")
        draw(said.report, out, (said.parts or said.folder).name)
        Reporter().note(f"picture: {out}")
    print(json.dumps([said.to_json()], indent=1) if as_json else stage.text(said))


def _options(
    model: str, pairs: Pairs | None, task: str | None, *, settings: tuple[str, ...], seed: int, machine: Machine | None
) -> StageOptions:
    from spa_bench.runs.stages import StageOptions

    pairs, machine = pairs or Pairs(), machine or Machine()
    return StageOptions(
        model=model,
        loading=machine.options(),
        data=pairs.data,
        queries=pairs.queries,
        task=task,
        settings=settings + pairs.settings,
        seed=seed,
    )


def _print(
    console: Reporter,
    row: Mapping[str, object],
    folder: Path,
    *,
    against: Path | None = None,
    table: bool = False,
    as_json: bool,
) -> None:
    """Print the folder or a row on stdout; with `table` also the report as notes."""
    from spa_bench.spa.describe import describe, text

    said = describe(folder, against)
    if as_json:
        print(json.dumps([{**row, **said.to_json()}], indent=1))
        return
    if table:
        console.note(text(said))
    console.note(f"look at it with: spa-bench spa describe {folder}")
    print(folder)
