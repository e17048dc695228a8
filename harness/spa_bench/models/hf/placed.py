"""A frozen network whose layers may lie on several devices, in main memory or on disk, or be quantised.

accelerate's hooks move the rows to the device of each layer, and load the weights of a layer that lies elsewhere when it is
called. So such a layer's `weight` is no matrix to compute with: it is called, or asked for its matrix by `matrix_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spa_bench.models.hf.memory import free_bytes

_HOOK = "_hf_hook"  # where accelerate keeps a module's hook


def hook_of(module: nn.Module) -> Any:
    """accelerate's hook of `module`; None without one."""
    return vars(module).get(_HOOK)


def device_of_hook(device: Any) -> torch.device:
    """A device as accelerate names it: a GPU by its number."""
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)


def is_quantized(layer: nn.Module) -> bool:
    """Whether `layer` is a linear one of bitsandbytes, whose weight is no matrix of numbers."""
    return isinstance(layer, nn.Linear) and not layer.weight.is_floating_point()


def is_plain(layer: nn.Linear) -> bool:
    """Whether the layer's `weight` is a matrix of numbers on the layer's device."""
    return layer.weight.is_floating_point() and not layer.weight.is_meta


def layer_device(layer: nn.Linear) -> torch.device:
    """The device on which `layer` computes."""
    return device_of_hook(hook_of(layer).execution_device) if layer.weight.is_meta else layer.weight.device


def input_device(network: nn.Module) -> torch.device:
    """The device on which `network` takes token ids and gives logits."""
    hook = hook_of(network)
    if hook is not None and hook.execution_device is not None:
        return device_of_hook(hook.execution_device)
    return next(network.parameters()).device


def number_type(network: nn.Module) -> torch.dtype:
    """The type in which `network` computes: that of its first weights that are not quantised."""
    return next(p.dtype for p in network.parameters() if p.is_floating_point())


def quantized_layers(network: nn.Module) -> list[nn.Linear]:
    """The quantised layers of `network`, in model order."""
    return [cast(nn.Linear, m) for m in network.modules() if is_quantized(m)]


def is_movable(network: nn.Module) -> bool:
    """Whether `network` is one piece on one device, neither placed by accelerate nor quantised."""
    return hook_of(network) is None and not quantized_layers(network)


def is_offloaded(network: nn.Module) -> bool:
    """Whether weights of `network` lie in main memory or on disk until their layer is called."""
    return any(p.is_meta for p in network.parameters())


def devices_of(network: nn.Module) -> tuple[torch.device, ...]:
    """The devices on which `network` computes, that of its token ids first."""
    first = input_device(network)
    return tuple(dict.fromkeys([first, *(p.device for p in network.parameters() if not p.is_meta)]))


def room_over(devices: tuple[torch.device, ...]) -> int:
    """Bytes that are free for what is spread evenly over `devices`: as much on each as on the fullest one."""
    return len(devices) * min(map(free_bytes, devices))


def parameter_count(network: nn.Module) -> int:
    """The number of parameters; two of 4 bits lie in a byte."""
    return sum(p.numel() * (2 if p.dtype is torch.uint8 else 1) for p in network.parameters())


@contextmanager
def matrix_of(layer: nn.Linear) -> Iterator[Tensor]:
    """The weights (out, in) of a frozen layer for the time of the block: loaded or dequantised where they are not there."""
    if is_quantized(layer):
        yield _dequantized(layer)
        return
    if not layer.weight.is_meta:
        yield layer.weight
        return
    from accelerate.utils import align_module_device

    with align_module_device(layer):
        yield layer.weight


@contextmanager
def loaded(network: nn.Module, name: str, tensor: Tensor) -> Iterator[Tensor]:
    """The entry `name` of the network's state, which is `tensor`, with its numbers where these lie elsewhere."""
    if not tensor.is_meta:
        yield tensor
        return
    from accelerate.utils import align_module_device

    path, _, last = name.rpartition(".")
    with align_module_device(network.get_submodule(path)):
        yield network.get_submodule(path).state_dict()[last]


@torch.no_grad()
def _dequantized(layer: Any) -> Tensor:
    if layer.weight.dtype is torch.int8:
        scale = layer.weight.SCB if layer.state.SCB is None else layer.state.SCB
        return layer.weight.data.float().mul_(scale.float()[:, None] / 127)  # type: ignore[no-any-return]
    from bitsandbytes.functional import dequantize_4bit

    return cast(Tensor, dequantize_4bit(layer.weight.data, layer.weight.quant_state))


@contextmanager
def in_place_of_forward(module: nn.Module, forward: Any) -> Iterator[Any]:
    """`module` computes `forward` for the time of the block, which gets the module's own way, accelerate's hook included."""
    own, kept = module.forward, vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield own
    finally:
        if kept is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = kept


@contextmanager
def whole(network: nn.Module) -> Iterator[None]:
    """Within the block quantised layers multiply by their dequantised weights, in the type of their input.

    So a row's numbers depend on nothing beside it. LLM.int8() takes inputs above 6 out of a whole batch's columns.
    """
    layers = quantized_layers(network)
    kept = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            vars(layer)["forward"] = _product(layer)
        yield
    finally:
        for layer, own in zip(layers, kept, strict=True):
            if own is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = own


def _product(layer: nn.Linear) -> Any:
    def forward(x: Tensor) -> Tensor:
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return functional.linear(x, _dequantized(layer).to(x.dtype), bias)

    return forward


def prepare(network: nn.Module) -> None:
    """Keep bitsandbytes' 4-bit weights of a CPU in one layout, which can be dequantised, on every machine."""
    for layer in quantized_layers(network):
        vars(layer).pop("support_avx512bf16_for_cpu", None)
        vars(layer)["support_avx512bf16_for_cpu"] = False


def weights_said(network: nn.Module) -> str:
    """The type of quantised weights in words, as "4bit nf4 (bitsandbytes 0.50.2)"; "" for a network without any."""
    layers = quantized_layers(network)
    if not layers:
        return ""
    try:
        by = f"bitsandbytes {version('bitsandbytes')}"
    except PackageNotFoundError:
        by = "bitsandbytes"
    weight: Any = layers[0].weight
    return f"8bit ({by})" if weight.dtype is torch.int8 else f"4bit {weight.quant_state.quant_type} ({by})"


def placement_said(network: nn.Module) -> str:
    """Where the layers of a network that accelerate has placed lie, as "layers over 2 devices and on disk"."""
    places = vars(network).get("hf_device_map") or {"": input_device(network)}
    main = input_device(network)
    away = {str(p) for p in places.values() if p == "disk" or (p == "cpu" and main.type != "cpu")}
    count = len({str(device_of_hook(p)) for p in places.values() if str(p) not in away} | {str(main)})
    words = [words for place, words in (("cpu", "in main memory"), ("disk", "on disk")) if place in away]
    return " and ".join([f"layers over {count} device{'s' * (count > 1)}", *words])
