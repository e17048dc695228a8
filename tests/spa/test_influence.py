"""Influence scores against gradients that PEFT and autograd give for one example at a time, at LoRA's start and later."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, DataCard, LoraCard, PartitionCard, check
from spa_bench.errors import CardError, DataError, ModelError
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.spa.attribution.base import AttributionSetting
from spa_bench.spa.attribution.influence import build, scores_at
from spa_bench.types import Decoding, Example, Member

CARD = AttributionCard(curvature="identity")
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


def scores(
    model: HFModel,
    card: AttributionCard = CARD,
    *,
    seed: int = SEED,
    examples: Sequence[Example] = EXAMPLES,
    queries: Sequence[Example] = QUERIES,
    adapter: Adapter | None = None,
    lora: LoraCard = LORA,
    kept: Path | None = None,
) -> np.ndarray:
    return scores_at(model, adapter, examples, queries=queries, card=card, lora=lora, seed=seed, progress=ignore, kept=kept)


def first_factors(model: HFModel, seed: int = SEED) -> dict[str, torch.Tensor]:
    """LoRA's A (r, in) for each layer, as the seed draws it."""
    generator = torch.Generator().manual_seed(seed)
    layers = model.lora_layers(LORA.targets)
    return {p: initial_down(layer.base.in_features, LORA.rank, generator) for p, layer in layers.items()}


@pytest.fixture(scope="module")
def trained(tiny_model: HFModel) -> Adapter:
    """An adapter whose B is not zero."""
    generator = torch.Generator().manual_seed(3)
    layers = tiny_model.lora_layers(LORA.targets)
    factors = {
        path: (low, torch.randn(layers[path].base.out_features, LORA.rank, generator=generator) * 0.05)
        for path, low in first_factors(tiny_model, 4).items()
    }
    return Adapter(factors, LORA.rank, LORA.alpha)


Gradients = Callable[[Adapter | None], np.ndarray]


@pytest.fixture(scope="module")
def gradients(tiny_model: HFModel, tiny_folder: Path) -> Gradients:
    """(examples and queries, parameters): each one's gradient alone in PEFT's LoRA, blocks B (out, r) and A (r, in) a layer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def at(adapter: Adapter | None) -> np.ndarray:
        network = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float32).eval()
        config = LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=list(LORA.targets), task_type="CAUSAL_LM")
        wrapped = get_peft_model(network, config).eval()
        modules = dict(wrapped.base_model.model.named_modules())
        wanted = []
        for path, low in first_factors(tiny_model).items():
            a, b = (modules[path].get_submodule(name)["default"].weight for name in ("lora_A", "lora_B"))
            a.data.copy_(low if adapter is None else adapter.factors[path][0])
            if adapter is not None:
                b.data.copy_(adapter.factors[path][1])
            wanted += [b, a]
        rows = []
        for pair in [*EXAMPLES, *QUERIES]:
            head, tail = tiny_model.encode_pair(pair.prompt, pair.completion)
            loss = wrapped(input_ids=torch.tensor([head + tail]), labels=torch.tensor([[-100] * len(head) + tail])).loss
            rows.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, wanted)]).double().numpy())
        return np.stack(rows)

    return at


def sizes(model: HFModel, adapter: Adapter | None) -> list[slice]:
    """Where each block lies in a row of `gradients`, in order; at the start A's, which are zero, are left out."""
    found, start = [], 0
    for layer in model.lora_layers(LORA.targets).values():
        for count, there in ((layer.base.out_features * LORA.rank, True), (layer.base.in_features * LORA.rank, bool(adapter))):
            if there:
                found.append(slice(start, start + count))
            start += layer.base.in_features * LORA.rank if not there else count
    return found


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-3) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("start", [True, False])
def test_without_curvature_a_score_is_the_product_of_two_gradients(
    start: bool, tiny_model: HFModel, trained: Adapter, gradients: Gradients
):
    adapter = None if start else trained
    rows = gradients(adapter)
    close(scores(tiny_model, adapter=adapter), rows[:6] @ rows[6:].T)


def test_the_scores_do_not_depend_on_what_gradient_checkpointing_saves(tiny_model: HFModel, trained: Adapter):
    plain = scores(tiny_model, adapter=trained)
    close(scores(tiny_model, adapter=trained, lora=replace(LORA, gradient_checkpointing=True)), plain, 1e-5)


