"""Per-example gradients at one point of the parameters, caught layer by layer on their way back.

The gradient of a linear layer for one example is Σ_t δ_t x_tᵀ, over its tokens t, of the layer's input x (in) and the loss's
gradient δ (out) with respect to its output. A tap behind each layer sees both during the backward pass, makes of them what
is wanted and drops them, so that no gradient of the whole model is ever held, and weights need none.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from spa_bench.errors import DataError
from spa_bench.interrupt import pause_point
from spa_bench.models.checkpointing import checkpointed
from spa_bench.models.failures import is_out_of_memory
from spa_bench.models.stacked_lora import Adapter, StackedLinear
from spa_bench.seeds import derive_seed
from spa_bench.spa.batches import IGNORE, Encoded, pad, token_mean_losses
from spa_bench.spa_cards import LoraCard

LayerSink = Callable[[Tensor, Tensor], None]
Sink = Callable[[str, Tensor, Tensor], None]  # (path, x (rows, T, in), δ (rows, T, out)); δ is zero where there is padding

_ROWS = 16  # examples a pass: more of them leave the CPU's cache and run slower


class _Tapped(torch.autograd.Function):
    """x (W + U)ᵀ + bias for a frozen layer and one update U of low rank, with a sink for its input and gradient.

    Where the weights are float32 the update is added to them for the length of the product, and again on the way back: that
    is a third faster on a CPU than a product of its own, and leaves nothing in memory.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, awake: Tensor, base: nn.Linear, factors: tuple[Tensor, Tensor] | None, sink: LayerSink
    ) -> Tensor:
        """`factors` are A (r, in) and scaled B (out, r); `awake` makes a gradient flow although no weight requires one."""
        ctx.save_for_backward(x)
        ctx.base, ctx.factors, ctx.sink = base, factors, sink
        y = torch.nn.functional.linear(x, _merged(base, factors), base.bias)
        if factors is not None and not _merges(base):
            y = y + torch.nn.functional.linear(torch.nn.functional.linear(x, factors[0]), factors[1])
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradient of x."""
        (x,), (delta,), factors = ctx.saved_tensors, gradients, ctx.factors
        ctx.sink(x, delta)
        back = delta @ _merged(ctx.base, factors).to(delta.dtype)
        if factors is not None and not _merges(ctx.base):
            back = back + (delta @ factors[1].to(delta.dtype)) @ factors[0].to(delta.dtype)
        return back.to(x.dtype), torch.zeros((), device=x.device), None, None, None


def _merges(base: nn.Linear) -> bool:
    return base.weight.dtype == torch.float32  # in half precision a small update would be rounded away


def _merged(base: nn.Linear, factors: tuple[Tensor, Tensor] | None) -> Tensor:
    if factors is None or not _merges(base):
        return base.weight
    return torch.addmm(base.weight, factors[1], factors[0])


@dataclass(frozen=True)
class Batch:
    """Rows of one pass: which examples they are, and their tokens."""

    indices: list[int]
    ids: Tensor  # (rows, T), padded on the right
    labels: Tensor  # (rows, T), -100 where a token does not count
    real: Tensor  # (rows, T), 1.0 where there is a token and 0.0 where there is padding


def batches(
    encoded: Sequence[Encoded], device: torch.device, known: Container[int] = (), *, rows: int = _ROWS
) -> Iterator[Batch]:
    """Rows of about one length together; batches whose rows are all `known` are left out, which changes no other one."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    for start in range(0, len(order), rows):
        indices = order[start : start + rows]
        if all(i in known for i in indices):
            continue
        pause_point()
        ids, labels = (t.to(device) for t in pad([encoded[i] for i in indices]))
        lengths = torch.tensor([len(encoded[i].ids) for i in indices], device=device)
        yield Batch(indices, ids, labels, (torch.arange(ids.shape[1], device=device) < lengths[:, None]).float())


