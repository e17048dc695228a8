"""The costs of a run: seconds of each stage, memory, GPU seconds, price. No hash covers them."""

from __future__ import annotations

import datetime
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from spa_bench.runs.folder import TIMINGS, RunFolder
from spa_bench.support.console import Reporter


@contextmanager
def timed(folder: RunFolder, console: Reporter, numerics: Mapping[str, object], price: float | None) -> Iterator[None]:
    """Add the costs of the block to timings.json, even when the block raises; no hash covers the file.

    `price` is the cost of an hour: `price` in the file grows by the cost of the block, and `priced_seconds` by its seconds.
    Where `priced_seconds` is less than `seconds`, a part of the run had no price, and the price does not include it.
    """
    began = time.monotonic()
    before = dict(console.seconds)
    try:
        yield
    finally:
        known = {"stages": {}, "seconds": 0.0, **folder.timings()}
        took = time.monotonic() - began
        for name, total in console.seconds.items():
            known["stages"][name] = round(known["stages"].get(name, 0.0) + total - before.get(name, 0.0), 3)
        known["seconds"] = round(known["seconds"] + took, 3)
        if price is not None:
            known["price"] = round(known.get("price", 0.0) + took / 3600 * price, 6)
            known["priced_seconds"] = round(known.get("priced_seconds", 0.0) + took, 3)
        known["peak_memory_mb"] = max(known.get("peak_memory_mb", 0), _peak_memory_mb())
        if numerics.get("device") == "cuda":
            from spa_bench.models.hf.device import peak_gpu_memory_mb

            known["gpu_seconds"] = round(known.get("gpu_seconds", 0.0) + took, 3)
            known["peak_gpu_memory_mb"] = max(known.get("peak_gpu_memory_mb", 0), peak_gpu_memory_mb())
        known["host"] = platform.node()
        known["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        folder.write_json(TIMINGS, known)


def _peak_memory_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
