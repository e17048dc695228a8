"""Runs the libraries in processes of their own, with the interpreter that has them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import UsageError
from spa_bench.mini import data
from spa_bench.spa.batches import encode
from spa_bench.types import Example

PEERS = ("kronfluence-ekfac", "dattri-block")
SMALL_PEERS = (*PEERS, "dattri-datainf")
"""Those that the small settings have room for: DataInf takes over 20 GB for 256 pairs and 48 queries."""
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Timed:
    """Scores (pairs, queries) with what they cost, start-up and loading not counted."""

    scores: NDArray[np.float32]
    seconds: float  # by the clock
    cpu_seconds: float  # of all threads: what other work on the machine changes least
    megabytes: float  # peak of the whole process
    megabytes_before: float  # peak before the work, with the model loaded


def run_peer(
    python: str,
    peer: str,
    model: Any,
    adapter: Path,
    pairs: Sequence[Example],
    queries: Sequence[Example],
    *,
    threads: int,
    batch: int = 16,
    damping: float = 0.1,
    curvature_examples: int = 0,
    factors: str = "AB",
    seed: int = 0,
) -> Timed:
    """One library in a fresh process; `peer` is one of PEERS, `factors` says which of A and B have a gradient.

    Raises UsageError with the end of its output when it fails.
    """
    script, _, strategy = peer.partition("-")
    job = {
        "model": str(data.MODEL),
        "adapter": str(adapter),
        "pairs": [[e.ids, e.head] for e in encode(model, pairs, "pair")],
        "queries": [[e.ids, e.head] for e in encode(model, queries, "query")],
        "threads": threads,
        "batch": batch,
        "damping": damping,
        "curvature_examples": curvature_examples,
        "factors": factors,
        "seed": seed,
        "strategy": strategy,
    }
    return run_process([python, str(_HERE / f"peer_{script}.py")], job, threads)


def run_ours(
    model: Any,
    adapters: Sequence[Path | None],
    pairs: Sequence[Example],
    queries: Sequence[Example],
    card: AttributionCard,
    lora: LoraCard,
    *,
    threads: int,
    seed: int = 0,
) -> Timed:
    """Our own scores in a fresh process."""
    job = {
        "pairs": [[e.ids, e.head] for e in encode(model, pairs, "pair")],
        "queries": [[e.ids, e.head] for e in encode(model, queries, "query")],
        "texts": {
            "pairs": [[p.prompt, p.completion] for p in pairs],
            "queries": [[q.prompt, q.completion] for q in queries],
        },
        "adapters": [str(a) if a else None for a in adapters],
        "card": asdict(card),
        "lora": asdict(lora),
        "threads": threads,
        "seed": seed,
    }
    return run_process([sys.executable, str(_HERE / "ours.py")], job, threads)


def run_process(command: Sequence[str], job: dict[str, Any], threads: int) -> Timed:
    """`command JOB.json OUT.npz` in a fresh process of so many threads."""
    with tempfile.TemporaryDirectory(prefix="spa-bench-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        source = [str(_HERE.parent), str(Path(data.__file__).resolve().parents[2])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(source),
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        done = subprocess.run(
            [*command, str(folder / "job.json"), str(folder / "out.npz")],
            env=environment,
            cwd=folder,  # dattri leaves a file of its batches in the current folder, and believes one that it finds there
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UsageError(f"{command[-1]} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        with np.load(folder / "out.npz") as found:
            return timed_from(found)


def timed_from(kept: Mapping[str, Any]) -> Timed:
    """What an .npz file of these fields holds."""
    return Timed(kept["scores"], *(float(kept[f.name]) for f in fields(Timed)[1:]))


def has_peers(python: str) -> bool:
    """Whether `python` can be run and imports both libraries."""
    if not python:
        return False
    try:
        code = "import kronfluence.analyzer, dattri.algorithm.influence_function, spa_bench.spa.batches"
        source = str(Path(data.__file__).resolve().parents[2])
        done = subprocess.run([python, "-c", code], capture_output=True, env=os.environ | {"PYTHONPATH": source}, check=False)
    except OSError:
        return False
    return done.returncode == 0


def recalled(folder: Path, key: Mapping[str, Any], work: Callable[[], Timed]) -> Timed:
    """What `work` returns, from the folder where it is there under this key."""
    name = hashlib.blake2b(json.dumps(key, sort_keys=True, default=list).encode(), digest_size=8).hexdigest()
    file = folder / f"{name}.npz"
    if not file.exists():
        done = work()
        new = folder / f"{name}.new.npz"
        np.savez(new, **vars(done))
        os.replace(new, file)
    with np.load(file) as kept:
        return timed_from(kept)