@dataclass(frozen=True)
class Point:
    """A model with one adapter, the same for all rows (None: LoRA's start, where the adapter changes nothing)."""

    model: Any  # a LoraTrainable
    layers: Mapping[str, StackedLinear]
    adapter: Adapter | None
    lora: LoraCard

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.network.parameters()).device
        return device

    @cached_property
    def _factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A (r, in) and scaled B (out, r) of each layer that the adapter changes."""
        if self.adapter is None:
            return {}
        dtype, scale = next(self.model.network.parameters()).dtype, self.adapter.scale
        factors = self.adapter.factors.items()
        return {path: (low.to(self.device, dtype), (high * scale).to(self.device, dtype)) for path, (low, high) in factors}

    def catch(self, batch: Batch, sink: Sink, *, uniform: Tensor | None = None) -> None:
        """One forward and backward pass; `sink` gets every layer's part, the last layer's first.

        The loss is each row's token-mean. With `uniform` (rows, T), numbers in [0, 1), it is that of labels drawn with them.
        Raises DataError when a single row does not fit in memory.
        """
        awake = torch.zeros((), device=self.device, requires_grad=True)

        lean = checkpointed(self.model.network, self.model.name) if self.lora.gradient_checkpointing else nullcontext()

        def see(path: str, x: Tensor, delta: Tensor) -> None:  # some architectures flatten rows and tokens on the way
            sink(path, *(t.reshape(len(batch.indices), -1, t.shape[-1]) for t in (x, delta)))

        def tapped(path: str, base: nn.Linear, x: Tensor) -> Tensor:
            factors = self._factors.get(path)
            return cast(Tensor, _Tapped.apply(x, awake, base, factors, partial(see, path)))  # type: ignore[no-untyped-call]

        try:
            for path, layer in self.layers.items():
                layer.tap = partial(tapped, path)
            with lean:
                # over before the way back: what sinks compute stays in float32
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.lora.precision == "bfloat16"):
                    logits = self.model.network(input_ids=batch.ids, use_cache=False).logits
                measure = token_mean_losses if uniform is None else partial(drawn_losses, uniform=uniform)
                torch.autograd.grad(measure(logits, batch.labels).sum(), awake)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise DataError(
                f"the gradients of {len(batch.indices)} examples of up to {batch.ids.shape[1]} tokens do not fit in memory; "
                "set lora.gradient_checkpointing=true, lora.precision=bfloat16 or a smaller lora.length"
            ) from error
        finally:
            for layer in self.layers.values():
                layer.tap = None


def drawn_losses(logits: Tensor, labels: Tensor, uniform: Tensor) -> Tensor:
    """Loss of each row for labels drawn from the model itself, each token weighted by 1/sqrt(T) instead of 1/T.

    The mean over draws of the outer product of its gradient is the Gauss–Newton matrix of the token-mean loss,
    (1/T) Σ_t J_tᵀ (diag p − p pᵀ) J_t, since the tokens' draws are independent (Martens 2014, arXiv 1412.1193, section 9).
    """
    logits, counted = logits[:, :-1].float(), labels[:, 1:] != IGNORE
    with torch.no_grad():
        ladder = logits.softmax(-1).cumsum(-1)
        # the last rung may lie below 1 by rounding
        drawn = torch.searchsorted(ladder, uniform[:, 1:, None] * ladder[..., -1:]).squeeze(-1)
        drawn = torch.where(counted, drawn.clamp_max(logits.shape[-1] - 1), IGNORE)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), drawn, ignore_index=IGNORE, reduction="none")
    return losses.sum(1) / counted.sum(1).clamp_min(1).sqrt()


def uniforms(batch: Batch, seed: int, keys: Sequence[int]) -> Tensor:
    """(rows, T) numbers in [0, 1); a row's depend on the seed and its key alone."""
    out = torch.zeros(batch.ids.shape)
    for row, index in enumerate(batch.indices):
        length = int(batch.real[row].sum())
        generator = torch.Generator().manual_seed(derive_seed(seed, "labels", keys[index]))
        out[row, :length] = torch.rand(length, generator=generator)
    return out.to(batch.ids.device)
