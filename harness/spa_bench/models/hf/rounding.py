"""How far two right readings of a network may lie apart: what rounding alone does to its logits, by a trial.

A pretrained network in bfloat16 rounds its logits by 0.05 to 0.1 of their spread, and a distance that is wrong by one place
moves them by 0.04. So what a fault looks like is found in float32 wherever memory allows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spa_bench.models.hf.memory import free_bytes
from spa_bench.models.hf.placed import is_offloaded, number_type, quantized_layers, whole

# of the logits' spread, the mean over a row: the least that is allowed
_LEAST = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
_QUANTIZED = 0.05  # 8 bits round the rows as well, by the largest numbers that stand beside each other
_MARGIN = 3.0  # every layer rounds, and the trial changes the embedded tokens alone


def distance(got: Tensor, want: Tensor) -> float:
    """The mean distance of logits (T, V), of the wanted ones' spread; infinite where a number of them is not finite."""
    found = float((got - want).abs().mean() / want.std().clamp_min(1e-12))
    return found if math.isfinite(found) else math.inf  # NaN would be smaller than nothing and larger than nothing


def tolerance(network: nn.Module, read: Callable[[], Tensor]) -> float:
    """The most `distance` between two right readings; `read` gives logits (T, V) of some rows in float32.

    They are read once as they are and once with embedded tokens whose last bit is changed at random. What is not finite then
    allows no more.
    """
    dtype = number_type(network)
    least = max(_LEAST[dtype], _QUANTIZED if quantized_layers(network) else 0.0)
    moved = _of_last_bit(network, read, torch.finfo(dtype).eps)
    return max(least, _MARGIN * moved) if math.isfinite(moved) else least


def _of_last_bit(network: nn.Module, read: Callable[[], Tensor], eps: float) -> float:
    try:
        embedding = network.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # transformers: a class that does not say which it is
        return 0.0
    generator = torch.Generator().manual_seed(2)

    def shake(_layer: nn.Module, _given: object, out: Tensor) -> Tensor:
        sign = torch.randint(2, out.shape, generator=generator).to(out.device) - 0.5
        return (out.float() * (1 + 2 * eps * sign)).to(out.dtype)

    want = read()
    hook = embedding.register_forward_hook(shake)
    try:
        return distance(read(), want)
    finally:
        hook.remove()


def fits_float32(network: nn.Module) -> bool:
    """Whether the weights of a network of a short type fit beside themselves as float32 on its device."""
    needed: dict[torch.device, int] = {}
    for tensor in _short(network):
        needed[tensor.device] = needed.get(tensor.device, 0) + 4 * tensor.numel()
    return not is_offloaded(network) and all(n * 1.1 < free_bytes(device) for device, n in needed.items())


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """Within the block all weights and buffers of `network` are float32; afterwards they are the same tensors as before.

    Quantised layers multiply by their dequantised weights.
    """
    own = [(tensor, tensor.data) for tensor in _short(network)]
    try:
        for tensor, data in own:
            tensor.data = data.float()
        with whole(network):
            yield
    finally:
        for tensor, data in own:
            tensor.data = data


def _short(network: nn.Module) -> list[Tensor]:
    """Its parameters and buffers of two bytes a number; those that are shared come once."""
    return [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point() and t.element_size() == 2]
