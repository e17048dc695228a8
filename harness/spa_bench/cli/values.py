"""What the values of options must be, beyond what argparse sees: each function gives the value or raises UsageError.

Commands call these first, before they load, print or write anything.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from spa_bench.errors import UsageError
from spa_bench.sandbox import SANDBOXES, choose


def seeds_of(a: argparse.Namespace) -> list[int]:
    """The seeds of --seed or --seeds, all different and 0 or more."""
    try:
        seeds = [a.seed] if a.seeds is None else [int(s) for s in a.seeds.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds takes whole numbers with commas, such as 0,1,2; got {a.seeds!r}") from error
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {a.seeds}")
    if min(seeds) < 0:
        raise UsageError(f"a seed is {min(seeds)}; seeds are 0 or more")
    return seeds


def data_of(a: argparse.Namespace) -> dict[str, object]:
    """What --data and --queries set in the sampler's card; other data without queries has 48 of itself."""
    queries = a.queries or ("sample" if a.data else None)
    given = {"data.examples": a.data, "data.queries": queries}
    return {key: value for key, value in given.items() if value}


def workers_of(a: argparse.Namespace) -> int:
    """Programs that run at once: --workers, or the cores of this process."""
    workers: int = len(os.sched_getaffinity(0)) if a.workers is None else a.workers
    if workers < 1:
        raise UsageError(f"--workers is {workers}; it must be at least 1")
    return workers


def price_of(a: argparse.Namespace) -> float | None:
    """What an hour of this machine costs, or None where nobody said."""
    price: float | None = a.price_per_hour
    if price is not None and not 0 <= price < math.inf:
        raise UsageError(f"--price-per-hour is {price:g}; it must not be negative, and finite")
    return price


def check_sandbox(name: str | None, *, used: bool) -> None:
    """Raises UsageError for a --sandbox of an unknown name and, if it is `used` here, SandboxError if it does not work."""
    if name is not None and (used or name not in SANDBOXES):
        choose(name)


def check_out(out: Path) -> None:
    """Raises UsageError for an --out that is a file."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out is {out}, which is no folder; name a folder, there or not")


def label_of(name: str | None, samples: Path) -> str:
    """What samples from a file are called: --name, or the file's name. It names a folder and stands in tables."""
    label = name or samples.name.removesuffix(".gz").removesuffix(".jsonl")
    if "/" in label or not label.strip("."):
        raise UsageError(f"--name is {label!r}; it names a folder and takes no slash")
    if not label.isprintable():
        raise UsageError(f"--name is {label!r}; it stands in tables and takes no control characters")
    return label


def path(text: str) -> Path:
    """A path of the command line. Raises ArgumentTypeError for an empty one: it would be the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; is a variable not set?")
    return Path(text)
