"""The costs of a run: seconds of each stage, memory, GPU seconds, price. No hash covers them."""

from __future__ import annotations

import datetime
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields

from spa_bench.models.base import Batches, HubModel, Model, PaidModel, Spending
from spa_bench.runs.folder import TIMINGS, RunFolder
from spa_bench.support.console import Reporter

SPENT = "spent"  # in timings.json: what calls of the run's model took
JUDGE_SPENT = "judge_spent"  # and those of the judge of its answers


@contextmanager
def timed(
    folder: RunFolder,
    console: Reporter,
    numerics: Mapping[str, object],
    price: float | None,
    model: Model | None = None,
) -> Iterator[None]:
    """Add the costs of the block to timings.json, even when the block raises; no hash covers the file.

    `price` is the cost of an hour: `price` in the file grows by the cost of the block, and `priced_seconds` by its seconds.
    `model` is the one that the block uses: the file gets the hub's commit, the numbers of rows that were asked for, the most
    that were decoded together, how often memory ran out, and what calls of a server took. The last is also written while the
    block runs, about every second, so that a killed process has counted them.
    Where `priced_seconds` is less than `seconds`, a part of the run had no price, and the price does not include it.
    """
    began = time.monotonic()
    before = dict(console.seconds)
    refused = model.batches().refused if model is not None else 0
    try:
        with counted(folder, model):
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
        if model is not None:
            known["batches"] = _batches(known.get("batches"), model.batches(), refused)
        if commit := _commit(model):
            known["model_commit"] = commit
        known["host"] = platform.node()
        known["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        folder.write_json(TIMINGS, known)


@contextmanager
def counted(folder: RunFolder, model: Model | None, key: str = SPENT) -> Iterator[None]:
    """Add what calls of a server took in the block to `key` of timings.json, even when the block raises.

    It is also written while the block runs, about every second. A model that is not paid by the call changes nothing.
    """
    paid = None if model is None else _paid(model)
    if paid is None:
        yield
        return
    earlier = spent_on(folder, key)

    def write(new: Spending) -> None:
        folder.write_json(TIMINGS, {**folder.timings(), key: asdict(earlier.plus(new))})

    paid.watch_spent(write)
    try:
        yield
    finally:
        paid.watch_spent(None)
        write(paid.take_spent())


def _commit(model: object) -> str | None:
    return model.commit if isinstance(model, HubModel) else None


def _paid(model: Model) -> PaidModel | None:
    return model if isinstance(model, PaidModel) else None


def spent_on(folder: RunFolder, key: str = SPENT) -> Spending:
    """The spending that timings.json has of earlier parts; no hash covers the file, so it may hold anything."""
    known = folder.timings().get(key)
    content = known if isinstance(known, dict) else {}
    counts = {f.name: content.get(f.name) for f in fields(Spending) if f.name != "cost"}
    cost = content.get("cost")
    return Spending(
        **{name: count for name, count in counts.items() if isinstance(count, int)},
        cost=float(cost) if isinstance(cost, int | float) else None,
    )


def _batches(known: object, now: Batches, refused: int) -> dict[str, object]:
    """`known` of timings.json with the rows of this part of the run, and with the refusals of memory after the `refused`."""
    content = known if isinstance(known, dict) else {}  # no hash covers the file, so it may hold anything
    rows, count = content.get("rows"), content.get("halved")
    sizes = rows if isinstance(rows, list) else []
    size = "auto" if now.rows is None else now.rows
    before = count if isinstance(count, int) else 0
    most = content.get("together")
    return {
        "rows": sizes if size in sizes else [*sizes, size],
        "together": max(most if isinstance(most, int) else 0, now.together),
        "halved": before + now.refused - refused,
    }


def _peak_memory_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
