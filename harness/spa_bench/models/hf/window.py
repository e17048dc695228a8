"""A batch of rows that a network reads token by token, with a cache of the tokens that it has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import padded


@dataclass(kw_only=True)
class Window:
    """Rows, and the part of them that the network has read."""

    network: Readable
    ids: Tensor  # (rows, columns) that the network has not read yet
    mask: Tensor  # (rows, all columns): whether there is a token
    position: Tensor  # (rows, columns) of `ids`
    cache: Any

    @staticmethod
    def of(network: Readable, prompts: Sequence[Sequence[int]], *, device: torch.device) -> Window:
        """A window on `prompts`, which have not been read."""
        ids, mask = (t.to(device) for t in padded([(p[:-1], p[-1:]) for p in prompts], block=network.way.block))
        return Window(
            network=network,
            ids=ids,
            mask=mask,
            position=(mask.cumsum(-1) - 1).clamp_min(0),
            cache=network.new_cache(),
        )

    def __len__(self) -> int:
        return len(self.mask)

    def logits(self) -> Tensor:
        """Read the unread tokens; the result is the logits (rows, V) of the next token."""
        out = self.network(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]

    def keep(self, index: Sequence[int]) -> None:
        """Keep the rows `index`, in that order; a row may be there more than once."""
        chosen = torch.tensor(index, device=self.mask.device)
        self.cache.reorder_cache(chosen)
        self.mask, self.position = self.mask[chosen], self.position[chosen]

    def extend(self, token: Tensor) -> None:
        """Append a token (rows,) to each row."""
        self.ids = token[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], -1)
        self.position = self.position[:, -1:] + 1
