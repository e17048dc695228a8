"""The exact Gauss-Newton matrix of a small adapter, and influence with its damped inverse.

G = 1/N sum over pairs of 1/T sum over their T completion tokens of J' (diag p - p p') J, where J is the Jacobian of a
token's logits and p its next-token distribution. The logits are W h, so with H = W' (diag p - p p') W, 192 x 192, and
its eigenvectors v and eigenvalues e, a token adds e (J_h' v)(J_h' v)': one backward pass a kept direction. Directions
are dropped from the smallest on until they hold `DROPPED` of the trace of all H.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, cho_factor, cho_solve
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attribution_parts.plain import blocks_of, factors_at, flat, gradients, size_of
from spa_bench.models.hf.stacked_lora import Adapter
from spa_bench.spa.batches import Encoded, encode, pad
from spa_bench.types import Example

DROPPED = 1e-4
_GROUP = 4  # pairs between two saves
Report = Callable[[str], None]


def gauss_newton(
    model: Any, adapter: Adapter, pairs: Sequence[Example], kept: Path, report: Report
) -> tuple[NDArray[np.float32], int]:
    """(G (P, P), backward passes). What is done is kept in the folder `kept`, and a stopped run goes on there."""
    file, count = kept / "gauss-newton.npy", kept / "gauss-newton.txt"
    size = size_of(adapter)
    total = np.zeros((size, size), np.float32, order="F")  # its lower triangle
    done = rows = 0
    if count.exists():
        done, rows = (int(x) for x in count.read_text().split())
        total = np.asfortranarray(np.load(file))
    layers = model.lora_layers(_targets(adapter))
    encoded = encode(model, pairs, "pair")
    least = _threshold(model, layers, adapter, encoded) if done < len(pairs) else 0.0
    while done < len(pairs):
        for one in encoded[done : done + _GROUP]:
            found = list(_tokens(model, layers, adapter, one, least))
            scaled = (torch.cat(found) / len(pairs) ** 0.5).numpy() if found else np.zeros((0, size), np.float32)
            total = blas.ssyrk(1.0, scaled.T, beta=1.0, c=total, lower=1, overwrite_c=1)
            rows += len(scaled)
        done = min(done + _GROUP, len(pairs))
        np.save(kept / "new.npy", total)
        count.unlink(missing_ok=True)  # the pair of files is valid only with its count
        os.replace(kept / "new.npy", file)
        count.write_text(f"{done} {rows}\n")
        report(f"exact: {done} of {len(pairs)} pairs, {rows} backward passes")
    lower = np.tril(total)
    return lower + np.tril(lower, -1).T, rows


def _targets(adapter: Adapter) -> tuple[str, ...]:
    return tuple(sorted({p.rsplit(".", 1)[-1] for p in adapter.factors}))


def _curvatures(model: Any, layers: Any, adapter: Adapter, one: Encoded) -> Tensor:
    """(T, d, d): W' (diag p - p p') W / T for each completion token of a pair, in float64."""
    ids, labels = pad([one])
    with torch.no_grad(), factors_at(layers, adapter):
        logits = model.network(input_ids=ids, use_cache=False).logits[0, :-1].double()
    p = torch.softmax(logits[labels[0, 1:] != -100], -1)
    w = model.network.get_output_embeddings().weight.double()
    mean = p @ w
    return (torch.einsum("tv,vi,vj->tij", p, w, w) - mean[:, :, None] * mean[:, None, :]) / len(p)


def _threshold(model: Any, layers: Any, adapter: Adapter, encoded: Sequence[Encoded]) -> float:
    """The largest eigenvalue whose direction is dropped; 0 where none is."""
    values = torch.cat([torch.linalg.eigvalsh(_curvatures(model, layers, adapter, e)).flatten() for e in encoded])
    values = values.clamp_min(0).sort().values
    share = values.cumsum(0) / values.sum()
    dropped = int((share <= DROPPED).sum())
    return float(values[dropped - 1]) * (1 + 1e-6) if dropped else 0.0


def _tokens(model: Any, layers: Any, adapter: Adapter, one: Encoded, least: float) -> Any:
    """For each completion token (kept directions, P): sqrt(e) J_h' v. The network sees only what the token sees."""
    curvatures = _curvatures(model, layers, adapter, one)
    first = len(one.ids) - 1 - len(curvatures)
    for place, curvature in enumerate(curvatures):
        values, vectors = torch.linalg.eigh(curvature)
        directions = (vectors * values.clamp_min(0).sqrt()).T[values > least].float()
        if not len(directions):
            continue
        ids = torch.tensor([one.ids[: first + place + 1]])
        with factors_at(layers, adapter) as leaves:
            hidden = model.network.model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
            found = torch.autograd.grad(hidden, leaves, grad_outputs=directions, is_grads_batched=True)
        yield flat(found)


def product(model: Any, adapter: Adapter, pairs: Sequence[Example], vector: Tensor) -> Tensor:
    """G times `vector` without G, by two passes with the graph kept (J v as the derivative of J' u in u) and one back."""
    layers = model.lora_layers(_targets(adapter))
    total = torch.zeros_like(vector)
    for one in encode(model, pairs, "pair"):
        ids, labels = pad([one])
        with sdpa_kernel(SDPBackend.MATH), factors_at(layers, adapter) as leaves:
            logits = model.network(input_ids=ids, use_cache=False).logits[0, :-1][labels[0, 1:] != -100]
            u = torch.zeros_like(logits, requires_grad=True)
            back = flat(torch.autograd.grad(logits, leaves, u, create_graph=True))
            (along,) = torch.autograd.grad(back @ vector, u, retain_graph=True)
            p = torch.softmax(logits.detach(), -1)
            curved = (p * along - p * (p * along).sum(-1, keepdim=True)) / len(p)
            total += flat(torch.autograd.grad(logits, leaves, curved)) / len(pairs)
    return total


def product_error(model: Any, adapter: Adapter, pairs: Sequence[Example], matrix: NDArray[np.float32], seed: int) -> float:
    """|G v - product(v)| / |product(v)| for one random vector."""
    vector = torch.randn(matrix.shape[0], generator=torch.Generator().manual_seed(seed))
    wanted = product(model, adapter, pairs, vector)
    return float((torch.from_numpy(matrix) @ vector - wanted).norm() / wanted.norm())


def exact_scores(
    model: Any,
    adapter: Adapter,
    pairs: Sequence[Example],
    queries: Sequence[Example],
    matrix: NDArray[np.float32],
    damping: float,
) -> dict[str, NDArray[np.float64]]:
    """(pairs, queries) under `full` and `block`: z' (G + damping x mean eigenvalue)^-1 q, of all of G or of each block."""
    z = gradients(model, adapter, pairs).double().numpy()
    q = gradients(model, adapter, queries).double().numpy()
    block = np.zeros((len(pairs), len(queries)))
    for part in blocks_of(adapter):
        here = part.place
        block += z[:, here] @ _damped_solve(matrix[here, here], q[:, here].T, damping)
    return {"full": z @ _damped_solve(matrix, q.T, damping), "block": block, "identity": z @ q.T}


def _damped_solve(matrix: NDArray[np.float32], right: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    damped = matrix.astype(np.float64)
    damped[np.diag_indices_from(damped)] += damping * np.trace(damped) / len(damped)
    found: NDArray[np.float64] = cho_solve(cho_factor(damped, lower=True, overwrite_a=True), right)
    return found
