"""A batch of rows that a network reads token by token: what it has read is in a cache, and is not read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from spa_bench.models.kv_cache import growing_cache
from spa_bench.models.rows import padded


@dataclass
class Window:
    """Rows and what the network has read of them."""

    network: nn.Module
    ids: Tensor  # (rows, columns) that it has not read yet
    mask: Tensor  # (rows, all columns): which hold a token
    position: Tensor  # (rows, columns) of `ids`
    cache: Any

    @staticmethod
    def of(network: Any, prompts: Sequence[Sequence[int]], *, block: int, device: torch.device) -> Window:
        """A window on `prompts`, of which nothing is read yet; `block` is that of `rows.padded`."""
        ids, mask = (t.to(device) for t in padded([(p[:-1], p[-1:]) for p in prompts], block=block))
        return Window(network, ids, mask, (mask.cumsum(-1) - 1).clamp_min(0), growing_cache(network.config))

    def __len__(self) -> int:
        return len(self.mask)

    def logits(self) -> Tensor:
        """Read on: the logits (rows, V) of the token that follows."""
        out = self.network(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cast(Tensor, out.logits[:, -1])

    def keep(self, index: Tensor) -> None:
        """Go on with the rows `index`, in that order; a row may be there more than once."""
        self.cache.reorder_cache(index)
        self.mask, self.position = self.mask[index], self.position[index]

    def extend(self, token: Tensor) -> None:
        """Put a token (rows,) behind each row."""
        self.ids = token[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], -1)
        self.position = self.position[:, -1:] + 1
