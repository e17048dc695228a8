"""The numbers of docs/how-to/scaling.md: bytes and GPU hours of three jobs, from formulas and from constants that this prints.

    python benchmarks/scaling.py [--measure] [--json]

`--measure` measures the constants of Python's memory and of files again on this machine, in place of those below. GPU figures
are computed from operations and bytes with the stated rates; none of them was measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

# Measured with --measure (2026-11-28, CPython 3.11), but for the last three: Grading (set d, two cores) and Metrics of
# docs/reference/benchmarks.md.
MEASURED = {
    "encoded_bytes_a_token": 36.03,  # of training pairs as the driver holds them
    "record_bytes_on_disk": 1271.0,  # of an answer of 150 tokens
    "record_bytes_in_memory": 1399.0,
    "record_read_seconds": 2.1e-5,  # of a core
    "request_bytes_in_memory": 360.0,
    "grading_core_seconds": 2 * 55.2 / 3280,  # a sample, the program's own time included
    "metrics_core_seconds": 25.0,  # of 164 problems x 100 samples
    "characters_a_token": 3.2,
}

# Assumed of one H100 SXM (80 GB), of its data sheet: 989 TFLOP/s dense in bfloat16, 3.35 TB/s.
FLOPS = 0.40 * 989e12  # that large products reach
BYTES = 0.70 * 3.35e12  # a second that decoding reads
ROOM = 80e9 * 0.9
RANK, MEMBERS, QUERIES, STEPS, BATCH = 8, 8, 48, 24, 16  # lora.rank, K, data.queries sample, lora.steps, lora.batch
PROJECTED = 4096  # attribution.dimensions of a projection


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's shape: linear layers (inputs, outputs) of a block, blocks, and numbers of the cache a token."""

    name: str
    parameters: float
    blocks: int
    layers: tuple[tuple[int, int], ...]
    cached: int  # numbers that the cache holds a token and block

    @property
    def weights(self) -> float:
        """Bytes in bfloat16."""
        return 2 * self.parameters

    @property
    def gradient(self) -> int:
        """Numbers of an example's gradient at LoRA's start: those of B, all linear layers."""
        return RANK * self.blocks * sum(out for _, out in self.layers)

    @property
    def adapter(self) -> int:
        """Numbers of an adapter."""
        return RANK * self.blocks * sum(map(sum, self.layers))


def llama(name: str, parameters: float, blocks: int, hidden: int, inner: int, keys: int) -> Shape:
    """A Llama: q, k, v, o, gate, up and down."""
    layers = ((hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden), *[(hidden, inner)] * 2, (inner, hidden))
    return Shape(name=name, parameters=parameters, blocks=blocks, layers=layers, cached=2 * keys)


SEVEN = llama("7B (CodeLlama-7B)", 6.74e9, 32, 4096, 11008, 4096)
SEVENTY = llama("70B (Llama-2-70B)", 69.0e9, 80, 8192, 28672, 1024)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One of the page's jobs."""

    shape: Shape
    pairs: int
    tokens: int  # of a pair
    problems: int
    draws: int
    answer: int = 150  # tokens of an answer
    prompt: int = 200


JOBS = {
    "75k pairs x 7B, HumanEval": Job(shape=SEVEN, pairs=75_000, tokens=600, problems=164, draws=MEMBERS),
    "10M pairs x 70B, HumanEval": Job(shape=SEVENTY, pairs=10_000_000, tokens=600, problems=164, draws=MEMBERS),
    "10k problems x 1,000 samples, 7B": Job(shape=SEVEN, pairs=0, tokens=600, problems=10_000, draws=1_000),
}


def decoding(shape: Shape, columns: int, gpus: int) -> tuple[int, float]:
    """(rows together, tokens a second of `gpus` GPUs that hold one copy): bound by reading weights and cache once a step."""
    a_row = 2 * shape.cached * shape.blocks * columns
    rows = int(max(1, min(256, (gpus * ROOM - shape.weights) / a_row)))
    return rows, rows / ((shape.weights + rows * a_row) / BYTES)  # layer-wise placement: one GPU reads at a time


