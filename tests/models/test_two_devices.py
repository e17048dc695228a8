"""Layers on two devices, as far as a machine without GPUs shows it.

torch's fake tensors have shapes and a device, but no numbers, and an operation on tensors of two devices raises. Here the
devices are two names of the CPU. What needs numbers is in test_placed.py (weights on disk) and tests/gpu/test_two_gpus.py.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode

from spa_bench.cards.training import LoraCard
from spa_bench.models.hf import output_layer as output
from spa_bench.models.hf.checkpointing import checkpointed
from spa_bench.models.hf.lora_probe import seeded_ids
from spa_bench.models.hf.output_layer import OutputLayer
from spa_bench.models.hf.placed import devices_of, input_device, layer_device, placement_said
from spa_bench.models.hf.reading import Readable, Way
from spa_bench.models.hf.rows import padded
from spa_bench.models.hf.slots import Slots
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear, attach, initial_down, stack, target_modules, use_factors
from spa_bench.models.hf.trained_lora import train_factors
from spa_bench.models.hf.window import Window
from spa_bench.spa import losses
from spa_bench.spa.attribution.features import CoreFeatures, LoraFeatures
from spa_bench.spa.attribution.gradients import Batch, Point
from spa_bench.spa.attribution.sample import example_gradients
from spa_bench.spa.batches import Encoded
from spa_bench.spa.trainee import Trainee

FIRST, SECOND = torch.device("cpu"), torch.device("cpu:1")
PLACES = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "cpu:1",
    "model.norm": "cpu:1",
    "lm_head": "cpu:1",
}
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # accelerate looks for tied weights
LORA = LoraCard(rank=4, gradient_checkpointing=True)
PAIRS = [Encoded(tuple(range(5 + i)), 2) for i in range(3)]
V = 96


@pytest.fixture
def network() -> Iterator[Any]:
    """A Llama of two layers, each on a device of its own, with accelerate's hooks; everything in the test is fake."""
    from accelerate import dispatch_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, eos_token_id=0
    )
    with FakeTensorMode():
        made = LlamaForCausalLM(config).eval()
        for path, device in PLACES.items():
            _put(made.get_submodule(path), device)
        yield dispatch_model(made, device_map=PLACES, main_device="cpu", skip_keys=made._skip_keys_device_placement)


def _put(module: nn.Module, device: str) -> None:
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(torch.empty(parameter.shape, device=device), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, device=device)


def wrapped(network: Any) -> dict[str, StackedLinear]:
    return attach(network, target_modules(network))


def adapter(layers: dict[str, StackedLinear], rank: int = 4) -> Adapter:
    generator = torch.Generator().manual_seed(0)
    return Adapter(
        {
            p: (initial_down(x.base.in_features, rank, generator), torch.zeros(x.base.out_features, rank))
            for p, x in layers.items()
        },
        rank,
        8.0,
    )


def here(path: str) -> torch.device:
    return SECOND if ".1." in path else FIRST


def test_what_is_said_of_the_places(network: Any):
    assert (input_device(network), set(devices_of(network))) == (FIRST, {FIRST, SECOND})
    assert placement_said(network) == "layers over 2 devices"
    assert seeded_ids(network, V).device == FIRST


def test_stacked_factors_lie_beside_their_layer(network: Any):
    layers = wrapped(network)
    assert {layer_device(x.base) for p, x in layers.items() if ".1." in p} == {SECOND}
    down, up = stack([adapter(layers), None], layers, dtype=torch.float32)
    assert all(down[p].device == up[p].device == here(p) for p in layers)
    with use_factors(layers, down, up):
        logits = network(input_ids=torch.zeros(4, 8, dtype=torch.long, device=FIRST), use_cache=False).logits
    assert (logits.device, tuple(logits.shape)) == (FIRST, (4, 8, V))


def test_factors_on_another_device_would_be_seen_here(network: Any):
    layers = wrapped(network)
    down, up = stack([adapter(layers)], layers, dtype=torch.float32)
    ids = torch.zeros(4, 8, dtype=torch.long, device=FIRST)
    with (
        use_factors(layers, {p: f.to(FIRST) for p, f in down.items()}, up),
        pytest.raises(FakeTensorDeviceMismatchError),
    ):
        network(input_ids=ids, use_cache=False)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_gradients_of_the_factors_lie_beside_their_layer(
    chunked: bool, again: bool, network: Any, monkeypatch: pytest.MonkeyPatch
):
    from contextlib import nullcontext

    if chunked:
        monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", 4 * V * 2)
        monkeypatch.setitem(losses._plain, network, True)  # asking takes numbers
    layers = wrapped(network)
    down, up = (
        {p: f.requires_grad_() for p, f in part.items()} for part in stack([adapter(layers)] * 2, layers, dtype=torch.float32)
    )
    ids, where = torch.zeros(4, 8, dtype=torch.long, device=FIRST), torch.arange(12, device=FIRST)
    for used in (train_factors(layers, down, up), use_factors(layers, down, up)):
        with used, checkpointed(network, "tiny") if again else nullcontext():
            found = losses.token_losses(network, ids, where, lambda logits, part: ids.flatten()[where[part]].to(logits.device))
            assert found.device == FIRST
            found.sum().backward()
    assert {(here(p), f.grad.device) for part in (down, up) for p, f in part.items()} == {(FIRST, FIRST), (SECOND, SECOND)}


