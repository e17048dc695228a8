"""Precision and memory of a pass with gradients, as a card's [lora] asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from spa_bench.spa_cards import LoraCard


def precise(card: LoraCard, device: torch.device) -> Any:
    """Context in which activations have `card.precision`; factors and gradients of factors stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=card.precision == "bfloat16")


@contextmanager
def lean(network: Any, card: LoraCard) -> Iterator[None]:
    """Context in which activations are computed again on the way back instead of kept, where the card says so."""
    if not card.gradient_checkpointing:
        yield
        return
    was = network.training
    network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    network.train()  # transformers checkpoints in training mode alone
    try:
        yield
    finally:
        network.train(was)
        network.gradient_checkpointing_disable()
