"""Query losses of adapters that were retrained on random halves: what attribution is to predict.

Eight halves are trained in one stacked pass with one seed; the pass is a chunk, and a finished chunk is a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution_parts.setting import Where, digest_of, query_pairs, silent, training_pairs
from spa_bench.cards.training import LoraCard
from spa_bench.models.hf.stacked_lora import Adapter, stack, use_factors
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.batches import encode, pad, token_mean_losses
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Example

TOGETHER = 8  # halves trained in one stacked pass


@dataclass(frozen=True)
class Retraining:
    """What is trained: `halves` random halves of `examples` pairs, each with `seeds` seeds, by `recipe`."""

    recipe: LoraCard
    examples: int = 256
    queries: int = 48
    halves: int = 64
    seeds: int = 5
    draw: int = 0  # decides the halves


@dataclass(frozen=True)
class Outputs:
    """`member` (halves, examples) says who is in which half; `loss` (halves, seeds, queries) is what came out."""

    member: NDArray[np.bool_]
    loss: NDArray[np.float64]
    seconds: float


def draw_halves(retraining: Retraining) -> NDArray[np.bool_]:
    """(halves, examples): each row has exactly half of its entries set."""
    member = np.zeros((retraining.halves, retraining.examples), bool)
    for row in range(retraining.halves):
        rng = np.random.default_rng(derive_seed("half", retraining.draw, row))
        member[row, rng.permutation(retraining.examples)[: retraining.examples // 2]] = True
    return member


def retrain(where: Where, model: Any, retraining: Retraining, report: Callable[[str], None]) -> Outputs:
    """Train what is not on disk yet and return all outputs. A stopped run goes on at the chunk where it was."""
    pairs, queries = training_pairs(retraining.examples), query_pairs(retraining.queries)
    key = {
        "retraining": retraining,
        "pairs": digest_of(pairs),
        "queries": digest_of(queries),
        "torch": torch.__version__,
        "together": TOGETHER,
    }
    # halves and seeds may be added later: a chunk depends on neither number
    plain = {**key, "retraining": {**vars(retraining), "halves": 0, "seeds": 0}}
    folder = where.folder("lds", plain)
    member = draw_halves(retraining)
    losses = np.zeros((retraining.halves, retraining.seeds, retraining.queries))
    seconds = 0.0
    for seed in range(retraining.seeds):
        for start in range(0, retraining.halves, TOGETHER):
            part = member[start : start + TOGETHER]
            file = folder / f"seed-{seed}-half-{start}.npz"
            if not file.exists():
                _chunk(file, model, pairs, queries, part, retraining.recipe, seed)
                report(f"lds: seed {seed}, halves {start} to {start + len(part) - 1} trained")
            with np.load(file) as kept:
                if not np.array_equal(kept["member"], part):
                    raise AssertionError(f"{file} holds other halves; remove the folder")
                losses[start : start + len(part), seed] = kept["loss"]
                seconds += float(kept["seconds"])
    return Outputs(member, losses, seconds)


def _chunk(
    file: Any,
    model: Any,
    pairs: Sequence[Example],
    queries: Sequence[Example],
    member: NDArray[np.bool_],
    recipe: LoraCard,
    seed: int,
) -> None:
    begun = time.perf_counter()
    parts = [[pairs[i] for i in np.flatnonzero(row).tolist()] for row in member]
    # one seed for all halves: what the seed alone does to the loss is then common to them and no noise between them
    trained = train_adapters(model, parts, recipe, [derive_seed("lds", seed)] * len(parts), progress=silent)
    loss = query_losses(model, trained, queries)
    new = file.with_suffix(".new.npz")
    np.savez(new, member=member, loss=loss, seconds=time.perf_counter() - begun)
    os.replace(new, file)


@torch.inference_mode()
def query_losses(model: Any, adapters: Sequence[Adapter | None], queries: Sequence[Example]) -> NDArray[np.float64]:
    """(adapters, queries): teacher-forced token-mean cross-entropy over each query's completion, in nats."""
    encoded = encode(model, queries, "query")
    layers = model.lora_layers("all-linear")
    down, up = stack(adapters, layers, dtype=torch.float32)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    found = np.zeros((len(adapters), len(queries)))
    rows = max(1, 48 // len(adapters))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        ids, labels = pad([encoded[i] for i in chosen] * len(adapters))
        with use_factors(layers, down, up):
            losses = token_mean_losses(model.network(input_ids=ids, use_cache=False).logits, labels)
        found[:, chosen] = losses.view(len(adapters), len(chosen)).double().numpy()
    return found
