"""The cuts beside top-k, top-p and min-p: as transformers' warpers where it has them, as the papers' formulas elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spa_bench.models.hf import sampling
from spa_bench.models.hf.cuts import Cuts, cut, surprise, unsurprising
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.sampling import RowDecoding, choose, next_token, uniforms
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Decoding, Member, Request

CPU = torch.device("cpu")
VOCABULARY = 300


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    """Distributions from nearly even to nearly certain."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, VOCABULARY, generator=generator) * torch.linspace(0.2, 6, rows)[:, None]


def scores(logits: torch.Tensor, decodings: Sequence[Decoding]) -> torch.Tensor:
    cuts = Cuts.of(decodings, logits.shape[-1], CPU)
    assert cuts is not None
    assert cuts.places == tuple(range(len(decodings)))
    return cut(logits, cuts)


def warped(logits: torch.Tensor, **knobs: float) -> torch.Tensor:
    """What transformers makes of `logits`, with the warpers of `generate` in its order."""
    from transformers import GenerationConfig
    from transformers.generation.utils import GenerationMixin

    class Asker(GenerationMixin):
        """As much of a model as `generate` asks for its warpers."""

        class config:
            @staticmethod
            def get_text_config() -> Any:
                return None

            vocab_size = VOCABULARY

    config = GenerationConfig(do_sample=True, **{"top_k": 0, **knobs})
    warpers = Asker()._get_logits_processor(
        generation_config=config, input_ids_seq_length=1, encoder_input_ids=torch.zeros(1, 1), device="cpu"
    )
    return warpers(torch.zeros(len(logits), 1, dtype=torch.long), logits)


KNOBS: list[dict[str, float]] = [
    {"typical_p": 0.2},
    {"typical_p": 0.95},
    {"epsilon_cutoff": 0.0009},
    {"epsilon_cutoff": 0.3},
    {"eta_cutoff": 0.0009},
    {"eta_cutoff": 0.02},
    {"typical_p": 0.9, "epsilon_cutoff": 0.004, "eta_cutoff": 0.01},
    {"top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8},
    {"top_p": 0.8, "eta_cutoff": 0.05},
]


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.9])
@pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: ",".join(f"{k}={v:g}" for k, v in knobs.items()))
def test_the_tokens_kept_and_their_probabilities_are_those_of_transformers(knobs: dict[str, float], temperature: float):
    logits = logits_of(64)
    theirs = warped(logits, temperature=temperature, **knobs)
    ours = scores(logits, [Decoding(temperature=temperature, **knobs)] * 64)  # type: ignore[arg-type]
    assert torch.equal(ours == -math.inf, theirs == -math.inf)
    assert 0 < (ours == -math.inf).sum() <= ours.numel() - len(ours)
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1), atol=1e-7, rtol=1e-5)


def test_tokens_that_cannot_be_stay_impossible_and_change_no_cut():
    logits = logits_of(8)
    wider = torch.cat([logits, torch.full((8, 5), -math.inf)], -1)
    for knobs in ({"typical_p": 0.9}, {"epsilon_cutoff": 0.01}, {"eta_cutoff": 0.01}, {"top_n_sigma": 1.0}):
        decodings = [Decoding(temperature=1.0, **knobs)] * 8  # type: ignore[arg-type]
        found = scores(wider, decodings)
        assert torch.equal(found[:, :VOCABULARY], scores(logits, decodings))
        assert (found[:, VOCABULARY:] == -math.inf).all()


@pytest.mark.parametrize(
    "knobs", [{"top_k": 2}, {"top_k": 2, "typical_p": 0.999}, {"top_p": 0.5}, {"top_p": 0.5, "eta_cutoff": 1e-6}]
)
def test_of_equal_tokens_at_an_edge_the_first_ones_are_kept(knobs: dict[str, float]):
    uniform = torch.linspace(0, 1 - 2**-24, 101)
    decoding = RowDecoding.of([Decoding(temperature=1.0, **knobs)] * 101, 4, CPU)  # type: ignore[arg-type]
    assert set(choose(torch.zeros(101, 4), decoding, uniform).tolist()) == {0, 1}


@pytest.mark.parametrize("knobs", [{}, {"typical_p": 0.999}, {"top_n_sigma": 1e30}, {"mirostat_tau": 1e30}], ids=str)
def test_the_highest_temperature_of_a_card_draws_from_all_that_can_be(knobs: dict[str, float]):
    logits = torch.tensor([0.0, -math.inf, 3.0, 60.0]).repeat(90, 1)
    decoding = RowDecoding.of([Decoding(temperature=1e30, **knobs)] * 90, 4, CPU)  # type: ignore[arg-type]
    drawn = choose(logits, decoding, (torch.arange(90) + 0.5) / 90)
    assert torch.bincount(drawn, minlength=4).tolist() == [30, 0, 30, 30]


# top-nσ ---------------------------------------------------------------------------------------------------------------


def kept(logits: list[float], **knobs: float) -> list[int]:
    found = scores(torch.tensor([logits]), [Decoding(**{"temperature": 1.0, **knobs})])[0]  # type: ignore[arg-type]
    return [token for token, score in enumerate(found.tolist()) if score > -math.inf]


