"""Gradients of single pairs with respect to LoRA's factors, one pair at a time: what everything else is checked against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spa_bench.models.hf.stacked_lora import Adapter, use_factors
from spa_bench.spa.batches import encode, pad, token_mean_losses
from spa_bench.types import Example


@dataclass(frozen=True)
class Block:
    """One factor of one module within the flat vector of all parameters."""

    path: str
    factor: str  # A (r, in) or B (out, r)
    place: slice
    shape: tuple[int, int]


def blocks_of(adapter: Adapter) -> list[Block]:
    """The blocks in order: A and B of each module, modules in the adapter's order."""
    found, start = [], 0
    for path, pair in adapter.factors.items():
        for name, factor in zip("AB", pair, strict=True):
            shape = (factor.shape[0], factor.shape[1])
            found.append(Block(path, name, slice(start, start + factor.numel()), shape))
            start += factor.numel()
    return found


def size_of(adapter: Adapter) -> int:
    """Number of parameters."""
    return sum(a.numel() + b.numel() for a, b in adapter.factors.values())


@contextmanager
def factors_at(layers: Mapping[str, Any], adapter: Adapter) -> Iterator[list[Tensor]]:
    """The adapter in the network; the value is its factors A, B, A, B, ... as leaves in the order of blocks_of."""
    leaves: list[Tensor] = []
    down, up = {}, {}
    for path, (a, b) in adapter.factors.items():
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        leaves += [a, b]
        down[path], up[path] = a[None], (b.T * adapter.scale)[None]
    with use_factors(layers, down, up):
        yield leaves


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all of them; with a leading batch dimension (n, ...) one row each when `tensors` are 3-d."""
    if tensors[0].ndim == 3:
        return torch.cat([t.reshape(t.shape[0], -1) for t in tensors], 1)
    return torch.cat([t.reshape(-1) for t in tensors])


def gradients(model: Any, adapter: Adapter, pairs: Sequence[Example]) -> Tensor:
    """(pairs, parameters): the gradient of each pair's token-mean loss."""
    layers = model.lora_layers(tuple(sorted({p.rsplit(".", 1)[-1] for p in adapter.factors})))
    rows = torch.zeros(len(pairs), size_of(adapter))
    for i, one in enumerate(encode(model, pairs, "pair")):
        ids, labels = pad([one])
        with factors_at(layers, adapter) as leaves:
            loss = token_mean_losses(model.network(input_ids=ids, use_cache=False).logits, labels)
            rows[i] = flat(torch.autograd.grad(loss.sum(), leaves))
    return rows
