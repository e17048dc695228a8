"""Curvatures against dense matrices: Kronecker factors, Gauss–Newton products, the recursion of LiSSA."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from doubles import ignore
from spa_bench.cards.training import CURVATURES as NAMES
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import Adapter, initial_down
from spa_bench.spa.attribution.curvature import CURVATURES, Consume, ConsumeHalves, ekfac
from spa_bench.spa.attribution.gradients import Point, batches, drawn_labels, drawn_loss, uniforms
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.spa.attribution.lissa import Products, lissa
from spa_bench.spa.attribution.sample import Sampled
from spa_bench.spa.batches import encode
from spa_bench.types import Example

CARD = AttributionCard(curvature="ekfac", damping=0.1)
LORA = LoraCard(rank=2, alpha=4.0, targets=("q_proj", "down_proj"))
EXAMPLES = [Example("def f(nums):\n", f"    return sum(nums) + {i}\n" * (1 + i % 3)) for i in range(6)]


@dataclass
class Tokens:
    """A sample of one block whose examples have one token each: inputs (n, i), gradients (n, o)."""

    a: Tensor
    d: Tensor

    @property
    def size(self) -> int:
        return len(self.a)

    def gradients(self, consume: Consume, *, drawn: bool) -> None:
        consume("x", self.d[:, :, None] * self.a[:, None])

    def halves(self, consume: ConsumeHalves) -> None:
        consume("x", self.a, self.d)


def test_every_name_on_a_card_has_its_function():
    assert set(NAMES) == set(CURVATURES) | {"lissa"}


def test_ekfac_inverts_a_matrix_that_is_a_kronecker_product():
    generator = torch.Generator().manual_seed(0)
    mix_a, mix_d = torch.randn(4, 4, generator=generator), torch.randn(3, 3, generator=generator)
    a, d = torch.randn(200_000, 4, generator=generator) @ mix_a, torch.randn(200_000, 3, generator=generator) @ mix_d
    whole = torch.kron(mix_d.T @ mix_d, mix_a.T @ mix_a).double()  # of vec(d aᵀ), row by row
    query = torch.randn(2, 3, 4, generator=generator)
    damped = whole + 0.1 * whole.trace() / 12 * torch.eye(12, dtype=torch.double)
    expected = torch.linalg.solve(damped, query.double().reshape(2, 12).T).T
    found = ekfac(Tokens(a, d), {"x": query}, CARD)["x"].reshape(2, 12)
    torch.testing.assert_close(found.double(), expected, rtol=0.03, atol=0.03 * float(expected.abs().max()))


def test_ekfac_corrects_eigenvalues_where_the_factors_are_not_independent():
    # d and a are large together: the Kronecker product of the factors has other eigenvalues than the matrix
    generator = torch.Generator().manual_seed(1)
    size = torch.rand(50_000, 1, generator=generator) * 3
    a, d = torch.randn(50_000, 2, generator=generator) * size, torch.randn(50_000, 2, generator=generator) * size
    rows = (d[:, :, None] * a[:, None]).reshape(-1, 4).double()
    whole = rows.T @ rows / len(rows)
    query = torch.randn(1, 2, 2, generator=generator)
    expected = torch.linalg.solve(whole + 0.1 * whole.trace() / 4 * torch.eye(4), query.double().reshape(1, 4).T).T
    found = ekfac(Tokens(a, d), {"x": query}, CARD)["x"].reshape(1, 4)
    torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize("curvature", ["fisher", "datainf", "ekfac"])
def test_a_block_without_curvature_stays_finite(curvature: str):
    nothing = Tokens(torch.zeros(5, 3), torch.zeros(5, 2))
    found = CURVATURES[curvature](nothing, {"x": torch.zeros(1, 2, 3)}, CARD)["x"]
    assert (found == 0).all()


def test_drawn_labels_give_the_gauss_newton_matrix_on_average():
    logits = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]])  # two tokens of one row
    generator, draws = torch.Generator().manual_seed(0), 20_000
    rows = logits.repeat(draws, 1).requires_grad_()
    drawn = drawn_labels(torch.rand(2 * draws, generator=generator))(rows.detach(), slice(0, 2 * draws))
    losses = torch.nn.functional.cross_entropy(rows, drawn, reduction="none")
    loss = drawn_loss(losses, torch.full((2 * draws,), 0.5))
    flat = torch.autograd.grad(loss, rows)[0].reshape(draws, 6)
    expected = torch.block_diag(*(torch.diag(q) - torch.outer(q, q) for q in logits.softmax(-1))) / 2
    torch.testing.assert_close(flat.T @ flat / draws, expected, rtol=0.1, atol=0.005)


def test_a_batch_counts_the_tokens_of_completions(tiny_model: HFModel):
    encoded = encode(tiny_model, EXAMPLES[:3], "example")
    [batch] = batches(encoded, torch.device("cpu"))
    rows = [encoded[i] for i in batch.indices]
    assert batch.targets.tolist() == [t for row in rows for t in row.ids[row.head :]]
    assert batch.counts == [len(row.ids) - row.head for row in rows]
    assert batch.share.tolist() == pytest.approx([1 / n for n in batch.counts for _ in range(n)])
    assert batch.real.sum(1).tolist() == [len(row.ids) for row in rows]
    before = batch.ids.flatten()[batch.where].tolist()
    assert before == [t for row in rows for t in row.ids[row.head - 1 : -1]]


def test_the_draws_of_an_example_do_not_depend_on_its_batch(tiny_model: HFModel):
    encoded = encode(tiny_model, EXAMPLES, "example")
    [together] = batches(encoded, torch.device("cpu"))
    drawn = uniforms(together, 5, range(6))
    for place, index in enumerate(together.indices):
        [alone] = batches([encoded[index]], torch.device("cpu"))
        start = sum(together.counts[:place])
        assert (uniforms(alone, 5, [index]) == drawn[start : start + together.counts[place]]).all()
    assert not (uniforms(together, 6, range(6)) == drawn).any()


# the Gauss-Newton matrix of a model -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tiny_model: HFModel) -> Sampled:
    generator = torch.Generator().manual_seed(3)
    layers = tiny_model.lora_layers(LORA.targets)
    factors = {
        path: (
            initial_down(layer.base.in_features, 2, generator),
            torch.randn(layer.base.out_features, 2, generator=generator) * 0.05,
        )
        for path, layer in layers.items()
    }
    point = Point(tiny_model, layers, Adapter(factors, 2, 4.0), LORA)
    return Sampled(
        point=point,
        encoded=encode(tiny_model, EXAMPLES, "example"),
        card=replace(CARD, curvature="lissa", lissa_batch=6),
        seed=1,
    )


@pytest.fixture(scope="module")
def dense(sample: Sampled, tiny_folder: Path) -> tuple[Tensor, list[str]]:
    """G in double precision, from one backward pass a token and class through PEFT, and the blocks' order."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float64, attn_implementation="eager").eval()
    config = LoraConfig(r=2, lora_alpha=4.0, target_modules=list(LORA.targets), task_type="CAUSAL_LM")
    wrapped = get_peft_model(network, config).eval()
    modules = dict(wrapped.base_model.model.named_modules())
    wanted, names = [], []
    assert sample.point.adapter
    for path, (low, high) in sample.point.adapter.factors.items():
        for block, name, value in ((f"{path}.B", "lora_B", high), (f"{path}.A", "lora_A", low)):
            weight = modules[path].get_submodule(name)["default"].weight
            weight.data.copy_(value)
            wanted.append(weight)
            names.append(block)
    whole = torch.zeros(sum(w.numel() for w in wanted), sum(w.numel() for w in wanted), dtype=torch.double)
    for row in sample.encoded[:2]:
        hidden = wrapped.base_model.model.model(input_ids=torch.tensor([row.ids])).last_hidden_state[0]
        head = network.get_output_embeddings().weight.detach()
        tokens = range(row.head - 1, len(row.ids) - 1)
        for t in tokens:
            p = (head @ hidden[t].detach()).softmax(-1)
            inner = head.T @ (torch.diag(p) - torch.outer(p, p)) @ head  # logits are linear in the hidden state
            values, vectors = torch.linalg.eigh(inner)
            directions = (vectors * values.clamp_min(0).sqrt())[:, values > 1e-12 * values.max()]
            found = torch.autograd.grad(hidden[t], wanted, directions.T, is_grads_batched=True, retain_graph=True)
            flat = torch.cat([g.reshape(directions.shape[1], -1) for g in found], 1)
            whole += flat.T @ flat / len(tokens) / 2
    return whole, names