def test_top_n_sigma_keeps_logits_within_n_standard_deviations_of_the_largest():
    logits = [5.0, 4.0, 3.0, 2.0, 1.0]  # sample standard deviation sqrt(10 / 4) = 1.5811
    assert kept(logits, top_n_sigma=0.63) == [0]  # 0.63 sigma = 0.996
    assert kept(logits, top_n_sigma=0.64) == [0, 1]  # 1.012
    assert kept(logits, top_n_sigma=1.26) == [0, 1]  # 1.992; the standard deviation over V would be 1.414, and 1.78
    assert kept(logits, top_n_sigma=1.27) == [0, 1, 2]
    assert kept(logits, top_n_sigma=2.6) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0, 50.0])
def test_top_n_sigma_keeps_the_same_tokens_at_every_temperature(temperature: float):
    logits = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert kept(logits, top_n_sigma=1.0, temperature=temperature) == [0, 1]
    found = scores(torch.tensor([logits]), [Decoding(temperature=temperature, top_n_sigma=1.0)])[0].softmax(-1)
    assert found[0].item() == pytest.approx(1 / (1 + math.exp(-1 / temperature)))


# by hand --------------------------------------------------------------------------------------------------------------


def test_typical_sampling_can_leave_out_the_most_likely_token():
    logits = torch.tensor([0.5, 0.2, 0.15, 0.15]).log().tolist()  # entropy 1.238 nats; surprises 0.69, 1.61, 1.90, 1.90
    assert kept(logits, typical_p=0.1) == [1]  # distances 0.545, 0.371, 0.659, 0.659
    assert kept(logits, typical_p=0.3) == [0, 1]
    assert kept(logits, typical_p=0.75) == [0, 1, 2, 3]  # a tie is kept whole


def test_epsilon_and_eta_by_hand():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]).log().tolist()  # entropy 1.2996 nats: exp(-entropy) 0.2726
    assert kept(logits, epsilon_cutoff=0.1) == [0, 1, 2]
    assert kept(logits, epsilon_cutoff=0.9) == [0]
    assert kept(logits, eta_cutoff=0.04) == [0, 1, 2, 3, 4]  # min(0.04, 0.2 * 0.2726 = 0.0545)
    assert kept(logits, eta_cutoff=0.09) == [0, 1, 2]  # min(0.09, 0.3 * 0.2726 = 0.0818)
    assert kept(logits, eta_cutoff=0.64) == [0, 1]  # min(0.64, 0.8 * 0.2726 = 0.2181)


# mirostat -------------------------------------------------------------------------------------------------------------


def mirostat(
    logits: np.ndarray, uniform: np.ndarray, tau: float, eta: float, temperature: float
) -> tuple[list[int], list[float]]:
    """(tokens, bounds before each) of mirostat 2.0, one token after another, as the paper's algorithm says it."""
    mu, tokens, bounds = 2 * tau, [], []
    for row, u in zip(logits.astype(np.float64), uniform, strict=True):
        bounds.append(mu)
        p = np.exp(row / temperature - (row / temperature).max())
        p /= p.sum()
        order = np.argsort(-p, kind="stable")
        many = max(1, int((-np.log2(p[order]) <= mu).sum()))
        left = p[order[:many]] / p[order[:many]].sum()
        token = int(order[min(int((left.cumsum() <= u).sum()), many - 1)])
        mu -= eta * (-math.log2(p[token]) - tau)
        tokens.append(token)
    return tokens, bounds


@pytest.mark.parametrize(("tau", "eta", "temperature"), [(3.0, 0.1, 1.0), (1.0, 1.0, 1.5), (6.0, 0.5, 0.8)])
def test_mirostat_draws_what_its_algorithm_draws(tau: float, eta: float, temperature: float):
    steps = 200
    logits, uniform = (
        logits_of(steps, seed=3)[torch.randperm(steps, generator=torch.Generator().manual_seed(1))],
        uniforms(7, steps),
    )
    decoding = RowDecoding.of([Decoding(temperature=temperature, mirostat_tau=tau, mirostat_eta=eta)], VOCABULARY, CPU)
    tokens, bounds, bound = [], [], None
    for step in range(steps):
        bounds.append(2 * tau if bound is None else float(bound))
        token, bound = next_token(logits[step : step + 1], decoding, torch.from_numpy(uniform[step : step + 1]), bound)
        tokens.append(int(token))
    wanted, wanted_bounds = mirostat(logits.numpy(), uniform, tau, eta, temperature)
    assert tokens == wanted
    assert bounds == pytest.approx(wanted_bounds, abs=1e-3)
    assert max(bounds) - min(bounds) > 0.3


