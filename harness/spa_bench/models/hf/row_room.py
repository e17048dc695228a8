"""How many rows are decoded together: the number that was asked for, or as many as the free memory holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from spa_bench.models.hf.kv_cache import cache_name
from spa_bench.models.hf.placed import devices_of, room_over
from spa_bench.models.hf.probe import FAILURES
from spa_bench.models.hf.rows import BLOCK

_MOST = {"cpu": 128, "cuda": 256}  # 128 rows keep a small model's activations in a CPU's cache
_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the free memory; Linux ends a process that takes too much, and others need some too
_GROWTH = 2.3  # room for columns grows in steps, and what was read of a row's prompt lies beside the row until it begins
_LOGITS = 6  # float32 copies of a row's logits at the peak: sorted, scaled, summed


class RowRoom:
    """Says how many rows of `network` fit. `asked` is the user's number of rows in a batch; None: what memory holds."""

    def __init__(self, network: Any, *, vocabulary: int, device: torch.device, asked: int | None):
        self._network, self._vocabulary, self._device, self._asked = network, vocabulary, device, asked

    def rows(self, columns: int) -> int:
        """Rows of this number of `columns` (tokens of prompt and answer) for one batch; it can be 0 where not even one fits."""
        if self._asked is not None:
            return self._asked
        kind = "cpu" if self._device.type == "cpu" else "cuda"
        row = columns * self._bytes_a_column * _GROWTH + 4 * _LOGITS * self._vocabulary
        return min(_MOST[kind], int(_SHARE[kind] * room_over(devices_of(self._network)) / row))

    @cached_property
    def _bytes_a_column(self) -> float:
        """Bytes of keys and values of one token, found by reading a few; 0 for a network that shows no such cache."""
        ids = torch.zeros(1, BLOCK, dtype=torch.long, device=self._device)
        try:
            with torch.inference_mode():
                cache = self._network(input_ids=ids, use_cache=True).get(cache_name(self._network))
            return sum(t.nbytes for t in _tensors(cache)) / BLOCK
        except FAILURES:
            return 0.0


def _tensors(cache: Any) -> Iterator[Tensor]:
    """Keys and values of a cache of transformers."""
    for layer in cache.layers:
        yield from (t for t in (layer.keys, layer.values) if isinstance(t, Tensor))
