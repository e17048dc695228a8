"""The user's options for a study, and the command that makes the study again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spa_bench.compare.study.designs import Study
from spa_bench.errors import StoreError, UsageError
from spa_bench.runs.options import JudgeOptions
from spa_bench.runs.reopen import ModelOptions
from spa_bench.support.files import replace_file

TASK = "mini-code"  # of a study that names none


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The user's options for a study, and the folders of its results."""

    task: str | None = None  # None: mini-code; without students: none
    model: str | None = None  # None: the embedded model for its own tasks, smollm2 for others
    loading: ModelOptions = field(default_factory=ModelOptions)
    engine: str | None = None  # as in RunOptions
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    n: int | None = None  # answers a problem; None: the number of SPA's adapters
    limit: int | None = None  # as in RunOptions, and `first`
    first: bool = False
    members: str | None = None  # adapters of SPA; in the study members several, with commas
    grid: str | None = None  # the values of what the study varies, with commas
    samplers: str | None = None  # ROLE[=CARD],...
    recipe: str = "embedded"  # cards of all roles
    data: str | None = None
    queries: str | None = None
    settings: tuple[str, ...] = ()
    noise_floor: bool | None = None
    rules: Literal["default", "evalplus"] = "default"
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    out: Path | None = None  # of the run folders; None: runs/study-NAME
    write: Path = Path("leaderboards/studies")  # of page, picture and rows
    pairs_only: bool = False  # synthesize: measure the pairs of each method, and train no students
    mixed: int | None = None  # synthesize: z of targets over which likelihoods behind soft prompts are mixed; None: 16
    table_only: bool = False  # whether to make no runs and use finished ones only
    results: tuple[Path, ...] | None = None  # result files and run folders in the place of new runs


def command_of(name: str, a: StudyOptions) -> str:
    """The command that makes the study again: all options that change a number, without places and order."""
    if a.results is not None:
        return _command_of_results(name, a)
    plain = {
        "--task": a.task or (None if a.pairs_only else TASK),
        "--model": a.model,
        "--seeds": ",".join(map(str, sorted(a.seeds))),
    }
    chosen = {
        "--recipe": a.recipe if a.recipe != "embedded" else None, "--samplers": a.samplers, "--n": a.n, "--limit": a.limit,
        "--members": a.members, "--mixed": a.mixed, "--grid": a.grid, "--data": a.data, "--queries": a.queries,
        "--device": a.loading.device if a.loading.device != "auto" else None,
        "--dtype": a.loading.dtype if a.loading.dtype != "auto" else None,
        "--threads": a.loading.threads, "--engine": a.engine, "--revision": a.loading.revision,
        "--grading": a.rules if a.rules != "default" else None,
    }  # fmt: skip
    words = [item for key, value in {**plain, **chosen}.items() if value is not None for item in (key, str(value))]
    words += ["--first"] * a.first + ["--pairs-only"] * a.pairs_only
    return shlex.join(["spa-bench", "study", name, *words, *(word for s in a.settings for word in ("--set", s))])


def _command_of_results(name: str, a: StudyOptions) -> str:
    chosen = {
        "--task": a.task,
        "--model": a.model,
        "--seeds": ",".join(map(str, sorted(a.seeds))) if a.seeds != StudyOptions().seeds else None,
        "--recipe": a.recipe if a.recipe != "embedded" else None,
        "--samplers": a.samplers,
        "--grid": a.grid,
    }
    words = [word for option, value in chosen.items() if value is not None for word in (option, value)]
    return shlex.join(["spa-bench", "study", name, "--results", *map(str, a.results or ()), *words])


def check_write(write: Path) -> None:
    """Raise UsageError where pages cannot go into `write`."""
    if write.exists() and not write.is_dir():
        raise UsageError(f"--write is {write}, which is no folder; name a folder, there or not")


def write_files(files: Mapping[str, bytes], write: Path, name: str) -> list[Path]:
    """Write `files`, by suffix, into `write` under `name`; where they are. Raises StoreError when that fails."""
    try:
        write.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {write}: {error.strerror}; use another --write") from error
    for suffix, content in files.items():
        replace_file(write / f"{name}.{suffix}", content)
    return [write / f"{name}.{suffix}" for suffix in files]


def check_mixed(mixed: int | None) -> None:
    """Raise UsageError for a number of z over which nothing can be mixed."""
    if mixed is not None and mixed < 1:
        raise UsageError(f"--mixed is {mixed}; a likelihood is mixed over one z at least")


def grid_of(chosen: Study, a: StudyOptions) -> tuple[tuple[float, ...], int | None]:
    """(the values of the setting that varies, K where that is fixed). Raises UsageError for values that cannot be either."""
    grid, members = _numbers("--grid", a.grid), _numbers("--members", a.members)
    if grid and not chosen.key:
        raise UsageError(f"--grid: the study {chosen.name} varies nothing but the sampler; leave it out")
    if chosen.key == "members":
        if grid and members:
            raise UsageError("--grid and --members are the same in this study; give one of them")
        return grid or members, None
    if len(members) > 1 or any(k != int(k) or k < 2 for k in members):
        raise UsageError(f"--members takes one whole number from 2 on in the study {chosen.name}; got {a.members!r}")
    return grid, int(members[0]) if members else None


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers with commas, such as 0,0.5,1; got {text!r}") from error
    if not all(map(math.isfinite, values)):
        raise UsageError(f"{option} takes finite numbers; got {text!r}")
    return values
