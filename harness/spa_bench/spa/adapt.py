"""Training K LoRA adapters in one stacked pass over a frozen base.

Each member has its own data order, optimiser, clipping and schedule; the losses are summed, never averaged, so that a
member's gradient is what it would be alone. A member trains exactly `steps` steps, cycling through its part.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from spa_bench.errors import DataError
from spa_bench.interrupt import asked, pause_point
from spa_bench.models.stacked_lora import Adapter, initial_down, use_factors
from spa_bench.spa import checkpoint
from spa_bench.spa.attribution.base import Progress
from spa_bench.spa.batches import Encoded, encode, pad, token_mean_losses
from spa_bench.spa_cards import LoraCard
from spa_bench.types import Example

_CHECKPOINT_SECONDS = 60.0


def train_adapters(
    model: Any,
    parts: Sequence[Sequence[Example]],
    card: LoraCard,
    seeds: Sequence[int],
    *,
    progress: Progress,
    keep: Path | None = None,
) -> list[Adapter]:
    """One adapter a part. `seeds[i]` decides member i's start and data order. `model` is a LoraTrainable.

    `keep` is where a checkpoint is kept once a minute; training goes on from the one it finds there, to the same bytes.
    Raises DataError for an empty part or a loss that is not finite.
    """
    for i, part in enumerate(parts):
        if not part:
            raise DataError(f"part {i} is empty: nothing to train adapter {i} on")
    encoded = [encode(model, part, f"part {i}, example") for i, part in enumerate(parts)]
    orders = [_order(rows, card, seed) for rows, seed in zip(encoded, seeds, strict=True)]
    network, layers, k = model.network, model.lora_layers(card.targets), len(parts)
    device = next(network.parameters()).device
    down: list[dict[str, torch.Tensor]] = []
    up: list[dict[str, torch.Tensor]] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        low = {p: initial_down(layer.base.in_features, card.rank, generator) for p, layer in layers.items()}
        down.append({p: a.to(device).requires_grad_() for p, a in low.items()})
        up.append(
            {
                p: torch.zeros(card.rank, layer.base.out_features, device=device, requires_grad=True)
                for p, layer in layers.items()
            }
        )
    members = [[*a.values(), *b.values()] for a, b in zip(down, up, strict=True)]
    optimizers = [torch.optim.AdamW(m, lr=card.learning_rate, weight_decay=card.weight_decay, foreach=True) for m in members]
    scale = card.alpha / card.rank
    # on a CPU 16 rows at a time stay in its cache; a GPU wants the whole batch
    rows = card.batch if device.type == "cuda" else max(1, 16 // k)
    saved = time.monotonic()
    for step in range(checkpoint.restore(keep, members, optimizers) if keep else 0, card.steps):
        for chunk in _chunks([order[step] for order in orders], rows):
            ids, labels = (t.to(device) for t in pad(chunk))
            stacked_down = {p: torch.stack([d[p] for d in down]) for p in layers}
            stacked_up = {p: torch.stack([u[p] for u in up]) * scale for p in layers}
            with use_factors(layers, stacked_down, stacked_up):
                losses = token_mean_losses(network(input_ids=ids, use_cache=False).logits, labels)
                per_member = losses.view(k, -1).sum(1) / card.batch
                if not torch.isfinite(per_member).all():
                    bad = int((~torch.isfinite(per_member)).nonzero()[0])
                    raise DataError(f"the loss of adapter {bad} is not finite at step {step}; lower lora.learning_rate")
                per_member.sum().backward()  # type: ignore[no-untyped-call]
        for parameters, optimizer in zip(members, optimizers, strict=True):
            torch.nn.utils.clip_grad_norm_(parameters, card.clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(card, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress(step + 1, card.steps)
        if keep and (asked() or time.monotonic() - saved >= _CHECKPOINT_SECONDS):
            checkpoint.save(keep, step + 1, members, optimizers)
            saved = time.monotonic()
        pause_point()
    return [
        Adapter({p: (a[p].detach(), b[p].detach().T.contiguous()) for p in layers}, card.rank, card.alpha)
        for a, b in zip(down, up, strict=True)
    ]


def _chunks(batches: Sequence[Sequence[Encoded]], rows: int) -> Iterator[list[Encoded]]:
    """`rows` rows of every member at a time, grouped by member."""
    for start in range(0, len(batches[0]), rows):
        yield [row for batch in batches for row in batch[start : start + rows]]


def learning_rate(card: LoraCard, step: int) -> float:
    """Rate at `step`: linear warm-up, then the card's schedule, which reaches 0 behind the last step."""
    if step < card.warmup:
        return card.learning_rate * (step + 1) / card.warmup
    done = (step - card.warmup) / max(1, card.steps - card.warmup)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[card.schedule]
    return card.learning_rate * shape


def _order(rows: Sequence[Encoded], card: LoraCard, seed: int) -> list[list[Encoded]]:
    """`steps` batches of exactly `batch` rows: shuffled epochs, rows of about one length together within four batches."""
    rng = random.Random(seed)
    stream: list[Encoded] = []
    while len(stream) < card.steps * card.batch:
        epoch = list(rows)
        rng.shuffle(epoch)
        stream += epoch
    stream = stream[: card.steps * card.batch]
    batches: list[list[Encoded]] = []
    for start in range(0, len(stream), 4 * card.batch):
        pool = sorted(stream[start : start + 4 * card.batch], key=lambda r: len(r.ids))
        # every member meets its short and long batches at the same steps: less padding in the stacked pass
        batches += [pool[i : i + card.batch] for i in range(0, len(pool), card.batch)]
    return batches