def figures(job: Job, constants: Mapping[str, float]) -> dict[str, float]:
    """The figures of a job: seconds of one copy of the model, bytes, counts."""
    shape, answers = job.shape, job.problems * job.draws
    gpus = -(-int(shape.weights) // int(0.8 * ROOM))  # for one copy: a fifth is left for passes and cache
    a_token = 4 * shape.parameters  # forward 2 P, back to the inputs 2 P; frozen weights need no gradient
    tokens = job.pairs * job.tokens
    product = 2 * job.pairs * QUERIES * shape.gradient
    trained = MEMBERS * STEPS * BATCH * job.tokens if job.pairs else 0
    rows, rate = decoding(shape, job.prompt + job.answer, gpus)
    found: dict[str, float] = {
        "GPUs for one copy": gpus,
        "influence, GPU hours": gpus * (a_token * tokens + product) / FLOPS / 3600,
        "training, GPU hours": gpus * a_token * trained / FLOPS / 3600,
        "generation, GPU hours": gpus * answers * job.answer / rate / 3600,
        "rows decoded together": rows,
        "tokens a second of one copy": rate,
        "weights, bytes": shape.weights,
        "prepared queries, bytes (features = lora)": 4.0 * QUERIES * shape.gradient,
        "prepared queries, bytes (features = projection)": 4.0 * QUERIES * PROJECTED,
        "score matrix, bytes": 4.0 * job.pairs * QUERIES,
        "encoded pairs in the driver, bytes": constants["encoded_bytes_a_token"] * tokens,
        "K adapters, bytes": 4.0 * MEMBERS * shape.adapter if job.pairs else 0.0,
        "training state of K members, bytes": 16.0 * MEMBERS * shape.adapter if job.pairs else 0.0,
        "records.jsonl, bytes": constants["record_bytes_on_disk"] * answers,
        "records in the driver, bytes": constants["record_bytes_in_memory"] * answers,
        "requests in the driver, bytes": constants["request_bytes_in_memory"] * answers,
        "reading records.jsonl once, core hours": constants["record_read_seconds"] * answers / 3600,
        "grading, core hours": constants["grading_core_seconds"] * answers / 3600,
        "metrics, core hours": constants["metrics_core_seconds"] * job.problems / 164 * (job.draws / 100) ** 2 / 3600,
    }
    return found


def measured() -> dict[str, float]:
    """The constants of memory and files, measured here."""
    import random

    from spa_bench.runs.folder import RunFolder
    from spa_bench.spa.batches import Encoded
    from spa_bench.support.seeds import derive_seed
    from spa_bench.types import Decoding, Record, Request

    random.seed(0)
    tracemalloc.start()
    pairs = [Encoded(tuple(random.randrange(32_000) for _ in range(600)), 100) for _ in range(200)]
    encoded = tracemalloc.get_traced_memory()[0] / (200 * 600)
    tracemalloc.stop()
    text = "".join(random.choice("abcdef ()=:\n") for _ in range(round(150 * MEASURED["characters_a_token"])))
    with tempfile.TemporaryDirectory() as folder:
        log = RunFolder(Path(folder), {}).record_log
        log.append(
            [
                Record(problem=f"HumanEval/{i}", member=i % 8, draw=i, raw=text, graded=text, finish="stop", tokens=150, seed=i)
                for i in range(1000)
            ]
        )
        disk = log.path.stat().st_size / 1000
        tracemalloc.start()
        rows = log.rows()
        memory = tracemalloc.get_traced_memory()[0] / 1000
        tracemalloc.stop()
        began = time.process_time()
        log.rows()
        seconds = (time.process_time() - began) / 1000
    tracemalloc.start()
    asked = [
        Request(problem_id="p", member=0, draw=i, kind="generate", prompt="def f():", decoding=Decoding(), seed=derive_seed(i))
        for i in range(1000)
    ]
    request = tracemalloc.get_traced_memory()[0] / 1000
    tracemalloc.stop()
    assert len(asked) == 1000
    assert len(pairs) == 200
    assert len(rows) == 1000
    return {
        "encoded_bytes_a_token": encoded,
        "record_bytes_on_disk": disk,
        "record_bytes_in_memory": memory,
        "record_read_seconds": seconds,
        "request_bytes_in_memory": request,
    }


def said(name: str, value: float) -> str:
    """A figure in words: bytes as GB, other numbers with three digits."""
    if name.endswith("bytes") or "bytes (" in name:
        return f"{value / 1e9:,.3g} GB" if value >= 1e7 else f"{value / 1e6:,.2g} MB"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    constants = MEASURED | (measured() if args.measure else {})
    found = {name: figures(job, constants) for name, job in JOBS.items()}
    if args.json:
        print(json.dumps({"constants": constants, "jobs": {n: {**asdict(JOBS[n]), **f} for n, f in found.items()}}, indent=1))
        return
    for key, value in constants.items():
        print(f"{key}: {value:.4g}")
    print()
    print("| | " + " | ".join(found) + " |")
    print("|---|" + "---|" * len(found))
    for key in next(iter(found.values())):
        print(f"| {key} | " + " | ".join(said(key, each[key]) if each[key] else "–" for each in found.values()) + " |")


if __name__ == "__main__":
    main()
