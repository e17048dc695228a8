"""Per-example gradients at one point of the parameters, caught layer by layer on their way back.

The gradient of a linear layer for one example is Σ_t δ_t x_tᵀ, over its tokens t, of the layer's input x (in) and the loss's
gradient δ (out) with respect to its output. A tap behind each layer sees both during the backward pass, computes what is
needed and drops them, so that no gradient of the whole model is ever held, and weights need none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from spa_bench.cards.training import LoraCard
from spa_bench.models.base import LoraTrainable
from spa_bench.models.hf.placed import input_device, is_plain, layer_device, matrix_of, number_type
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear
from spa_bench.spa.batches import IGNORE, Encoded, pad
from spa_bench.spa.footprint import twice
from spa_bench.spa.losses import Labels, token_losses
from spa_bench.spa.passes import TOKENS, row_groups, run_within_memory
from spa_bench.support.interrupt import pause_point
from spa_bench.support.seeds import derive_seed

LayerSink = Callable[[Tensor, Tensor], None]
# (path, x (rows, T, in), δ (rows, T, out)); δ is zero where there is padding. The n runs of a layer that runs n times in a pass
# are one behind another in T, as the gradient of its weights is their sum
Sink = Callable[[str, Tensor, Tensor], None]


class _Context(Protocol):
    """What autograd hands from the way forward to the way back."""

    base: nn.Linear
    factors: tuple[Tensor, Tensor] | None
    sink: LayerSink
    asleep: Tensor
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep `tensors` as saved_tensors."""
        ...


class _Tapped(torch.autograd.Function):
    """x (W + U)ᵀ + bias for a frozen layer and one update U of low rank, with a sink for its input and gradient.

    Where the weights are float32, the update is added to them during the product, and again in the backward pass. That is a
    third faster on a CPU than a separate product, and keeps nothing in memory.
    """

    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, awake: Tensor, base: nn.Linear, factors: tuple[Tensor, Tensor] | None, sink: LayerSink
    ) -> Tensor:
        """`factors` are A (r, in) and scaled B (out, r); `awake` makes a gradient flow although no weight requires one."""
        ctx.save_for_backward(x)
        ctx.base, ctx.factors, ctx.sink, ctx.asleep = base, factors, sink, torch.zeros_like(awake)
        y = torch.nn.functional.linear(x, _merged(base.weight, factors), base.bias) if is_plain(base) else base(x).clone()
        if factors is not None and not _merges(base):
            y = y + torch.nn.functional.linear(torch.nn.functional.linear(x, factors[0]), factors[1])
        return y

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with respect to x."""
        (x,), (delta,), factors = ctx.saved_tensors, gradients, ctx.factors
        ctx.sink(x, delta)
        if not ctx.needs_input_grad[0]:  # no layer below has a gradient to be caught
            return None, ctx.asleep, None, None, None
        with matrix_of(ctx.base) as weight:
            back = delta @ (_merged(weight, factors) if _merges(ctx.base) else weight).to(delta.dtype)
        if factors is not None and not _merges(ctx.base):
            back = back + (delta @ factors[1].to(delta.dtype)) @ factors[0].to(delta.dtype)
        return back.to(x.dtype), ctx.asleep, None, None, None


def _merges(base: nn.Linear) -> bool:
    """Whether an update is added to the weight: in half precision a small one would be rounded away."""
    return is_plain(base) and base.weight.dtype == torch.float32


def _merged(weight: Tensor, factors: tuple[Tensor, Tensor] | None) -> Tensor:
    if factors is None or weight.dtype != torch.float32:
        return weight
    return torch.addmm(weight, factors[1], factors[0])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one pass: the examples' indices, their tokens, and the tokens that count in the loss, row after row."""

    indices: list[int]
    ids: Tensor  # (rows, T), padded on the right
    real: Tensor  # (rows, T), whether there is a token
    where: Tensor  # (counted tokens,): place in ids.flatten() of the token before
    targets: Tensor  # (counted tokens,)
    share: Tensor  # (counted tokens,): one by the number of them in the row
    counts: list[int]  # counted tokens of each row

    def real_of(self, x: Tensor) -> Tensor:
        """Whether there is a token in each place of `x` (rows, T, ...), which a sink gets, on its device."""
        return self.real.to(x.device).repeat(1, x.shape[1] // self.real.shape[1])


def batches(encoded: Sequence[Encoded], device: torch.device, *, tokens: int = 0) -> Iterator[Batch]:
    """Batches of at most `tokens` padded tokens (0: as many as the device likes), of similar length, the longest first."""
    for rows in row_groups([len(e.ids) for e in encoded], tokens or TOKENS[device.type]):
        yield batch_of(encoded, rows, device)


def over_batches(
    encoded: Sequence[Encoded], device: torch.device, act: Callable[[Batch], None], known: Container[int] = ()
) -> None:
    """Call `act` with each of `batches`, in smaller ones where memory ends: see run_within_memory.

    Those whose rows are all `known` are left out, which changes no other batch.
    """
    groups = row_groups([len(e.ids) for e in encoded], TOKENS[device.type])

    def run(rows: list[int]) -> None:
        pause_point()
        act(batch_of(encoded, rows, device))

    run_within_memory([rows for rows in groups if not all(i in known for i in rows)], run)


def batch_of(encoded: Sequence[Encoded], indices: list[int], device: torch.device) -> Batch:
    """The pairs at `indices` as one batch."""
    ids, labels = (t.to(device) for t in pad([encoded[i] for i in indices]))
    lengths = torch.tensor([len(encoded[i].ids) for i in indices], device=device)
    counted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)
    counts = (counted != IGNORE).sum(1)
    return Batch(
        indices=indices,
        ids=ids,
        real=torch.arange(ids.shape[1], device=device) < lengths[:, None],
        where=(counted != IGNORE).flatten().nonzero().squeeze(1),
        targets=counted[counted != IGNORE],
        share=(1 / counts).repeat_interleave(counts),
        counts=counts.tolist(),
    )


