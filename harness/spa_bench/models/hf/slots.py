"""Rows that a network reads token by token, each in columns of its own: they begin and end at different steps.

A row begins at column 0 of its slot, so attention adds its numbers in the same lanes beside any other rows. The columns behind
its last token are masked. A prompt is read once, without its last token, and its keys and values are copied to every row that
continues it; the last token is the first that a row reads itself. This is for networks in which every layer attends to all
tokens before; see window.py for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from spa_bench.models.hf.rows import BLOCK

_GROWTH = 1.25  # of the room for columns, at least 64 of them


@dataclass(frozen=True)
class Prefix:
    """What a network has read of one prompt."""

    states: list[tuple[Tensor, Tensor]]  # keys and values of each layer, (heads, length, d)
    length: int

    @property
    def bytes(self) -> int:
        """Of keys and values."""
        return sum(k.nbytes + v.nbytes for k, v in self.states)


class _SlotLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of all slots; a step writes each row's own column."""

    _layer_type = None  # stay out of transformers' table of layer types

    def __init__(self, slots: Slots):
        super().__init__()
        self._slots = slots
        self.buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write (rows, heads, 1, d) and return the columns that this step looks at."""
        slots = self._slots
        if not self.buffers:
            self.fit(key_states, value_states)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            every, place = slots.on(buffer.device)
            buffer[every, :, place] = states[:, :, 0]
        keys, values = (b[:, :, : slots.width] for b in self.buffers)
        return keys, values

    def fit(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room for the slots' rows and columns, keeping what there is; the states show heads, d and type."""
        slots = self._slots
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        made = [s.new_zeros(len(slots), s.shape[-3], slots.room, s.shape[-1]) for s in (key_states, value_states)]
        for old, buffer in zip(self.buffers, made, strict=False):
            buffer[:, :, : old.shape[2]] = old
        self.buffers = made

    def get_seq_length(self) -> int:
        """Columns before the one that is read now, were all rows as long as the longest."""
        return self._slots.width - 1


class Slots:
    """`count` rows of `network`, all empty at first."""

    def __init__(self, network: Any, count: int, device: torch.device):
        self._network, self._device = network, device
        self._cache = DynamicCache(config=network.config)
        self._cache.layers = [_SlotLayer(self) for _ in self._cache.layers]
        self._at = np.zeros(count, np.int64)  # the column that each row writes next
        self._token = torch.zeros(count, dtype=torch.long, device=device)
        self.room = 0
        self._prepare()

    def __len__(self) -> int:
        return len(self._at)

    def _prepare(self) -> None:
        # one column more than the longest row needs: were nothing masked, attention would take another kernel
        self.width = -(-(int(self._at.max()) + 2) // BLOCK) * BLOCK
        # a copy from memory that is not pinned is staged before the call ends: it need not wait for what a GPU still computes
        self.place = torch.from_numpy(self._at.copy()).to(self._device, non_blocking=True)
        self.every = torch.arange(len(self), device=self._device)
        self._here: dict[torch.device, tuple[Tensor, Tensor]] = {}
        if self.width > self.room:
            self.room = max(self.width, int(self.room * _GROWTH), self.room + 4 * BLOCK) // BLOCK * BLOCK
            for layer in self._cache.layers:
                if layer.buffers:
                    layer.fit(*layer.buffers)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Each row's number and the column that it writes now, on `device`: layers may lie on several."""
        if device not in self._here:
            self._here[device] = self.every.to(device), self.place.to(device)
        return self._here[device]

    def read(self, prompts: Sequence[Sequence[int]]) -> list[Prefix]:
        """What the network reads of each of `prompts`, which have the same `columns`, but for its last token."""
        lengths = [len(p) - 1 for p in prompts]
        if not max(lengths):
            return [Prefix([], 0) for _ in prompts]
        ids = torch.zeros(len(prompts), columns(prompts[0]), dtype=torch.long)
        for row, prompt, length in zip(ids, prompts, lengths, strict=True):
            row[:length] = torch.tensor(prompt[:-1])
        ids = ids.to(self._device)
        cache = DynamicCache(config=self._network.config)
        self._network(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),  # the padding is behind each prompt, where causal attention never looks
            position_ids=torch.arange(ids.shape[1], device=self._device).expand_as(ids),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return [
            Prefix([(layer.keys[i, :, :n], layer.values[i, :, :n]) for layer in cache.layers], n) for i, n in enumerate(lengths)
        ]

    def begin(self, rows: Sequence[int], prefixes: Sequence[Prefix], tokens: Sequence[int]) -> None:
        """Put a prefix into each of `rows`, which forget what they had; `tokens` are what they read next."""
        index = torch.tensor(rows, device=self._device)
        self._at[list(rows)] = [p.length for p in prefixes]
        self._token[index] = torch.tensor(tokens, device=self._device)
        self._prepare()
        for number, layer in enumerate(self._cache.layers):
            for row, prefix in zip(rows, prefixes, strict=True):
                if not prefix.states:
                    continue
                if not layer.buffers:
                    layer.fit(*(s[None] for s in prefix.states[number]))
                for buffer, states in zip(layer.buffers, prefix.states[number], strict=True):
                    buffer[row, :, : prefix.length] = states

    def logits(self) -> Tensor:
        """Read one token of each row; the result is the logits (rows, V) of the next one."""
        mask = torch.arange(self.width, device=self._device) <= self.place[:, None]
        out = self._network(
            input_ids=self._token[:, None],
            attention_mask=mask.long(),
            position_ids=self.place[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cast(Tensor, out.logits[:, -1])

    def extend(self, token: Tensor) -> None:
        """Append a token (rows,) to each row."""
        self._token = token
        self._at += 1
        self._prepare()

    def free(self, rows: Sequence[int]) -> None:
        """Forget `rows`: they read column 0 again and again until something else begins there."""
        self._at[list(rows)] = 0
        self._prepare()

    def keep(self, index: Sequence[int]) -> None:
        """Keep the rows `index`, in that order; a row may be there more than once."""
        chosen = torch.tensor(index, device=self._device)
        self._at, self._token = self._at[list(index)], self._token[chosen]
        for layer in self._cache.layers:
            layer.buffers = [b.index_select(0, chosen.to(b.device)) for b in layer.buffers]
        self._prepare()


def columns(prompt: Sequence[int]) -> int:
    """The columns in which a prompt is read: all but its last token, up to a multiple of the block."""
    return -(-(len(prompt) - 1) // BLOCK) * BLOCK