def test_mirostat_holds_the_mean_surprise_at_its_target():
    steps, tau = 3000, 4.0
    logits = -torch.arange(1.0, VOCABULARY + 1).log().repeat(steps, 1)  # Zipf's law
    bits = surprise(logits[:1])[0]
    assert float((bits * 2**-bits).sum()) > tau + 1  # of draws that nothing steers
    decoding = RowDecoding.of([Decoding(temperature=1.0, mirostat_tau=tau)], VOCABULARY, CPU)
    total, bound, uniform = 0.0, None, torch.from_numpy(uniforms(1, steps))
    for step in range(steps):
        token, bound = next_token(logits[step : step + 1], decoding, uniform[step : step + 1], bound)
        total += float(bits[int(token)])
    assert total / steps == pytest.approx(tau, abs=0.05)


def test_mirostat_keeps_the_most_likely_token_under_any_bound():
    bits = surprise(logits_of(5))
    keep = unsurprising(bits, torch.full((5, 1), -3.0))
    assert keep.sum(-1).tolist() == [1] * 5
    assert torch.equal(keep.int().argmax(-1), bits.argmin(-1))


# in a batch -----------------------------------------------------------------------------------------------------------

OWN: list[dict[str, Any]] = [
    {},
    {"typical_p": 0.9},
    {"top_p": 0.9},
    {"mirostat_tau": 5.0, "mirostat_eta": 1.0},
    {"temperature": 0.0, "eta_cutoff": 0.01},
    {"eta_cutoff": 0.01},
    {"epsilon_cutoff": 0.01, "top_k": 7},
    {"top_n_sigma": 1.5},
]


@pytest.mark.parametrize("vocabulary", [300, 4096])
def test_a_row_is_drawn_as_it_is_alone(vocabulary: int):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(64, vocabulary, generator=generator) * torch.linspace(0.5, 6, 64)[:, None]
    decodings = [Decoding(**{"temperature": 1.0, **OWN[i % len(OWN)]}) for i in range(64)]
    uniform = torch.rand(64, generator=generator)
    together = choose(logits, RowDecoding.of(decodings, vocabulary, CPU), uniform)
    for i in range(64):
        alone = choose(logits[i : i + 1], RowDecoding.of([decodings[i]], vocabulary, CPU), uniform[i : i + 1])
        assert together[i] == alone[0], decodings[i]


def test_greedy_rows_are_the_argmax_whatever_cuts_they_have():
    logits = logits_of(5)
    decodings = [Decoding(**knobs) for knobs in ({}, {"typical_p": 0.1}, {"mirostat_tau": 1.0}, {"eta_cutoff": 0.5}, {})]
    assert Cuts.of(decodings, VOCABULARY, CPU) is None
    assert torch.equal(choose(logits, RowDecoding.of(decodings, VOCABULARY, CPU), torch.full((5,), 0.9)), logits.argmax(-1))


@pytest.mark.parametrize("knobs", [k for k in OWN if k and "top_p" not in k and "temperature" not in k], ids=str)
def test_the_draw_from_the_likeliest_is_that_from_all(knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    vocabulary, rows = 4096, 200
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, vocabulary, generator=generator) * torch.linspace(0, 6, rows)[:, None]
    uniform = torch.rand(rows, generator=generator)
    columns = RowDecoding.of([Decoding(temperature=1.0, **knobs)] * rows, vocabulary, CPU)
    some = choose(logits, columns, uniform)
    monkeypatch.setattr(sampling, "_LIKELIEST", vocabulary)
    assert torch.equal(some, choose(logits, columns, uniform))


def request(number: int, draw: int, tokens: int, **decoding: Any) -> Request:
    return Request(
        problem_id=str(number),
        member=0,
        draw=draw,
        kind="generate",
        prompt=f"def f{number}(nums):\n",
        decoding=Decoding(max_new_tokens=tokens, **{"temperature": 0.9, **decoding}),
        seed=draw_seed(0, "t", str(number), 0, draw),
    )


@pytest.mark.parametrize("size", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_a_rows_state_goes_with_it_through_slots_that_others_leave(size: int, tiny_folder: Path):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=size))
    base = Member("base", None, Decoding())
    asked = [request(i, d, 1 + (5 * i + 11 * d) % 23, **OWN[(i + d) % len(OWN)]) for i in range(6) for d in range(6)]
    together = {c.key: c.text for c in model.generate(asked, [base])}
    alone = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    for one in asked:
        [single] = alone.generate([one], [base])
        assert together[one.key] == single.text, one.decoding
    still = [replace(one, decoding=replace(one.decoding, mirostat_eta=1e-9)) for one in asked if one.decoding.mirostat_tau]
    assert any(together[c.key] != c.text for c in alone.generate(still, [base]))  # the state does something


def test_a_row_with_logits_that_are_not_finite_fails_alone():
    logits = logits_of(3)
    logits[1] = math.nan
    for knobs in OWN[1:]:
        decodings = [Decoding(**{"temperature": 1.0, **knobs})] * 3
        good = choose(logits[:1], RowDecoding.of(decodings[:1], VOCABULARY, CPU), torch.tensor([0.4]))
        found = choose(logits, RowDecoding.of(decodings, VOCABULARY, CPU), torch.full((3,), 0.4))
        assert found[0] == good[0]
        assert 0 <= int(found[1]) < VOCABULARY
