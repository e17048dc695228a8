"""How many rows are decoded together: the number that was asked for, or as many as the free memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from spa_bench.errors import ModelError
from spa_bench.models.hf.kv_cache import cache_name
from spa_bench.models.hf.placed import devices_of, room_over
from spa_bench.models.hf.probe import FAILURES
from spa_bench.models.hf.rows import BLOCK
from spa_bench.support.memory import is_out_of_memory

_MOST = {"cpu": 128, "cuda": 256}  # 128 rows keep a small model's activations in a CPU's cache
_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the free memory; Linux ends a process that takes too much, and others need some too
_GROWTH = 2.3  # room for columns grows in steps, and what was read of a row's prompt lies beside the row until it begins
_BY_TOKEN = {"keys", "values", "indexer_keys"}  # of a layer of a cache: they grow with the columns
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
        a_column, states = self._bytes
        row = columns * a_column * _GROWTH + states + 4 * _LOGITS * self._vocabulary
        return min(_MOST[kind], int(_SHARE[kind] * room_over(devices_of(self._network)) / row))

    @cached_property
    def _bytes(self) -> tuple[float, int]:
        """Bytes of keys and values of one token, and of what a row has of other layers, such as the state of linear attention.

        They are found by reading a few tokens; 0 and 0 for a network that shows no cache. Raises ModelError where memory does
        not hold these.
        """
        ids = torch.zeros(1, BLOCK, dtype=torch.long, device=self._device)
        try:
            with torch.inference_mode():
                cache = self._network(input_ids=ids, use_cache=True).get(cache_name(self._network))
            return _held(cache.layers, by_token=True) / BLOCK, _held(cache.layers, by_token=False)
        except (MemoryError, *FAILURES) as error:
            if is_out_of_memory(error):
                raise ModelError(f"out of memory with a row of {BLOCK} tokens; use a smaller dtype or model") from error
            return 0.0, 0


def _held(layers: Sequence[Any], *, by_token: bool) -> int:
    """Bytes of the tensors in `layers` of a cache of transformers: those with a number of columns, or all others."""
    named = ((name, value) for layer in layers for name, value in vars(layer).items() if (name in _BY_TOKEN) is by_token)
    return sum(tensor.nbytes for _, value in named for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    """`value`, or the values of a dict, as far as they are tensors."""
    each = value.values() if isinstance(value, dict) else (value,)
    yield from (t for t in each if isinstance(t, Tensor))
