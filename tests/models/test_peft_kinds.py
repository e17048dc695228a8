"""Adapters as PEFT itself writes them: plain ones are its dense update to the letter, others are refused in one line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spa_bench.errors import ModelError
from spa_bench.models.hf.merged_lora import merged
from spa_bench.models.hf.stacked_lora import Adapter, read_adapter

IDS = torch.arange(3, 40)[None]


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder))


def written(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter that PEFT made and saved, with numbers as after a training."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT on settings that it corrects by itself
        config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **settings})
        torch.manual_seed(0)
        made = get_peft_model(loaded(base), config)
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
        made.save_pretrained(str(folder))
    return folder


def logits(network: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network.eval()(input_ids=IDS).logits[0]
    return found


def dense(base: Path, adapters: list[Adapter], weights: list[float]) -> torch.Tensor:
    """The logits of a network to whose weights the weighted updates are added one by one, in float64."""
    network = loaded(base)
    for adapter, weight in zip(adapters, weights, strict=True):
        for path, (low, high) in adapter.factors.items():
            delta = weight * adapter.scale * (high.double() @ low.double())
            layer = network.get_submodule(path)
            layer.weight.data = (layer.weight.double() + delta).float()
    return logits(network)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"r": 3, "use_rslora": True},
        {"lora_dropout": 0.5, "init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"fan_in_fan_out": True},  # PEFT sets it right for a linear layer
        {"target_modules": "all-linear", "lora_alpha": -1},
        {"layers_to_transform": [1]},
    ],
    ids=str,
)
def test_a_plain_adapter_that_peft_wrote_is_read_as_peft_reads_it(settings: dict[str, Any], tiny_folder: Path, tmp_path: Path):
    from peft import PeftModel

    folder = written(tiny_folder, tmp_path / "a", **settings)
    theirs = logits(PeftModel.from_pretrained(loaded(tiny_folder), str(folder)))
    torch.testing.assert_close(dense(tiny_folder, [read_adapter(folder)], [1.0]), theirs, atol=5e-5, rtol=1e-4)
    assert (theirs - logits(loaded(tiny_folder))).abs().max() > 0.05


def test_sums_of_adapters_of_other_ranks_and_scales_are_the_dense_sums(tiny_folder: Path, tmp_path: Path):
    kinds: list[dict[str, Any]] = [{}, {"r": 2, "lora_alpha": 3, "use_rslora": True}, {"r": 7, "lora_alpha": 1}]
    adapters = [read_adapter(written(tiny_folder, tmp_path / str(i), **kind)) for i, kind in enumerate(kinds)]
    for weights in ([0.2, 0.3, 0.5], [1.0, 1.0, 0.0], [-0.5, 2.0, 0.25]):
        torch.testing.assert_close(
            dense(tiny_folder, [merged(adapters, weights)], [1.0]),
            dense(tiny_folder, adapters, weights),
            atol=5e-5,
            rtol=1e-4,
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa', which changes the base's own weights"),
        ({"init_lora_weights": "pissa_niter_2"}, "init_lora_weights = 'pissa_niter_2', which changes the base's own weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights = 'olora', which changes the base's own weights"),
        ({"layer_replication": [[1, 2], [0, 1]]}, "layer_replication"),
        ({"alora_invocation_tokens": [7, 8]}, "alora_invocation_tokens"),
        ({"bias": "lora_only"}, "bias = 'lora_only'"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "lora_bias"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
    ids=str,
)
def test_an_adapter_that_is_more_than_its_factors_is_refused(
    settings: dict[str, Any], said: str, tiny_folder: Path, tmp_path: Path
):
    """PEFT gives other logits than the factors on the base: they would be wrong without a word."""
    with pytest.raises(ModelError) as caught:
        read_adapter(written(tiny_folder, tmp_path / "a", **settings))
    assert f"is not plain LoRA ({said}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["corda", "OLoRA", "loftq", "lora_ga"])
def test_other_beginnings_that_change_the_base_are_refused(value: str, tiny_folder: Path, tmp_path: Path):
    folder = written(tiny_folder, tmp_path / "a")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "init_lora_weights": value}))
    with pytest.raises(ModelError, match=f"init_lora_weights = '{value}', which changes the base's own weights"):
        read_adapter(folder)


def test_an_adapter_with_a_setting_that_nobody_knows_yet_is_refused(tiny_folder: Path, tmp_path: Path):
    folder = written(tiny_folder, tmp_path / "a")
    config = folder / "adapter_config.json"
    known = json.loads(config.read_text())
    config.write_text(json.dumps({**known, "use_of_next_year": False, "other_config": None}))
    read_adapter(folder)
    config.write_text(json.dumps({**known, "use_of_next_year": True}))
    with pytest.raises(ModelError, match=r"is not plain LoRA \(use_of_next_year\)"):
        read_adapter(folder)


def test_an_adapter_that_peft_converted_to_plain_lora_is_read(tiny_folder: Path, tmp_path: Path):
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights="pissa")
    with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        made = get_peft_model(loaded(tiny_folder), config)
        made.peft_config["default"].init_lora_weights = True
        made.save_pretrained(str(tmp_path / "start"))
        made.peft_config["default"].init_lora_weights = "pissa"
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
        theirs = logits(made)
        made.save_pretrained(str(tmp_path / "a"), path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    torch.testing.assert_close(dense(tiny_folder, [read_adapter(tmp_path / "a")], [1.0]), theirs, atol=5e-4, rtol=1e-3)
    assert isinstance(made, PeftModel)


def test_an_adapter_without_factors_is_refused(tiny_folder: Path, tmp_path: Path):
    folder = written(tiny_folder, tmp_path / "a")
    save_file({}, folder / "adapter_model.safetensors")
    with pytest.raises(
        ModelError, match=r"the adapter in .* has no LoRA factors, and would change nothing; its file is broken"
    ):
        read_adapter(folder)
