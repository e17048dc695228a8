"""A network of transformers that is read in the way in which a probe found its logits right: see probe.py.

The callers lay rows out as `rows.padded` does, with masked columns between head and tail (block 16) or on the left (block 0). A
network in which such columns count reads the same rows packed to the left, with the padding behind them, which no causal
network sees. A network whose cache does not give the logits of a plain reading reads the whole row again at each step.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from spa_bench.models.hf.kv_cache import cache_name, growing_cache
from spa_bench.models.hf.rows import BLOCK
from spa_bench.models.hf.stacked_lora import output_layer

CacheKind = Literal["growing", "own", "none"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a network is read so that the logits of a row are those that it has alone."""

    block: int = BLOCK  # of rows.padded: 0 where a masked column in the middle of a row counts
    masked: bool = True  # masked columns have no effect on the left; else rows are packed
    cache: CacheKind = "growing"  # ours, the network's own, or none: each step reads the whole row again
    slots: bool = True  # each row may have columns of its own, masked behind its last token: see slots.py
    keep: bool = True  # the network computes the logits of the last tokens alone where it is told so
    positions: bool = True  # the network takes the position of each token
    columns: int | None = None  # the most columns of a batch, masked ones too, where the network masks by a table; None: any
    context: int | None = None  # a row of more tokens changes the logits of the rows beside it; None: no such length
    same_bytes: bool = False  # the logits of a row had the same bytes alone and beside other rows, on this machine


@dataclass
class Memory:
    """What a network has read of some rows, where it is more than its cache."""

    ids: Tensor | None = None  # (rows, columns) read
    cache: Any = None  # None: nothing is kept but the tokens

    def reorder_cache(self, index: Tensor) -> None:
        """Keep the rows `index`, in that order."""
        if self.ids is not None:
            self.ids = self.ids[index]
        if self.cache is not None:
            self.cache.reorder_cache(index)

    def read(self, ids: Tensor) -> Tensor:
        """All tokens, (rows, columns), after `ids` are read too."""
        self.ids = ids if self.ids is None else torch.cat([self.ids, ids], -1)
        return self.ids


@dataclass(frozen=True)
class Read:
    """The result of a reading: `logits` (rows, tokens, V) of the last tokens."""

    logits: Tensor


@dataclass(frozen=True)
class Arranged:
    """The arguments of a network that reads some rows, without a cache, and the places of the tokens that are wanted."""

    inputs: dict[str, Tensor]
    place: Tensor | None = None  # (rows, keep); None: the last `keep` columns


class Readable:
    """`network` behind the call of transformers, read in the way `way`; no row has more than `context` tokens."""

    def __init__(self, network: nn.Module, way: Way, *, context: int):
        self.network, self.way, self._context = network, way, context
        # without positions, a network may count columns: those of finished rows go on behind the last one
        self._columns = way.columns if way.positions else context
        takes = inspect.signature(network.forward).parameters
        self._takes, self._cache = frozenset(takes), cache_name(network)
        self._takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())

    @property
    def config(self) -> Any:
        """The network's config."""
        return self.network.config

    def new_cache(self) -> Any:
        """A cache for rows that have not been read."""
        if self.way.cache == "growing" and self._columns is None:
            return growing_cache(self.config)
        return Memory(cache=growing_cache(self.config) if self.way.cache == "growing" else None)

    def __call__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        use_cache: bool = False,
        past_key_values: Any = None,
        logits_to_keep: int = 0,
    ) -> Read:
        """The logits of the last `logits_to_keep` tokens of each row, of all with 0; see Window and rows.padded.

        `attention_mask` (rows, all columns) has the columns in `past_key_values` too.
        """
        keep = logits_to_keep or input_ids.shape[1]
        memory = past_key_values if isinstance(past_key_values, Memory) else None
        if memory is not None:
            whole = memory.read(input_ids)
            if self.way.cache == "none" or self._too_wide(whole):
                memory.cache = None
                return Read(self._packed(self._behind(whole, attention_mask, keep)))
        arranged = self.arranged(input_ids, attention_mask, position_ids, keep=keep)
        if arranged.place is not None:
            return Read(self._packed(arranged))
        more: dict[str, Any] = {"use_cache": use_cache}
        if self.way.keep and logits_to_keep:
            more["logits_to_keep"] = logits_to_keep
        if use_cache:
            more[self._cache] = past_key_values if memory is None else memory.cache
        out = self._call(**arranged.inputs, **more)
        if memory is not None:
            memory.cache = out.get(self._cache)
        return Read(cast(Tensor, out.logits[:, -keep:]))

    def arranged(self, ids: Tensor, mask: Tensor, position: Tensor, *, keep: int) -> Arranged:
        """Rows as rows.padded lays them out, as the network reads them; of each, the last `keep` tokens are wanted."""
        if not self.way.masked or self._too_wide(ids):
            return self._behind(ids, mask, keep)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.way.positions:  # a finished row beside others is extended past the last position
            inputs["position_ids"] = position.clamp_max(self._context - 1)
        return Arranged(inputs)

    def _too_wide(self, ids: Tensor) -> bool:
        """Whether rows laid out as `ids` have more columns than the network reads: the padding must stand behind them."""
        return self._columns is not None and ids.shape[1] > self._columns

    def _behind(self, ids: Tensor, mask: Tensor, keep: int) -> Arranged:
        """Rows with the padding behind them."""
        real = mask.bool() & (mask.flip(-1).cumsum(-1).flip(-1) <= self._context)  # longer rows are finished
        lengths = real.sum(-1)
        order = real.long().argsort(dim=-1, descending=True, stable=True)[:, : int(lengths.max())]
        place = (lengths[:, None] - keep + torch.arange(keep, device=ids.device)).clamp_min(0)
        return Arranged({"input_ids": ids.gather(-1, order)}, place)

    def _packed(self, arranged: Arranged) -> Tensor:
        """The logits (rows, keep, V) of the tokens at the places of `arranged`."""
        assert arranged.place is not None
        shape = arranged.inputs["input_ids"].shape
        with _head_narrowed(output_layer(self.network), shape, arranged.place) as narrowed:
            logits: Tensor = self._call(**arranged.inputs, use_cache=False).logits
        return logits if narrowed else at(logits, arranged.place)

    def _call(self, **given: Any) -> Any:
        """The network's own result; arguments that it does not take are left out."""
        return self.network(**{name: value for name, value in given.items() if self._takes_all or name in self._takes})


def at(states: Tensor, place: Tensor) -> Tensor:
    """The states at `place` (rows, places) of each row: (rows, T, d) -> (rows, places, d)."""
    return states.gather(1, place.to(states.device)[..., None].expand(-1, -1, states.shape[-1]))


@contextmanager
def _head_narrowed(head: nn.Module | None, shape: torch.Size, place: Tensor) -> Iterator[list[bool]]:
    """Within the block the output layer reads the tokens `place` (rows, places) of each row alone.

    The list is empty until it has done so: some architectures have no such layer, or flatten what it reads.
    """
    narrowed: list[bool] = []

    def narrow(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if given[0].shape[:-1] != shape:
            return None
        narrowed.append(True)
        return at(given[0], place), *given[1:]

    handle = head.register_forward_pre_hook(narrow) if head is not None else None
    try:
        yield narrowed
    finally:
        if handle is not None:
            handle.remove()
