"""Rows begin where others have ended, prompts are read once, and answers come out as they end."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spa_bench.models.hf import packed, sampling
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.packed import PackedLinears
from spa_bench.models.hf.products import least_rows
from spa_bench.models.hf.sampling import RowDecoding, choose
from spa_bench.models.hf.stacked_lora import target_modules
from spa_bench.support import interrupt
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Decoding, Key, Member, Request
from tiny import random_adapter

PROMPTS = [f"def f{i}(nums):\n" + '    """The sum."""\n' * (i % 3) for i in range(6)]
BASE = Member("base", None, Decoding())
HOT = {"temperature": 0.9}


@pytest.fixture
def model(tiny_folder: Path) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=8), name="tiny")


@pytest.fixture
def adapter(model: HFModel, tmp_path: Path) -> Path:
    return random_adapter(model.network, tmp_path / "adapter", torch.Generator().manual_seed(0), rank=4, scale=0.2)


def request(number: int, draw: int, tokens: int, member: int = 0, **decoding: Any) -> Request:
    return Request(
        problem_id=str(number),
        member=member,
        draw=draw,
        kind="generate",
        prompt=PROMPTS[number],
        decoding=Decoding(max_new_tokens=tokens, **{**HOT, **decoding}),
        seed=draw_seed(0, "t", str(number), member, draw),
    )


def uneven(members: int = 1, **decoding: Any) -> list[Request]:
    """Requests of which some end early and some late."""
    return [
        request(i, d, 1 + (5 * i + 11 * d) % 23, m, **decoding)
        for i in range(len(PROMPTS))
        for m in range(members)
        for d in range(3)
    ]


class Passes:
    """The shapes of the forward passes of a network."""

    def __init__(self, model: HFModel):
        self.shapes: list[tuple[int, int]] = []
        model.network.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, args: Any, kwargs: Any) -> None:
        self.shapes.append(tuple(kwargs["input_ids"].shape))

    @property
    def steps(self) -> int:
        return sum(columns == 1 for _, columns in self.shapes)

    @property
    def prompts(self) -> int:
        return sum(rows for rows, columns in self.shapes if columns > 1)


def test_a_prompt_is_read_once_for_all_its_draws(model: HFModel):
    passes = Passes(model)
    list(model.generate([request(i, d, 12) for i in range(6) for d in range(20)], [BASE]))
    assert passes.prompts == 6


def test_a_prompt_is_read_once_for_each_adapter(model: HFModel, adapter: Path):
    members = [BASE, Member("a", adapter, Decoding()), Member("hotter", None, Decoding())]
    list(model.generate([request(0, 0, 1, 1)], members))  # wraps the layers, which are probed then
    passes = Passes(model)
    list(model.generate([request(i, d, 12, m) for i in range(6) for d in range(5) for m in range(3)], members))
    assert passes.prompts == 12


def test_freed_slots_are_filled_so_that_fewer_steps_are_needed(model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model.codec, "ends", frozenset())
    passes = Passes(model)
    # eight rows: one long answer in each eighth would make each batch last 40 steps
    asked = [request(n % 6, n, 40 if n % 8 == 0 else 5) for n in range(48)]
    found = list(model.generate(asked, [BASE]))
    assert len(found) == 48
    assert passes.steps < 120  # 6 batches of 40 steps without
    assert all(c.tokens == r.decoding.max_new_tokens for r in asked for c in found if c.key == r.key)


def test_answers_come_out_as_they_end(model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model.codec, "ends", frozenset())
    passes = Passes(model)
    seen = [(c.key, passes.steps) for c in model.generate([request(0, d, 3 + 10 * d) for d in range(4)], [BASE])]
    assert seen == [(Key("0", 0, d), 3 + 10 * d) for d in range(4)]


@pytest.mark.parametrize("size", [4, pytest.param(5, marks=pytest.mark.slow), 16])
@pytest.mark.parametrize("stop", [(), ("\n", " re")])
def test_an_answer_is_the_same_in_a_slot_that_another_left(size: int, stop: tuple[str, ...], tiny_folder: Path, adapter: Path):
    members = [BASE, Member("a", adapter, Decoding())]
    asked = uneven(2, stop=stop)
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=size))
    together = {c.key: c for c in model.generate(asked, members)}
    assert len(together) == len(asked)
    for one in asked[::5]:
        [alone] = model.generate([one], members)
        assert alone == together[one.key]
    mine = [r for r in asked if r.member]
    assert {c.key: c for c in model.generate(mine, members)} == {r.key: together[r.key] for r in mine}


@pytest.mark.parametrize("length", [470, 505, 520, 700])
def test_an_answer_is_the_same_beyond_512_columns(length: int, model: HFModel):
    long = replace(request(0, 0, 60), prompt="0123456789" * (length // 10))
    company = [replace(request(1, d, 60), prompt="98765" * (k // 5)) for d, k in enumerate((5, 300, 600, 900, 100, 40, 510))]
    [alone] = model.generate([long], [BASE])
    together = {c.key: c for c in model.generate([long, *company], [BASE])}
    assert together[long.key] == alone


def test_an_interrupted_stream_begins_nothing_new(model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model.codec, "ends", frozenset())
    asked = [request(n % 6, n, 6 + n) for n in range(30)]
    found = []
    monkeypatch.setattr(interrupt, "_asked", threading.Event())

    def draw() -> None:
        for completion in model.generate(asked, [BASE]):
            found.append(completion)
            interrupt._asked.set()

    with pytest.raises(KeyboardInterrupt):
        draw()
    in_hand = max(8, least_rows(torch.device("cpu")))  # the fixture asks for eight
    assert len(found) == len({c.key for c in found}) == in_hand


# choosing ------------------------------------------------------------------------------------------------------------

DECODINGS = [
    {},
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"top_k": 40},
    {"top_k": 3000},
    {"min_p": 0.05},
    {"min_p": 1e-6},
    {"temperature": 3.0},
    {"temperature": 0.0},
    {"top_k": 700, "top_p": 0.8, "min_p": 0.01},
]


@pytest.mark.parametrize("ties", [False, True])
def test_the_draw_from_the_likeliest_is_that_from_all(ties: bool, monkeypatch: pytest.MonkeyPatch):
    vocabulary, rows = 4096, 60 * len(DECODINGS)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, vocabulary, generator=generator) * torch.linspace(0, 6, rows)[:, None]
    if ties:
        logits = logits.round()
    uniform = torch.rand(rows, generator=generator)
    decodings = [Decoding(**{"temperature": 1.0, **DECODINGS[i % len(DECODINGS)]}) for i in range(rows)]
    columns = RowDecoding.of(decodings, vocabulary, torch.device("cpu"))
    sorted_rows = []
    real = sampling._ordered
    monkeypatch.setattr(
        sampling, "_ordered", lambda p: real(sorted_rows.append(len(p)) or p if p.shape[-1] == vocabulary else p)
    )
    some = choose(logits, columns, uniform)
    assert 0 < sum(sorted_rows) < rows
    monkeypatch.setattr(sampling, "_LIKELIEST", vocabulary)
    assert torch.equal(some, choose(logits, columns, uniform))


# packed weights ------------------------------------------------------------------------------------------------------


def test_packed_layers_are_the_layers(model: HFModel):
    ids = torch.arange(24).view(2, 12)
    with torch.inference_mode():
        plain = model.network(ids).logits
        with PackedLinears(model.network).use():
            found = model.network(ids).logits
        again = model.network(ids).logits
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-4)
    assert torch.equal(again, plain)


def test_a_weight_that_changed_is_packed_anew(model: HFModel):
    linears, ids = PackedLinears(model.network), torch.arange(12)[None]
    with torch.inference_mode(), linears.use():
        model.network(ids)
    with torch.no_grad():
        layer: Any = model.network.get_submodule(target_modules(model.network)[0])
        layer.weight.mul_(3)
    with torch.inference_mode():
        plain = model.network(ids).logits
        with linears.use():
            torch.testing.assert_close(model.network(ids).logits, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not packed._works(torch.bfloat16), reason="this CPU or build of torch has no packed product in bfloat16")
def test_bfloat16_is_packed_to_the_same_bits(tiny_folder: Path):
    network = HFModel(str(tiny_folder), HFOptions(device="cpu", dtype="bfloat16", threads=1)).network
    linears = PackedLinears(network)
    assert len(linears._layers()) == sum(type(m) is torch.nn.Linear for m in network.modules()) > 0
    ids = torch.arange(48).view(4, 12)
    with torch.inference_mode():
        plain = network(ids).logits
        with linears.use():
            assert torch.equal(network(ids).logits, plain)


def test_no_type_is_packed_where_its_product_fails_or_is_another(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    network = HFModel(str(tiny_folder), HFOptions(device="cpu", dtype="float32", threads=1)).network
    assert PackedLinears(network.double())._layers() == []
    packed._works.cache_clear()
    monkeypatch.setattr(packed, "_times", lambda x, weight, bias=None: x[:, :48] * 0)
    assert PackedLinears(network.float())._layers() == [] == PackedLinears(network.bfloat16())._layers()
    network.lm_head.float()
    packed._works.cache_clear()
    monkeypatch.undo()
    assert PackedLinears(network)._layers() == []  # two types
