"""Attribution and training on a CUDA device against the same on the CPU. Run with `pytest -m gpu`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Example

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(24)]
LORA = LoraCard(rank=4, steps=4, batch=4, targets=("q_proj", "down_proj"))


@pytest.fixture(scope="module")
def both(tiny_folder: Path) -> tuple[HFModel, HFModel]:
    torch.backends.cuda.matmul.allow_tf32 = False
    cpu, gpu = (HFModel(str(tiny_folder), HFOptions(device=d, dtype="float32")) for d in ("cpu", "cuda"))
    return cpu, gpu


@pytest.mark.parametrize("curvature", ["identity", "cosine", "fisher", "datainf", "ekfac", "lissa"])
def test_scores_are_those_of_the_cpu(curvature: str, both: tuple[HFModel, HFModel]):
    # drawn labels are the same as long as rounding moves no probability across a draw, which damping forgives
    card = AttributionCard(curvature=curvature, depth=4)
    cpu, gpu = (scores_at(m, None, PAIRS, queries=PAIRS[:3], card=card, lora=LORA, seed=1, progress=ignore) for m in both)
    assert np.corrcoef(cpu.ravel(), gpu.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("features", ["projection", "core"])
def test_smaller_features_are_those_of_the_cpu(features: str, both: tuple[HFModel, HFModel]):
    card = AttributionCard(curvature="fisher", features=features, dimensions=8)
    cpu, gpu = (scores_at(m, None, PAIRS, queries=PAIRS[:3], card=card, lora=LORA, seed=1, progress=ignore) for m in both)
    np.testing.assert_allclose(gpu, cpu, rtol=1e-2, atol=1e-2 * abs(cpu).max())


@pytest.mark.parametrize(
    "changes", [{}, {"together": 1}, {"packing": True}, {"gradient_checkpointing": True}, {"dropout": 0.2}]
)
def test_adapters_are_those_of_the_cpu(changes: dict[str, Any], both: tuple[HFModel, HFModel]):
    parts, card = [PAIRS[:8], PAIRS[8:]], replace(LORA, **changes)
    cpu, gpu = (train_adapters(m, parts, card, [3, 4], progress=ignore) for m in both)
    for one, other in zip(cpu, gpu, strict=True):
        for path, (_, high) in one.factors.items():
            difference = (high - other.factors[path][1]).norm() / high.norm()
            assert difference < 0.05, path  # the first steps of Adam turn last digits into signs


def test_bfloat16_trains_to_finite_adapters(both: tuple[HFModel, HFModel]):
    [adapter] = train_adapters(both[1], [PAIRS], replace(LORA, precision="bfloat16"), [3], progress=ignore)
    assert all(high.isfinite().all() and high.any() for _, high in adapter.factors.values())
