"""Layers over two GPUs against one, and quantised bases on a GPU. Run with `pytest -m gpu`; it has not run yet."""

from pathlib import Path

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.placed import devices_of
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Decoding, Example, Member, Request

pytestmark = pytest.mark.gpu
two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason=f"needs 2 GPUs, torch sees {torch.cuda.device_count()}")
one = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(12)]
LORA = LoraCard(rank=4, steps=4, batch=4, targets=("q_proj", "down_proj"))
BASE = [Member("base", None, Decoding())]


@pytest.fixture(scope="module")
def both(tiny_folder: Path) -> tuple[HFModel, HFModel]:
    torch.backends.cuda.matmul.allow_tf32 = False
    alone = HFModel(str(tiny_folder), HFOptions(device="cuda:0", dtype="float32"))
    spread = HFModel(str(tiny_folder), HFOptions(device="cuda", dtype="float32", placement="layers"))
    return alone, spread


@two
def test_the_layers_lie_on_two_gpus(both: tuple[HFModel, HFModel]):
    assert len(devices_of(both[1].network)) == 2
    assert both[1].training_numerics()["placement"] == "layers over 2 devices"


@two
def test_texts_and_distributions_are_those_of_one_gpu(both: tuple[HFModel, HFModel]):
    asked = [
        Request(
            problem_id=str(i), member=0, draw=0, kind="generate", prompt=p.prompt, decoding=Decoding(max_new_tokens=16), seed=i
        )
        for i, p in enumerate(PAIRS)
    ]
    alone, spread = ({c.key: c.text for c in m.generate(asked, BASE)} for m in both)
    assert sum(alone[k] == spread[k] for k in alone) >= len(alone) - 1  # a near-tie may fall the other way
    pairs = [(p.prompt, p.completion) for p in PAIRS[:3]]
    for here, there in zip(*(m.next_token_logprobs(pairs, BASE) for m in both), strict=True):
        assert here is not None
        assert there is not None
        np.testing.assert_allclose(np.exp(here), np.exp(there), atol=1e-3)


@two
@pytest.mark.parametrize("again", [False, True])
def test_adapters_are_those_of_one_gpu(again: bool, both: tuple[HFModel, HFModel]):
    card = LoraCard(rank=4, steps=4, batch=4, targets=("q_proj", "down_proj"), gradient_checkpointing=again)
    alone, spread = (train_adapters(m, [PAIRS[:6], PAIRS[6:]], card, [3, 4], progress=ignore) for m in both)
    for here, there in zip(alone, spread, strict=True):
        for path, (_, high) in here.factors.items():
            assert (high - there.factors[path][1]).norm() / high.norm() < 0.05, path


@two
@pytest.mark.parametrize("curvature", ["fisher", "ekfac", "lissa"])
def test_scores_are_those_of_one_gpu(curvature: str, both: tuple[HFModel, HFModel]):
    card = AttributionCard(curvature=curvature, depth=4)
    alone, spread = (scores_at(m, None, PAIRS, queries=PAIRS[:3], card=card, lora=LORA, seed=1, progress=ignore) for m in both)
    assert np.corrcoef(alone.ravel(), spread.ravel())[0, 1] > 0.999


@one
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantised_base_trains_on_a_gpu(bits: str, tiny_folder: Path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'spa-bench[quantize]'")
    model = HFModel(str(tiny_folder), HFOptions(device="cuda", quantize=bits))
    [adapter] = train_adapters(model, [PAIRS], LORA, [3], progress=ignore)
    assert all(high.isfinite().all() and high.any() for _, high in adapter.factors.values())
