"""`spa-bench power`: what difference between two samplers N problems can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import WHAT, Json, a_count, a_path, name_metrics, name_runs, name_tasks, option
from spa_bench.errors import UsageError


def power(
    runs: Annotated[
        tuple[Path, ...], a_path("two of them are a pilot, as with --pilot", metavar="RUN", completer=name_runs)
    ] = (),
    /,
    *,
    problems: Annotated[
        tuple[int, ...], a_count("how many problems, one row each", WHAT, metavar="N", consume_multiple=True)
    ] = (),
    task: Annotated[
        str | None,
        option("as many as this task has (default: as the pilot has)", WHAT, metavar="NAME|CARD.toml", completer=name_tasks),
    ] = None,
    rate: Annotated[float | None, option("share of right answers that you expect (default 0.5)", WHAT, metavar="P")] = None,
    draws: Annotated[int | None, a_count("answers a problem (default 1)", WHAT, metavar="N")] = None,
    correlation: Annotated[
        float | None,
        option("of answers of the two samplers on one problem, 0 to 1 (default 0)", WHAT, metavar="C"),
    ] = None,
    agreement: Annotated[
        float | None,
        option("of two answers of one sampler on one problem (default: --correlation)", WHAT, metavar="A"),
    ] = None,
    pilot: Annotated[
        tuple[Path, Path] | None,
        a_path(
            "runs of two samplers on the same problems, or folders with the seeds of each, instead of --rate, --draws, "
            "--correlation and --agreement",
            WHAT,
            metavar="RUN_A RUN_B",
        ),
    ] = None,
    metric: Annotated[str | None, option("of the pilot (default pass@1)", WHAT, completer=name_metrics)] = None,
    seeds: Annotated[
        int | None, a_count("training seeds of each sampler (default: the pilot's, or 1)", WHAT, metavar="S")
    ] = None,
    seed_spread: Annotated[
        float | None,
        option("standard deviation over seeds of the mean difference (or the pilot's)", WHAT, metavar="X"),
    ] = None,
    confidence: Annotated[float, option("of the interval", WHAT)] = 0.95,
    chance: Annotated[float, option("chance to show a difference", WHAT, name="--power")] = 0.8,
    difference: Annotated[
        float | None, option("say how likely this one is shown, and what it takes", WHAT, metavar="D")
    ] = None,
    as_json: Json = False,
) -> None:
    """What difference between two samplers N problems can show."""
    from spa_bench.cards.task import load_task_card
    from spa_bench.compare import power as figures
    from spa_bench.runs.job import load_task

    if problems and task:
        raise UsageError("--problems and --task both say how many problems; give one of them")
    options = figures.PowerOptions(
        problems=problems,
        task=task,
        rate=rate,
        draws=draws,
        correlation=correlation,
        agreement=agreement,
        pilot=(*(pilot or ()), *runs),
        metric=metric,
        seeds=seeds,
        seed_spread=seed_spread,
        confidence=confidence,
        power=chance,
    )
    design, counts = figures.design_of(options)
    if task:
        counts = [len(load_task(load_task_card(task)).problems)]
    rows = figures.rows(design, problems or counts, difference)
    print(json.dumps(figures.content(design, rows), indent=1) if as_json else figures.table(design, rows))
