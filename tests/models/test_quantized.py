"""Bases of 8 and 4 bits by bitsandbytes, on the CPU, which it serves too.

The right values are those of a float model with the dequantised weights: 4 bits give the same numbers, 8 bits round the rows
too.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import ModelError, UsageError
from spa_bench.mini.data import MODEL
from spa_bench.models.hf.gguf import Origin
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.placed import matrix_of, parameter_count, quantized_layers
from spa_bench.models.hf.stacked_lora import (
    MARK,
    Adapter,
    read_adapter,
    stack,
    target_modules,
    trained_over,
    use_factors,
    write_adapter,
)
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.spa.batches import encode
from spa_bench.spa.packing import Sample, collate, sample_losses
from spa_bench.types import Decoding, Example, Member, Request

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'spa-bench[quantize]'")

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(8)]
LORA = LoraCard(rank=4, steps=3, batch=4)
TARGETS = ("q_proj", "down_proj")


def loaded(folder: Path, bits: str, **options: Any) -> HFModel:
    return HFModel(str(folder), HFOptions(device="cpu", threads=1, quantize=bits, **options), name="tiny")


@pytest.fixture(scope="module", params=["8bit", "4bit"])
def quantized(request: pytest.FixtureRequest, tiny_folder: Path) -> HFModel:
    return loaded(tiny_folder, request.param)


@pytest.fixture(scope="module")
def four(tiny_folder: Path) -> HFModel:
    return loaded(tiny_folder, "4bit")


@pytest.fixture(scope="module")
def rounded(four: HFModel, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> HFModel:
    """A float model with the weights that 4 bits have kept."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("rounded")
    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float32)
    for path in target_modules(network):
        layer: Any = four.network.get_submodule(path)
        with torch.no_grad(), matrix_of(getattr(layer, "base", layer)) as weight:
            network.get_submodule(path).weight.copy_(weight)
    network.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(tiny_folder)).save_pretrained(str(folder))
    return HFModel(str(folder), HFOptions(device="cpu", threads=1), name="rounded")


def logits(network: Any) -> torch.Tensor:
    ids = torch.randint(1, 1000, (4, 24), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found: torch.Tensor = network(input_ids=ids, use_cache=False).logits
    return found


def distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """The mean distance, of the wanted ones' spread."""
    return float((got - want).abs().mean() / want.std())


# the base -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "most", "least"), [("8bit", 0.03, 1e-3), ("4bit", 0.15, 0.03)])
def test_logits_of_the_embedded_model_stay_near_the_float_ones(bits: str, most: float, least: float):
    from transformers import AutoModelForCausalLM

    want = logits(AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=torch.float32))
    assert least < distance(logits(loaded(MODEL, bits).network), want) < most


def test_all_linear_layers_but_the_output_layer_are_quantised(quantized: HFModel, tiny_model: HFModel):
    assert len(quantized_layers(quantized.network)) == len(target_modules(tiny_model.network)) == 14
    assert quantized.network.get_output_embeddings().weight.dtype is torch.float32  # type: ignore[operator]
    assert parameter_count(quantized.network) == parameter_count(tiny_model.network)
    assert quantized.lora_note("all-linear") == ""


def test_the_numerics_name_bits_and_package_and_nobody_promises_equal_bytes(quantized: HFModel, tiny_model: HFModel):
    from importlib.metadata import version

    by = f"(bitsandbytes {version('bitsandbytes')})"
    assert quantized.training_numerics()["weights"] in {f"8bit {by}", f"4bit nf4 {by}"}
    assert "weights" not in tiny_model.training_numerics()
    assert not quantized.batch_free([("x", 8)])


def test_four_bits_are_the_float_model_with_the_rounded_weights(four: HFModel, rounded: HFModel):
    torch.testing.assert_close(logits(four.network), logits(rounded.network), rtol=1e-3, atol=1e-4)


def test_texts_of_two_members_are_those_of_the_rounded_weights(four: HFModel, rounded: HFModel, tmp_path: Path):
    write_adapter(some_adapter(rounded), tmp_path, base_model="tiny")
    members = [Member("base", None, Decoding()), Member("one", tmp_path, Decoding())]
    asked = [
        Request(
            problem_id=str(i),
            member=i % 2,
            draw=0,
            kind="generate",
            prompt=p.prompt,
            decoding=Decoding(max_new_tokens=8),
            seed=i,
        )
        for i, p in enumerate(PAIRS)
    ]
    here, there = ({c.key: c.text for c in m.generate(asked, members)} for m in (four, rounded))
    assert here == there


def some_adapter(model: HFModel) -> Adapter:
    generator = torch.Generator().manual_seed(1)
    return Adapter(
        {
            path: (
                torch.randn(4, x.base.in_features, generator=generator) * 0.1,
                torch.randn(x.base.out_features, 4, generator=generator) * 0.1,
            )
            for path, x in model.lora_layers(TARGETS).items()
        },
        4,
        8.0,
    )