def test_checkpointing_leaves_accelerates_hooks_where_they_were(network: Any):
    blocks = [network.model.layers[i] for i in (0, 1)]
    before = [(vars(b)["forward"], vars(b)["_hf_hook"]) for b in blocks]
    with checkpointed(network, "tiny"):
        assert all(vars(b)["forward"] is not forward for b, (forward, _) in zip(blocks, before, strict=True))
    assert [(vars(b)["forward"], vars(b)["_hf_hook"]) for b in blocks] == before


def test_a_member_in_training_lies_beside_its_layers(network: Any):
    trainee = Trainee(0, PAIRS, LORA, 1, wrapped(network))
    assert all(f.device == here(p) for part in (trainee.down, trainee.up) for p, f in part.items())


def _begun(layer: Any, keys: torch.Tensor, values: torch.Tensor) -> None:
    layer.keys, layer.values = keys.new_zeros(0), values.new_zeros(0)
    layer.is_initialized = True


def test_rows_in_slots_and_in_a_window_go_on_over_both_devices(network: Any, monkeypatch: pytest.MonkeyPatch):
    # transformers' own makes torch.tensor([], device="cpu:1"), which forgets the number of a CPU and not that of a GPU
    monkeypatch.setattr("transformers.cache_utils.DynamicLayer.lazy_initialization", _begun)
    read = Readable(network, Way(), context=64)
    slots = Slots(read, 3, FIRST)
    assert all(t.device == SECOND for t in slots.on(SECOND))
    prefixes = slots.read([[1, 2, 3], [4, 5, 6]])
    slots.begin([0, 2], prefixes, [3, 6])
    with torch.inference_mode():
        for _ in range(3):
            logits = slots.logits()
            assert logits.device == FIRST
            slots.extend(logits.argmax(-1))
        slots.keep([2, 0])
        slots.logits()
        window = Window.of(read, [[1, 2, 3], [4, 5]], device=FIRST)
        window.extend(window.logits().argmax(-1))
        window.keep([1, 0])
        assert window.logits().device == FIRST


def test_the_output_layer_is_run_piece_by_piece_on_its_own_device(network: Any, monkeypatch: pytest.MonkeyPatch):
    ids, mask = (t.to(FIRST) for t in padded([([1, 2], [3, 4]), ([1], [2, 3])]))
    for behind in (False, True):
        monkeypatch.setattr(output, "_differ", lambda *_, behind=behind: behind)  # asking takes numbers
        layer = OutputLayer(network)
        states = layer.last_states({"input_ids": ids, "attention_mask": mask}, 2)
        assert tuple(layer.logits(states).shape) == (2, 2, V)
    place = torch.zeros(2, 2, dtype=torch.long, device=FIRST)
    assert OutputLayer(network).last_states({"input_ids": ids}, 2, place).shape == (2, 2, 32)


@pytest.mark.parametrize("start", [True, False])
def test_gradients_of_examples_come_together_on_the_first_device(start: bool, network: Any):
    layers = wrapped(network)
    at = None if start else adapter(layers)
    point = Point(SimpleNamespace(network=network, name="tiny"), layers, at, LORA)  # type: ignore[arg-type]
    batch = Batch(
        indices=[0, 1],
        ids=torch.zeros(2, 5, dtype=torch.long),
        real=torch.ones(2, 5, dtype=torch.bool),
        where=torch.arange(6),
        targets=torch.zeros(6, dtype=torch.long),
        share=torch.full((6,), 1 / 3),
        counts=[3, 3],
    )
    uniform = torch.zeros(6)
    core = CoreFeatures(
        {
            p: (torch.zeros(3, x.base.in_features, device=here(p)), torch.zeros(3, x.base.out_features, device=here(p)))
            for p, x in layers.items()
        }
    )
    for features in (LoraFeatures(layers, at, LORA, 1), core):
        for drawn in (None, uniform):
            found = example_gradients(point, features, batch, drawn)
            assert found.keys() == features.shapes.keys()
            assert {g.device for g in found.values()} == {FIRST}
