"""Estimates of time and memory against what happened, and what is refused by them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf import placed
from spa_bench.models.hf.memory import free_bytes
from spa_bench.models.hf.model import HFModel
from spa_bench.spa import footprint
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution.base import AttributionSetting
from spa_bench.spa.attribution.influence import InfluenceAttributor, scores_at
from spa_bench.spa.batches import encode
from spa_bench.spa.estimate import (
    Size,
    attribution_estimate,
    check_affordable,
    in_words,
    preparation_estimate,
    training_estimate,
)
from spa_bench.spa.losses import CHUNK_BYTES
from spa_bench.types import Example

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (2 + i % 5)) for i in range(96)]
LORA = LoraCard(rank=8, steps=3, batch=16)


@pytest.fixture(scope="module")
def embedded() -> HFModel:
    from spa_bench.mini.data import MODEL
    from spa_bench.models.hf.model import HFOptions

    return HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")


@pytest.mark.slow
def test_seconds_are_right_within_a_factor_of_two(embedded: HFModel):
    """CPU seconds, so that other work on the machine counts little."""
    cost = footprint.footprint(embedded, LORA)
    layers = embedded.lora_layers(LORA.targets)
    mean = sum(len(e.ids) for e in encode(embedded, PAIRS, "pair")) / len(PAIRS)
    parts = [PAIRS[k::4] for k in range(4)]
    card = AttributionCard(curvature_examples=32)
    began = time.process_time()
    train_adapters(embedded, parts, LORA, range(4), progress=ignore)
    trained = time.process_time() - began
    began = time.process_time()
    scores_at(embedded, None, PAIRS, queries=PAIRS[:8], card=card, lora=LORA, seed=1, progress=ignore)
    scored = time.process_time() - began
    found = training_estimate(cost, LORA, layers, [24] * 4, mean).seconds / trained
    assert 0.5 < found < 2
    found = (
        attribution_estimate(
            cost,
            card,
            LORA,
            layers,
            Size(96, 8, mean),
        ).seconds
        / scored
    )
    assert 0.5 < found < 2


_PEAK = """
import json
from pathlib import Path
from spa_bench.cards.training import LoraCard
from spa_bench.mini.data import MODEL
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.batches import encode
from spa_bench.spa.estimate import training_estimate
from spa_bench.spa.footprint import footprint
from spa_bench.spa.passes import TOKENS
from spa_bench.types import Example

TOKENS["cpu"] = 16_384  # so large a pass that it shows beside what loading took
def now(name):  # VmRSS: what is held; VmHWM: the most since it was reset
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) << 10

model = HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")
pairs = [Example(f"def f{i}(nums):\\n", f"    return sum(nums[{i}:])\\n" * 8) for i in range(64)]
lora = LoraCard(steps=1, batch=16)
mean = sum(len(e.ids) for e in encode(model, pairs, "pair")) / len(pairs)
cost = footprint(model, lora)
Path("/proc/self/clear_refs").write_text("5")
before = now("VmRSS")
train_adapters(model, [pairs[k::4] for k in range(4)], lora, range(4), progress=lambda *_: None)
found = training_estimate(cost, lora, model.lora_layers(lora.targets), [16] * 4, mean)
print(json.dumps({"taken": now("VmHWM") - before, "estimated": found.peak - cost.weights}))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset here")
@pytest.mark.slow
def test_memory_is_right_within_a_factor_of_two():
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert 0.5 < found["estimated"] / found["taken"] < 2, found


def test_what_a_token_keeps_does_not_depend_on_how_many_there_are(embedded: HFModel, monkeypatch: pytest.MonkeyPatch):
    kept = []
    for work in (2e8, 2e9):  # 16 tokens, 128 tokens
        monkeypatch.setattr(footprint, "_WORK", work)
        footprint._known.pop(embedded.network, None)
        kept.append(footprint.footprint(embedded, LORA))
    footprint._known.pop(embedded.network, None)
    assert kept[0].kept == pytest.approx(kept[1].kept, rel=0.15)
    assert kept[0].kept_again < kept[0].kept / 3


