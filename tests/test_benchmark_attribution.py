"""The parts of benchmarks/attribution.py against brute force, on the tiny model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spa_bench.cards.training import LoraCard
from spa_bench.models.hf.stacked_lora import Adapter
from spa_bench.spa.batches import encode, pad, token_mean_losses
from spa_bench.types import Example

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import attribution  # noqa: E402
from attribution_parts import exact, part_speed, plain, ranks, retrain, search, setting  # noqa: E402

PAIRS = [Example("ab", "c"), Example("x", "y z"), Example("long er", " o")]
QUERIES = [Example("q", "rs"), Example("ab", "xyz")]


@pytest.fixture(scope="module")
def adapter(tiny_model: Any) -> Adapter:
    """A random adapter of rank 2 on the value projections, none of whose factors is zero."""
    generator = torch.Generator().manual_seed(3)
    factors = {
        path: (
            torch.randn(2, layer.base.in_features, generator=generator) * 0.3,
            torch.randn(layer.base.out_features, 2, generator=generator) * 0.3,
        )
        for path, layer in tiny_model.lora_layers(("v_proj",)).items()
    }
    return Adapter(factors, 2, 4.0)


def jacobians(model: Any, adapter: Adapter, pair: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """(T, V, P) and (T, V): logits of the completion tokens, one backward pass a number."""
    layers = model.lora_layers(("v_proj",))
    [one] = encode(model, [pair], "pair")
    ids, labels = pad([one])
    with plain.factors_at(layers, adapter) as leaves:
        logits = model.network(input_ids=ids, use_cache=False).logits[0, :-1][labels[0, 1:] != -100]
        every = torch.eye(logits.numel())
        rows = plain.flat(torch.autograd.grad(logits.flatten(), leaves, every, is_grads_batched=True))
    return rows.view(*logits.shape, -1), logits.detach()


@pytest.fixture(scope="module")
def dense(tiny_model: Any, adapter: Adapter) -> torch.Tensor:
    """The Gauss-Newton matrix (P, P) by its definition."""
    total = torch.zeros(plain.size_of(adapter), plain.size_of(adapter), dtype=torch.float64)
    for pair in PAIRS:
        jacobian, logits = jacobians(tiny_model, adapter, pair)
        for j, logit in zip(jacobian.double(), logits.double(), strict=True):
            p = logit.softmax(-1)
            total += j.T @ (torch.diag(p) - torch.outer(p, p)) @ j / len(logits) / len(PAIRS)
    return total


def test_the_matrix_is_the_gauss_newton_matrix(
    tiny_model: Any, adapter: Adapter, dense: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, passes = [], []
    for dropped in (1e-9, 1e-2):
        monkeypatch.setattr(exact, "DROPPED", dropped)
        folder = _made(tmp_path / str(dropped))
        found, count = exact.gauss_newton(tiny_model, adapter, PAIRS, folder, setting.silent_text)
        errors.append(np.abs(found - dense.numpy()).max() / float(dense.abs().max()))
        passes.append(count)
    assert errors[0] < 1e-4 < errors[1]
    assert passes[0] > passes[1] > 0


def test_a_stopped_matrix_goes_on_to_the_same(
    tiny_model: Any, adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "_GROUP", 1)
    whole, passes = exact.gauss_newton(tiny_model, adapter, PAIRS, _made(tmp_path / "whole"), setting.silent_text)

    def stop(text: str) -> None:
        if "2 of 3" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exact.gauss_newton(tiny_model, adapter, PAIRS, _made(tmp_path / "stopped"), stop)
    again, passes_again = exact.gauss_newton(tiny_model, adapter, PAIRS, tmp_path / "stopped", setting.silent_text)
    assert np.array_equal(whole, again)
    assert passes == passes_again


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_product_is_that_of_the_matrix(tiny_model: Any, adapter: Adapter, dense: torch.Tensor) -> None:
    matrix = dense.float().numpy()
    assert exact.product_error(tiny_model, adapter, PAIRS, matrix, 0) < 1e-3
    assert exact.product_error(tiny_model, adapter, PAIRS, matrix * 1.1, 0) > 0.05


def test_gradients_are_those_of_one_pair_after_the_other(tiny_model: Any, adapter: Adapter) -> None:
    found = plain.gradients(tiny_model, adapter, PAIRS)
    for i, pair in enumerate(PAIRS):
        jacobian, logits = jacobians(tiny_model, adapter, pair)
        [one] = encode(tiny_model, [pair], "pair")
        targets = torch.nn.functional.one_hot(torch.tensor(one.ids[one.head :]), logits.shape[-1])
        wanted = torch.einsum("tvp,tv->p", jacobian, logits.softmax(-1) - targets) / len(logits)
        assert torch.allclose(found[i], wanted, atol=1e-5)


def test_exact_scores_solve_the_damped_system(tiny_model: Any, adapter: Adapter, dense: torch.Tensor) -> None:
    matrix = dense
    found = exact.exact_scores(tiny_model, adapter, PAIRS, QUERIES, matrix.numpy(), 0.1)
    z, q = (plain.gradients(tiny_model, adapter, p).double() for p in (PAIRS, QUERIES))
    size = len(matrix)
    damped = matrix + 0.1 * matrix.trace() / size * torch.eye(size)
    assert np.allclose(found["full"], (z @ torch.linalg.solve(damped, q.T)).numpy(), rtol=1e-4)
    block = torch.zeros(len(PAIRS), len(QUERIES), dtype=torch.float64)
    for part in plain.blocks_of(adapter):
        own = matrix[part.place, part.place]
        own = own + 0.1 * own.trace() / len(own) * torch.eye(len(own))
        block += z[:, part.place] @ torch.linalg.solve(own, q[:, part.place].T)
    assert np.allclose(found["block"], block.numpy(), rtol=1e-4)
    assert not np.allclose(found["block"], found["full"], rtol=0.01)


def test_half_of_the_pairs_are_in_every_half() -> None:
    wanted = retrain.Retraining(LoraCard(), examples=10, halves=6)
    member = retrain.draw_halves(wanted)
    assert member.shape == (6, 10)
    assert (member.sum(1) == 5).all()
    assert len({row.tobytes() for row in member}) == 6
    more = retrain.draw_halves(retrain.Retraining(LoraCard(), examples=10, halves=8))
    assert np.array_equal(more[:6], member)


def test_query_losses_are_those_of_each_adapter_alone(tiny_model: Any, adapter: Adapter) -> None:
    found = retrain.query_losses(tiny_model, [adapter, None], QUERIES)
    layers = tiny_model.lora_layers(("v_proj",))
    for j, query in enumerate(QUERIES):
        ids, labels = pad(encode(tiny_model, [query], "query"))
        with plain.factors_at(layers, adapter):
            own = token_mean_losses(tiny_model.network(input_ids=ids, use_cache=False).logits, labels)
        bare = token_mean_losses(tiny_model.network(input_ids=ids, use_cache=False).logits, labels)
        assert found[0, j] == pytest.approx(own.item(), abs=1e-5)
        assert found[1, j] == pytest.approx(bare.item(), abs=1e-5)


def outputs_of(scores: np.ndarray, noise: float, seeds: int = 4, halves: int = 40) -> retrain.Outputs:
    """Losses that fall by the summed scores of a half's members, plus noise of a seed."""
    rng = np.random.default_rng(0)
    member = retrain.draw_halves(retrain.Retraining(LoraCard(), examples=len(scores), halves=halves))
    true = -member.astype(float) @ scores
    loss = true[:, None, :] + noise * true.std(0) * rng.standard_normal((halves, seeds, scores.shape[1]))
    return retrain.Outputs(member, loss, 0.0)


