"""What divergences cost: sums on the device beside (K, T, V) on the host, in time and in memory.

    python benchmarks/divergence.py [--vocabularies 32000,49152,152000] [--members 4] [--tokens 64] [--rounds 5] [--json]

Random logits of `members` around a base, and the base; one thread, CPU milliseconds a token from the logits to the numbers of
a row, the best of the rounds, contenders in turn in one process. `host` is what was done until 0.1: a float32 log-softmax
of four problems at once, and numpy in float64 (spa_bench.metrics.divergence.divergences). `float32` is what a run does
(models.hf.token_sums, by numba where it is installed), `torch` the same without numba, `float64` with all numbers in float64.
Memory is the peak of a process with one contender and eight problems, beyond that of the logits of one and of a first call.
Exit code 1 when a run's numbers differ by more than 1e-6 from numpy's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from spa_bench.metrics.divergence import Divergences, divergences, of_sums
from spa_bench.models.hf import token_sums as sums_on_device
from spa_bench.models.hf.divergence import summed
from spa_bench.models.hf.token_sums import token_sums

TOGETHER, ROWS = 8, 4  # problems in one call of a run, rows a batch


def logits_of(members: int, tokens: int, vocabulary: int) -> torch.Tensor:
    """Logits (K + 1, T, V); the last row is the base's."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(members + 1, tokens, vocabulary, generator=g)
    return noise.mul_(0.3).add_(torch.randn(1, tokens, vocabulary, generator=g), alpha=3)


def on_the_host(logits: torch.Tensor, problems: int) -> list[Divergences]:
    members, arrays = len(logits) - 1, list[np.ndarray]()
    while len(arrays) < problems:
        rows = min(ROWS, problems - len(arrays))
        batch = torch.log_softmax(logits[:, None].expand(-1, rows, -1, -1), -1)
        arrays += [batch[:, i].numpy() for i in range(rows)]
    return [divergences(each[:members], base=each[members]) for each in arrays]


def on_the_device(logits: torch.Tensor, problems: int, dtype: torch.dtype = torch.float32) -> list[Divergences]:
    members, found = len(logits) - 1, list[Divergences]()
    room = max(1, (1 << 26) // (4 * logits[:, 0].numel()))
    for _ in range(problems):
        parts = [token_sums(piece, members, top=20, dtype=dtype) for piece in logits.split(room, 1)]
        found.append(of_sums(summed([part for part in parts if part is not None], members, 20)))
    return found


def without_numba(logits: torch.Tensor, problems: int) -> list[Divergences]:
    usual = sums_on_device._FUSED_FROM
    sums_on_device._FUSED_FROM = logits.shape[-1] + 1
    try:
        return on_the_device(logits, problems)
    finally:
        sums_on_device._FUSED_FROM = usual


def in_float64(logits: torch.Tensor, problems: int) -> list[Divergences]:
    return on_the_device(logits, problems, torch.float64)


WAYS: dict[str, Callable[[torch.Tensor, int], list[Divergences]]] = {
    "host": on_the_host,
    "float32": on_the_device,
    "torch": without_numba,
    "float64": in_float64,
}


def peak(way: str, members: int, tokens: int, vocabulary: int) -> float:
    """MB that `way` takes for eight problems beyond the logits of one."""
    torch.set_num_threads(1)
    logits = logits_of(members, tokens, vocabulary)
    WAYS[way](logits[:, :1], 1)  # which loads, and compiles, what it needs
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    before = resident("VmRSS")
    WAYS[way](logits, TOGETHER)
    return (resident("VmHWM") - before) / 1024


def resident(which: str) -> int:
    """Kilobytes of this process: VmRSS, or its peak VmHWM (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def difference(found: Divergences, wanted: Divergences) -> float:
    pairs = [(found.kl, wanted.kl), (found.js, wanted.js), (found.tv, wanted.tv), (found.entropy, wanted.entropy)]
    pairs += [(found.renyi[0.5], wanted.renyi[0.5]), (found.amari[0.5], wanted.amari[0.5])]
    pairs += [(found.top_k_entropy, wanted.top_k_entropy), (found.top_k_mass, wanted.top_k_mass)]
    pairs += [(np.array(found.kl_to_base), np.array(wanted.kl_to_base))]
    pairs += [(np.array(found.jensen_shannon_all), np.array(wanted.jensen_shannon_all))]
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def measure(members: int, tokens: int, vocabulary: int, rounds: int) -> dict[str, object]:
    logits = logits_of(members, tokens, vocabulary)
    seconds = {way: list[float]() for way in WAYS}
    results = {}
    for _ in range(rounds):
        for way, call in WAYS.items():
            problems = ROWS if way == "host" else 1
            start = time.process_time()
            results[way] = call(logits, problems)[0]
            seconds[way].append((time.process_time() - start) / (problems * tokens))
    best = {way: min(each) for way, each in seconds.items()}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a new process each
        peaks = {way: round(pool.apply(peak, (way, members, tokens, vocabulary))) for way in WAYS}
    return {
        "vocabulary": vocabulary,
        "milliseconds a token": {way: round(1e3 * each, 2) for way, each in best.items()},
        "times as fast as host": {way: round(best["host"] / each, 2) for way, each in best.items() if way != "host"},
        "difference": {way: float(f"{difference(results[way], results['host']):.1e}") for way in WAYS if way != "host"},
        "MB": peaks,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", default="32000,49152,152000")
    for name, default in (("members", 4), ("tokens", 64), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(size) for size in options.vocabularies.split(",")]
    rows = [measure(options.members, options.tokens, size, options.rounds) for size in sizes]
    print(json.dumps({"load": os.getloadavg()[0], "rows": rows}, indent=1) if options.json else "\n".join(map(str, rows)))
    return int(any(row["difference"]["float32"] > 1e-6 for row in rows))  # type: ignore[index]


if __name__ == "__main__":
    raise SystemExit(main())