@pytest.fixture(scope="module")
def largest(dense: tuple[Tensor, list[str]]) -> float:
    """The largest eigenvalue of G."""
    return float(torch.linalg.eigvalsh(dense[0])[-1])


@pytest.fixture(scope="module")
def solved(sample: Sampled, dense: tuple[Tensor, list[str]]) -> dict[str, Tensor]:
    """The inverse of each damped diagonal block of G times the first four vectors."""
    whole, names = dense
    several, found, start = vectors(sample, 4), {}, 0
    for name in names:
        count = several[name][0].numel()
        block = whole[start : start + count, start : start + count]
        damped = block + 0.1 * block.trace() / count * torch.eye(count)
        found[name] = torch.linalg.solve(damped, several[name].flatten(1).double().T).T
        start += count
    return found


def two(sample: Sampled) -> Sampled:
    """The sample of the two examples that `dense` is of."""
    return replace(sample, encoded=sample.encoded[:2])


def flat(blocks: Mapping[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([blocks[name].flatten(1) for name in names], 1).double()


def vectors(sample: Sampled, count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(9)
    return {block: torch.randn(count, *shape, generator=generator) for block, shape in sample.features.shapes.items()}


def test_products_are_those_with_the_gauss_newton_matrix(sample: Sampled, dense: tuple[Tensor, list[str]]):
    whole, names = dense
    few = two(sample)
    [batch] = batches(few.encoded, torch.device("cpu"))
    several = vectors(few, 19)  # more than run in one pass of 32 rows
    found = Products(few).times(batch, several)
    expected = flat(several, names) @ whole
    torch.testing.assert_close(flat(found, names), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_largest_and_the_mean_eigenvalue(sample: Sampled, dense: tuple[Tensor, list[str]], largest: float):
    whole, _ = dense
    few = two(sample)
    products = Products(few)
    assert products.largest_eigenvalue() == pytest.approx(largest, rel=0.05)
    # one draw of labels for two examples: the size alone can be asked for
    assert products.mean_eigenvalue() == pytest.approx(float(whole.trace() / len(whole)), rel=0.8)


@pytest.mark.slow
def test_lissa_converges_to_the_damped_inverse(sample: Sampled, dense: tuple[Tensor, list[str]], largest: float):
    whole, names = dense
    damping = 0.1 * largest
    card = replace(sample.card, damping=damping, damping_kind="absolute", depth=60)
    few = replace(two(sample), card=card)
    several = vectors(few, 2)
    expected = torch.linalg.solve(whole + damping * torch.eye(len(whole)), flat(several, names).T).T
    found = flat(lissa(few, several, card), names)
    early = flat(lissa(few, several, replace(card, depth=8)), names)
    twice = flat(lissa(few, several, replace(card, repeats=2)), names)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    assert (early - expected).norm() > 5 * (found - expected).norm()
    torch.testing.assert_close(twice, found, rtol=1e-4, atol=1e-4)  # the batch is the whole sample: repeats are alike


def test_lissa_makes_fewer_products_in_a_pass_where_memory_ends(sample: Sampled, monkeypatch: pytest.MonkeyPatch):
    few = two(sample)
    several = vectors(few, 3)
    batch = Products(few).draw(random.Random(0), 2)
    wanted, made, tried = Products(few).times(batch, several), Products._product, list[int]()

    def small(self: Products, batch: Any, some: dict[str, Tensor]) -> dict[str, Tensor]:
        tried.append(len(next(iter(some.values()))))
        if tried[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return made(self, batch, some)

    monkeypatch.setattr(Products, "_product", small)
    products = Products(few)
    for _ in range(2):  # the second time no pass is tried that is too large
        found = products.times(batch, several)
        assert all(torch.allclose(found[block], wanted[block], rtol=1e-4, atol=1e-6) for block in wanted)
    assert tried == [3, 1, 2, 1, 1, 1, 1, 1]


def test_lissa_with_a_scale_that_is_too_small_says_what_to_do(tiny_model: HFModel):
    card = replace(CARD, curvature="lissa", scale=1e-7, depth=60)
    with pytest.raises(DataError, match=r"lissa diverged with scale 1e-07; set attribution.scale"):
        scores_at(tiny_model, None, EXAMPLES, queries=EXAMPLES[:1], card=card, lora=LORA, seed=0, progress=ignore)


def test_lissa_does_not_take_a_recursion_that_grows_for_an_estimate(sample: Sampled):
    few = two(sample)
    card = replace(few.card, damping=1e-3, damping_kind="absolute", depth=24)
    largest = Products(few).largest_eigenvalue()
    lissa(few, vectors(few, 1), replace(card, scale=0.55 * largest))  # no step lengthens a vector: |1 - 1 / 0.55| < 1
    with pytest.raises(DataError, match=r"lissa diverged with scale .*; set attribution.scale to several times that"):
        lissa(few, vectors(few, 1), replace(card, scale=0.4 * largest))  # each by 1.5, to finite numbers


@pytest.mark.slow
def test_batch_and_repeats_of_lissa_matter(tiny_model: HFModel):
    card = replace(CARD, curvature="lissa", depth=4, lissa_batch=2)

    def found(card: AttributionCard) -> np.ndarray:
        return scores_at(tiny_model, None, EXAMPLES, queries=EXAMPLES[:2], card=card, lora=LORA, seed=0, progress=ignore)

    plain = found(card)
    assert not np.allclose(plain, found(replace(card, lissa_batch=6)), rtol=1e-3)
    assert not np.allclose(plain, found(replace(card, repeats=3)), rtol=1e-3)
    assert not np.allclose(plain, found(replace(card, scale=1e3)), rtol=1e-3)


@pytest.mark.parametrize("factors", ["tokens", pytest.param("gradients", marks=pytest.mark.slow)])
def test_ekfac_is_near_the_damped_block_diagonal_matrix(factors: str, sample: Sampled, solved: dict[str, Tensor]):
    card = replace(CARD, curvature_examples=0, draws=200, factors=factors)
    few = replace(two(sample), card=card)
    found = ekfac(few, vectors(few, 4), card)
    for name, expected in solved.items():
        cosine = torch.nn.functional.cosine_similarity(found[name].flatten(1).double(), expected).min()
        assert cosine > 0.9, name


def test_more_draws_of_labels_are_other_ones(sample: Sampled):
    few = two(sample)
    several = vectors(few, 1)
    once, twice, again = (
        ekfac(replace(few, card=card), several, card)
        for card in (replace(CARD, draws=1), replace(CARD, draws=2), replace(CARD, draws=2))
    )
    assert all(torch.equal(twice[b], again[b]) for b in several)
    assert not any(torch.allclose(twice[b], once[b], rtol=1e-2) for b in several)