def test_bfloat16_is_near_and_not_the_same(tiny_model: HFModel, trained: Adapter):
    plain, half = (
        scores(tiny_model, adapter=trained),
        scores(tiny_model, adapter=trained, lora=replace(LORA, precision="bfloat16")),
    )
    assert not np.allclose(plain, half, rtol=1e-4)
    assert np.corrcoef(plain.ravel(), half.ravel())[0, 1] > 0.99


def test_cosine_is_the_product_of_gradients_of_length_one(tiny_model: HFModel, trained: Adapter, gradients: Gradients):
    rows = gradients(trained)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = scores(tiny_model, replace(CARD, curvature="cosine"), adapter=trained)
    close(found, rows[:6] @ rows[6:].T)
    assert abs(found).max() <= 1


def test_normalising_divides_by_the_examples_own_gradient(tiny_model: HFModel, gradients: Gradients):
    rows = gradients(None)
    expected = rows[:6] @ rows[6:].T / np.linalg.norm(rows[:6], axis=1, keepdims=True)
    close(scores(tiny_model, replace(CARD, normalize=True)), expected)


@pytest.mark.parametrize("start", [True, False])
def test_fisher_divides_by_the_mean_squared_gradients_of_the_examples(
    start: bool, tiny_model: HFModel, trained: Adapter, gradients: Gradients
):
    adapter = None if start else trained
    rows = np.concatenate([gradients(adapter)[:, block] for block in sizes(tiny_model, adapter)], 1)
    values = (rows[:6] ** 2).mean(0)
    expected = rows[:6] @ (rows[6:] / (values + 0.1 * values.mean())).T
    close(scores(tiny_model, replace(CARD, curvature="fisher"), adapter=adapter), expected)


def test_datainf_is_the_mean_of_the_damped_inverses_of_single_examples(
    tiny_model: HFModel, trained: Adapter, gradients: Gradients
):
    rows = gradients(trained)
    expected = np.zeros((6, 2))
    for block in sizes(tiny_model, trained):
        g = rows[:, block]
        damping = 0.1 * (g[:6] ** 2).sum(1).mean() / g.shape[1]
        inverse = np.mean([np.linalg.inv(damping * np.eye(g.shape[1]) + np.outer(r, r)) for r in g[:6]], 0)
        expected += g[:6] @ inverse @ g[6:].T
    close(scores(tiny_model, replace(CARD, curvature="datainf"), adapter=trained), expected)


def test_absolute_damping_is_what_is_added(tiny_model: HFModel, gradients: Gradients):
    rows = gradients(None)
    expected = rows[:6] @ (rows[6:] / ((rows[:6] ** 2).mean(0) + 0.003)).T
    close(scores(tiny_model, replace(CARD, curvature="fisher", damping=0.003, damping_kind="absolute")), expected)


