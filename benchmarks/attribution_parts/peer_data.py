"""What is handed to a library in its own process, and what comes back. Run by the peers' interpreter."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spa_bench.spa.batches import Encoded, pad


def load_job(file: Path) -> dict[str, Any]:
    """The job with its pairs and queries as Encoded rows, shortest first, beside their places in the given order."""
    job = json.loads(file.read_text())
    for name in ("pairs", "queries"):
        rows = [Encoded(tuple(ids), head) for ids, head in job[name]]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))  # neighbours of one length: little padding
        job[name], job[f"{name}_order"] = [rows[i] for i in order], order
    return job


def network_of(job: dict[str, Any]) -> Any:
    """The base with the adapter in PEFT's own modules: lora_A and lora_B are nn.Linear."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(job["threads"])
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    return PeftModel.from_pretrained(base, job["adapter"], is_trainable=True).eval()


def lora_names(network: Any, factors: str) -> list[str]:
    """Names of the modules that hold `factors`: AB, or B alone for LoRA's start, where A has no gradient."""
    wanted = [f".lora_{f}." for f in factors]
    return [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear) and any(w in n for w in wanted)]


def rows_of(encoded: Sequence[Encoded]) -> list[dict[str, torch.Tensor]]:
    """Rows for a DataLoader, unpadded."""
    made = []
    for one in encoded:
        ids, labels = pad([one])
        made.append({"ids": ids[0], "labels": labels[0]})
    return made


def collate(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Padded on the right, which a causal model does not see; `mask` has the real tokens."""
    length = max(len(r["ids"]) for r in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        size = len(row["ids"])
        ids[i, :size], labels[i, :size], mask[i, :size] = row["ids"], row["labels"], 1
    return {"ids": ids, "labels": labels, "mask": mask}


def run_job(make: Callable[[dict[str, Any]], Callable[[], Any]]) -> None:
    """`make` loads what it needs and returns what is timed, which gives scores (pairs, queries) in the job's order."""
    job = load_job(Path(sys.argv[1]))
    timed = make(job)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, spent = time.perf_counter(), time.process_time()
    found = np.asarray(timed(), np.float32)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - spent
    scores = np.empty_like(found)
    scores[np.ix_(job["pairs_order"], job["queries_order"])] = found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.savez(
        sys.argv[2],
        scores=scores,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        megabytes=peak / 1024,
        megabytes_before=before / 1024,
    )
