"""Teacher-forced next-token distributions of a network of transformers, reduced to sums on its device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.errors import ModelError
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.output_layer import OutputLayer
from spa_bench.models.hf.products import LEAST
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import padded
from spa_bench.models.hf.token_sums import TokenSums, token_sums
from spa_bench.types import DivergenceSums

_LOGIT_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}  # room for the logits that are looked at together
_ROWS = {"cpu": 8, "cuda": 32}  # rows a member that are read together: few of them stay in a CPU's cache

Pair = tuple[list[int], list[int]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured between the distributions of some adapters."""

    adapters: Sequence[Path | None]  # of the members, and of the base behind them where there is one
    members: int
    top: int  # k of the top-k entropy and mass, at most the vocabulary
    again: Collection[int] = ()  # places of the pairs that the first member reads again, in other company


class Forced:
    """Reads pairs of tokens with `network`. `use` gives the context in which row group i runs through adapter i."""

    def __init__(
        self,
        network: Readable,
        use: Callable[[Sequence[Path | None]], AbstractContextManager[Any]],
        *,
        vocabulary: int,
        device: torch.device,
    ):
        self._network, self._use, self._vocabulary, self._device = network, use, vocabulary, device
        self._kind = "cpu" if device.type == "cpu" else "cuda"
        self._layer = OutputLayer(network.network)

    def sums(self, pairs: Sequence[Pair], wanted: Wanted) -> Iterator[DivergenceSums]:
        """The sums over the tokens of each pair's second part, in order.

        Raises ModelError where logits are NaN or infinite, or a pair does not fit in memory alone.
        """
        for start, states in self._states(pairs, wanted.adapters):
            for place, (_, tail) in enumerate(pairs[start : start + states.shape[1]], start):
                found = self._sums_of(states[:, place - start, -len(tail) - 1 : -1], wanted)
                if place in wanted.again:
                    noise = self._noise(pairs[place], states[:1, place - start, -len(tail) - 1 : -1], wanted.adapters[0])
                    found = replace(found, noise=noise)
                yield found

    def logprobs(self, pairs: Sequence[Pair], adapters: Sequence[Path | None]) -> Iterator[NDArray[np.float32]]:
        """Log-probabilities (K, T, V) behind each token of each pair's second part, in order. Raises ModelError as `sums`."""
        for start, states in self._states(pairs, adapters):
            for place, (_, tail) in enumerate(pairs[start : start + states.shape[1]]):
                pieces = list(self._logits(states[:, place, -len(tail) - 1 : -1], adapters))
                if lost := [member for piece in pieces for member in _not_finite(piece)]:
                    raise ModelError(_said(min(lost), "a text that is scored"))
                yield torch.cat([piece.log_softmax(-1) for piece in pieces], 1).cpu().numpy()

    def _states(self, pairs: Sequence[Pair], adapters: Sequence[Path | None]) -> Iterator[tuple[int, Tensor]]:
        """(place of the first pair, what its and the next pairs' output layer gets, (K, pairs, places, d)).

        Where memory runs out, it tries half as many rows.
        """
        start, most = 0, _ROWS[self._kind]
        while start < len(pairs):
            part = pairs[start : start + most]
            states = within_memory(partial(self._read, part, adapters))
            if states is None:
                if len(part) == 1:
                    raise ModelError(
                        f"out of memory with {sum(map(len, part[0]))} tokens for {len(adapters)} members while divergence is "
                        "measured; use a smaller dtype"
                    )
                most = len(part) // 2
                continue
            yield start, states
            start += len(part)

    @torch.inference_mode()
    def _read(self, pairs: Sequence[Pair], adapters: Sequence[Path | None]) -> Tensor:
        """See _states; there are at least LEAST rows a member, each of a block of columns."""
        rows = [*pairs, *[pairs[0]] * max(0, LEAST - len(pairs))]
        ids, mask = padded([(head[:-1], head[-1:] + tail) for head, tail in rows], block=self._network.way.block)
        k = len(adapters)
        ids, mask = ids.repeat(k, 1).to(self._device), mask.repeat(k, 1).to(self._device)
        keep = max(len(tail) for _, tail in rows) + 1
        arranged = self._network.arranged(ids, mask, (mask.cumsum(-1) - 1).clamp_min(0), keep=keep)
        with self._use(adapters):
            states = self._layer.last_states(arranged.inputs, keep, arranged.place)
        return states.reshape(k, len(rows), *states.shape[1:])[:, : len(pairs)]

    @torch.inference_mode()
    def _logits(self, states: Tensor, adapters: Sequence[Path | None]) -> Iterator[Tensor]:
        """The logits (K, some tokens, V) of one pair, piece by piece; the pieces do not depend on its company."""
        room = max(1, _LOGIT_BYTES[self._kind] // (4 * len(adapters) * self._vocabulary))
        for piece in states.chunk(-(-states.shape[1] // room), 1):
            with self._use(adapters):
                logits = self._layer.logits(piece)
            yield logits

    def _sums_of(self, states: Tensor, wanted: Wanted) -> DivergenceSums:
        parts = [_checked(each, wanted.members, wanted.top) for each in self._logits(states, wanted.adapters)]
        return summed(parts, wanted.members, wanted.top)

    def _noise(self, pair: Pair, states: Tensor, adapter: Path | None) -> float:
        """KL a token between a member among the others, from `states`, and the same alone; the mean of both directions."""
        both = torch.cat([states, self._read([pair], [adapter])[:1, 0, -states.shape[1] - 1 : -1]])
        cross = self._sums_of(both, Wanted(adapters=[adapter] * 2, members=2, top=1)).cross
        kl = np.maximum(np.diagonal(cross)[:, None] - cross, 0.0) / states.shape[1]
        return float((kl[0, 1] + kl[1, 0]) / 2)


@torch.inference_mode()
def _checked(logits: Tensor, members: int, top: int) -> TokenSums:
    found = token_sums(logits, members, top=top)
    if found is None:
        raise ModelError(_said(next(iter(_not_finite(logits)), 0), "a reference solution"))
    return found


def _not_finite(logits: Tensor) -> list[int]:
    """The rows of `logits` (K, tokens, V) in which a token has no distribution: NaN or infinity, or no token possible."""
    sound: list[bool] = logits.amax(-1).isfinite().all(-1).tolist()
    return [member for member, whole in enumerate(sound) if not whole]


def _said(member: int, where: str) -> str:
    return (
        f"the model's logits are not finite (NaN or infinite) on {where}, with member {member}; use float32 or bfloat16, and "
        "look for NaN in the weights of the model and of its adapter"
    )


def summed(parts: Sequence[TokenSums], members: int, top: int) -> DivergenceSums:
    """The sums over all tokens of `parts`, on the host."""

    def over_tokens(numbers: Sequence[Tensor]) -> NDArray[np.float64]:
        summed: NDArray[np.float64] = torch.cat(list(numbers)).sum(0).cpu().numpy()
        return summed

    cross, never = over_tokens([p.cross for p in parts]), over_tokens([p.never for p in parts])
    has_base = cross.shape[1] > members
    return DivergenceSums(
        tokens=sum(len(p.cross) for p in parts),
        top_k=top,
        cross=cross[:, :members],
        never=never[:, :members],
        tv=over_tokens([p.tv for p in parts]),
        pairs=over_tokens([p.pairs for p in parts]),
        renyi={0.5: over_tokens([p.affinity.log() for p in parts])},
        amari={0.5: over_tokens([1.0 - p.affinity for p in parts])},
        top=over_tokens([p.top for p in parts]),
        base=np.stack([cross[:, members], never[:, members]]) if has_base else None,
        mixture=float(over_tokens([p.mixture for p in parts])),
    )
