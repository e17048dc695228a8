"""`spa-bench real`: base, single and SPA on HumanEval with a real model; prints the leaderboard and writes a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from spa_bench.cli.demo import print_board, print_page
from spa_bench.cli.options import GRADED, OUTPUT, WHAT, WHERE, ModelOrDefault, a_count, a_path, option, overrides
from spa_bench.errors import UsageError


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
    from spa_bench.publish.real import SUBSET, make_real
    from spa_bench.publish.series import Listeners

    if whole and subset is not None:
        raise UsageError("--whole and --subset both say how many problems; give one of them")
    began = time.monotonic()
    made = make_real(
        out,
        subset=None if whole else SUBSET if subset is None else subset,
        model=model,
        settings=settings,
        threads=threads,
        sandbox=sandbox,
        listeners=Listeners(board=print_board),
    )
    print_page(out, made)
    print(f"It took {time.monotonic() - began:.0f} seconds with {', '.join(made.options.settings)}.", flush=True)
