"""What the CPU's tests show, on a CUDA device. Run with `pytest -m gpu`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.spa import footprint
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution import gradients
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Decoding, Example, Member, Request

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(24)]
LORA = LoraCard(rank=4, steps=3, batch=4, targets=("q_proj", "down_proj"))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest, tiny_folder: Path) -> HFModel:
    torch.backends.cuda.matmul.allow_tf32 = False
    return HFModel(str(tiny_folder), HFOptions(device="cuda", dtype=request.param), name="tiny")


def noise(model: HFModel) -> float:
    """How far logits may lie apart."""
    return 1e-3 if next(model.network.parameters()).dtype is torch.float32 else 0.3


def adapter(model: HFModel, folder: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    factors = {
        path: (
            initial_down(layer.base.in_features, 4, generator),
            torch.randn(layer.base.out_features, 4, generator=generator) * 0.05,
        )
        for path, layer in model.lora_layers("all-linear").items()
    }
    write_adapter(Adapter(factors, 4, 8.0), folder, base_model="tiny")
    return folder


def greedy(model: HFModel, member: Member) -> dict[str, str]:
    asked = [
        Request(
            problem_id=f"p{i}",
            member=0,
            draw=0,
            kind="generate",
            prompt=pair.prompt,
            decoding=Decoding(max_new_tokens=24),
            seed=i,
        )
        for i, pair in enumerate(PAIRS[:8])
    ]
    return {c.key.problem: c.text for c in model.generate(asked, [member])}


def test_drawn_texts_are_those_of_plain_transformers_but_for_noise(model: HFModel, tiny_folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = next(model.network.parameters()).dtype
    plain = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=dtype).to("cuda").eval()
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder))
    ours = greedy(model, Member("base", None, Decoding()))
    for i, pair in enumerate(PAIRS[:8]):
        ids = torch.tensor([model.encode_pair(pair.prompt, "")[0]], device="cuda")
        drawn = tokenizer(ours[f"p{i}"], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = (
                plain(input_ids=torch.cat([ids, torch.tensor([drawn], device="cuda", dtype=torch.long)], 1)).logits[0].float()
            )
        for place, token in enumerate(drawn, ids.shape[1] - 1):
            assert logits[place, token] > logits[place].max() - noise(model)  # the likeliest, or as good as that


def test_stacked_adapters_give_the_distributions_of_peft(model: HFModel, tiny_folder: Path, tmp_path: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    paths = [adapter(model, tmp_path / str(k), k) for k in range(3)]
    members = [Member(str(k), path, Decoding()) for k, path in enumerate(paths)]
    pairs = [(p.prompt, p.completion) for p in PAIRS[:4]]
    found = list(model.next_token_logprobs(pairs, members))
    dtype = next(model.network.parameters()).dtype
    for k, path in enumerate(paths):
        base = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=dtype).to("cuda")
        wrapped = PeftModel.from_pretrained(base, str(path)).eval()
        for pair, ours in zip(pairs, found, strict=True):
            head, tail = model.encode_pair(*pair)
            with torch.no_grad():
                logits = wrapped(input_ids=torch.tensor([head + tail], device="cuda")).logits[0, len(head) - 1 : -1]
            theirs = torch.log_softmax(logits.float(), -1).cpu().numpy()
            assert ours is not None
            assert np.abs(np.exp(ours[k]) - np.exp(theirs)).max() < noise(model)


@pytest.fixture
def scarce() -> Iterator[Any]:
    """A function that leaves so many free bytes on the device."""
    held = []

    def leave(count: int) -> None:
        torch.cuda.empty_cache()
        held.append(torch.empty(max(0, torch.cuda.mem_get_info()[0] - count), dtype=torch.uint8, device="cuda"))

    yield leave
    held.clear()
    torch.cuda.empty_cache()


def test_passes_are_halved_when_memory_really_ends(model: HFModel, scarce: Any, monkeypatch: pytest.MonkeyPatch):
    pairs = [replace(p, completion=p.completion * 6) for p in PAIRS] * 16
    card = AttributionCard(curvature="fisher")
    monkeypatch.setattr(gradients, "TOKENS", {"cuda": 1 << 20})
    monkeypatch.setattr(footprint, "_ROOM", 1e9)  # activations are kept
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    whole = scores_at(model, None, pairs, queries=PAIRS[:3], card=card, lora=LORA, seed=1, progress=ignore)
    needed = torch.cuda.max_memory_allocated() - before
    sizes, plain = [], gradients.Point.catch

    def catch(point: Any, batch: Any, sink: Any, **more: Any) -> None:
        plain(point, batch, sink, **more)
        sizes.append(len(batch.indices))

    monkeypatch.setattr(gradients.Point, "catch", catch)
    scarce(needed // 2)
    halved = scores_at(model, None, pairs, queries=PAIRS[:3], card=card, lora=LORA, seed=1, progress=ignore)
    assert max(sizes) < 256
    assert np.corrcoef(halved.ravel(), whole.ravel())[0, 1] > 0.999


def test_divergences_on_the_device_are_those_of_numpy(model: HFModel, tmp_path: Path):
    members = [Member(str(k), adapter(model, tmp_path / str(k), k), Decoding()) for k in range(2)]
    pairs = [(p.prompt, p.completion) for p in PAIRS[:4]]
    sums = model.divergence(pairs, members, base=False, top=10)
    for logprobs, one in zip(model.next_token_logprobs(pairs, members), sums, strict=True):
        assert logprobs is not None
        assert one is not None
        p, q = np.float64(logprobs)
        here = (np.exp(p) * (p - q)).sum()
        assert (one.cross[0, 0] - one.cross[0, 1]) / one.tokens == pytest.approx(here / len(p), abs=noise(model))
        assert here / len(p) > 1e-4


def test_activations_computed_twice_take_less_memory_and_give_the_same(model: HFModel):
    peaks, found = [], []
    for again in (False, True):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        card = replace(LORA, batch=16, gradient_checkpointing=again)
        [one] = train_adapters(model, [PAIRS], card, [3], progress=ignore)
        peaks.append(torch.cuda.max_memory_allocated() - before)
        found.append(one)
    assert peaks[1] < peaks[0]
    for path, (_, high) in found[0].factors.items():
        assert (high - found[1].factors[path][1]).norm() / high.norm() < 0.05
