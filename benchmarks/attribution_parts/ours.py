"""Our scores in a fresh process, timed as the libraries are. PYTHON ours.py JOB.json OUT.npz

The adapters of the job are folders, or null for LoRA's start; several are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attribution_parts.peer_data import run_job
from attribution_parts.setting import load_model, silent
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.hf.stacked_lora import read_adapter
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Example


def make(job: dict[str, Any]) -> Callable[[], Any]:
    model = load_model(job["threads"])
    card, lora = AttributionCard(**job["card"]), LoraCard(**job["lora"])
    # the job's pairs came sorted by length; scores are put back into the given order by the caller
    pairs, queries = ([Example(*job["texts"][k][i]) for i in job[f"{k}_order"]] for k in ("pairs", "queries"))

    def timed() -> Any:
        found = []
        for folder in job["adapters"]:
            adapter = read_adapter(Path(folder)) if folder else None
            found.append(
                scores_at(model, adapter, pairs, queries=queries, card=card, lora=lora, seed=job["seed"], progress=silent)
            )
        return np.mean(found, axis=0)

    return timed


if __name__ == "__main__":
    run_job(make)
