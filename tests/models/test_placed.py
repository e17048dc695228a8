"""Layers that lie elsewhere until they are called: accelerate's offload to disk, on the one device that a CPU is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.hf import loading, weights
from spa_bench.models.hf.checkpointing import blocks_of
from spa_bench.models.hf.loading import device_of, hash_state
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.placed import hook_of, is_offloaded, parameter_count
from spa_bench.models.hf.weights import WeightOptions
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Decoding, Example, Member, Request
from tiny import random_adapter

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(8)]
LORA = LoraCard(rank=4, steps=2, batch=4)


@pytest.fixture(scope="module")
def placed(tiny_folder: Path) -> HFModel:
    """The tiny model with its second layer and its output layer on disk."""
    options = HFOptions(device="cpu", threads=1, placement="layers", max_memory="cpu=0.8MB")
    return HFModel(str(tiny_folder), options, name="tiny")


@pytest.fixture(scope="module")
def members(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder))
    targets = ["q_proj", "v_proj", "down_proj"]
    random_adapter(network, folder, torch.Generator().manual_seed(0), rank=5, scale=0.3, targets=targets)
    return [Member("base", None, Decoding()), Member("one", folder, Decoding())]


def test_a_layer_lies_on_disk_and_the_numerics_say_so(placed: HFModel, tiny_model: HFModel):
    last = blocks_of(placed.network)[-1]
    assert all(p.is_meta for p in last.parameters())
    assert is_offloaded(placed.network)
    assert placed.training_numerics()["placement"] == "layers over 1 device and on disk"
    assert "placement" not in tiny_model.training_numerics()
    assert parameter_count(placed.network) == parameter_count(tiny_model.network)
    tokenizer = placed._tokenizer
    assert hash_state(placed.network, tokenizer) == hash_state(tiny_model.network, tokenizer)


def test_drawn_texts_and_distributions_are_those_of_weights_in_one_place(
    placed: HFModel, tiny_model: HFModel, members: list[Member]
):
    asked = [
        Request(
            problem_id=str(i),
            member=i % 2,
            draw=0,
            kind="generate",
            prompt=pair.prompt,
            decoding=Decoding(temperature=1.0, max_new_tokens=12),
            seed=i,
        )
        for i, pair in enumerate(PAIRS)
    ]
    here, there = ({c.key: c.text for c in m.generate(asked, members)} for m in (placed, tiny_model))
    assert here == there
    pairs = [(p.prompt, p.completion) for p in PAIRS[:3]]
    for one, other in zip(
        placed.next_token_logprobs(pairs, members), tiny_model.next_token_logprobs(pairs, members), strict=True
    ):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def hooks_of(model: HFModel) -> set[int]:
    return {id(hook_of(m)) for m in model.network.modules()}


@pytest.mark.parametrize("again", [False, True])
def test_adapters_are_those_of_weights_in_one_place_and_the_layer_goes_back_to_disk(
    again: bool, placed: HFModel, tiny_model: HFModel
):
    card = replace(LORA, gradient_checkpointing=again)
    hooks = hooks_of(placed)
    here, there = (train_adapters(m, [PAIRS[:4], PAIRS[4:]], card, [3, 4], progress=ignore) for m in (placed, tiny_model))
    for one, other in zip(here, there, strict=True):
        for path, (low, high) in one.factors.items():
            torch.testing.assert_close(low, other.factors[path][0], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(high, other.factors[path][1], rtol=1e-4, atol=1e-6)
    assert hooks_of(placed) == hooks
    assert all(p.is_meta for p in blocks_of(placed.network)[-1].parameters())


@pytest.mark.parametrize("curvature", ["ekfac", pytest.param("lissa", marks=pytest.mark.slow)])
def test_scores_are_those_of_weights_in_one_place(curvature: str, placed: HFModel, tiny_model: HFModel):
    card = AttributionCard(curvature=curvature, depth=2, repeats=1, lissa_batch=4)
    here, there = (
        scores_at(m, None, PAIRS, queries=PAIRS[:2], card=card, lora=LORA, seed=1, progress=ignore)
        for m in (placed, tiny_model)
    )
    np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-4 * abs(there).max())


def test_peft_is_not_asked_where_it_would_place_the_layers_anew(placed: HFModel, members: list[Member]):
    assert members[1].adapter is not None
    assert placed.peft_differs(members[1].adapter) == ""


# what cannot be had ---------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for count, known in ((1, "1 GPU here: only cuda:0"), (4, "4 GPUs here: cuda:0 to cuda:3")):
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        with pytest.raises(UsageError, match=rf"^device 'cuda:4' was asked for, but torch sees {known}$"):
            device_of("cuda:4")
        assert device_of("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("options", "device", "missing", "said"),
    [
        (
            {"placement": "layers"},
            "cpu",
            "accelerate",
            r"^engine\.placement=layers needs accelerate, .*: pip install accelerate$",
        ),
        ({"placement": "layers"}, "cuda:1", "", r"^engine\.placement=layers uses every GPU, and --device cuda:1 names one"),
        ({"quantize": "8bit"}, "cpu", "bitsandbytes", r"^engine\.quantize=8bit needs .*: pip install 'spa-bench\[quantize\]'$"),
    ],
)
def test_what_is_missing_is_one_line(
    options: dict[str, str], device: str, missing: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(weights, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(UsageError, match=said):
        WeightOptions(**options).check(device)


def test_rooms_are_read_in_bytes():
    options = WeightOptions(placement="layers", max_memory="0=20GiB, 1=1.5GB,cpu=2MiB,disk=3MB")
    assert options.rooms() == {0: 20 << 30, 1: 1_500_000_000, "cpu": 2 << 20, "disk": 3_000_000}


def test_a_model_that_does_not_fit_is_told_how_it_may(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(loading.nn.Module, "to", full)
        with pytest.raises(
            ModelError, match=r"^out of memory while model .* engine\.placement=layers, .* engine\.quantize=8bit"
        ):
            HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(ModelError, match=r"^out of memory while model .* less in engine\.max_memory, use fewer bits"):
        HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, placement="layers"))
