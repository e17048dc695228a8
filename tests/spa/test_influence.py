"""Influence scores against gradients that PEFT and autograd give for one example at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf import HFModel
from spa_bench.models.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.spa.attribution.influence import build
from spa_bench.spa_cards import AttributionCard, LoraCard
from spa_bench.types import Decoding, Example, Member

CARD = AttributionCard("influence", damping=0.1, normalize=False)
LORA = LoraCard(rank=3, alpha=6.0, targets=("q_proj", "v_proj", "down_proj"))
EXAMPLES = [
    Example("def f(nums):\n", "    return sum(nums)\n"),
    Example("def f(nums):\n", "    return sum(n for n in nums if n > 3)\n"),
    Example("def word(text):\n    # " + "long " * 12 + "\n", "    return text.upper()\n"),
    Example("def g(x):\n", "    while x:\n        x -= 1\n    return x\n"),
    Example("def word(line):\n", "    return line.upper()[::-1]\n"),
    Example("", "import os\n"),
]
QUERIES = [Example("def h(nums):\n", "    return sum(nums[1:])\n"), Example("def word(s):\n", "    return s.upper()\n")]
SEED = 17


def scores(model: HFModel, card: AttributionCard = CARD, *, seed: int = SEED, examples: list[Example] = EXAMPLES) -> np.ndarray:
    found: np.ndarray = build(card, LORA, model, seed).scores(examples, QUERIES, progress=ignore)
    return found


def first_factors(model: HFModel, seed: int = SEED) -> dict[str, torch.Tensor]:
    """LoRA's A (in, r) for each layer, as the seed draws it."""
    generator = torch.Generator().manual_seed(seed)
    layers = model.lora_layers(LORA.targets)
    return {p: initial_down(layer.base.in_features, LORA.rank, generator) for p, layer in layers.items()}


