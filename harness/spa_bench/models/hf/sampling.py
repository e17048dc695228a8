"""Tokens are drawn from one uniform number for each row and step, so that a draw depends on its own seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spa_bench.types import Decoding


@dataclass(frozen=True, kw_only=True)
class RowDecoding:
    """The decodings of a batch as columns; each (rows, 1)."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor  # vocabulary size where it is off
    min_p: Tensor
    greedy: bool  # every row is greedy

    @staticmethod
    def of(decodings: Sequence[Decoding], vocabulary: int, device: torch.device) -> RowDecoding:
        """Columns for `decodings`, one a row."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        return RowDecoding(
            temperature=column([d.temperature for d in decodings]),
            top_p=column([d.top_p for d in decodings]),
            top_k=column([float(d.top_k or vocabulary) for d in decodings]),
            min_p=column([d.min_p for d in decodings]),
            greedy=all(d.temperature == 0 for d in decodings),
        )

    def select(self, rows: Tensor) -> RowDecoding:
        """The decodings of `rows`."""
        return RowDecoding(
            temperature=self.temperature[rows],
            top_p=self.top_p[rows],
            top_k=self.top_k[rows],
            min_p=self.min_p[rows],
            greedy=self.greedy,
        )


def uniforms(seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """`count` uniform numbers in [0, 1) from `seed`, by numpy's Philox; the first ones do not depend on `count`."""
    return np.random.Generator(np.random.Philox(seed)).random(count, dtype=np.float32)


def choose(logits: Tensor, decoding: RowDecoding, uniform: Tensor) -> Tensor:
    """Next token of each row: logits (rows, V), uniform (rows,) -> (rows,).

    Temperature 0 is argmax. Otherwise: softmax of logits / temperature, then top-k, top-p and min-p in that order
    (as transformers applies them), then the inverse of the cumulative distribution, most likely token first.
    """
    best = logits.argmax(-1)
    if decoding.greedy:
        return best
    probabilities = torch.softmax(logits.float() / decoding.temperature.clamp_min(1e-6), -1)
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[-1], device=logits.device)[None]
    ordered = torch.where(rank < decoding.top_k, ordered, 0.0)
    ordered = ordered / ordered.sum(-1, keepdim=True)
    before = ordered.cumsum(-1) - ordered
    keep = ((before < decoding.top_p) & (ordered >= decoding.min_p * ordered[:, :1])) | (rank == 0)
    ordered = torch.where(keep, ordered, 0.0)
    cumulative = ordered.cumsum(-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, threshold, right=True).clamp_max(logits.shape[-1] - 1)
    # rounding can lead behind the last kept token, which is then taken
    place = torch.minimum(place, (keep.sum(-1, keepdim=True) - 1).clamp_min(0))
    drawn = index.gather(-1, place)[:, 0]
    return torch.where(decoding.temperature[:, 0] == 0, best, drawn)
