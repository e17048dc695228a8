"""What benchmarks of several contenders share: random adapters, turns in a rotated order, ratios, versions."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from spa_bench.models.hf.stacked_lora import Adapter, target_modules, write_adapter


def write_random_adapters(
    network: torch.nn.Module, folder: Path, *, members: int, rank: int, seed: int, model: str
) -> list[Path]:
    """Folders of seeded random adapters of `network`, that of `model`, on all linear layers, in PEFT's format."""
    generator = torch.Generator().manual_seed(seed)
    folders = []
    for member in range(members):
        factors = {}
        for path in target_modules(network):
            layer: Any = network.get_submodule(path)
            down = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
            factors[path] = down, torch.randn(layer.out_features, rank, generator=generator) * 0.02
        folders.append(folder / f"member-{member}")
        write_adapter(Adapter(factors, rank, 2.0 * rank), folders[-1], base_model=model)
    return folders


def interleave(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds by `clock` of each contender in each round; every round begins with the next contender."""
    order = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(rounds):
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            start = clock()
            contenders[name]()
            seconds[name].append(clock() - start)
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one contender's seconds over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def versions(*packages: str) -> dict[str, str]:
    """Those of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