@pytest.mark.parametrize("curvature", ["fisher", "datainf", "ekfac", pytest.param("lissa", marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", [True, False])
def test_with_huge_damping_every_curvature_is_a_multiple_of_none(
    curvature: str, start: bool, tiny_model: HFModel, trained: Adapter
):
    adapter = None if start else trained
    card = replace(CARD, curvature=curvature, damping=1e9, damping_kind="absolute", depth=5)
    close(scores(tiny_model, card, adapter=adapter) * 1e9, scores(tiny_model, adapter=adapter))


@pytest.mark.parametrize("curvature", ["fisher", "datainf", "ekfac", pytest.param("lissa", marks=pytest.mark.slow)])
def test_damping_and_the_number_of_examples_behind_the_curvature_matter(curvature: str, tiny_model: HFModel, trained: Adapter):
    card = replace(CARD, curvature=curvature, depth=10)
    plain = scores(tiny_model, card, adapter=trained)
    assert not np.allclose(plain, scores(tiny_model, replace(card, damping=10.0), adapter=trained), rtol=1e-2)
    assert not np.allclose(plain, scores(tiny_model, replace(card, curvature_examples=3), adapter=trained), rtol=1e-2)


# features -------------------------------------------------------------------------------------------------------------


def weight_gradients(model: HFModel, tiny_folder: Path) -> list[dict[str, torch.Tensor]]:
    """For each pair: the gradient (out, in) of every targeted layer's own weight, without an adapter."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float32).eval()
    weights = {path: network.get_submodule(path).weight for path in model.lora_layers(LORA.targets)}
    rows = []
    for pair in [*EXAMPLES, *QUERIES]:
        head, tail = model.encode_pair(pair.prompt, pair.completion)
        loss = network(input_ids=torch.tensor([head + tail]), labels=torch.tensor([[-100] * len(head) + tail])).loss
        rows.append(dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)))
    return rows


def test_a_core_of_full_size_by_principal_components_loses_nothing(tiny_model: HFModel, tiny_folder: Path):
    rows = weight_gradients(tiny_model, tiny_folder)
    flat = np.stack([torch.cat([g.reshape(-1) for g in row.values()]).double().numpy() for row in rows])
    card = replace(CARD, features="core", core="pca", dimensions=10_000)
    close(scores(tiny_model, card), flat[:6] @ flat[6:].T)


def test_a_small_core_keeps_the_order_of_scores_and_a_larger_one_keeps_it_better(tiny_model: HFModel, tiny_folder: Path):
    rows = weight_gradients(tiny_model, tiny_folder)
    flat = np.stack([torch.cat([g.reshape(-1) for g in row.values()]).double().numpy() for row in rows])
    exact = (flat[:6] @ flat[6:].T).ravel()
    for kind in ("random", "pca"):
        near, nearer = (
            np.corrcoef(exact, scores(tiny_model, replace(CARD, features="core", core=kind, dimensions=k)).ravel())[0, 1]
            for k in (2, 24)
        )
        assert nearer > 0.9
        assert nearer > near


def test_the_adapters_own_factors_make_a_core(tiny_model: HFModel, trained: Adapter, gradients: Gradients):
    # B's gradient is s Σ δ (A x)ᵀ: with Bᵀ before it, it is s times the core
    rows, scale = gradients(trained), LORA.alpha / LORA.rank
    cores = []
    for row in rows:
        parts, start = [], 0
        for path, layer in tiny_model.lora_layers(LORA.targets).items():
            count = layer.base.out_features * LORA.rank
            b = row[start : start + count].reshape(layer.base.out_features, LORA.rank)
            parts.append((trained.factors[path][1].double().numpy().T @ b / scale).ravel())
            start += count + layer.base.in_features * LORA.rank
        cores.append(np.concatenate(parts))
    expected = np.stack(cores[:6]) @ np.stack(cores[6:]).T
    close(scores(tiny_model, replace(CARD, features="core", core="adapter"), adapter=trained), expected)


def test_the_adapters_own_core_is_refused_at_loras_start(tiny_model: HFModel):
    card = replace(CARD, features="core", core="adapter")
    with pytest.raises(CardError, match="B = 0"):
        scores(tiny_model, card)
    with pytest.raises(CardError, match="B = 0"):
        check("it", data=DataCard(), attribution=card, partition=PartitionCard(), lora=LORA)


@pytest.mark.slow
def test_a_projection_keeps_products_on_average(tiny_model: HFModel):
    exact = scores(tiny_model)
    several = [scores(tiny_model, replace(CARD, features="projection", dimensions=64), seed=s) for s in range(40)]
    exacts = [scores(tiny_model, seed=s) for s in range(40)]
    slope = np.sum(np.stack(several) * np.stack(exacts)) / np.sum(np.stack(exacts) ** 2)
    assert slope == pytest.approx(1, abs=0.15)
    wide = scores(tiny_model, replace(CARD, features="projection", dimensions=1 << 14))
    assert np.corrcoef(wide.ravel(), exact.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("features", "curvature"),
    [("core", "fisher"), ("core", "datainf"), ("core", "ekfac"), ("projection", "fisher"), ("projection", "datainf")],
)
def test_every_curvature_of_blocks_works_on_smaller_features(features: str, curvature: str, tiny_model: HFModel):
    card = replace(CARD, features=features, curvature=curvature, dimensions=8)
    found = scores(tiny_model, card)
    assert np.isfinite(found).all()
    assert not np.allclose(found, scores(tiny_model, replace(card, dimensions=16)), rtol=1e-2)


# what a score means ---------------------------------------------------------------------------------------------------


def query_loss(model: HFModel, query: Example, adapter: Path) -> float:
    member = Member("m", adapter, Decoding())
    [logprobs] = model.next_token_logprobs([(query.prompt, query.completion)], [member])
    assert logprobs is not None
    _, tail = model.encode_pair(query.prompt, query.completion)
    return -float(logprobs[0][np.arange(len(tail)), tail].astype(np.float64).mean())


@pytest.mark.parametrize("column", [0, 1])
def test_a_step_on_an_example_of_higher_score_lowers_the_querys_loss_more(
    column: int, tiny_model: HFModel, gradients: Gradients, tmp_path: Path
):
    found, low, rows = scores(tiny_model)[:, column], first_factors(tiny_model), gradients(None)
    losses = []
    for i, row in enumerate(rows[:6]):
        factors, start = {}, 0
        for path, layer in tiny_model.lora_layers(LORA.targets).items():
            count = layer.base.out_features * LORA.rank
            step = torch.from_numpy(row[start : start + count]).float().view(layer.base.out_features, LORA.rank)
            factors[path] = (low[path], -0.02 * step)
            start += count + layer.base.in_features * LORA.rank
        write_adapter(Adapter(factors, LORA.rank, LORA.alpha), tmp_path / str(i), base_model="tiny")
        losses.append(query_loss(tiny_model, QUERIES[column], tmp_path / str(i)))
    assert np.argsort(losses)[0] == found.argmax()
    assert np.argsort(losses)[-1] == found.argmin()
    assert np.corrcoef(found, losses)[0, 1] < -0.99


@pytest.mark.parametrize("curvature", ["cosine", "fisher", "datainf", "ekfac"])
def test_the_query_itself_scores_above_all_others(curvature: str, tiny_model: HFModel):
    card = replace(CARD, curvature=curvature, normalize=True)
    assert scores(tiny_model, card, examples=[*EXAMPLES, *QUERIES]).argmax(0).tolist() == [6, 7]


# one pass, in pieces --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(tiny_model: HFModel):
    card = replace(CARD, curvature="ekfac")
    assert (scores(tiny_model, card) == scores(tiny_model, card)).all()
    assert not np.allclose(scores(tiny_model, card), scores(tiny_model, card, seed=SEED + 1), rtol=1e-2)


def test_a_score_does_not_depend_on_order_or_company(tiny_model: HFModel):
    alone = np.concatenate([scores(tiny_model, examples=[e]) for e in EXAMPLES[::-1]])[::-1]
    close(scores(tiny_model), alone, 1e-4)


@pytest.mark.parametrize("curvature", ["ekfac", "fisher"])
def test_a_pass_that_was_stopped_goes_on_to_the_same_bytes(
    curvature: str, tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from spa_bench.spa.attribution import gradients as module

    monkeypatch.setattr(module, "TOKENS", {"cpu": 300})  # several passes
    card, many = replace(CARD, curvature=curvature, curvature_examples=30), EXAMPLES * 7
    whole = scores(tiny_model, card, examples=many)
    passes: list[int] = []

    def stop(done: int, total: int) -> None:
        passes.append(done)
        if done >= total - len(many) + 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scores_at(tiny_model, None, many, queries=QUERIES, card=card, lora=LORA, seed=SEED, progress=stop, kept=tmp_path)
    resumed: list[int] = []
    found = scores_at(
        tiny_model,
        None,
        many,
        queries=QUERIES,
        card=card,
        lora=LORA,
        seed=SEED,
        progress=lambda d, t: resumed.append(d),
        kept=tmp_path,
    )
    assert found.tobytes() == whole.tobytes()
    preparing = {"ekfac": 60, "fisher": 30}[curvature]
    assert preparing < passes[-1] < preparing + 42
    assert resumed[:2] == [0, passes[-1]]  # the curvature's passes are not made again
    assert resumed[-1] == preparing + 42


def test_what_was_prepared_is_not_prepared_again(tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.spa.attribution import influence

    card = replace(CARD, curvature="fisher")
    whole = scores(tiny_model, card, kept=tmp_path)
    for file in tmp_path.glob("*.rows"):
        file.unlink()
    monkeypatch.setattr(influence, "prepared", None)
    assert scores(tiny_model, card, kept=tmp_path).tobytes() == whole.tobytes()


def test_progress_counts_every_example(tiny_model: HFModel):
    seen: list[tuple[int, int]] = []
    scores_at(
        tiny_model,
        None,
        EXAMPLES * 7,
        queries=QUERIES,
        card=CARD,
        lora=LORA,
        seed=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (0, 42)
    assert seen[-1] == (42, 42)


PREPARED = [  # a card's keys, and how many gradients of one example the curvature takes with 2 queries and 42 examples
    ({"curvature": "identity"}, 0),
    ({"curvature": "fisher"}, 42),
    ({"curvature": "fisher", "curvature_examples": 10}, 10),
    ({"curvature": "datainf"}, 84),
    ({"curvature": "ekfac", "draws": 2}, 168),
    ({"curvature": "ekfac", "factors": "gradients", "draws": 2}, 168),
    ({"curvature": "fisher", "features": "core", "core": "pca", "dimensions": 4}, 84),
    ({"curvature": "lissa", "depth": 2, "repeats": 3, "lissa_batch": 4}, 42 + (2 * 2 * 3 + 32) * 4),
    ({"curvature": "lissa", "depth": 2, "scale": 1e6, "lissa_batch": 4, "damping_kind": "absolute", "damping": 0.1}, 2 * 2 * 4),
]


@pytest.mark.parametrize(("keys", "expected"), PREPARED)
def test_progress_counts_the_gradients_of_the_curvature_exactly(tiny_model: HFModel, keys: dict, expected: int):
    seen: list[tuple[int, int]] = []
    card = replace(CARD, **{"curvature_examples": 0, **keys})
    many = EXAMPLES * 7
    scores_at(
        tiny_model,
        None,
        many,
        queries=QUERIES,
        card=card,
        lora=LORA,
        seed=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert {total for _, total in seen} == {expected + len(many)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert (expected, expected + len(many)) in seen  # reached by counting, as nothing is reported when preparing ends
    assert seen[-1] == (expected + len(many), expected + len(many))


def test_checkpoints_of_a_warm_up_are_averaged(tiny_model: HFModel, trained: Adapter, tmp_path: Path):
    write_adapter(trained, tmp_path / "7", base_model="tiny")
    asked: list[Sequence[int]] = []

    def warm_up(steps: Sequence[int]) -> dict[int, Path]:
        asked.append(list(steps))
        return {step: tmp_path / str(step) for step in steps}

    seen: list[tuple[int, int]] = []
    setting = AttributionSetting(
        card=replace(CARD, checkpoints=(7, 0)), lora=LORA, model=tiny_model, seed=SEED, warm_up=warm_up
    )
    found = build(setting).scores(EXAMPLES, QUERIES, progress=lambda done, total: seen.append((done, total)))
    close(found, (scores(tiny_model) + scores(tiny_model, adapter=trained)) / 2, 1e-5)
    assert asked == [[7]]
    assert seen == [(0, 12), (6, 12), (6, 12), (12, 12)]


def test_the_model_is_bare_and_frozen_afterwards(tiny_model: HFModel, trained: Adapter):
    ids = torch.tensor([[1, 2, 3]])
    before = tiny_model.network(ids).logits
    scores(tiny_model, replace(CARD, curvature="lissa", depth=2), adapter=trained)
    after = tiny_model.network(ids).logits
    assert torch.equal(after, before)
    assert not after.requires_grad
    assert not any(p.requires_grad or p.grad is not None for p in tiny_model.network.parameters())


# bad input ------------------------------------------------------------------------------------------------------------


def test_an_example_that_does_not_fit_the_context_is_named(tiny_model: HFModel):
    long = Example("1" * 1020, "12345")
    with pytest.raises(DataError, match=r"example 1 has 1026 tokens; the model's context is 1024"):
        scores(tiny_model, examples=[EXAMPLES[0], long])


def test_a_gradient_that_is_not_finite_is_named(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.spa.attribution import gradients as module

    plain = module.own_loss

    def broken(logits: torch.Tensor, batch: Any) -> torch.Tensor:
        if len(batch.indices) == 6:
            batch.share[0] = float("nan")  # of the longest row
        return plain(logits, batch)

    monkeypatch.setattr(module, "own_loss", broken)
    with pytest.raises(DataError, match=r"example 2 \('def word.*…'\) has a gradient.*zero or not finite"):
        scores(tiny_model)


def test_a_query_whose_gradient_is_zero_is_named(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.spa.attribution import gradients as module

    plain = module.own_loss
    monkeypatch.setattr(module, "own_loss", lambda logits, batch: plain(logits, batch) * 0)
    with pytest.raises(DataError, match=r"query 0 \('def h\(nums\):.*zero or not finite"):
        scores(tiny_model)


def test_memory_that_runs_out_ends_in_one_line(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.spa.attribution import gradients as module

    def refuse(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "own_loss", refuse)
    with pytest.raises(DataError, match="attribution ran out of memory with 2 queries; use fewer"):
        scores(tiny_model)


def test_scores_that_are_all_zero_say_why(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"every score is 0, less than float32 holds; lower attribution.damping"):
        scores(tiny_model, replace(CARD, curvature="fisher", damping=1e300))


def test_unknown_targets_are_refused(tiny_model: HFModel):
    with pytest.raises(ModelError, match="c_attn"):
        scores(tiny_model, lora=replace(LORA, targets=("c_attn",)))
