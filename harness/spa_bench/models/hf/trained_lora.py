"""K LoRA adapters while they are trained: the layers of stacked_lora as one step of autograd each.

Left to autograd, the three products of such a layer keep copies that a backward pass adds up one by one. Here the low-rank
part is added in place on both ways, and the frozen layer's own gradient is left out where nothing below needs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from spa_bench.models.hf.placed import is_plain, matrix_of
from spa_bench.models.hf.stacked_lora import StackedLinear


class _Context(Protocol):
    """What autograd hands from the way forward to the way back."""

    base: nn.Linear
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep `tensors` as saved_tensors."""
        ...


class _Trained(torch.autograd.Function):
    """x Wᵀ + bias + (x Aᵀ) B for the rows of K members, each with its own A (r, in) and scaled B (r, out)."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, down: Tensor, up: Tensor, base: nn.Linear) -> Tensor:
        """x (K·R, ..., in), down (K, r, in), up (K, r, out) -> (K·R, ..., out)."""
        ctx.base = base
        y = torch.nn.functional.linear(x, base.weight, base.bias) if is_plain(base) else base(x).clone()
        low = torch.bmm(down, _rows(x, up).mT)  # (K, r, tokens): the other way round takes several times as long on a CPU
        y.view(len(up), -1, y.shape[-1]).baddbmm_(low.mT, up)
        ctx.save_for_backward(x, down, up, low)
        return y

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to x, down and up."""
        (x, down, up, low), (delta,) = ctx.saved_tensors, gradients
        slope = torch.bmm(up, _rows(delta, up).mT)  # (K, r, tokens)
        back = None
        if ctx.needs_input_grad[0]:
            with matrix_of(ctx.base) as weight:
                back = delta @ weight.to(delta.dtype)
            back.view(len(up), -1, back.shape[-1]).baddbmm_(slope.mT, down)
        return back, torch.bmm(slope, _rows(x, up)), torch.bmm(low, _rows(delta, up)), None


def _rows(x: Tensor, up: Tensor) -> Tensor:
    """(K, tokens, width)."""
    return x.reshape(len(up), -1, x.shape[-1])


@contextmanager
def train_factors(layers: Mapping[str, StackedLinear], down: Mapping[str, Tensor], up: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the `with` block the float32 `layers` compute with `down` (K, r, in) and scaled `up` (K, r, out), to be trained.

    The backward pass belongs into the block, too, as activations may be computed again in it.
    """

    def tap(path: str, base: nn.Linear, x: Tensor) -> Tensor:
        return cast(Tensor, _Trained.apply(x, down[path], up[path], base))  # type: ignore[no-untyped-call]

    try:
        for path, layer in layers.items():
            layer.tap = partial(tap, path)
        yield
    finally:
        for layer in layers.values():
            layer.tap = None
