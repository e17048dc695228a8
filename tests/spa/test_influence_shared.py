"""Influence of networks that run a layer several times in a pass, against autograd: its gradient is the sum over the runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, use_factors
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Example

CARD = AttributionCard(curvature="identity")
LORA = LoraCard(rank=3, alpha=6.0, targets=("q_proj", "v_proj", "down_proj"))
EXAMPLES = [
    Example("def f(nums):\n", "    return sum(nums)\n"),
    Example("def word(text):\n    # " + "long " * 12 + "\n", "    return text.upper()\n"),
    Example("def g(x):\n", "    while x:\n        x -= 1\n    return x\n"),
    Example("", "import os\n"),
]
QUERIES = [Example("def h(nums):\n", "    return sum(nums[1:])\n"), Example("def word(s):\n", "    return s.upper()\n")]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> HFModel:
    """The tiny model with one block in two places."""
    made = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")
    layers: Any = made.network.get_submodule("model.layers")
    layers[1] = layers[0]
    return made


@pytest.fixture(scope="module")
def adapter(model: HFModel) -> Adapter:
    """An adapter whose B is not zero."""
    generator = torch.Generator().manual_seed(3)

    def draw(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * 0.05

    layers = model.lora_layers(LORA.targets)
    factors = {p: (draw(3, one.base.in_features), draw(one.base.out_features, 3)) for p, one in layers.items()}
    return Adapter(factors, LORA.rank, LORA.alpha)


def scores(
    model: HFModel, card: AttributionCard = CARD, *, adapter: Adapter | None = None, lora: LoraCard = LORA
) -> np.ndarray:
    return scores_at(model, adapter, EXAMPLES, queries=QUERIES, card=card, lora=lora, seed=17, progress=ignore)


def rows_of(model: HFModel, wanted: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """For each pair: the gradient of its loss, read alone, with respect to what is `wanted`."""
    rows = []
    for pair in [*EXAMPLES, *QUERIES]:
        head, tail = model.encode_pair(pair.prompt, pair.completion)
        ids, labels = torch.tensor([head + tail]), torch.tensor([[-100] * len(head) + tail])
        loss = model.network(input_ids=ids, labels=labels, use_cache=False).loss  # a block in two places has one cache
        rows.append(dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True)))
    return rows


def products(rows: list[np.ndarray]) -> np.ndarray:
    return np.stack(rows[: len(EXAMPLES)]) @ np.stack(rows[len(EXAMPLES) :]).T


def weight_gradients(model: HFModel) -> list[dict[str, Tensor]]:
    """The gradient (out, in) of each targeted layer's own weight, without an adapter."""
    weights = {p: one.base.weight.requires_grad_(True) for p, one in model.lora_layers(LORA.targets).items()}
    try:
        return rows_of(model, weights)
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * abs(expected).max())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_of_a_layer_is_the_sum_over_its_runs(checkpointing: bool, model: HFModel, adapter: Adapter):
    layers = model.lora_layers(LORA.targets)
    assert len(layers) < 3 * len(model.network.get_submodule("model.layers"))  # fewer than places
    down = {p: low[None].clone().requires_grad_(True) for p, (low, _) in adapter.factors.items()}
    up = {p: (high.T[None] * adapter.scale).clone().requires_grad_(True) for p, (_, high) in adapter.factors.items()}
    with use_factors(layers, down, up):
        found = rows_of(model, {**{f"A {p}": t for p, t in down.items()}, **{f"B {p}": t for p, t in up.items()}})
    scale = {"A": 1.0, "B": adapter.scale}  # B itself is not scaled
    flat = [torch.cat([g.reshape(-1) * scale[name[0]] for name, g in row.items()]).double().numpy() for row in found]
    lora = replace(LORA, gradient_checkpointing=checkpointing)
    close(scores(model, adapter=adapter, lora=lora), products(flat))


def test_principal_components_are_those_of_all_runs(model: HFModel):
    rows = weight_gradients(model)
    flat = [torch.cat([g.reshape(-1) for g in row.values()]).double().numpy() for row in rows]
    close(scores(model, replace(CARD, features="core", core="pca", dimensions=10_000)), products(flat))


@pytest.mark.parametrize("curvature", ["fisher", "datainf", "ekfac"])
def test_every_curvature_sees_all_runs(curvature: str, model: HFModel, adapter: Adapter):
    card = replace(CARD, curvature=curvature, damping=1e9, damping_kind="absolute")
    close(scores(model, card, adapter=adapter) * 1e9, scores(model, adapter=adapter))
    assert np.isfinite(scores(model, replace(CARD, curvature=curvature), adapter=adapter)).all()


def test_a_run_on_which_the_loss_does_not_depend_adds_nothing(tiny_folder: Path, tiny_model: HFModel):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")
    block: Any = model.network.get_submodule("model.layers.0.self_attn")
    forward = block.forward

    def twice(hidden_states: Tensor, *given: Any, **more: Any) -> Any:
        block.q_proj(hidden_states * 2)
        return forward(hidden_states, *given, **more)

    block.forward = twice
    close(scores(model), scores(tiny_model))