@pytest.mark.slow
def test_activations_are_computed_twice_where_they_would_not_fit(embedded: HFModel, monkeypatch: pytest.MonkeyPatch):
    seen: list[bool] = []
    plain = footprint.checkpointed

    def watched(*given: Any) -> Any:
        seen.append(True)
        return plain(*given)

    [whole] = train_adapters(embedded, [PAIRS[:16]], LORA, [0], progress=ignore)
    monkeypatch.setattr(footprint, "checkpointed", watched)
    train_adapters(embedded, [PAIRS[:16]], LORA, [0], progress=ignore)
    seen_before = len(seen)
    monkeypatch.setattr(placed, "free_bytes", lambda _: 1 << 20)
    [again] = train_adapters(embedded, [PAIRS[:16]], LORA, [0], progress=ignore)
    assert (seen_before, bool(len(seen))) == (0, True)
    for path, (_, high) in whole.factors.items():
        torch.testing.assert_close(again.factors[path][1], high, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"curvature": "lissa", "depth": 10_000, "repeats": 500},
         r"attribution.curvature = 'lissa' with 12 queries would take about [\d.]+ h, more than 24 h; use "
         r'attribution.curvature = "ekfac", attribution.features = "core" with attribution.core = "random", or allow it with '
         r"SPA_BENCH_MOST_HOURS=\d+"),
        ({"curvature": "ekfac", "draws": 1_000_000},
         r'more than 24 h; use attribution.features = "core" with attribution.core = "random", or allow it'),
    ],
)  # fmt: skip
def test_hours_are_refused_before_they_are_spent(keys: dict[str, Any], line: str, tiny_model: HFModel):
    card = AttributionCard(**keys)
    with pytest.raises(DataError, match=line):
        scores_at(tiny_model, None, PAIRS, queries=PAIRS[:12], card=card, lora=LORA, seed=1, progress=ignore)


def never(_: Sequence[int]) -> dict[int, Path]:
    raise AssertionError("a warm-up is trained")


def test_hours_are_refused_before_the_warm_up_is_trained(tiny_model: HFModel):
    card = AttributionCard(curvature="lissa", depth=10_000, repeats=500, checkpoints=(0, 24))
    setting = AttributionSetting(card=card, lora=LORA, model=tiny_model, seed=0, warm_up=never)
    with pytest.raises(DataError, match=r"'lissa' with 12 queries would take about .* more than 24 h"):
        InfluenceAttributor(setting).scores(PAIRS, PAIRS[:12], progress=ignore)


