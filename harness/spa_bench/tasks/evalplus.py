"""HumanEval as evalplus publishes it: evalplus' own override variable, SPA_BENCH_DATA, or evalplus' download."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from spa_bench.cards import TaskCard
from spa_bench.errors import DataError
from spa_bench.tasks.code import read_problems
from spa_bench.types import Problem

_PLACES = ("humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl")


def humaneval(card: TaskCard) -> tuple[list[Problem], str]:
    """The 164 problems with their base tests, and where they were found.

    Tried in this order: HUMANEVAL_OVERRIDE_PATH, SPA_BENCH_DATA, evalplus' cache or download. Raises DataError that
    names all three ways when none leads anywhere.
    """
    override = os.environ.get("HUMANEVAL_OVERRIDE_PATH")
    if override:
        return _complete(Path(override), "HUMANEVAL_OVERRIDE_PATH")
    folder = data_folder()
    if folder is not None:
        for place in _PLACES:
            if (folder / place).is_file():
                return _complete(folder / place, "SPA_BENCH_DATA")
    return _download(folder)


def data_folder() -> Path | None:
    """The folder that SPA_BENCH_DATA names; DataError when it names none."""
    named = os.environ.get("SPA_BENCH_DATA")
    if named and not Path(named).is_dir():
        raise DataError(f"SPA_BENCH_DATA is {named!r}, which is no folder")
    return Path(named) if named else None


def _download(folder: Path | None) -> tuple[list[Problem], str]:
    looked = f"SPA_BENCH_DATA ({folder}) holds no {_PLACES[0]}" if folder else "SPA_BENCH_DATA is not set"
    ways = (
        "set SPA_BENCH_DATA to a folder with humaneval/HumanEval.jsonl.gz, or HUMANEVAL_OVERRIDE_PATH to a HumanEval(+) "
        ".jsonl(.gz) file, or let evalplus download it (needs internet)"
    )
    try:
        from evalplus.data.humaneval import _ready_human_eval_plus_path
    except ImportError as error:
        raise DataError(
            f"HumanEval not found: {looked} and evalplus is not installed (pip install 'spa-bench[evalplus]'); {ways}"
        ) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # evalplus reports its download on stdout, which is for results
            path = Path(_ready_human_eval_plus_path())
    except Exception as error:  # wget and urllib raise a dozen kinds; what failed is in the message
        raise DataError(f"HumanEval not found: {looked} and evalplus could not download it ({error}); {ways}") from error
    return _complete(path, "evalplus")


def _complete(path: Path, way: str) -> tuple[list[Problem], str]:
    if not path.is_file():
        raise DataError(f"{way} leads to {path}, which is no file")
    return [_well_formed(p) for p in read_problems(path)], f"{path} (by {way})"


def _well_formed(problem: Problem) -> Problem:
    """OpenAI's file has the import of HumanEval/115 inside its function; evalplus moves it in front, and so do we."""
    if problem.id != "HumanEval/115" or problem.prompt.startswith("import math\n"):
        return problem
    return replace(problem, prompt="import math\n" + problem.prompt.replace("    import math\n", ""))
