"""Training K adapters at once is training each alone."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import Adapter, write_adapter
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.schedule import learning_rate, order
from spa_bench.types import Decoding, Example, Member

CARD = LoraCard(rank=3, alpha=6.0, targets=("q_proj", "up_proj"), steps=6, batch=4, learning_rate=5e-3, warmup=2)
PAIRS = [
    Example(f"def f{i}(nums):\n" + "    # note\n" * (i % 5), f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(20)
]
SEEDS = [3, 4, 5]


def train(model: HFModel, parts: list[list[Example]], seeds: list[int], card: LoraCard = CARD) -> list[Adapter]:
    return train_adapters(model, parts, card, seeds, progress=ignore)


def assert_same(a: Adapter, b: Adapter, atol: float) -> None:
    assert a.factors.keys() == b.factors.keys()
    for path in a.factors:
        for mine, theirs in zip(a.factors[path], b.factors[path], strict=True):
            torch.testing.assert_close(mine, theirs, atol=atol, rtol=atol)


def distance(a: Adapter, b: Adapter) -> float:
    return max(float((a.factors[p][i] - b.factors[p][i]).abs().max()) for p in a.factors for i in (0, 1))


@pytest.mark.parametrize("cuts", [(0, 6, 12, 18), (0, 1, 4, 20)], ids=["equal parts", "parts of 1, 3 and 16"])
def test_adapters_trained_together_are_those_trained_alone(tiny_model: HFModel, cuts: tuple[int, ...]):
    parts = [PAIRS[a:b] for a, b in itertools.pairwise(cuts)]
    together = train(tiny_model, parts, SEEDS)
    for part, seed, adapter in zip(parts, SEEDS, together, strict=True):
        [alone] = train(tiny_model, [part], [seed])
        assert_same(adapter, alone, 1e-4)
    assert distance(together[0], together[1]) > 1e-2


def test_the_shape_and_scale_of_an_adapter_are_the_cards(tiny_model: HFModel):
    [adapter] = train(tiny_model, [PAIRS[:4]], [0])
    assert (adapter.rank, adapter.alpha) == (3, 6.0)
    assert {p.rsplit(".", 1)[1] for p in adapter.factors} == {"q_proj", "up_proj"}
    low, high = adapter.factors["model.layers.1.mlp.up_proj"]
    assert (tuple(low.shape), tuple(high.shape)) == ((3, 64), (128, 3))
    assert not low.requires_grad


def loss(model: HFModel, adapter: Path | None) -> float:
    """Mean over the pairs of the mean loss over their completion."""
    found = []
    pairs = [(e.prompt, e.completion) for e in PAIRS]
    for pair, logprobs in zip(pairs, model.next_token_logprobs(pairs, [Member("m", adapter, Decoding())]), strict=True):
        _, tail = model.encode_pair(*pair)
        assert logprobs is not None
        found.append(-logprobs[0][np.arange(len(tail)), tail].mean())
    return float(np.mean(found))


def test_training_lowers_the_loss_and_more_steps_lower_it_more(tiny_model: HFModel, tmp_path: Path):
    losses = [loss(tiny_model, None)]
    for steps in (8, 40):
        [adapter] = train(tiny_model, [PAIRS], [0], replace(CARD, steps=steps, targets="all-linear"))
        write_adapter(adapter, tmp_path / str(steps), base_model="tiny")
        losses.append(loss(tiny_model, tmp_path / str(steps)))
    assert losses[1] < losses[0] - 0.3
    assert losses[2] < losses[1] - 0.5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny_model: HFModel, tmp_path: Path):
    files = []
    for i, seed in enumerate((1, 1, 2)):
        [adapter] = train(tiny_model, [PAIRS], [seed])
        write_adapter(adapter, tmp_path / str(i), base_model="tiny")
        files.append((tmp_path / str(i) / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_training_does_not_touch_the_global_random_state(tiny_model: HFModel):
    before = torch.get_rng_state()
    train(tiny_model, [PAIRS], [0], replace(CARD, steps=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_base_is_untouched(tiny_model: HFModel):
    before = {n: p.clone() for n, p in tiny_model.network.named_parameters()}
    train(tiny_model, [PAIRS], [0], replace(CARD, steps=2, learning_rate=1.0))
    after = dict(tiny_model.network.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert all(p.grad is None for p in after.values())


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 1e-3}, {"batch": 2}, {"steps": 5}, {"weight_decay": 5.0}, {"clip": 1e-9}, {"warmup": 5}, {"alpha": 60.0},
     {"schedule": "constant"}, {"dropout": 0.2}, {"accumulation": 2}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_setting_matters(tiny_model: HFModel, change: dict[str, object]):
    [plain] = train(tiny_model, [PAIRS], [0])
    [changed] = train(tiny_model, [PAIRS], [0], replace(CARD, **change))  # type: ignore[arg-type]
    assert distance(plain, changed) > 1e-4


def test_a_member_trains_exactly_its_steps_on_exactly_its_batches(tiny_model: HFModel):
    seen = []
    train_adapters(tiny_model, [PAIRS[:3], PAIRS], CARD, [0, 1], progress=lambda *counts: seen.append(counts))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_the_order_of_the_data_depends_on_the_seed_and_every_epoch_sees_every_row():
    lengths = [1 + i % 7 for i in range(8)]
    card = replace(CARD, steps=6, batch=4)  # three epochs
    first, again, other = (order(lengths, card, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert [len(batch) for batch in first] == [4] * 6
    assert Counter(i for batch in first for i in batch) == dict.fromkeys(range(8), 3)


def test_an_empty_part_is_refused(tiny_model: HFModel):
    with pytest.raises(DataError, match="part 1 is empty: nothing to train adapter 1 on"):
        train(tiny_model, [PAIRS, []], [0, 1])


def test_a_loss_that_is_not_finite_names_adapter_step_and_remedy(tiny_model: HFModel):
    wild = replace(CARD, alpha=1e15, learning_rate=1e25, warmup=0)  # alpha x B overflows after the first step
    with pytest.raises(DataError, match=r"the loss of adapter 0 is not finite at step 1; lower lora\.learning_rate"):
        train(tiny_model, [PAIRS], [0], wild)


def test_a_gradient_that_is_not_finite_names_adapter_step_and_remedy(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"the gradient of adapter 0 is not finite at step 0; lower lora\.learning_rate"):
        train(tiny_model, [PAIRS], [0], replace(CARD, alpha=1e30))  # B = 0, so the loss is that of the base


def test_an_example_that_does_not_fit_the_context_is_named(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"part 1, example 2 has 1026 tokens"):
        train(tiny_model, [PAIRS, [*PAIRS[:2], Example("1" * 1020, "12345")]], [0, 1])


# the learning rate ---------------------------------------------------------------------------------------------------

RATES = LoraCard(steps=10, warmup=4, learning_rate=0.8)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_warm_up_is_linear_to_the_full_rate(schedule: str):
    card = replace(RATES, schedule=schedule)
    assert [learning_rate(card, s, 10) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])


def test_the_constant_rate_stays_and_the_linear_one_falls_evenly():
    assert {learning_rate(replace(RATES, schedule="constant"), s, 10) for s in range(4, 10)} == {0.8}
    falling = [learning_rate(replace(RATES, schedule="linear"), s, 10) for s in range(4, 10)]
    assert falling == pytest.approx([0.8 * (1 - i / 6) for i in range(6)])


def test_the_cosine_falls_from_the_full_rate_towards_zero():
    falling = [learning_rate(RATES, s, 10) for s in range(4, 10)]
    assert falling == pytest.approx([0.4 * (1 + math.cos(math.pi * i / 6)) for i in range(6)])
    assert all(a > b > 0 for a, b in itertools.pairwise(falling))


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate(replace(RATES, warmup=0), 0, 10) == 0.8