def test_hours_can_be_allowed(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    card = AttributionCard(curvature="lissa", depth=10_000, repeats=500)
    monkeypatch.setenv("SPA_BENCH_MOST_HOURS", "1e9")
    check_affordable(tiny_model, card, LORA, Size(96, 12, 40.0))


def test_the_hours_that_are_advised_are_enough(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    card, size = AttributionCard(curvature="lissa", depth=10), Size(96, 12, 40.0)
    monkeypatch.setenv("SPA_BENCH_MOST_HOURS", "0")
    with pytest.raises(DataError, match=r"or allow it with SPA_BENCH_MOST_HOURS=1$"):
        check_affordable(tiny_model, card, LORA, size)


def test_the_hours_are_those_of_all_checkpoints(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    card, size = AttributionCard(curvature="lissa", depth=10_000, checkpoints=(24,)), Size(96, 12, 40.0)
    cost, layers = footprint.footprint(tiny_model, LORA), tiny_model.lora_layers(LORA.targets)
    monkeypatch.setenv("SPA_BENCH_MOST_HOURS", str(2 * preparation_estimate(cost, card, LORA, layers, size).seconds / 3600))
    check_affordable(tiny_model, card, LORA, size)
    with pytest.raises(DataError, match="'lissa' with 12 queries would take about"):
        check_affordable(tiny_model, replace(card, checkpoints=(8, 16, 24)), LORA, size)


@pytest.mark.parametrize("hours", ["many", "nan", "inf", "-inf", "-1"])
def test_hours_are_a_number(hours: str, tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_MOST_HOURS", hours)
    card = AttributionCard(curvature="lissa", depth=10_000, repeats=500)
    with pytest.raises(DataError, match=f"SPA_BENCH_MOST_HOURS is '{hours}'; give a number of hours, such as 48"):
        check_affordable(tiny_model, card, LORA, Size(96, 12, 40.0))


def test_a_pass_has_fewer_tokens_where_memory_ends(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    measured, tried, most = footprint._measured, list[int](), 40

    def small(model: Any, lora: Any, tokens: int) -> footprint.Footprint:
        tried.append(tokens)
        if tokens > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return measured(model, lora, tokens)

    monkeypatch.setattr(footprint, "_measured", small)
    monkeypatch.setattr(footprint, "_known", {})
    assert footprint.footprint(tiny_model, LORA).kept > 0
    assert tried == [128, 64, 32]
    most = 0
    footprint._known.clear()
    with pytest.raises(ModelError, match=r"out of memory with a pass of 16 tokens; use a smaller dtype, lora.rank or model"):
        footprint.footprint(tiny_model, LORA)


def test_memory_that_ekfac_would_not_find_is_refused(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(placed, "free_bytes", lambda _: 1 << 20)
    with pytest.raises(DataError, match=r'needs about 0\.\d GB, and 0\.0 GB are free; use attribution.features = "core"'):
        check_affordable(tiny_model, AttributionCard(curvature="ekfac"), LORA, Size(96, 12, 40.0))
    check_affordable(tiny_model, AttributionCard(curvature="fisher"), LORA, Size(96, 12, 40.0))


def test_a_larger_job_has_a_larger_estimate(tiny_model: HFModel):
    cost, layers = footprint.footprint(tiny_model, LORA), tiny_model.lora_layers("all-linear")
    one, more = (training_estimate(cost, replace(LORA, steps=s), layers, [9, 9], 40.0) for s in (10, 20))
    assert more.seconds == pytest.approx(2 * one.seconds)
    assert more.peak == one.peak
    few = attribution_estimate(cost, AttributionCard(), LORA, layers, Size(300, 4, 40.0))
    assert attribution_estimate(cost, AttributionCard(), LORA, layers, Size(600, 4, 40.0)).seconds > 1.9 * few.seconds


def test_dropout_and_activations_computed_twice_take_their_time_and_room(embedded: HFModel):
    """A third to two thirds more, as docs/how-to/training.md measured."""
    layers, drops = embedded.lora_layers(LORA.targets), replace(LORA, dropout=0.1)
    plain, dropped = footprint.footprint(embedded, LORA), footprint.footprint(embedded, drops)
    assert 1.3 < dropped.kept / plain.kept < 3
    assert dropped.seconds > plain.seconds
    twice = replace(LORA, gradient_checkpointing=True)
    one, more = (training_estimate(plain, card, layers, [9, 9], 40.0) for card in (LORA, twice))
    assert more.seconds == pytest.approx(1.4 * one.seconds)
    assert more.peak < one.peak


def test_gradients_that_are_kept_count_among_the_memory(tiny_model: HFModel):
    cost, layers, size = footprint.footprint(tiny_model, LORA), tiny_model.lora_layers(LORA.targets), Size(300, 4, 40.0)
    numbers = LORA.rank * sum(layer.base.out_features for layer in layers.values())
    plain, fisher, datainf = (
        attribution_estimate(cost, AttributionCard(curvature=curvature), LORA, layers, size)
        for curvature in ("identity", "fisher", "datainf")
    )
    assert fisher.peak - plain.peak == datainf.peak - plain.peak == 4 * 256 * numbers
    assert plain.seconds == pytest.approx(fisher.seconds) == pytest.approx(datainf.seconds)  # each gradient is computed once


def test_principal_components_take_the_moments_of_each_layer(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    cost, layers, size = footprint.footprint(tiny_model, LORA), tiny_model.lora_layers(LORA.targets), Size(300, 4, 40.0)
    squares = sum(layer.base.in_features**2 + layer.base.out_features**2 for layer in layers.values())
    random, principal = (
        attribution_estimate(cost, AttributionCard(curvature="identity", features="core", core=core), LORA, layers, size)
        for core in ("random", "pca")
    )
    assert principal.peak - random.peak == 4 * 3 * squares
    assert principal.seconds > random.seconds
    card = AttributionCard(curvature="ekfac", features="core", core="pca")
    monkeypatch.setattr(placed, "free_bytes", lambda _: 1)
    with pytest.raises(DataError, match=r'are free; use .*"fisher".*, or attribution.core = "random"$'):
        check_affordable(tiny_model, card, LORA, replace(size, queries=500))


def test_logits_that_a_network_changes_are_all_there_at_once(tiny_model: HFModel):
    cost, layers = footprint.footprint(tiny_model, LORA), tiny_model.lora_layers(LORA.targets)
    assert cost.chunked
    cost = replace(cost, vocabulary=256_000)
    capped = replace(cost, chunked=False)
    held = [one.logits(1024) for one in (cost, capped)]
    assert held == [CHUNK_BYTES["cpu"], 4 * 256_000 * 1024]
    one, more = (training_estimate(c, replace(LORA, batch=64), layers, [99, 99], 40.0).peak for c in (cost, capped))
    assert more - one == 3 * (held[1] - held[0])


def test_durations_read_well():
    assert [in_words(s) for s in (0.2, 40, 720, 27_000)] == ["1 s", "40 s", "12 min", "7.5 h"]


def test_free_memory_is_some_of_what_there_is():
    assert 1 << 20 < free_bytes(torch.device("cpu")) < 1 << 50