@dataclass(frozen=True)
class Point:
    """A model with one adapter for all rows (None: LoRA's start, where the adapter has no effect)."""

    model: LoraTrainable
    layers: Mapping[str, StackedLinear]
    adapter: Adapter | None
    lora: LoraCard

    @property
    def device(self) -> torch.device:
        """The device of token ids, losses and gradients; the layers may lie on others."""
        return input_device(self.model.network)

    @cached_property
    def _factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A (r, in) and scaled B (out, r) of each layer that the adapter changes."""
        if self.adapter is None:
            return {}
        dtype, scale = number_type(self.model.network), self.adapter.scale
        found = {}
        for path, (low, high) in self.adapter.factors.items():
            if path not in self.layers:
                continue
            device = layer_device(self.layers[path].base)
            found[path] = low.to(device, dtype), (high * scale).to(device, dtype)
        return found

    def catch(self, batch: Batch, sink: Sink, *, uniform: Tensor | None = None) -> None:
        """Run one forward and backward pass; `sink` gets every layer's part, the last layer's first.

        The loss is each row's token-mean. With `uniform` (counted tokens,), numbers in [0, 1), it is the loss of labels
        drawn with them: see drawn_labels and drawn_loss.
        """
        awake = torch.zeros((), device=self.device, requires_grad=True)
        lean, runs = twice(self.model, replace(self.lora, dropout=0.0), batch.ids.numel()), _Runs(len(batch.indices), sink)

        def tapped(path: str, base: nn.Linear, x: Tensor) -> Tensor:
            factors, see = self._factors.get(path), runs.sink_of(path)
            return cast(Tensor, _Tapped.apply(x, awake, base, factors, see))  # type: ignore[no-untyped-call]

        try:
            for path, layer in self.layers.items():
                layer.tap = partial(tapped, path)
            with lean:
                # over before the way back: what sinks compute stays in float32
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.lora.precision == "bfloat16"):
                    labels = own_labels(batch) if uniform is None else drawn_labels(uniform)
                    losses = token_losses(self.model.network, batch.ids, batch.where, labels)
                loss = own_loss(losses, batch) if uniform is None else drawn_loss(losses, batch.share)
                runs.forward = False
                torch.autograd.grad(loss, awake)
                runs.close()
        finally:
            for layer in self.layers.values():
                layer.tap = None


class _Runs:
    """Hands the parts of a pass to `sink` as soon as all runs of their layer have theirs; there are `rows` rows."""

    def __init__(self, rows: int, sink: Sink):
        self._rows, self._sink = rows, sink
        self._count = Counter[str]()
        self._waiting: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.forward = True  # what runs on the way back is run again, by checkpoints

    def sink_of(self, path: str) -> LayerSink:
        """The sink of a run of the layer at `path`, which begins."""
        self._count[path] += self.forward
        return partial(self._see, path)

    def _see(self, path: str, x: Tensor, delta: Tensor) -> None:
        parts = self._waiting.setdefault(path, [])
        # some architectures flatten rows and tokens on the way
        parts.append((x.reshape(self._rows, -1, x.shape[-1]), delta.reshape(self._rows, -1, delta.shape[-1])))
        if len(parts) == self._count[path]:
            self._pass_on(path)

    def _pass_on(self, path: str) -> None:
        inputs, slopes = zip(*self._waiting.pop(path), strict=True)
        self._sink(path, *(parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in (inputs, slopes)))

    def close(self) -> None:
        """Hand over what still waits: of layers with a run on which the loss does not depend."""
        for path in list(self._waiting):
            self._pass_on(path)


def own_labels(batch: Batch) -> Labels:
    """The tokens that the batch's pairs have."""
    return lambda logits, part: batch.targets[part].to(logits.device)


def own_loss(losses: Tensor, batch: Batch) -> Tensor:
    """The sum over rows of their token-mean cross-entropy; `losses` (counted tokens,)."""
    return (losses * batch.share).sum()


def drawn_labels(uniform: Tensor) -> Labels:
    """Tokens drawn from the model itself, with the numbers `uniform` (counted tokens,) in [0, 1)."""

    def labels(logits: Tensor, part: slice) -> Tensor:
        ladder = logits.softmax(-1).cumsum(-1)
        # by rounding the last cumulative probability may lie below 1
        drawn = torch.searchsorted(ladder, uniform[part, None].to(ladder.device) * ladder[:, -1:])
        return drawn.squeeze(1).clamp_max(logits.shape[-1] - 1)

    return labels


def drawn_loss(losses: Tensor, share: Tensor) -> Tensor:
    """The loss against drawn labels, each token weighted by 1/sqrt(T) instead of 1/T.

    The mean over draws of the outer product of a row's gradient is the Gauss–Newton matrix of its token-mean loss,
    (1/T) Σ_t J_tᵀ (diag p − p pᵀ) J_t, since the tokens' draws are independent (Martens 2014, arXiv 1412.1193, section 9).
    """
    return (losses * share.sqrt()).sum()


def uniforms(batch: Batch, seed: int, keys: Sequence[int]) -> Tensor:
    """Numbers (counted tokens,) in [0, 1); a row's numbers depend on the seed and its key alone."""
    rows = []
    for index, count in zip(batch.indices, batch.counts, strict=True):
        generator = torch.Generator().manual_seed(derive_seed(seed, "labels", keys[index]))
        rows.append(torch.rand(count, generator=generator))
    return torch.cat(rows).to(batch.ids.device)
