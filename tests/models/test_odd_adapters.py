"""Adapters with odd settings, shapes and types: one ModelError of one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spa_bench.errors import ModelError
from spa_bench.models.hf.stacked_lora import read_adapter
from spa_bench.models.vllm.shape import rank_of

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0}
NAME = "base_model.model.layer.lora_{}.weight"


def _written(folder: Path, config: Any, low: torch.Tensor, high: torch.Tensor, text: str | None = None) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config) if text is None else text)
    save_file({NAME.format("A"): low, NAME.format("B"): high}, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    def make(config: Any = CONFIG, low: Any = None, high: Any = None, text: str | None = None) -> Path:
        usual = torch.zeros(2, 3), torch.zeros(5, 2)
        return _written(
            tmp_path / "adapter", config, usual[0] if low is None else low, usual[1] if high is None else high, text
        )

    return make


def test_a_plain_adapter_is_read(made: Callable[..., Path]):
    adapter = read_adapter(made())
    assert (adapter.rank, adapter.alpha, list(adapter.factors)) == (2, 4.0, ["layer"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": None}, "has r = None; it must be a whole number"),
        ({"r": 0}, "has r = 0"),
        ({"r": "2"}, "has r = '2'"),
        ({"r": 10**30}, "has r = 1000"),
        ({"lora_alpha": None}, "has lora_alpha = 'None'; it must be a finite number"),
        ({"lora_alpha": float("nan")}, "has lora_alpha = 'nan'"),
        ({"lora_alpha": 10**400}, "it must be a finite number"),
        ({"r": 3}, "have the shapes (2, 3) and (5, 2), not rank 3"),
    ],
)
def test_odd_settings_are_one_line(changes: dict[str, Any], said: str, made: Callable[..., Path]):
    with pytest.raises(ModelError) as error:
        read_adapter(made({**CONFIG, **changes}))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_that_is_no_object_or_nested_too_deep_is_one_line(made: Callable[..., Path], tmp_path: Path):
    folder = made(text="[1]")
    with pytest.raises(ModelError, match="holds no object"):
        read_adapter(folder)
    (folder / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="is broken: maximum recursion depth"):
        read_adapter(folder)
    with pytest.raises(ModelError, match="names no rank"):
        rank_of(folder)


def test_factors_that_are_no_matrices_of_floats_are_one_line(made: Callable[..., Path]):
    with pytest.raises(ModelError, match=r"have the shapes \(6,\) and \(5, 2\), not rank 2"):
        read_adapter(made(low=torch.zeros(6)))


def test_factors_of_whole_numbers_are_one_line(made: Callable[..., Path]):
    with pytest.raises(ModelError, match=r"have the types torch\.int32 and torch\.float32, which are no floats"):
        read_adapter(made(low=torch.zeros(2, 3, dtype=torch.int32)))
