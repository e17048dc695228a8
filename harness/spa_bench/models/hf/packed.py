"""Linear layers in the layout that oneDNN's kernels read: in float32 on a CPU products of few rows take about half the time.

MKL copies a weight into its own layout at every product, which costs as much as the product where there are 16 rows. The
packed copy is made once and lies beside the weight. Its products give a row the same bits in every batch of two rows and more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

_MOST_BYTES = 4 << 30  # larger models use their weights as they are: the packed copy needs as much memory again
_TOLERANCE = 1e-4  # of the largest output, in the trial


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

        Gradients do not flow in it. Where the weights are not float32 on a CPU, or take more than 4 GiB, the block does
        nothing.
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
        plain = all(
            m.weight.dtype is torch.float32 and m.weight.device.type == "cpu" and "forward" not in vars(m) for m in found
        )
        size = sum(m.weight.nbytes for m in found)
        return found if plain and size <= _MOST_BYTES and _works() else []

    def _weight(self, layer: nn.Linear) -> Tensor:
        kept, weight = self._packed.get(layer), layer.weight
        if kept is None or kept.source is not weight or kept.version != weight._version:
            with torch.inference_mode(False), torch.no_grad():
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
            kept = self._packed[layer] = _Packed(packed, weight, weight._version)
        return kept.weight


def _product(layer: nn.Linear, weight: Tensor) -> Callable[[Tensor], Tensor]:
    product, bias = torch.ops.mkldnn._linear_pointwise.default, layer.bias

    def forward(x: Tensor) -> Tensor:
        return cast(Tensor, product(x, weight, bias, "none", [], ""))

    return forward


_outcome: list[bool] = []  # of the trial, once a process


def _works() -> bool:
    """Whether this build of torch has the packed product, and it is the product: tried once on a small layer."""
    if not _outcome:
        generator = torch.Generator().manual_seed(0)
        x, weight = (torch.randn(n, 64, generator=generator) for n in (5, 48))
        wanted = x @ weight.T
        try:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight)
            found = torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")
            _outcome.append(bool((found - wanted).abs().max() <= _TOLERANCE * wanted.abs().max()))
        except (AttributeError, RuntimeError, NotImplementedError):
            _outcome.append(False)
    return _outcome[0]
