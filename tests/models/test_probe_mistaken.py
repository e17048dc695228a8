"""What the probe must not take for something else: numbers of layers for windows, NaN for nearness, memory for a fault."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spa_bench.errors import ModelError
from spa_bench.models.hf import lora_probe, rounding
from spa_bench.models.hf import probe as probing
from spa_bench.models.hf.lora_probe import check_stacked, seeded_ids
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.probe import Probed, probe
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import padded
from spa_bench.models.hf.stacked_lora import target_modules
from tiny import random_adapter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from architecture_parts.networks import ARCHITECTURES, Architecture, small_network  # noqa: E402

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
CPU = torch.device("cpu")


def probed(name: str, *, context: int = 384, **settings: Any) -> Probed:
    known = BY_NAME[name]
    network = small_network(Architecture(name, known.kind, known.settings | settings))
    return probe(network, vocabulary=1024, context=context, device=CPU)


# windows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mistral", "gpt_neo"])
def test_a_window_that_no_row_of_the_probe_reaches_over_is_taken_from_the_config(name: str, monkeypatch: pytest.MonkeyPatch):
    as_large(monkeypatch)
    assert probed(name).way.block == 0
    assert probed("llama").way.block == 16


@pytest.mark.parametrize(("windows", "block"), [([None, 256], 0), ([[256], 8], 0), ([8, None], 16)])
def test_windows_in_a_list_with_one_for_each_layer_are_taken_too(
    windows: list[Any], block: int, monkeypatch: pytest.MonkeyPatch
):
    as_large(monkeypatch)
    network = small_network(BY_NAME["llama"])
    network.config.attention_windows = windows
    assert probe(network, vocabulary=1024, context=384, device=CPU).way.block == block


@pytest.mark.parametrize(("window", "block"), [(383, 0), (384, 0), (399, 0), (400, 16)])
def test_a_window_that_rows_reach_over_with_their_masked_columns_alone_is_one(window: int, block: int):
    known = BY_NAME["mistral"]
    network = small_network(Architecture("mistral", known.kind, known.settings | {"sliding_window": window}))
    way = probe(network, vocabulary=1024, context=384, device=CPU).way
    assert way.block == block
    row = torch.randint(1024, (384,), generator=torch.Generator().manual_seed(3)).tolist()
    ids, mask = padded([(row[:-2], row[-2:])], block=way.block)
    read = Readable(network, way, context=384)
    with torch.inference_mode():
        found = read(input_ids=ids, attention_mask=mask, position_ids=mask.cumsum(-1).sub(1).clamp_min(0), logits_to_keep=2)
        wanted = network(input_ids=torch.tensor([row])).logits[:, -2:]
    torch.testing.assert_close(found.logits, wanted, atol=1e-4, rtol=1e-4)


def as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are probed as large ones: without a long row."""
    monkeypatch.setattr(probing, "_SMALL", 0)
    monkeypatch.setattr(probing, "_MEDIUM", {"cpu": 0})


@pytest.mark.parametrize("medium", [0, 10_000_000])
@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_a_number_of_layers_is_no_window(name: str, medium: int, monkeypatch: pytest.MonkeyPatch):
    as_large(monkeypatch)
    monkeypatch.setattr(probing, "_MEDIUM", {"cpu": medium})
    found = probed(name, max_window_layers=28)  # as in Qwen2.5 and Qwen3, which have no window
    assert found == probed(name, max_window_layers=4)
    assert (found.way.block, found.way.slots, found.way.same_bytes) == (16, True, True)


def test_a_number_of_experts_is_no_window(monkeypatch: pytest.MonkeyPatch):
    as_large(monkeypatch)
    assert probed("mixtral", sliding_window=None, num_local_experts=20).way.block == 16


@pytest.mark.parametrize(("name", "size"), [("mistral", "sliding_window"), ("gpt_neo", "window_size")])
def test_a_window_without_a_name_is_found_where_a_long_row_is_cheap(name: str, size: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "_SMALL", 0)
    monkeypatch.setattr(probing, "_WINDOW", re.compile("(?!)"))
    assert probed(name, **{size: 100}).way.block == 0
    monkeypatch.setattr(probing, "_MEDIUM", {"cpu": 0})
    assert probed(name, **{size: 100}).way.block == 16  # that is what the row is for


# numbers that are not finite -------------------------------------------------------------------------------------------


