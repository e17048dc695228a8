"""The sums on the device against numpy's float64, and the float32 output layer against a plain forward pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, LlamaForCausalLM

from spa_bench.errors import ModelError
from spa_bench.metrics.distribution_table import READ_TWICE
from spa_bench.metrics.divergence import Divergences, divergences, of_sums
from spa_bench.metrics.token_sums import sums_of
from spa_bench.models.hf import divergence, token_sums
from spa_bench.models.hf.divergence import Forced, Wanted
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.output_layer import OutputLayer
from spa_bench.models.hf.reading import Readable, Way
from spa_bench.runs.divergence import measure_divergence
from spa_bench.types import Decoding, DivergenceSums, Member, Problem
from tiny import random_adapter

PAIRS = [("def f(x):\n", "    return x + 1\n"), ("1234", "    return 12\n"), ("# a\n", "    y = 3\n    return y * y\n")]


def members_of(logits: torch.Tensor, members: int, top: int = 20, dtype: torch.dtype = torch.float32) -> DivergenceSums:
    found = token_sums.token_sums(logits, members, top=top, dtype=dtype)
    assert found is not None
    return divergence.summed([found], members, top)


def largest_difference(found: Divergences, wanted: Divergences) -> float:
    def numbers(d: Divergences) -> Iterator[Any]:
        yield from (d.kl, d.js, d.tv, d.renyi[0.5], d.amari[0.5], d.entropy, d.top_k_entropy, d.top_k_mass)
        yield from (np.array(x, float) for x in (d.jensen_shannon_all, d.kl_to_base) if x is not None)

    return max(float(np.abs(a - b).max()) for a, b in zip(numbers(found), numbers(wanted), strict=True))


def logits_of(shape: tuple[int, int, int], scale: float, seed: int = 0) -> torch.Tensor:
    """Members around a common distribution, as adapters of one base are."""
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(1, *shape[1:], generator=g) + 0.1 * scale * torch.randn(shape, generator=g)


# the sums ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["torch", "numba"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two ways of a CPU is taken, whatever the vocabulary."""
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(token_sums, "_FUSED_FROM", {"torch": math.inf, "numba": 1}[request.param])
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("vocabulary", [31, 512, 1000, 5000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_divergences_are_those_of_numpy_in_float64(scale: float, vocabulary: int, dtype: torch.dtype, tolerance: float):
    logits = logits_of((5, 7, vocabulary), scale)
    logs = logits.double().log_softmax(-1).numpy()
    found = of_sums(members_of(logits, 4, dtype=dtype))
    wanted = divergences(logs[:4], base=logs[4])
    assert largest_difference(found, wanted) < tolerance
    assert wanted.kl[0, 1] > 100 * tolerance or scale < 1


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("members", [1, 2, 9])
def test_any_number_of_members_with_and_without_a_base(members: int):
    logits = logits_of((members + 1, 3, 700), 2.0)
    logs = logits.double().log_softmax(-1).numpy()
    assert largest_difference(of_sums(members_of(logits, members)), divergences(logs[:members], base=logs[-1])) < 1e-6
    assert largest_difference(of_sums(members_of(logits[:-1], members)), divergences(logs[:members])) < 1e-6


@pytest.mark.usefixtures("way")
def test_many_tiles_and_pieces_give_what_one_gives(monkeypatch: pytest.MonkeyPatch):
    logits = logits_of((4, 23, 3000), 2.0)
    whole = of_sums(members_of(logits, 3))
    monkeypatch.setattr(token_sums, "_TILE", {"cpu": 4 * 3000 * 5})
    monkeypatch.setattr(token_sums, "_PIECE", {"cpu": 1})
    assert largest_difference(of_sums(members_of(logits, 3)), whole) < 1e-7


@pytest.mark.usefixtures("way")
def test_equal_members_have_no_divergence():
    logits = logits_of((1, 6, 2000), 3.0).expand(3, -1, -1)
    found = of_sums(members_of(logits, 3))
    assert found.kl.max() == 0
    assert max(found.tv.max(), found.js.max(), found.amari[0.5].max()) < 1e-7


@pytest.mark.usefixtures("way")
def test_a_token_that_one_member_forbids_makes_kl_infinite_and_nothing_else():
    logits = logits_of((3, 4, 600), 1.0)
    logits[1, 2, 5] = -torch.inf
    logits[:, :, 9] = -torch.inf  # forbidden by all
    logs = logits.double().log_softmax(-1).numpy()
    found, wanted = of_sums(members_of(logits, 2)), divergences(logs[:2], base=logs[2])
    assert found.kl[0, 1] == wanted.kl[0, 1] == math.inf
    assert math.isfinite(found.kl[1, 0])
    assert found.kl_to_base is not None
    assert np.isfinite(found.kl_to_base).all()
    finite = replace(found, kl=found.kl.T[:1, 1:] * 0), replace(wanted, kl=wanted.kl.T[:1, 1:] * 0)
    assert np.isclose(found.kl[1, 0], wanted.kl[1, 0], atol=1e-6)
    for name in ("js", "tv", "entropy", "top_k_entropy", "top_k_mass"):
        np.testing.assert_allclose(getattr(finite[0], name), getattr(finite[1], name), atol=1e-6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("least", [-1e30, torch.finfo(torch.bfloat16).min, torch.finfo(torch.float32).min])
def test_tokens_that_a_network_masks_by_a_finite_number_add_nothing(least: float):
    """As Chameleon masks its image tokens."""
    logits = logits_of((3, 4, 3000), 1.0)
    logits[..., 100:2900] = least
    logs = logits.double().log_softmax(-1).numpy()
    found, wanted = of_sums(members_of(logits, 2)), divergences(logs[:2], base=logs[2])
    assert wanted.js[0, 1] > 1e-3
    assert largest_difference(found, wanted) < 1e-6


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_have_no_sums(bad: float):
    logits = logits_of((2, 3, 40), 1.0)
    logits[1, 2, 7] = bad
    assert token_sums.token_sums(logits, 2, top=3) is None
    logits[1, 2] = -torch.inf
    assert token_sums.token_sums(logits, 2, top=3) is None


@pytest.mark.usefixtures("way")
def test_the_likeliest_tokens_are_found_at_the_edges_and_among_ties():
    logits = torch.zeros(1, 3, 4099)
    logits[0, 0, -3:] = 9.0  # behind the last whole group
    logits[0, 1, :40] = 5.0
    logs = logits.double().log_softmax(-1).numpy()
    found, wanted = of_sums(members_of(logits, 1)), divergences(logs)
    np.testing.assert_allclose(found.top_k_mass, wanted.top_k_mass, atol=1e-9)
    np.testing.assert_allclose(found.top_k_entropy, wanted.top_k_entropy, atol=1e-9)


@pytest.mark.usefixtures("way")
def test_large_logits_lose_nothing_to_the_common_part():
    logits = logits_of((3, 5, 2000), 3.0) + 4096.0  # whose spacing is 2 ** -11
    logs = logits.double().log_softmax(-1).numpy()
    found, wanted = of_sums(members_of(logits, 2)), divergences(logs[:2], base=logs[2])
    assert largest_difference(found, wanted) < 1e-6


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("apart", [100.0, 220.0])  # exp of them is 0 in float32, and so is the root of the second
def test_members_that_share_next_to_nothing_are_as_far_apart_as_in_float64(apart: float):
    logits = logits_of((3, 2, 1000), 1.0)
    logits[0, 0, :500] -= apart
    logits[1, 0, 500:] -= apart
    logs = logits.double().log_softmax(-1).numpy()
    found, wanted = of_sums(members_of(logits, 3)), divergences(logs)
    assert wanted.renyi[0.5][0, 1] > 40
    np.testing.assert_allclose(found.renyi[0.5], wanted.renyi[0.5], atol=1e-6)


@pytest.fixture(scope="module")
def members(tiny_model: HFModel, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    """Two random adapters and the bare base between them."""
    folder, random = tmp_path_factory.mktemp("adapters"), torch.Generator().manual_seed(7)
    made = []
    for m, rank in enumerate((4, 7)):
        adapter = random_adapter(tiny_model.network, folder / str(m), random, rank=rank, scale=0.1)
        made.append(Member(f"m{m}", adapter, Decoding()))
    return [made[0], Member("base", None, Decoding()), made[1]]


# the model -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [True, False])
def test_a_models_divergence_is_that_of_its_distributions(base: bool, tiny_model: HFModel, members: list[Member]):
    logs = list(tiny_model.next_token_logprobs(PAIRS, [*members, Member("base", None, Decoding())]))
    found = list(tiny_model.divergence(PAIRS, members, base=base, top=20))
    for sums, each in zip(found, logs, strict=True):
        assert sums is not None
        assert each is not None
        wanted = divergences(each[:-1], base=each[-1] if base else None)
        assert sums.tokens == each.shape[1]
        assert largest_difference(of_sums(sums), wanted) < 1e-6
        assert wanted.kl[0, 1] > 1e-4


def test_a_problem_has_the_same_sums_in_any_company(tiny_model: HFModel, members: list[Member]):
    long = ("0" * 300, "    return 1\n" * 9)
    [alone] = tiny_model.divergence(PAIRS[:1], members, base=True, top=20)
    *_, among = tiny_model.divergence([long, *PAIRS[1:], PAIRS[0]], members, base=True, top=20)
    assert alone is not None
    assert among is not None
    for name in ("cross", "tv", "pairs", "top", "base"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(among, name))


def test_what_does_not_fit_is_none_and_the_others_keep_their_places(tiny_model: HFModel, members: list[Member]):
    contexts = [PAIRS[0], ("1" * 1020, "12345"), PAIRS[1]]
    first, none, last = tiny_model.divergence(contexts, members, base=False, top=20, again={1, 2})
    assert none is None
    assert first is not None
    assert last is not None
    assert (first.noise, last.noise) == (None, 0.0)  # float32 on a CPU: the same bytes in any company


def test_logits_in_small_pieces_give_the_same_sums(tiny_model: HFModel, members: list[Member], monkeypatch: pytest.MonkeyPatch):
    whole = list(tiny_model.divergence(PAIRS, members, base=True, top=20))
    monkeypatch.setattr(divergence, "_LOGIT_BYTES", {"cpu": 1})  # a token at a time
    for one, other in zip(tiny_model.divergence(PAIRS, members, base=True, top=20), whole, strict=True):
        assert one is not None
        assert other is not None
        assert largest_difference(of_sums(one), of_sums(other)) < 1e-6


def test_where_memory_ends_fewer_rows_are_read(tiny_model: HFModel, members: list[Member], monkeypatch: pytest.MonkeyPatch):
    wanted = list(tiny_model.divergence(PAIRS, members, base=True, top=20))
    read, refused = Forced._read, list[int]()

    def narrow(self: Forced, pairs: Any, adapters: Any) -> torch.Tensor:
        if len(pairs) > allowed:
            refused.append(len(pairs))
            raise MemoryError
        return read(self, pairs, adapters)

    monkeypatch.setattr(Forced, "_read", narrow)
    allowed = 1
    found = list(tiny_model.divergence(PAIRS, members, base=True, top=20))
    assert refused == [3]
    for one, other in zip(found, wanted, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.cross, other.cross)
    allowed = 0
    with pytest.raises(ModelError, match=r"out of memory with \d+ tokens for 3 members while divergence is measured"):
        list(tiny_model.divergence(PAIRS[:1], members[:2], base=True, top=20))


def test_where_memory_ends_fewer_tokens_are_looked_at(
    tiny_model: HFModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
):
    """The output layer, the sums over the vocabulary and a member that is read again alone."""
    wanted = list(tiny_model.divergence(PAIRS, members, base=True, top=20, again=[1]))
    scored = [np.array(each) for each in tiny_model.next_token_logprobs(PAIRS, members)]
    whole, sizes = OutputLayer.logits, list[int]()

    def narrow(self: OutputLayer, states: torch.Tensor) -> torch.Tensor:
        sizes.append(states.shape[1])
        if states.shape[1] > allowed:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, states)

    monkeypatch.setattr(OutputLayer, "logits", narrow)
    allowed = 2
    found = list(tiny_model.divergence(PAIRS, members, base=True, top=20, again=[1]))
    assert max(sizes) > 4
    for one, other in zip(found, wanted, strict=True):
        assert one is not None
        assert other is not None
        assert largest_difference(of_sums(one), of_sums(other)) < 1e-6
    for mine, other in zip(tiny_model.next_token_logprobs(PAIRS, members), scored, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    allowed = 0
    with pytest.raises(ModelError, match="out of memory with 1 tokens for 3 members while divergence is measured"):
        list(tiny_model.divergence(PAIRS[:1], members[:2], base=True, top=20))


def test_logits_that_are_not_finite_are_one_line(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OutputLayer, "logits", lambda self, states: torch.full((*states.shape[:2], 1024), torch.nan))
    with pytest.raises(ModelError, match="not finite"):
        list(tiny_model.divergence(PAIRS[:1], [Member("m", None, Decoding())], base=False, top=20))


# the output layer ----------------------------------------------------------------------------------------------------

SMALL = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
GEMMA = Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=16, final_logit_softcapping=2.0, initializer_range=0.5)
LLAMA = LlamaConfig(**SMALL, num_key_value_heads=2, initializer_range=0.5)


def network_of(config: Any, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval().to(dtype)


def inputs_of(rows: int = 3, columns: int = 9) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 97, (rows, columns), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("config", [GEMMA, LLAMA], ids=["softcap", "plain"])
def test_logits_by_pieces_are_the_networks_own(config: Any):
    network, inputs = network_of(config, torch.float32), inputs_of()
    layer = OutputLayer(network)
    with torch.inference_mode():
        wanted = network(**inputs).logits[:, -4:]
        states = layer.last_states(inputs, 4)
        found = torch.cat([layer.logits(states[:, :1]), layer.logits(states[:, 1:])], 1)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network(**inputs).logits[:, -4:], wanted, atol=0, rtol=0)  # the network is as before
    assert "forward" not in network.get_output_embeddings().__dict__
    assert config is LLAMA or wanted.abs().max() <= 2.0


class ScaledInPlace(LlamaForCausalLM):
    """A network that changes its logits in the memory in which its output layer gave them."""

    def forward(self, **given: Any) -> Any:
        out = super().forward(**given)
        out.logits.mul_(0.25)
        return out


def test_logits_that_a_network_changes_in_their_place_are_its_own():
    torch.manual_seed(0)
    network, inputs = ScaledInPlace(LLAMA).eval(), inputs_of()
    layer = OutputLayer(network)
    with torch.inference_mode():
        states = layer.last_states(inputs, 4)
        torch.testing.assert_close(layer.logits(states), network(**inputs).logits[:, -4:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [GEMMA, LLAMA], ids=["softcap", "plain"])
def test_the_output_layer_of_a_bfloat16_network_is_float32(config: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spa_bench.models.hf.output_layer._PIECE", 40)
    network, inputs = network_of(config, torch.bfloat16), inputs_of()
    layer = OutputLayer(network)
    with torch.inference_mode():
        states = layer.last_states(inputs, 4)
        wanted = nn.functional.linear(states.float(), network.get_output_embeddings().weight.float())
        if config is GEMMA:
            wanted = torch.tanh(wanted / 2.0) * 2.0
        found = layer.logits(states)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert network.get_output_embeddings().weight.dtype is torch.bfloat16


class NoLayer(nn.Module):
    """A network that names no output layer."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.inner = network

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


def test_a_network_without_a_named_output_layer_gives_its_logits():
    network, inputs = network_of(LLAMA, torch.float32), inputs_of()
    layer = OutputLayer(NoLayer(network))
    with torch.inference_mode():
        torch.testing.assert_close(layer.logits(layer.last_states(inputs, 4)), network(**inputs).logits[:, -4:])


def test_a_bfloat16_network_has_a_noise_floor_below_its_divergence(tmp_path: Path):
    network = network_of(LLAMA, torch.bfloat16)
    forced = Forced(Readable(network, Way(), context=1024), lambda _: nullcontext(), vocabulary=97, device=torch.device("cpu"))
    pairs = [(list(range(3, 30 + i)), list(range(40, 60))) for i in range(8)]
    found = list(forced.sums(pairs, Wanted(adapters=[None, None], members=2, top=5, again={3})))
    assert [s.noise is None for s in found] == [place != 3 for place in range(8)]
    assert found[3].noise is not None
    assert 0 <= found[3].noise < 1e-3


# rows of a run -------------------------------------------------------------------------------------------------------


class Known:
    """A model of which only the sums are asked; `again` keeps the places that are read twice."""

    def __init__(self) -> None:
        self.again: list[Collection[int]] = []

    def divergence(self, contexts: Any, members: Any, *, base: bool, top: int, again: Collection[int]) -> Iterator[Any]:
        self.again.append(tuple(again))
        for place, _ in enumerate(contexts):
            sums = sums_of(np.log(np.full((len(members), 2, 4), 0.25)), top=4)
            yield replace(sums, noise=1e-5) if place in again else sums


def problems(count: int) -> list[Problem]:
    return [Problem(id=f"p/{i}", prompt="x", reference="y") for i in range(count)]


@pytest.mark.parametrize(("noise", "members", "read"), [(True, 2, [0, 32]), (False, 2, []), (True, 1, [])])
def test_one_problem_of_32_is_read_again_where_noise_is_wanted(noise: bool, members: int, read: list[int]):
    model, voices = Known(), [Member(f"m{i}", None, Decoding()) for i in range(members)]
    rows = list(measure_divergence(problems(40), model, voices, (), noise=noise))  # type: ignore[arg-type]
    assert [i for i, row in enumerate(rows) if READ_TWICE in row.overall] == read
    done = {row.problem for row in rows[:5]}
    rest = list(measure_divergence(problems(40), model, voices, done, noise=noise))  # type: ignore[arg-type]
    assert rest == rows[5:]
