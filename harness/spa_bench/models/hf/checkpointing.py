"""Activations that are recomputed rather than kept, which a backward pass through a large frozen base needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from spa_bench.errors import ModelError
from spa_bench.models.hf.placed import in_place_of_forward


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The network's blocks whose activations can be computed twice; empty for an architecture that does not say."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [m for m in network.modules() if isinstance(m, GradientCheckpointingLayer)]


@contextmanager
def checkpointed(network: nn.Module, name: str) -> Iterator[None]:
    """Within the `with` block each of the network's blocks keeps only its input for the backward pass.

    transformers' own switch is not used: it works in training mode alone, which would turn on the base's dropout, and it
    leaves a hook on the embeddings. Raises ModelError for an architecture that does not say what its blocks are; `name` is the
    model's.
    """
    blocks = blocks_of(network)
    if not blocks:
        raise ModelError(
            f"{name} has no blocks whose activations can be computed twice; use lora.gradient_checkpointing = false "
            "and a smaller lora.batch with more lora.accumulation"
        )
    with ExitStack() as stack:
        for block in blocks:
            # around accelerate's hook, which lies in the same place: so weights that lie elsewhere are loaded again, too
            stack.enter_context(in_place_of_forward(block, partial(checkpoint, block.forward, use_reentrant=False)))
        yield