def spoiled(network: nn.Module, spoil: Callable[[torch.Tensor], None], *, rows: int = 2) -> nn.Module:
    """`network` whose logits (rows, T, V) are changed by `spoil` where it reads so many rows together, or more."""

    def hook(_: nn.Module, given: tuple[Any, ...], keys: dict[str, Any], out: Any) -> None:
        if len(keys["input_ids"]) >= rows:
            spoil(out.logits)

    network.register_forward_hook(hook, with_kwargs=True)
    return network


@pytest.mark.parametrize("row", [0, 1, -1])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_beside_others_alone_is_refused(row: int, value: float):
    network = spoiled(small_network(BY_NAME["llama"]), lambda logits: logits[row].fill_(value))
    with pytest.raises(ModelError, match=r"a row has other logits beside longer rows than alone \(they differ by inf of"):
        probe(network, vocabulary=1024, context=384, device=CPU)


def test_what_is_not_finite_is_infinitely_far_and_allows_nothing_more():
    want, network = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), small_network(BY_NAME["llama"])
    for value in (torch.nan, torch.inf, -torch.inf):
        got = want.clone()
        got[1, 2] = value
        assert rounding.distance(got, want) == rounding.distance(want, got) == torch.inf
        readings = iter([want, got])
        assert rounding.tolerance(network, lambda readings=readings: next(readings)) == 1e-4


def test_a_stack_whose_last_row_is_not_finite_is_not_taken_for_right():
    network = small_network(BY_NAME["llama"])
    paths, ids = target_modules(network), seeded_ids(network, 1024)
    read: list[int] = []

    def spoil(logits: torch.Tensor) -> None:
        read.append(len(logits))
        if len(read) > 1:  # behind the bare reading
            logits[-1].fill_(torch.nan)

    spoiled(network, spoil, rows=4)
    assert check_stacked(network, paths, ids, torch.float32) == dict.fromkeys(paths, "mixes the rows of members")


# memory ----------------------------------------------------------------------------------------------------------------


REFUSED = RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to")


def refuse(_: object) -> None:
    raise REFUSED


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_memory_that_ends_while_rows_are_read_is_one_line(rows: int):
    """With six rows or more it ends where their bytes are compared."""
    network = spoiled(small_network(BY_NAME["llama"]), refuse, rows=rows)
    with pytest.raises(ModelError, match=r"^LlamaForCausalLM: out of memory with 4 short rows; use a smaller dtype or model$"):
        probe(network, vocabulary=1024, context=384, device=CPU)


def test_a_network_that_does_not_fit_in_float32_after_all_is_read_in_its_own_type():
    network = small_network(BY_NAME["llama"]).to(torch.bfloat16)
    spoiled(network, lambda logits: refuse(logits) if logits.dtype is torch.float32 else None, rows=5)
    found = probe(network, vocabulary=1024, context=384, device=CPU)
    assert "read in bfloat16 alone, as memory does not hold it in float32" in found.notes[-1]
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


@pytest.fixture
def tiny(tiny_folder: Path) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


def test_memory_that_ends_is_no_fault_of_a_layer(tiny: HFModel, monkeypatch: pytest.MonkeyPatch):
    logits, read = lora_probe._logits, list[int]()

    def small(network: nn.Module, ids: torch.Tensor, *given: Any) -> torch.Tensor:
        read.append(len(ids))
        return logits(network, ids, *given) if len(read) < 6 else refuse(ids)  # type: ignore[return-value]

    monkeypatch.setattr(lora_probe, "_logits", small)
    with pytest.raises(ModelError, match="out of memory while two small adapters are tried; use a smaller dtype or model"):
        tiny.lora_layers("all-linear")
    assert read[-1] == 4  # two members
    monkeypatch.setattr(lora_probe, "_logits", logits)
    assert len(tiny.lora_layers("all-linear")) == 14


def test_memory_that_ends_is_no_fault_of_peft(tiny: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = random_adapter(tiny.network, tmp_path / "adapter", torch.Generator().manual_seed(0), rank=4, scale=0.1)
    tiny.lora_layers("all-linear")
    monkeypatch.setattr("peft.PeftModel.from_pretrained", lambda *_: refuse(0))
    with pytest.warns(UserWarning, match="out of memory: whether PEFT reads the adapters alike is not known"):
        assert tiny.peft_differs(folder) == ""
