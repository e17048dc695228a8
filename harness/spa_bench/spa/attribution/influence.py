"""Influence over LoRA parameters at LoRA's start, preconditioned by a damped diagonal Fisher.

score(z, q) = ∇ℓ(q)ᵀ (F + λ)⁻¹ ∇ℓ(z), divided by sqrt(∇ℓ(z)ᵀ (F + λ)⁻¹ ∇ℓ(z)) when `normalize` is set, after Koh and
Liang 2017 (arXiv 1703.04730) with the Hessian replaced by F, the mean squared query gradient, and λ = damping · mean(F).
The sign is such that a higher score means that training on z lowers the loss of q. At the start B = 0, so that only
B has a gradient; damping keeps entries with F = 0 finite. One pass over the data scores all queries: an example's
gradient is used and dropped, and memory does not grow with the number of examples.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.errors import DataError
from spa_bench.interrupt import pause_point
from spa_bench.models.stacked_lora import initial_down, use_factors
from spa_bench.spa.attribution.base import Progress
from spa_bench.spa.batches import Encoded, encode, pad, token_mean_losses
from spa_bench.spa.rows import RowFile
from spa_bench.spa_cards import AttributionCard, LoraCard
from spa_bench.types import Example

_ROWS = 16  # examples a pass: more of them leave the CPU's cache and run slower


class InfluenceAttributor:
    """See the module's docstring. `model` is a LoraTrainable; `seed` draws LoRA's A."""

    def __init__(self, card: AttributionCard, lora: LoraCard, model: Any, seed: int):
        self._card, self._model = card, model
        self._layers = model.lora_layers(lora.targets)
        generator = torch.Generator().manual_seed(seed)
        self._down = {path: initial_down(layer.base.in_features, lora.rank, generator) for path, layer in self._layers.items()}
        self._scale = lora.alpha / lora.rank

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: RowFile | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores. Raises DataError for an example or query without a gradient."""
        encoded = encode(self._model, examples, "example")
        targets = self._all_gradients(encode(self._model, queries, "query"))
        if not torch.isfinite(targets).all():
            raise DataError("a query's gradient is not finite; try --dtype float32 or look for odd queries")
        fisher = targets.square().mean(0)
        inverse = 1.0 / (fisher + self._card.damping * fisher.mean())
        preconditioned = targets * inverse
        scores = torch.empty(len(examples), len(queries))
        known = kept.read() if kept else {}
        for index, row in known.items():
            scores[index] = torch.from_numpy(row)
        done = len(known)
        for indices, gradients in self._gradients(encoded, known):
            pause_point()
            rows = gradients @ preconditioned.T
            norm = (gradients.square() @ inverse).sqrt()
            bad = [i for i, n in zip(indices, norm.tolist(), strict=True) if not math.isfinite(n) or n == 0]
            if bad:
                raise DataError(f"example {bad[0]} has a gradient that is zero or not finite; remove it from the data")
            scores[indices] = (rows / norm[:, None] if self._card.normalize else rows).float().cpu()
            if kept:
                kept.append(indices, scores[indices].numpy())
            done += len(indices)
            progress(done, len(examples))
        return scores.numpy()

    def _all_gradients(self, encoded: Sequence[Encoded]) -> Tensor:
        parts = list(self._gradients(encoded))
        out = torch.empty(len(encoded), parts[0][1].shape[1], device=parts[0][1].device)
        for indices, gradients in parts:
            out[indices] = gradients
        return out

    def _gradients(self, encoded: Sequence[Encoded], known: Container[int] = ()) -> Iterator[tuple[list[int], Tensor]]:
        """(indices, per-example gradients (rows, parameters)): one stacked member a row gives each row its own.

        Batches whose rows are all `known` are left out; the others are the same whatever is known.
        """
        network, layers = self._model.network, self._layers
        device = next(network.parameters()).device
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
        for start in range(0, len(order), _ROWS):
            indices = order[start : start + _ROWS]
            if all(i in known for i in indices):
                continue
            ids, labels = (t.to(device) for t in pad([encoded[i] for i in indices]))
            rows = len(indices)
            down = {p: d.to(device) for p, d in self._down.items()}
            up = {
                path: torch.zeros(rows, down[path].shape[0], layer.base.out_features, device=device, requires_grad=True)
                for path, layer in layers.items()
            }
            with use_factors(layers, down, up):
                losses = token_mean_losses(network(input_ids=ids, use_cache=False).logits, labels)
                gradients = torch.autograd.grad(losses.sum(), list(up.values()))
            yield indices, torch.cat([g.reshape(rows, -1) for g in gradients], 1) * self._scale


def build(card: AttributionCard, lora: LoraCard, model: Any, seed: int) -> InfluenceAttributor:
    """The attributor over `model`'s LoRA parameters."""
    return InfluenceAttributor(card, lora, model, seed)