def test_lds_is_one_for_the_scores_that_made_the_losses_and_minus_one_for_their_opposite() -> None:
    scores = np.random.default_rng(1).standard_normal((20, 3))
    outputs = outputs_of(scores, 0.0)
    assert ranks.lds(scores, outputs) == pytest.approx(1)
    assert ranks.lds(-scores, outputs) == pytest.approx(-1)
    assert abs(ranks.lds(np.random.default_rng(2).standard_normal((20, 3)), outputs)) < 0.5


def test_the_ceiling_is_what_the_true_scores_reach() -> None:
    scores = np.random.default_rng(1).standard_normal((60, 8))
    outputs = outputs_of(scores, 2.0, seeds=4, halves=400)
    # reliability of a mean of 4: 1 / (1 + 4 / 4) = 0.5, of which the root is what the truth correlates with the means
    assert ranks.split_half(outputs) == pytest.approx(0.5**0.5, abs=0.05)
    assert ranks.lds(scores, outputs) == pytest.approx(ranks.split_half(outputs), abs=0.05)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((30, 6))
    outputs = outputs_of(scores, 1.0)
    good, bad = scores + 0.5 * rng.standard_normal(scores.shape), scores + 3 * rng.standard_normal(scores.shape)
    single, pairs = ranks.bootstrap_lds({"good": good, "same": 2 * good, "bad": bad}, outputs, draws=200)
    assert single["good"].low < single["good"].value < single["good"].high
    assert pairs["good", "same"].low == pairs["good", "same"].high == 0
    assert pairs["good", "bad"].low > 0
    assert pairs["good", "bad"].value == pytest.approx(single["good"].value - single["bad"].value)


