"""`spa-bench real`: base, single and SPA on HumanEval with a real model; prints the leaderboard and writes a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from spa_bench.cli.demo import write_leaderboard, write_page
from spa_bench.cli.options import GRADED, OUTPUT, WHAT, WHERE, ModelOrDefault, a_count, a_path, option, overrides, subset_of
from spa_bench.errors import UsageError

TASK = "humaneval"
REFERENCE = "spa-influence"
SAMPLERS = ("base", "single", REFERENCE)
"""What is cheap comes first, so that there is soon something to see."""
SUBSET = 20
SETTINGS = ("data.examples=mini", "data.share=0.25", "lora.steps=8", "task.max_new_tokens=256")
"""What half an hour on two cores bears: problems, share of the embedded pairs, steps an adapter, new tokens.

The pairs are named, so that they are the same on machines with and without the hub.

docs/how-to/real-models.md has the measured seconds behind these numbers.
"""


def real(
    *,
    out: Annotated[Path, a_path("where runs, leaderboard and page go", OUTPUT, metavar="DIR")] = Path("runs/real"),
    subset: Annotated[int | None, a_count("L problems, drawn with seed 0", WHAT, metavar="L")] = None,
    whole: Annotated[bool, option("all problems instead: hours, and resumed by the same command", WHAT)] = False,
    model: ModelOrDefault = None,
    settings: Annotated[tuple[str, ...], overrides("override a card's key, after those of this command")] = (),
    threads: Annotated[int | None, a_count("as run", WHERE)] = None,
    sandbox: Annotated[str | None, option("as run", GRADED, metavar="NAME")] = None,
) -> None:
    """Base, single and SPA on HumanEval with a real model, the leaderboard and a page of them.

    The same command resumes what was stopped, and takes from the cache what is trained already.
    """
    from spa_bench.runs import perform
    from spa_bench.runs.options import JudgeOptions, RunOptions
    from spa_bench.runs.reopen import ModelOptions
    from spa_bench.support.console import Reporter

    if whole and subset is not None:
        raise UsageError("--whole and --subset both say how many problems; give one of them")
    began, note = time.monotonic(), Reporter().note
    limit, chosen = (None, SETTINGS) if whole else subset_of(None, SUBSET if subset is None else subset, SETTINGS)
    options = RunOptions(
        model=model,
        loading=ModelOptions(threads=threads),
        limit=limit,
        settings=tuple(
            {one.partition("=")[0].strip(): one for one in (*chosen, *settings)}.values()
        ),  # the last one of a key counts
        noise_floor=False,
        judge=JudgeOptions(sandbox=sandbox),
        out=out,
    )
    for sampler in SAMPLERS:
        note(f"\n{sampler} on {TASK}, with {', '.join(options.settings)}")
        perform.run(sampler, TASK, options)
    write_leaderboard(out, REFERENCE)
    write_page(out, "spa-bench real")
    print(f"It took {time.monotonic() - began:.0f} seconds with {', '.join(options.settings)}.", flush=True)