# adapters over it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"gradient_checkpointing": True}, {"dropout": 0.2}, {"packing": True}, {"precision": "bfloat16"}]
)
def test_training_lowers_the_loss_over_a_quantised_base(changes: dict[str, Any], quantized: HFModel):
    card = LoraCard(rank=4, steps=6, batch=4, learning_rate=5e-3, **changes)
    [adapter] = train_adapters(quantized, [PAIRS], card, [3], progress=ignore)
    batch = collate([[Sample(pair) for pair in encode(quantized, PAIRS, "pair")]])
    with torch.no_grad():
        before = sample_losses(quantized.network, batch).mean()
        layers = quantized.lora_layers("all-linear")
        with use_factors(layers, *stack([adapter], layers, dtype=torch.float32)):
            after = sample_losses(quantized.network, batch).mean()
    assert after < before - 0.1


def test_adapters_over_four_bits_are_those_over_the_rounded_weights(four: HFModel, rounded: HFModel):
    here, there = (train_adapters(m, [PAIRS[:4], PAIRS[4:]], LORA, [3, 4], progress=ignore) for m in (four, rounded))
    for one, other in zip(here, there, strict=True):
        for path, (_, high) in one.factors.items():
            assert float((high - other.factors[path][1]).norm() / high.norm()) < 1e-2, path


@pytest.mark.parametrize("curvature", ["identity", "ekfac", pytest.param("lissa", marks=pytest.mark.slow)])
@pytest.mark.parametrize("trained", [False, True])
def test_scores_over_four_bits_are_those_over_the_rounded_weights(
    curvature: str, trained: bool, four: HFModel, rounded: HFModel
):
    card = AttributionCard(curvature=curvature, depth=2, repeats=1, lissa_batch=4)
    lora = LoraCard(rank=4, targets=TARGETS)
    at = some_adapter(rounded) if trained else None
    here, there = (
        scores_at(m, at, PAIRS, queries=PAIRS[:2], card=card, lora=lora, seed=1, progress=ignore) for m in (four, rounded)
    )
    np.testing.assert_allclose(here, there, rtol=1e-2, atol=1e-3 * abs(there).max())


def test_peft_reads_an_adapter_over_the_same_quantised_base(quantized: HFModel, tiny_folder: Path, tmp_path: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    write_adapter(some_adapter(quantized), tmp_path, base_model="tiny", network=quantized.network)
    assert quantized.peft_differs(tmp_path) == ""
    eight = "8bit" in str(quantized.training_numerics()["weights"])
    config = (
        BitsAndBytesConfig(load_in_8bit=True) if eight else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    )
    base = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float32, quantization_config=config)
    theirs = logits(PeftModel.from_pretrained(base, str(tmp_path)).eval())
    with quantized.hf.adapters.use([tmp_path]):
        ours = logits(quantized.network)
    assert distance(ours, theirs) < 0.01
    assert distance(logits(quantized.network), theirs) > 0.05  # the adapter changes them


# its mark -------------------------------------------------------------------------------------------------------------


def test_an_adapter_over_a_quantised_base_is_marked_and_its_use_elsewhere_said(
    four: HFModel, tiny_model: HFModel, tmp_path: Path
):
    weights = str(four.training_numerics()["weights"])
    write_adapter(some_adapter(four), tmp_path, base_model="tiny", weights=weights)
    assert json.loads((tmp_path / MARK).read_text()) == {"base_model": "tiny", "weights": weights}
    assert trained_over(tmp_path) == weights
    assert read_adapter(tmp_path).rank == 4
    with four.hf.adapters.use([tmp_path]):  # over its own base nothing is said
        pass
    said = r"^adapters trained over 4bit nf4 .* weights are used over weights that are not quantised: "
    with pytest.warns(UserWarning, match=said), tiny_model.hf.adapters.use([tmp_path]):
        pass


def test_an_adapter_over_float_weights_has_no_mark(tiny_model: HFModel, tmp_path: Path):
    write_adapter(some_adapter(tiny_model), tmp_path, base_model="tiny")
    assert not (tmp_path / MARK).exists()
    assert trained_over(tmp_path) == ""


# what cannot be had ---------------------------------------------------------------------------------------------------


def test_weights_of_a_gguf_file_are_not_quantised_again(tiny_folder: Path):
    origin = Origin(folder=tiny_folder, sha256="0", file="tiny.gguf", weights="dequantised from Q4_1")
    with pytest.raises(
        UsageError, match=r"^engine\.quantize=4bit takes a model in safetensors: the weights of tiny\.gguf were"
    ):
        HFModel(str(tiny_folder), HFOptions(device="cpu", quantize="4bit"), name="tiny.gguf", origin=origin)


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_a_model_that_was_saved_with_quantised_weights_is_read_with_those_alone(
    four: HFModel, tiny_folder: Path, tmp_path: Path
):
    for file in tiny_folder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, quantize="4bit")).network.save_pretrained(str(tmp_path))
    saved = HFModel(str(tmp_path), HFOptions(device="cpu", threads=1))
    assert saved.training_numerics() == four.training_numerics()
    torch.testing.assert_close(logits(saved.network), logits(four.network), rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match=r"^engine.quantize=8bit was asked for, and the model's files are .* as 4bit nf4 "):
        loaded(tmp_path, "8bit")


def test_quantised_weights_that_do_not_fit_are_one_line(tiny_folder: Path):
    with pytest.raises(ModelError, match=r"with quantised weights: they do not fit the GPUs, and .* engine\.max_memory"):
        loaded(tiny_folder, "4bit", placement="layers", max_memory="cpu=0.3MB")
