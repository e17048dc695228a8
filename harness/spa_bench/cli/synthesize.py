"""`spa-bench synthesize`: training pairs, made from a few examples of what is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import (
    GRADED,
    OUTPUT,
    WHAT,
    Engine,
    Json,
    Machine,
    Model,
    a_count,
    a_path,
    name_tasks,
    option,
    overrides,
)
from spa_bench.mini.embedded import EMBEDDED


def name_methods(*_: object) -> list[str]:
    """Names of methods of synthesis, for completion in the shell."""
    from spa_bench.cards.registry import known

    return known("synthesis")


def synthesize(
    *,
    method: Annotated[
        str,
        option(
            "template, sample, softsrv, oss-instruct, self-instruct, skill-mix, or package.module:build "
            "(docs/how-to/synthesize.md)",
            WHAT,
            metavar="NAME|MODULE:BUILD",
            completer=name_methods,
        ),
    ],
    targets: Annotated[
        str,
        option(
            "examples of the kind of pairs that is wanted: mini, mini-nlu, or a source as --data of run", WHAT, metavar="SOURCE"
        ),
    ],
    out: Annotated[
        Path, a_path("the pairs, as JSON lines that --data reads; the report goes beside it", OUTPUT, metavar="FILE.jsonl")
    ],
    model: Model = EMBEDDED,
    pairs: Annotated[
        int | None, a_count("how many pairs are wanted after the filters (default: 256)", WHAT, metavar="N")
    ] = None,
    task: Annotated[
        str | None,
        option(
            "leave out pairs that overlap this task's problems (default: they are compared with no task)",
            WHAT,
            metavar="NAME|CARD.toml",
            completer=name_tasks,
        ),
    ] = None,
    settings: Annotated[
        tuple[str, ...],
        overrides("a key of [synthesize], e.g. code=parse, near=0.9 or options.temperature=1; also data.KEY and engine.KEY"),
    ] = (),
    seed: Annotated[int, a_count("seed of everything that is drawn", WHAT)] = 0,
    engine: Engine | None = None,
    machine: Machine | None = None,
    sandbox: Annotated[
        str | None,
        option("the sandbox in which drafts run, as --sandbox of run", GRADED, metavar="NAME"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make training pairs from a few examples of what is wanted, and filter them; prints the file."""
    from spa_bench.runs.synthesize import SynthesisOptions, report_of, synthesize_file
    from spa_bench.support.console import Reporter

    engine, machine = engine or Engine(), machine or Machine()
    options = SynthesisOptions(
        method=method,
        targets=targets,
        pairs=pairs,
        model=model,
        loading=machine.options(),
        engine=engine.named,
        task=task,
        settings=settings + engine.settings,
        seed=seed,
        sandbox=sandbox,
    )
    made = synthesize_file(options, out)
    if as_json:
        print(json.dumps([{"file": str(out), "folder": str(made.folder), **made.report}], indent=1))
        return
    console = Reporter()
    console.note((made.folder / "report.md").read_text(encoding="utf-8").partition("\n\n")[2].rstrip())
    console.note(f"report: {report_of(out)}; drafts: {made.folder}; train on the pairs with: spa-bench run --data {out}")
    print(out)
