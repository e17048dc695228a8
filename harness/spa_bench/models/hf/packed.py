"""Linear layers in the layout that oneDNN's kernels read: on a CPU, products of few rows take about two thirds of the time.

A weight is copied into the library's own layout at every product, in float32 by MKL and in bfloat16 by oneDNN itself. The
packed copy is made once and lies beside the weight. In float32 its products give a row the same bits in every batch of two rows
and more; in bfloat16 they have the bits of torch's own product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import torch
from torch import Tensor, nn

_MOST_BYTES = 4 << 30  # larger models use their weights as they are: the packed copy needs as much memory again
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}  # of the largest output, in the trial


@dataclass(frozen=True)
class _Packed:
    weight: Tensor  # as oneDNN wants it
    source: Tensor
    version: int  # of the source


class PackedLinears:
    """Packed copies of the linear layers of `network`, made at first use and made again where a weight has changed."""

    def __init__(self, network: nn.Module):
        self._network = network
        self._packed: dict[nn.Linear, _Packed] = {}

    @contextmanager
    def use(self) -> Iterator[None]:
        """Within the block the layers compute with their packed weights, where this machine and network have them.

        Gradients do not flow in it. Where the weights are not float32 or bfloat16 on a CPU, all of one type, or take more
        than 4 GiB, the block does nothing.
        """
        layers = self._layers()
        for layer in layers:
            layer.__dict__["forward"] = _product(layer, self._weight(layer))
        try:
            yield
        finally:
            for layer in layers:
                del layer.__dict__["forward"]

    def _layers(self) -> list[nn.Linear]:
        found = [m for m in self._network.modules() if type(m) is nn.Linear]
        # a layer with a way of its own has accelerate's hook, which loads its weights
        plain = all(m.weight.device.type == "cpu" and "forward" not in vars(m) for m in found)
        size = sum(m.weight.nbytes for m in found)
        types = {m.weight.dtype for m in found}
        return found if plain and size <= _MOST_BYTES and len(types) == 1 and _works(*types) else []

    def _weight(self, layer: nn.Linear) -> Tensor:
        kept, weight = self._packed.get(layer), layer.weight
        if kept is None or kept.source is not weight or kept.version != weight._version:
            with torch.inference_mode(False), torch.no_grad():
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
            kept = self._packed[layer] = _Packed(packed, weight, weight._version)
        return kept.weight


def _product(layer: nn.Linear, weight: Tensor) -> Callable[[Tensor], Tensor]:
    bias = layer.bias

    def forward(x: Tensor) -> Tensor:
        return _times(x, weight, bias)

    return forward


def _times(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise.default(x, packed, bias, "none", [], ""))


def packed_product(weight: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The product with `weight` (out, in), packed, as a layer has it when texts are drawn; None where torch has none here."""
    return partial(_times, packed=torch.ops.mkldnn._reorder_linear_weight(weight)) if _works(weight.dtype) else None


@cache
def _works(dtype: torch.dtype) -> bool:
    """Whether this machine and build of torch have the packed product, and it is the product: tried once on a small layer."""
    if dtype not in _TOLERANCE:
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 64, generator=generator).to(dtype) for n in (5, 48))
    wanted = x.float() @ weight.float().T
    try:
        if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        found = _times(x, torch.ops.mkldnn._reorder_linear_weight(weight)).float()
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return bool((found - wanted).abs().max() <= _TOLERANCE[dtype] * wanted.abs().max())
