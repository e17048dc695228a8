"""Checks of the values of options: each function returns the value that is used, or raises UsageError.

Functions that run or grade call these first, before anything is loaded, printed or written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import DataError, UsageError
from spa_bench.runs.sample_files import SampleFile
from spa_bench.sandbox import SANDBOXES, choose
from spa_bench.spa.data import is_queries_file
from spa_bench.spa.training_data import needs_queries
from spa_bench.support.packing import ENDINGS


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raises UsageError unless the seeds are all different and 0 or more."""
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {','.join(map(str, seeds))}")
    if min(seeds) < 0:
        raise UsageError(f"a seed is {min(seeds)}; seeds are 0 or more")


def subset_of(limit: int | None, subset: int | None, settings: tuple[str, ...]) -> tuple[int | None, tuple[str, ...]]:
    """The limit and the settings of a command with --limit and --subset. Raises UsageError where both are given.

    A subset is a limit in whose order tags do not count.
    """
    if subset is None:
        return limit, settings
    if limit is not None:
        raise UsageError("--limit and --subset both say how many problems; give one of them")
    given = {one.partition("=")[0].strip() for one in settings}
    usual = {"task.shuffle": "0", "task.stratify": "false"}
    return subset, (*settings, *(f"{key}={value}" for key, value in usual.items() if key not in given))


def data_settings(data: str | None, queries: str | None) -> dict[str, object]:
    """The card settings for `data` and `queries`; where `data` is given without `queries`, 48 examples are the queries."""
    given = {"data.examples": data, "data.queries": queries or ("sample" if data else None)}
    return {key: value for key, value in given.items() if value}


def check_sources(card: SamplerCard, data: str | None, queries: str | None) -> None:
    """Raises DataError where a file of --data or --queries that `card` does not read is not there."""
    for option, source in _unread(card, data, queries).items():
        if is_queries_file(source) and not Path(source).exists():
            raise DataError(f"cannot read {option} {source}: there is no such file")


def unread_sources(card: SamplerCard, data: str | None, queries: str | None) -> list[str]:
    """A line for --data and one for --queries where it is given and the sampler does not read it."""
    why = f"{card.name} trains nothing" if not card.trains else f"no scores make the parts of {card.name}"
    return [f"{option} {source} is not read: {why}" for option, source in _unread(card, data, queries).items()]


def _unread(card: SamplerCard, data: str | None, queries: str | None) -> dict[str, str]:
    """The options with sources that `card` does not read: their names and values."""
    read = {"--data": card.trains, "--queries": needs_queries(card)}
    given = {"--data": data, "--queries": queries}
    return {option: source for option, source in given.items() if source is not None and not read[option]}


def checked_workers(workers: int | None) -> int:
    """How many programs run at once: `workers`, or as many as this process has cores. Raises UsageError for less than 1."""
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    if count < 1:
        raise UsageError(f"--workers is {count}; it must be at least 1")
    return count


def check_price(price: float | None) -> None:
    """Raises UsageError for a price of an hour that is negative or not finite; None means no price."""
    if price is not None and not 0 <= price < math.inf:
        raise UsageError(f"--price-per-hour is {price:g}; it must be finite and not negative")


def check_sandbox(name: str | None, *, used: bool) -> None:
    """Raises UsageError for an unknown sandbox and, if it is `used`, SandboxError for one that does not work here."""
    if name is not None and (used or name not in SANDBOXES):
        choose(name)


def check_out(out: Path) -> None:
    """Raises UsageError for an output folder that is a file."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out is {out}, which is no folder; name a folder, there or not")


def label_of(name: str | None, samples: Sequence[Path | SampleFile]) -> str:
    """The label of samples from files: `name`, or the files' names. It names a folder and stands in tables.

    Raises UsageError for a `name` that a folder or a table cannot have.
    """
    first = "stdin" if samples[0] == Path("-") else samples[0].name
    for ending in (*ENDINGS, ".jsonl", ".json", ".eval"):
        first = first.removesuffix(ending)
    first = "".join(c for c in first if c not in "*?[]").strip(".") or "samples"
    label = name or first + f"-and-{len(samples) - 1}-more" * (len(samples) > 1)
    if "/" in label or not label.strip(". "):
        raise UsageError(f"--name is {label!r}; it names a folder and takes no slash, and needs more than spaces and dots")
    if not label.isprintable():
        raise UsageError(f"--name is {label!r}; it stands in tables and takes no control characters")
    return label
