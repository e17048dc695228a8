"""`spa-bench compare` and `spa-bench check`: two samplers, and runs against a baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import GRADED, OUTPUT, WHAT, Json, Results, a_path, name_metrics, option
from spa_bench.support.files import write_text

_SIDE = "a run folder, a result file, or a folder of either; with several samplers in it PLACE:SAMPLER"
Write = Annotated[
    Path | None,
    a_path("write it there as Markdown too", OUTPUT, metavar="FILE.md", name="--write", alias="--markdown"),
]


def compare(
    a: Annotated[str, option(_SIDE, metavar="A")],
    b: Annotated[str, option("likewise; differences are B minus A", metavar="B")],
    /,
    *,
    write: Write = None,
    as_json: Json = False,
) -> None:
    """Two samplers or two versions of one, paired by problem, and what differs in their specs."""
    from spa_bench.compare.gate import compare as compared

    comparison = compared(a, b)
    if write:
        write_text(write, comparison.markdown)
    print(json.dumps(comparison.to_json(), indent=1, allow_nan=False) if as_json else comparison.report)


def check(
    runs: Results,
    /,
    *,
    against: Annotated[
        Path,
        a_path(
            "a result file such as leaderboards/results/mini-code.json, or a folder of results or runs",
            WHAT,
            metavar="BASELINE",
        ),
    ],
    tolerance: Annotated[
        tuple[str, ...],
        option(
            "the drop that is let pass, of all metrics or those named: 0.02, 5%, pass@1=0.03,vendi=5% (docs/how-to/gate.md)",
            GRADED,
            metavar="X|X%|METRIC=X,...",
        ),
    ] = (),
    alpha: Annotated[float, option("chance that the whole check is red when nothing changed but the seeds", GRADED)] = 0.05,
    metrics: Annotated[
        str | None,
        option("judge these alone (default: all of docs/how-to/gate.md)", GRADED, metavar="A,B", completer=name_metrics),
    ] = None,
    write: Write = None,
    as_json: Json = False,
) -> int:
    """Runs against a baseline: exit code 1 when a metric fell."""
    from spa_bench.compare.gate import check_places
    from spa_bench.compare.gate.rules import words_of

    chosen = None if metrics is None else words_of(metrics)
    verdict = check_places(runs, against, tolerance=tolerance, alpha=alpha, metrics=chosen)
    if write:
        write_text(write, verdict.markdown)
    print(json.dumps(verdict.to_json(), indent=1, allow_nan=False) if as_json else verdict.report)
    return 0 if verdict.ok else 1