def test_chunks_that_are_there_are_not_trained_again(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain, "training_pairs", lambda n: [Example(f"p{i}", f"c{i}") for i in range(n)])
    monkeypatch.setattr(retrain, "query_pairs", lambda n: QUERIES[:n])
    where, said = setting.Where(tmp_path), []
    recipe = LoraCard(rank=1, steps=1, warmup=0, batch=2)
    small = retrain.Retraining(recipe, examples=6, queries=2, halves=8, seeds=1)
    first = retrain.retrain(where, tiny_model, small, said.append)
    more = retrain.Retraining(recipe, examples=6, queries=2, halves=8, seeds=2)
    second = retrain.retrain(where, tiny_model, more, said.append)
    assert len(said) == 2
    assert second.loss.shape == (8, 2, 2)
    assert np.array_equal(second.loss[:, 0], first.loss[:, 0])
    assert not np.array_equal(second.loss[:, 1], first.loss[:, 0])


def lissa_in_one_batch(matrices: torch.Tensor, queries: torch.Tensor, depth: int, damping: float) -> torch.Tensor:
    """The recursion with the mean matrix, written as its geometric sum."""
    mean = matrices.mean(0)
    damped = mean + damping * mean.trace() / len(mean) * torch.eye(len(mean))
    scale = 1.25 * torch.linalg.eigvalsh(damped)[-1]
    step = torch.eye(len(mean)) - damped / scale
    return sum(queries @ torch.linalg.matrix_power(step, k) for k in range(depth + 1)) / scale


def test_the_search_finds_the_first_depth_that_reaches_the_floor() -> None:
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(6, 5, 12, generator=generator) * torch.linspace(0.1, 3, 12)
    matrices = roots.mT @ roots
    pairs, queries = torch.randn(20, 12, generator=generator), torch.randn(3, 12, generator=generator)
    mean = matrices.mean(0)
    damped = mean + 0.1 * mean.trace() / 12 * torch.eye(12)
    wanted = (pairs @ torch.linalg.solve(damped, queries.T)).double().numpy()

    def reached(depth: int) -> float:
        return ranks.rank_correlation((pairs @ lissa_in_one_batch(matrices, queries, depth, 0.1).T).double().numpy(), wanted)

    depths = (2, 5, 10, 20, 40, 80)
    first = next(d for d in depths if reached(d) >= 0.95)
    assert first > 2
    found = search.cheapest(
        matrices, pairs, queries, wanted, damping=0.1, floor=0.95, batches=(6,), repeats=(1,), depths=depths
    )
    assert found == search.Lissa(first, 1, 6)
    assert found.cost == first * 6
    never = search.cheapest(matrices, pairs, queries, wanted, damping=0.1, floor=0.95, batches=(6,), repeats=(1,), depths=(1,))
    assert never is None


def results(**changes: float) -> dict[str, Any]:
    """Results of all parts with every floor reached, but for `changes`."""
    at = {"ekfac": 0.96, "lissa": 0.97, "low": -0.01, "library": 4.0, "paper": 900.0} | changes
    return {
        "exact": {"ekfac": {"value": at["ekfac"]}, "whole": {"lissa": {"value": at["lissa"]}}},
        "lds": {"difference": {"low": at["low"]}, "library": "peer"},
        "speed": {
            "ratios": {"peer, curvature of all examples": at["library"]},
            "lissa": {"the paper's": {"ratio": at["paper"]}},
        },
    }


def test_every_floor_that_is_missed_is_named() -> None:
    assert attribution.missed(results()) == []
    for change in ({"ekfac": 0.94}, {"lissa": 0.94}, {"low": -0.06}, {"library": 2.9}, {"paper": 9.0}):
        assert len(attribution.missed(results(**change))) == 1, change
    assert attribution.missed({"lds": {"difference": None}}) == []


def test_ratios_are_those_of_one_round() -> None:
    found = part_speed.ratios({"default": [1.0, 10.0, 2.0], "other": [3.0, 40.0, 4.0]})
    assert found == {"other": 3.0}


def test_without_the_libraries_their_part_is_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attribution.main(["peers", "--cache", str(tmp_path)]) == 0
    assert "libraries skipped" in capsys.readouterr().err
    assert attribution.main(["peers", "--cache", str(tmp_path), "--peers-python", str(tmp_path / "none")]) == 2
    assert "attribution_peers.sh" in capsys.readouterr().err