@pytest.fixture(scope="module")
def gradients(tiny_model: HFModel, tiny_folder: Path) -> dict[Example, dict[str, torch.Tensor]]:
    """For each example alone: the gradient of its mean loss with respect to B (out, r) in PEFT's LoRA, B = 0."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float32).eval()
    config = LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=list(LORA.targets), task_type="CAUSAL_LM")
    wrapped = get_peft_model(network, config).eval()
    modules = dict(wrapped.base_model.model.named_modules())
    up = {}
    for path, low in first_factors(tiny_model).items():
        modules[path].lora_A["default"].weight.data.copy_(low)
        up[path] = modules[path].lora_B["default"].weight
        assert (up[path] == 0).all()
    found = {}
    for example in [*EXAMPLES, *QUERIES]:
        head, tail = tiny_model.encode_pair(example.prompt, example.completion)
        ids = torch.tensor([head + tail])
        labels = torch.tensor([[-100] * len(head) + tail])
        loss = wrapped(input_ids=ids, labels=labels).loss
        found[example] = dict(zip(up, torch.autograd.grad(loss, list(up.values())), strict=True))
    return found


def flat(gradient: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.cat([g.T.reshape(-1) for g in gradient.values()]).double().numpy()


def test_the_scores_are_those_of_gradients_taken_one_example_at_a_time(tiny_model: HFModel, gradients: dict[Example, Any]):
    train = np.stack([flat(gradients[e]) for e in EXAMPLES])
    query = np.stack([flat(gradients[e]) for e in QUERIES])
    fisher = (query**2).mean(0)
    inverse = 1 / (fisher + 0.1 * fisher.mean())
    expected = train @ (query * inverse).T
    np.testing.assert_allclose(scores(tiny_model), expected, rtol=1e-3, atol=1e-3 * abs(expected).max())
    norms = np.sqrt((train**2 * inverse).sum(1, keepdims=True))
    found = scores(tiny_model, replace(CARD, normalize=True))
    np.testing.assert_allclose(found, expected / norms, rtol=1e-3, atol=1e-3 * abs(expected / norms).max())


def query_loss(model: HFModel, query: Example, adapter: Path) -> float:
    member = Member("m", adapter, Decoding())
    [logprobs] = model.next_token_logprobs([(query.prompt, query.completion)], [member])
    assert logprobs is not None
    _, tail = model.encode_pair(query.prompt, query.completion)
    return -float(logprobs[0][np.arange(len(tail)), tail].astype(np.float64).mean())


@pytest.mark.parametrize("column", [0, 1])
def test_a_step_on_an_example_of_higher_score_lowers_the_querys_loss_more(
    column: int, tiny_model: HFModel, gradients: dict[Example, Any], tmp_path: Path
):
    # with huge damping the preconditioner is a constant, and a plain gradient step is what the score speaks of
    found = scores(tiny_model, replace(CARD, damping=1e6))[:, column]
    low = first_factors(tiny_model)
    losses = []
    for i, example in enumerate(EXAMPLES):
        factors = {p: (low[p], -0.02 * g) for p, g in gradients[example].items()}
        write_adapter(Adapter(factors, LORA.rank, LORA.alpha), tmp_path / str(i), base_model="tiny")
        losses.append(query_loss(tiny_model, QUERIES[column], tmp_path / str(i)))
    assert np.argsort(losses)[0] == found.argmax()
    assert np.argsort(losses)[-1] == found.argmin()
    assert np.corrcoef(found, losses)[0, 1] < -0.99


def test_an_example_like_the_query_scores_highest(tiny_model: HFModel):
    found = scores(tiny_model, replace(CARD, normalize=True))
    assert found[:, 0].argmax() in {0, 1}
    assert found[:, 1].argmax() in {2, 4}


def test_the_query_itself_scores_above_all_others(tiny_model: HFModel):
    found = scores(tiny_model, replace(CARD, normalize=True), examples=[*EXAMPLES, *QUERIES])
    assert found.argmax(0).tolist() == [6, 7]


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(tiny_model: HFModel):
    assert (scores(tiny_model) == scores(tiny_model)).all()
    assert not np.allclose(scores(tiny_model), scores(tiny_model, seed=SEED + 1), rtol=1e-2)


def test_a_score_does_not_depend_on_order_or_company(tiny_model: HFModel):
    alone = np.concatenate([scores(tiny_model, examples=[e]) for e in EXAMPLES[::-1]])[::-1]
    np.testing.assert_allclose(scores(tiny_model), alone, rtol=1e-4, atol=1e-4 * abs(alone).max())


def test_damping_and_normalising_matter(tiny_model: HFModel):
    plain = scores(tiny_model)
    assert not np.allclose(plain, scores(tiny_model, replace(CARD, damping=10.0)), rtol=1e-2)
    assert not np.allclose(plain, scores(tiny_model, replace(CARD, normalize=True)), rtol=1e-2)


def test_progress_counts_every_example(tiny_model: HFModel):
    seen: list[tuple[int, int]] = []
    build(CARD, LORA, tiny_model, 0).scores(EXAMPLES * 7, QUERIES, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (42, 42)


def test_the_model_is_bare_and_frozen_afterwards(tiny_model: HFModel):
    ids = torch.tensor([[1, 2, 3]])
    before = tiny_model.network(ids).logits
    scores(tiny_model)
    after = tiny_model.network(ids).logits
    assert torch.equal(after, before)
    assert not after.requires_grad
    assert not any(p.requires_grad or p.grad is not None for p in tiny_model.network.parameters())


def test_an_example_that_does_not_fit_the_context_is_named(tiny_model: HFModel):
    long = Example("1" * 1020, "12345")
    with pytest.raises(DataError, match=r"example 1 has 1026 tokens; the model's context is 1024"):
        scores(tiny_model, examples=[EXAMPLES[0], long])


def test_unknown_targets_are_refused(tiny_model: HFModel):
    with pytest.raises(ModelError, match="c_attn"):
        build(CARD, replace(LORA, targets=("c_attn",)), tiny_model, 0)
