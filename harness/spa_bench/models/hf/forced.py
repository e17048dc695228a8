"""Teacher-forced next-token distributions of a network of transformers, from which divergences are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spa_bench.models.hf.rows import MIN_ROWS, padded

_LOGIT_BYTES = 1 << 28  # room for the logits of one batch


class Forced:
    """Reads pairs of tokens with `network`. `use` gives the context in which row group i runs through adapter i."""

    def __init__(
        self,
        network: Any,
        use: Callable[[Sequence[Path | None]], AbstractContextManager[Any]],
        *,
        vocabulary: int,
        device: torch.device,
        block: int,
    ):
        self._network, self._use, self._vocabulary, self._device, self._block = network, use, vocabulary, device, block

    def logprobs(
        self, pairs: Sequence[tuple[list[int], list[int]]], adapters: Sequence[Path | None]
    ) -> Iterator[NDArray[np.float32]]:
        """Log-probabilities (K, T, V) behind each token of each pair's second part, in order."""
        start = 0
        while start < len(pairs):
            most = 32 if self._device.type == "cuda" else 8  # few rows a member stay in a CPU's cache
            tokens = max(len(tail) for _, tail in pairs[start : start + most])
            rows = _LOGIT_BYTES // (4 * len(adapters) * (tokens + 1) * self._vocabulary)
            part = pairs[start : start + min(most, max(MIN_ROWS, rows))]
            yield from self._batch(part, adapters)
            start += len(part)

    @torch.inference_mode()
    def _batch(
        self, pairs: Sequence[tuple[list[int], list[int]]], adapters: Sequence[Path | None]
    ) -> list[NDArray[np.float32]]:
        """Log-probabilities (K, T, V) for each pair; rows are padded to at least four a member."""
        rows = [*pairs, *[pairs[0]] * max(0, MIN_ROWS - len(pairs))]
        keep = max(len(tail) for _, tail in rows) + 1
        ids, mask = padded([(head[:-1], head[-1:] + tail) for head, tail in rows], block=self._block)
        k = len(adapters)
        ids, mask = ids.repeat(k, 1).to(self._device), mask.repeat(k, 1).to(self._device)
        position = (mask.cumsum(-1) - 1).clamp_min(0)
        with self._use(adapters):
            logits = self._network(
                input_ids=ids, attention_mask=mask, position_ids=position, use_cache=False, logits_to_keep=keep
            ).logits
        logprobs = torch.log_softmax(logits.float(), -1).view(k, len(rows), -1, logits.shape[-1])
        return [logprobs[:, i, -len(tail) - 1 : -1].cpu().numpy() for i, (_, tail) in enumerate(pairs)]
