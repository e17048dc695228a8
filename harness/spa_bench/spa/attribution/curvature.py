"""Applies (H + λ)⁻¹ to the gradients of all queries, for the curvatures that a card can name.

Each function takes the queries' gradients, block by block (M, o, i), and returns them preconditioned. λ is `damping` times the
mean eigenvalue of the curvature, for datainf and ekfac of each block's, or `damping` itself where damping_kind is "absolute".

- fisher: the mean squared gradient of single parameters.
- datainf: (1/n) Σ_i (λ + g_i g_iᵀ)⁻¹ a block, in closed form by Sherman and Morrison (Kwon et al. 2024, arXiv 2310.00902).
- ekfac: Gauss–Newton matrix a block, in the eigenbasis of Kronecker factors, with the eigenvalues measured there (George et al.
  2018, arXiv 1806.03884; Grosse et al. 2023, arXiv 2308.03296). The factors are E[d dᵀ] ⊗ E[a aᵀ] of tokens, as there, or
  E[G Gᵀ] ⊗ E[Gᵀ G] of an example's whole gradient G (as in Shampoo, Gupta et al. 2018, arXiv 1802.09568): nearer to the matrix,
  as a sentence's tokens are not independent, where there are enough `draws` to estimate them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from spa_bench.cards.training import AttributionCard

Blocks = dict[str, Tensor]
Consume = Callable[[str, Tensor], None]  # (block, gradients (rows, o, i))
ConsumeHalves = Callable[[str, Tensor, Tensor], None]  # (block, inputs (tokens, i), gradients (tokens, o))


class Sample(Protocol):
    """Passes over the examples from which the curvature is estimated."""

    @property
    def size(self) -> int:
        """The number of examples."""
        ...

    def gradients(self, consume: Consume, *, drawn: bool) -> None:
        """Pass on every example's gradient, of its own labels or, card.draws times, of `drawn` ones (gradients.drawn_loss)."""
        ...

    def halves(self, consume: ConsumeHalves) -> None:
        """Pass on the inputs and gradients of every token for drawn labels, without padding."""
        ...


def identity(sample: Sample, queries: Mapping[str, Tensor], card: AttributionCard) -> Blocks:
    """The queries' gradients, unchanged."""
    return dict(queries)


def cosine(sample: Sample, queries: Mapping[str, Tensor], card: AttributionCard) -> Blocks:
    """Every query's gradient scaled to length 1, as the examples' gradients are (LESS, Xia et al. 2024, arXiv 2402.04333)."""
    norm = sum(q.square().sum((1, 2), keepdim=True) for q in queries.values())
    assert isinstance(norm, Tensor)
    return {block: q / norm.sqrt() for block, q in queries.items()}


def fisher(sample: Sample, queries: Mapping[str, Tensor], card: AttributionCard) -> Blocks:
    """The queries' gradients divided by the damped mean squared gradient."""
    total = {block: torch.zeros_like(q[0]) for block, q in queries.items()}

    def measure(block: str, g: Tensor) -> None:
        total[block] += g.square().sum(0)

    sample.gradients(measure, drawn=False)
    numbers = sum(values.numel() for values in total.values())
    damping = _damping(sum(float(values.sum()) for values in total.values()) / sample.size / numbers, card)
    return {block: q / (total[block] / sample.size + damping) for block, q in queries.items()}


def datainf(sample: Sample, queries: Mapping[str, Tensor], card: AttributionCard) -> Blocks:
    """(1/n) Σ_i [q − (g_i·q) / (λ + ‖g_i‖²) g_i] / λ for every query's gradient q, in two passes over the sample."""
    norms = dict.fromkeys(queries, 0.0)

    def measure(block: str, g: Tensor) -> None:
        norms[block] += float(g.square().sum())

    sample.gradients(measure, drawn=False)
    damping = {block: _damping(norms[block] / sample.size / q[0].numel(), card) for block, q in queries.items()}
    away = {block: torch.zeros_like(q) for block, q in queries.items()}

    def subtract(block: str, g: Tensor) -> None:
        flat, q = g.flatten(1), queries[block].flatten(1)
        share = (q @ flat.T) / (damping[block] + flat.square().sum(1))  # (M, rows)
        away[block] += (share @ flat).view_as(away[block])

    sample.gradients(subtract, drawn=False)
    return {block: (q - away[block] / sample.size) / damping[block] for block, q in queries.items()}


def ekfac(sample: Sample, queries: Mapping[str, Tensor], card: AttributionCard) -> Blocks:
    """The queries' gradients times the inverse of eigenvalue-corrected Kronecker factors, in two passes over the sample."""
    inputs = {b: torch.zeros(q.shape[2], q.shape[2], device=q.device) for b, q in queries.items()}
    outputs = {b: torch.zeros(q.shape[1], q.shape[1], device=q.device) for b, q in queries.items()}

    def of_tokens(block: str, a: Tensor, d: Tensor) -> None:
        inputs[block].addmm_(a.T, a)
        outputs[block].addmm_(d.T, d)

    def of_gradients(block: str, g: Tensor) -> None:
        inputs[block] += (g.mT @ g).sum(0)
        outputs[block] += (g @ g.mT).sum(0)

    if card.factors == "tokens":
        sample.halves(of_tokens)
    else:
        sample.gradients(of_gradients, drawn=True)
    right = {block: _basis(moment) for block, moment in inputs.items()}
    left = {block: _basis(moment) for block, moment in outputs.items()}
    values = {block: torch.zeros_like(q[0]) for block, q in queries.items()}

    def measure(block: str, g: Tensor) -> None:
        values[block] += (left[block].T @ g @ right[block]).square().sum(0)

    sample.gradients(measure, drawn=True)
    out = {}
    for block, q in queries.items():
        diagonal = values[block] / (sample.size * card.draws)
        turned = left[block].T @ q @ right[block] / (diagonal + _damping(float(diagonal.mean()), card))
        out[block] = left[block] @ turned @ right[block].T
    return out


def _basis(moment: Tensor) -> Tensor:
    """The eigenvectors of a symmetric matrix, as columns."""
    vectors: Tensor = torch.linalg.eigh(moment.double())[1]
    return vectors.float()


def _damping(mean: float, card: AttributionCard) -> float:
    """The value of λ; 1 where the curvature is zero and damping is relative, so that zero stays zero."""
    if card.damping_kind == "absolute":
        return card.damping
    return card.damping * mean or 1.0


CURVATURES: Mapping[str, Callable[[Sample, Mapping[str, Tensor], AttributionCard], Blocks]] = {
    "identity": identity,
    "cosine": cosine,
    "fisher": fisher,
    "datainf": datainf,
    "ekfac": ekfac,
}
