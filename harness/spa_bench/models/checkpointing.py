"""Activations computed twice instead of kept: what a backward pass through a large frozen base needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from spa_bench.errors import ModelError


@contextmanager
def checkpointed(network: nn.Module, name: str) -> Iterator[None]:
    """Within the block each of the network's blocks keeps its input alone for the backward pass.

    Not transformers' own switch: it works in training mode alone, which would turn the base's dropout on, and leaves a hook
    on the embeddings. Raises ModelError for an architecture that does not say what its blocks are; `name` is the model's.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    blocks = [m for m in network.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not blocks:
        raise ModelError(
            f"{name} has no blocks whose activations can be computed twice; use lora.gradient_checkpointing = false "
            "and a smaller lora.batch with more lora.accumulation"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
