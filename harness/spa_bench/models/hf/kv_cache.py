"""A key-value cache that grows in blocks, because transformers' own copies everything at every step."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_BLOCK = 64  # tokens a growth


def cache_name(network: nn.Module) -> str:
    """What the network calls its cache, as an argument and in its output: transformers says `cache` from 5.24 on."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with spare room; what attention sees is a view of the filled part."""

    _layer_type = None  # stay out of transformers' table of layer types

    def __init__(self) -> None:
        super().__init__()
        self._buffers: list[Tensor] = []
        self._filled = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, tokens, d) and return everything so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = key_states.shape[-2]
        if not self._buffers or self._filled + new > self._buffers[0].shape[-2]:
            room = -(-(self._filled + new) // _BLOCK) * _BLOCK
            grown = [
                torch.zeros(*s.shape[:-2], room, s.shape[-1], dtype=s.dtype, device=s.device)
                for s in (key_states, value_states)
            ]
            for old, buffer in zip(self._buffers, grown, strict=False):
                buffer[..., : self._filled, :] = old[..., : self._filled, :]
            self._buffers = grown
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., self._filled : self._filled + new, :] = states
        self._filled += new
        self.keys, self.values = (b[..., : self._filled, :] for b in self._buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows `beam_idx`, in that order."""
        if self._buffers:
            self._buffers = [b.index_select(0, beam_idx.to(b.device)) for b in self._buffers]
            self.keys, self.values = (b[..., : self._filled, :] for b in self._buffers)


def growing_cache(config: Any) -> Any:
    """A DynamicCache for `config` whose plain layers grow in blocks; sliding and other layers stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
