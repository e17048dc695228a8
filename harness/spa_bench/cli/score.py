"""`spa-bench score`: score answers that are in files of evalplus, bigcode, lm-eval or Inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import (
    OUTPUT,
    WHAT,
    Embedding,
    Json,
    Judge,
    Metrics,
    Rules,
    Task,
    Trackers,
    Workers,
    a_count,
    a_path,
    option,
    overrides,
)


def score(
    *,
    task: Task,
    samples: Annotated[
        tuple[Path, ...],
        a_path(
            "evalplus' samples or results, bigcode's generations, lm-eval's samples, Inspect's logs; repeat it for several "
            "files, quote a glob, or - for standard input",
            WHAT,
            metavar="FILE",
            name="--samples",
            allow_leading_hyphen=True,  # "-" is standard input
        ),
    ],
    name: Annotated[str | None, option("what to call them in tables (default: the file's name)", WHAT)] = None,
    cut: Annotated[bool, option("cut completions at the task's stop strings first", WHAT)] = False,
    partial: Annotated[bool, option("take a file that covers some problems; metrics are of those alone", WHAT)] = False,
    seed: Annotated[
        int | None,
        a_count(
            "the batch of answers that this is: batches of one --name become seeds of one sampler (docs/how-to/gate.md); "
            "without it each batch is a row of its own",
            WHAT,
        ),
    ] = None,
    settings: Annotated[tuple[str, ...], overrides("override a key of the task card, e.g. task.seconds=10")] = (),
    grading: Rules = "default",
    judge: Judge | None = None,
    spread: Workers | None = None,
    embedding: Embedding = None,
    metrics: Metrics = (),
    out: Annotated[Path, a_path("where the run folder goes", OUTPUT, metavar="DIR", name="--out")] = Path("runs"),
    trackers: Trackers | None = None,
    as_json: Json = False,
) -> int:
    """Score answers in files of evalplus, bigcode, lm-eval or Inspect."""
    from spa_bench.cli.summary import print_summary
    from spa_bench.publish.trackers.tracking import Tracking, names_of
    from spa_bench.runs import perform
    from spa_bench.runs.options import ScoreOptions
    from spa_bench.support.console import Reporter

    judge, spread, trackers = judge or Judge(), spread or Workers(), trackers or Trackers()
    options = ScoreOptions(
        name=name,
        cut=cut,
        partial=partial,
        seed=seed,
        settings=settings,
        rules=grading,
        judge=judge.options(),
        executor=spread.executor_options(),
        embedding=embedding,
        metrics=metrics,
        out=out,
    )
    with Tracking(names_of(trackers.log), Reporter().note, samples=trackers.log_samples) as tracking:
        folder = perform.score(task, samples, options, follow=tracking)
    return print_summary([folder], as_json=as_json)
