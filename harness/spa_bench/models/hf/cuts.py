"""Cuts of a distribution beside top-k, top-p and min-p: typical, epsilon, eta, top-nσ and mirostat.

Each takes tokens away by giving them the logit -inf. Their order is that of transformers, whose warpers they are where it has
them: top-nσ on the logits as they come, then temperature, top-k, top-p, min-p, typical, epsilon, eta; mirostat is last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spa_bench.types import Decoding


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """The decodings of those rows of a batch that have such a cut and are not greedy, as columns; each (rows, 1)."""

    places: tuple[int, ...]  # in the batch
    rows: Tensor  # (rows,): the same, on the device
    used: frozenset[str]  # the knobs of Decoding that one of these rows uses
    temperature: Tensor
    top_k: Tensor  # vocabulary size where it is off
    top_p: Tensor
    min_p: Tensor
    typical_p: Tensor
    epsilon_cutoff: Tensor
    eta_cutoff: Tensor
    top_n_sigma: Tensor
    mirostat_tau: Tensor
    mirostat_eta: Tensor

    @staticmethod
    def of(decodings: Sequence[Decoding], vocabulary: int, device: torch.device) -> Cuts | None:
        """The columns of those among `decodings`, one a row of the batch, that have such a cut; None where none has."""
        mine = {row: d for row, d in enumerate(decodings) if d.rare and d.temperature > 0}
        if not mine:
            return None

        def column(name: str) -> Tensor:
            return torch.tensor([getattr(d, name) for d in mine.values()], dtype=torch.float32, device=device)[:, None]

        off = Decoding()
        used = [name for name in _KNOBS if any(getattr(d, name) != getattr(off, name) for d in mine.values())]
        columns = {name: column(name) for name in _KNOBS}
        columns["top_k"] = torch.where(columns["top_k"] == 0, float(vocabulary), columns["top_k"])
        return Cuts(
            places=tuple(mine),
            rows=torch.tensor(list(mine), device=device),
            used=frozenset(used),
            temperature=column("temperature").clamp_min(1e-6),
            **columns,
        )

    @property
    def first_bound(self) -> Tensor:
        """The largest surprise (rows, 1), in bits, that mirostat allows the first token: 2τ."""
        return 2 * self.mirostat_tau


_KNOBS = (
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_n_sigma",
    "mirostat_tau",
    "mirostat_eta",
)


def cut(logits: Tensor, cuts: Cuts) -> Tensor:
    """`logits` (rows, V) over the temperature, -inf for tokens that every cut but mirostat's takes away."""
    scores = logits.float()
    if "top_n_sigma" in cuts.used:
        scores = _only(scores, within_n_sigma(scores, cuts.top_n_sigma) | (cuts.top_n_sigma == 0))
    scores = scores / cuts.temperature
    if not cuts.used.isdisjoint(("top_k", "top_p", "min_p")):
        scores = _only(scores, _likely(scores, cuts))
    if "typical_p" in cuts.used:
        scores = _only(scores, typical(scores, cuts.typical_p) | (cuts.typical_p >= 1))
    if "epsilon_cutoff" in cuts.used:
        scores = _only(scores, torch.softmax(scores, -1) >= cuts.epsilon_cutoff, best=True)
    if "eta_cutoff" in cuts.used:
        scores = _only(scores, torch.softmax(scores, -1) >= eta_threshold(scores, cuts.eta_cutoff), best=True)
    return scores


def _only(scores: Tensor, keep: Tensor, *, best: bool = False) -> Tensor:
    """`scores` (rows, V) of the tokens in `keep` alone; with `best` the most likely ones are kept in any case."""
    if best:
        keep = keep | (scores >= scores.amax(-1, keepdim=True))
    return scores.masked_fill(~keep, -math.inf)


def _likely(scores: Tensor, cuts: Cuts) -> Tensor:
    """Which tokens (rows, V) top-k, top-p and min-p keep, in that order; of equal ones the first token first."""
    values, tokens = torch.softmax(scores, -1).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(values.shape[-1], device=values.device)[None]
    inside = rank < cuts.top_k
    values = torch.where(inside, values, 0.0)
    values = values / values.sum(-1, keepdim=True)
    before = values.cumsum(-1) - values
    keep = inside & ((before < cuts.top_p) | (cuts.top_p >= 1)) & (values >= cuts.min_p * values[:, :1])
    return torch.zeros_like(keep).scatter(-1, tokens, keep | (rank == 0))


def within_n_sigma(logits: Tensor, n: Tensor) -> Tensor:
    """Which tokens (rows, V) have a logit within n (rows, 1) standard deviations of the largest (top-nσ, arXiv 2411.07641).

    The standard deviation is that of a sample, over V - 1, as in the authors' code; tokens with the logit -inf do not count.
    """
    there = logits > -math.inf
    count = there.sum(-1, keepdim=True)
    mean = torch.where(there, logits, 0.0).sum(-1, keepdim=True) / count
    squares = torch.where(there, (logits - mean) ** 2, 0.0).sum(-1, keepdim=True)
    sigma = (squares / (count - 1).clamp_min(1)).sqrt()
    return logits >= logits.amax(-1, keepdim=True) - n * sigma


def typical(scores: Tensor, mass: Tensor) -> Tensor:
    """Which tokens (rows, V) locally typical sampling keeps (Meister et al. 2023, arXiv 2202.00666).

    Those whose surprise is nearest to the entropy of the distribution: as few as hold `mass` (rows, 1), and ties with the last.
    """
    logp = torch.log_softmax(scores, -1)
    p = logp.exp()
    entropy = -(logp * p).nansum(-1, keepdim=True)
    ordered, tokens = (-logp - entropy).abs().sort(dim=-1)
    last = (p.gather(-1, tokens).cumsum(-1) < mass).sum(-1, keepdim=True).clamp_max(scores.shape[-1] - 1)
    return (-logp - entropy).abs() <= ordered.gather(-1, last)


def eta_threshold(scores: Tensor, epsilon: Tensor) -> Tensor:
    """The least probability (rows, 1) of eta sampling: min(ε, sqrt(ε) exp(-entropy)) (Hewitt et al. 2022, arXiv 2210.15191)."""
    logp = torch.log_softmax(scores, -1)
    entropy = -(logp * logp.exp()).nansum(-1, keepdim=True)
    return torch.minimum(epsilon, epsilon.sqrt() * torch.exp(-entropy))


def surprise(scores: Tensor) -> Tensor:
    """The surprise (rows, V) of each token in bits: -log2 of its probability."""
    return -torch.log_softmax(scores, -1) / math.log(2)


def unsurprising(bits: Tensor, bound: Tensor) -> Tensor:
    """Which tokens (rows, V) mirostat keeps: those whose surprise is not above `bound` (rows, 1), and the most likely one."""
    return (bits <= bound).scatter(-1, bits.argmin(-1, keepdim=True), value=True)


def next_bound(bound: Tensor, bits: Tensor, cuts: Cuts) -> Tensor:
    """Mirostat's bound μ (rows, 1) after tokens with the surprise `bits` (rows, 1): μ - η (bits - τ).

    Mirostat 2.0 (Basu et al. 2021, arXiv 2007.14966) steers the surprise that the model itself has at the tokens drawn: it is
    measured before mirostat cuts, as in the authors' code. llama.cpp measures it after the cut.
    """
    return bound - cuts.mirostat_eta * (bits - cuts.mirostat_tau)
