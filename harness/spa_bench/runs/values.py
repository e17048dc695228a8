"""What the values of options must be: each function gives the value that is used, or raises UsageError.

Whoever runs or grades calls these first, before anything is loaded, printed or written.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from spa_bench.errors import UsageError
from spa_bench.sandbox import SANDBOXES, choose


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raises UsageError unless the seeds are all different and 0 or more."""
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {','.join(map(str, seeds))}")
    if min(seeds) < 0:
        raise UsageError(f"a seed is {min(seeds)}; seeds are 0 or more")


def data_settings(data: str | None, queries: str | None) -> dict[str, object]:
    """What `data` and `queries` set in the sampler's card; other data without queries has 48 of itself."""
    given = {"data.examples": data, "data.queries": queries or ("sample" if data else None)}
    return {key: value for key, value in given.items() if value}


def checked_workers(workers: int | None) -> int:
    """How many programs run at once: `workers`, or the cores of this process."""
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    if count < 1:
        raise UsageError(f"--workers is {count}; it must be at least 1")
    return count


def check_price(price: float | None) -> None:
    """Raises UsageError for a price of an hour that is negative or not finite; None is no price."""
    if price is not None and not 0 <= price < math.inf:
        raise UsageError(f"--price-per-hour is {price:g}; it must not be negative, and finite")


def check_sandbox(name: str | None, *, used: bool) -> None:
    """Raises UsageError for a sandbox of an unknown name and, if it is `used` here, SandboxError if it does not work."""
    if name is not None and (used or name not in SANDBOXES):
        choose(name)


def check_out(out: Path) -> None:
    """Raises UsageError for an output folder that is a file."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out is {out}, which is no folder; name a folder, there or not")


def label_of(name: str | None, samples: Path) -> str:
    """What samples from a file are called: `name`, or the file's name. It names a folder and stands in tables."""
    label = name or samples.name.removesuffix(".gz").removesuffix(".jsonl")
    if "/" in label or not label.strip("."):
        raise UsageError(f"--name is {label!r}; it names a folder and takes no slash")
    if not label.isprintable():
        raise UsageError(f"--name is {label!r}; it stands in tables and takes no control characters")
    return label
