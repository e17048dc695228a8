"""Tokens are drawn from one uniform number for each row and step, so that a draw depends on its own seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spa_bench.models.hf.cuts import Cuts, cut, next_bound, surprise, unsurprising
from spa_bench.types import Decoding

_LIKELIEST = 512  # tokens that are sorted first: the draw is nearly always among them


@dataclass(frozen=True, kw_only=True)
class RowDecoding:
    """The decodings of a batch as columns; each (rows, 1)."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor  # vocabulary size where it is off
    min_p: Tensor
    unlimited: Tensor  # whether top_k is off
    greedy: bool  # every row is greedy
    cuts: Cuts | None = None  # of rows with other cuts, whose columns above are all off; None: there are none

    @staticmethod
    def of(decodings: Sequence[Decoding], vocabulary: int, device: torch.device) -> RowDecoding:
        """Columns for `decodings`, one a row."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        cuts = Cuts.of(decodings, vocabulary, device)
        if cuts is not None:  # these rows get logits that are cut and over the temperature already
            off = Decoding(temperature=1.0)
            decodings = [off if d.rare and d.temperature > 0 else d for d in decodings]
        return RowDecoding(
            temperature=column([d.temperature for d in decodings]),
            top_p=column([d.top_p for d in decodings]),
            top_k=column([float(d.top_k or vocabulary) for d in decodings]),
            min_p=column([d.min_p for d in decodings]),
            unlimited=column([float(not d.top_k or d.top_k >= vocabulary) for d in decodings]).bool(),
            greedy=all(d.temperature == 0 for d in decodings),
            cuts=cuts,
        )

    def select(self, rows: Tensor) -> RowDecoding:
        """The columns of `rows`, without other cuts."""
        return RowDecoding(
            temperature=self.temperature[rows],
            top_p=self.top_p[rows],
            top_k=self.top_k[rows],
            min_p=self.min_p[rows],
            unlimited=self.unlimited[rows],
            greedy=self.greedy,
        )


def uniforms(seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """`count` uniform numbers in [0, 1) from `seed`, by numpy's Philox; the first ones do not depend on `count`."""
    return np.random.Generator(np.random.Philox(seed)).random(count, dtype=np.float32)


def choose(logits: Tensor, decoding: RowDecoding, uniform: Tensor) -> Tensor:
    """The first token of each row: see next_token."""
    return next_token(logits, decoding, uniform, None)[0]


def next_token(logits: Tensor, decoding: RowDecoding, uniform: Tensor, bound: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(next token of each row, mirostat's bounds for the token after it): logits (rows, V), uniform (rows,) -> (rows,).

    Temperature 0 is argmax. Otherwise: softmax of logits / temperature, then top-k, top-p and min-p in that order
    (as transformers applies them) and the cuts of rows that have others, then the inverse of the cumulative distribution, most
    likely token first. `bound` is what this gave for the token before, None for the first; (rows of `decoding.cuts`, 1).
    """
    best = logits.argmax(-1)
    if decoding.greedy:
        return best, None
    cuts, bits = decoding.cuts, None
    if cuts is not None:
        scores = cut(logits[cuts.rows], cuts)
        if "mirostat_tau" in cuts.used:
            bound, bits = cuts.first_bound if bound is None else bound, surprise(scores)
            scores = scores.masked_fill(~unsurprising(bits, bound) & (cuts.mirostat_tau > 0), -torch.inf)
        logits = logits.float().index_copy(0, cuts.rows, scores)
    token = torch.where(decoding.temperature[:, 0] == 0, best, _drawn(logits, decoding, uniform))
    if cuts is None or bound is None or bits is None:
        return token, None
    return token, next_bound(bound, bits.gather(-1, token[cuts.rows][:, None]), cuts)


def _drawn(logits: Tensor, decoding: RowDecoding, uniform: Tensor) -> Tensor:
    """The token (rows,) that is drawn in each row, in greedy ones too."""
    probabilities = torch.softmax(logits.float() / decoding.temperature.clamp_min(1e-6), -1)
    if logits.shape[-1] <= 2 * _LIKELIEST or logits.device.type != "cpu":  # where to ask a GPU would be to wait for it
        return _inverse(*_ordered(probabilities), decoding, uniform)[0]
    drawn, known = _inverse(*_likeliest(probabilities), decoding, uniform, whole=probabilities.sum(-1, keepdim=True))
    if len(rest := (~known).nonzero()[:, 0]):
        drawn[rest] = _inverse(*_ordered(probabilities[rest]), decoding.select(rest), uniform[rest])[0]
    return drawn


def _ordered(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The probabilities of each row and their tokens, most likely first; of equal ones the first token first."""
    values, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    return values, tokens


def _likeliest(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The beginning of what _ordered gives."""
    tokens = probabilities.topk(_LIKELIEST, dim=-1, sorted=False).indices.sort(-1).values
    values, order = _ordered(probabilities.gather(-1, tokens))
    return values, tokens.gather(-1, order)


def _inverse(
    ordered: Tensor, tokens: Tensor, decoding: RowDecoding, uniform: Tensor, whole: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(the token of each row, whether it is certain), from the most likely `ordered` and their `tokens`.

    `whole` (rows, 1) is the sum of all probabilities where `ordered` is only the beginning of them: then a row is certain whose
    token lies within it, with all that decides about it.
    """
    count, last = ordered.shape[-1], ordered[:, -1:]
    rank = torch.arange(count, device=ordered.device)[None]
    bounded = decoding.top_k <= count  # tokens behind these are not kept
    ordered = torch.where(rank < decoding.top_k, ordered, 0.0)
    total = ordered.sum(-1, keepdim=True)
    if whole is not None:
        total = torch.where(bounded, total, whole)
    ordered = ordered / total
    before = ordered.cumsum(-1) - ordered
    keep = ((before < decoding.top_p) & (ordered >= decoding.min_p * ordered[:, :1])) | (rank == 0)
    ordered = torch.where(keep, ordered, 0.0)
    cumulative = ordered.cumsum(-1)
    kept, known = cumulative[:, -1:], torch.ones_like(bounded)
    if whole is not None:
        closed = bounded | (~keep[:, -1:] & decoding.unlimited)  # all tokens that are kept are among these
        free = (decoding.top_p >= 1) & (decoding.min_p <= 0) & decoding.unlimited  # all tokens are kept
        known, kept = closed | free, torch.where(closed, kept, 1.0)
    place = torch.searchsorted(cumulative, uniform[:, None] * kept, right=True)
    if whole is not None:
        # of the tokens that are as likely as the last of these, some are not among them
        known &= ordered.gather(-1, place.clamp_max(count - 1)) > last / total
    # rounding can lead behind the last kept token, which is then taken
    place = torch.minimum(place.clamp_max(count - 1), (keep.sum(-1, keepdim=True) - 1).clamp_min(0))
    return tokens.gather(-1, place)[:, 0], known[:, 0]
