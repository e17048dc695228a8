"""Numbers that go wrong: NaN or infinity stops a stage in one line that names the member, the step and the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.runs.divergence import measure_divergence
from spa_bench.spa.adapt import train_adapters
from spa_bench.types import Decoding, Example, Member, Problem

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n") for i in range(6)]
CARD = LoraCard(rank=2, alpha=4.0, targets=("q_proj", "up_proj"), steps=3, batch=2, learning_rate=5e-3, warmup=0)
BASE = Member("m", None, Decoding())


@pytest.fixture
def tiny_model(tiny_folder: Path) -> HFModel:
    """A model of its own: its weights are changed."""
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


@contextmanager
def a_bad_weight(model: HFModel, name: str, value: float) -> Iterator[None]:
    """`model` with `value` in the first place of the first weight whose name ends with `name`."""
    weight = next(w for path, w in model.network.named_parameters() if path.endswith(name))
    before = weight.detach()[..., 0].clone()
    with torch.no_grad():
        weight[..., 0] = value
    try:
        yield
    finally:
        with torch.no_grad():
            weight[..., 0] = before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_on_a_model_with_a_bad_weight_names_member_step_and_batch_and_does_not_blame_the_rate(
    value: float, tiny_model: HFModel
):
    with a_bad_weight(tiny_model, "down_proj.weight", value), pytest.raises(DataError) as caught:
        train_adapters(tiny_model, [PAIRS[:4], PAIRS[4:]], CARD, [0, 1], progress=ignore, first=5)
    said = str(caught.value)
    assert said.startswith(
        "the loss of adapter 5 is not finite at step 0; the adapter is still zero, so the model itself gives it"
    )
    assert "lora.learning_rate" not in said
    assert "(the batch: pairs " in said
    assert "\n" not in said


@pytest.mark.parametrize(("rate", "decay"), [(3e38, 1e3), (3.4e38, 1e-30), (1e39, 0.0)])
def test_a_learning_rate_that_overflows_the_adapter_in_its_last_step_is_found(rate: float, decay: float, tiny_model: HFModel):
    wild = replace(CARD, steps=1, learning_rate=rate, weight_decay=decay)
    with pytest.raises(DataError, match=r"the size of adapter 0 is not finite at step 0; lower lora\.learning_rate"):
        train_adapters(tiny_model, [PAIRS], wild, [0], progress=ignore)


def test_the_gradient_of_a_later_part_has_its_own_number(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"the gradient of adapter 3 is not finite at step 0; .* pairs \d+, \d+ of its part"):
        train_adapters(tiny_model, [PAIRS], replace(CARD, alpha=1e30), [0], progress=ignore, first=3)


def test_divergence_names_problem_and_member(tiny_model: HFModel):
    problems = [Problem(id="p/1", prompt="def f(x):\n", reference="    return x\n")]
    with a_bad_weight(tiny_model, "down_proj.weight", float("nan")), pytest.raises(ModelError) as caught:
        list(measure_divergence(problems, tiny_model, [BASE], ()))
    assert str(caught.value).startswith(
        "problem p/1: the model's logits are not finite (NaN or infinite) on a reference solution"
    )
    assert "with member 0" in str(caught.value)


def test_texts_that_are_scored_name_the_member(tiny_model: HFModel):
    with (
        a_bad_weight(tiny_model, "down_proj.weight", float("nan")),
        pytest.raises(ModelError, match="scored, with member 0; use"),
    ):
        list(tiny_model.next_token_logprobs([("def f(x):\n", "    return x\n")], [BASE]))
