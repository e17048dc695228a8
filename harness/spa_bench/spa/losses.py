"""Cross-entropy of the tokens that count, without ever holding their logits all at once.

With a vocabulary of 150,000 words the logits of a thousand tokens take 600 MB in float32, and their gradient as much again. So
more than a few are computed chunk by chunk: each chunk's losses and the gradient of its hidden states are taken while its
logits are there, as in Liger Kernel (Hsu et al. 2024, arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spa_bench.models.hf.placed import is_quantized, layer_device, matrix_of
from spa_bench.models.hf.stacked_lora import bare, output_layer

# the labels of some of the counted tokens: their logits (n, V) and their places -> (n,)
Labels = Callable[[Tensor, slice], Tensor]

CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}  # logits in float32 that are held at a time

_plain: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # what `_is_plain` found, as long as the network lives


def token_losses(network: nn.Module, ids: Tensor, where: Tensor, labels: Labels, **more: Tensor) -> Tensor:
    """Cross-entropy (tokens,) in float32 at the places `where` of ids.flatten(), against the labels that `labels` gives.

    `labels` is called with detached logits. `more` are further arguments of the network.
    """
    rows = CHUNK_BYTES[ids.device.type] // (4 * max(1, vocabulary_of(network)))
    head = chunked_head(network, ids) if len(where) > rows else None
    if head is None:
        logits = logits_at(network, ids, where, **more)
        return torch.nn.functional.cross_entropy(logits, labels(logits.detach(), slice(0, len(where))), reduction="none")
    caught: list[Tensor] = []

    def first_only(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        caught.append(given[0].flatten(0, -2).index_select(0, where.to(given[0].device)))
        return (caught[0][:1].detach(), *given[1:])  # the network wants logits: those of one token cost nothing

    hook = head.register_forward_pre_hook(first_only)
    try:
        network(input_ids=ids, use_cache=False, **more)
    finally:
        hook.remove()
    hidden = caught[0].to(layer_device(head))
    return cast(Tensor, _Chunked.apply(hidden, head, labels, max(1, rows))).to(ids.device)  # type: ignore[no-untyped-call]


def logits_at(network: nn.Module, ids: Tensor, where: Tensor, **more: Tensor) -> Tensor:
    """Logits (tokens, V) in float32 at the places `where` of ids.flatten(), and no others."""
    with _head_reads(output_layer(network), where):
        logits: Tensor = network(input_ids=ids, use_cache=False, **more).logits
    if logits.ndim == 3:  # the network has no output layer that can compute fewer
        logits = logits.flatten(0, 1)[where]
    return logits.float()


class _Context(Protocol):
    """What autograd hands from the way forward to the way back."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep `tensors` as saved_tensors."""
        ...


class _Chunked(torch.autograd.Function):
    """The losses of hidden states (tokens, d) under a frozen output layer, `rows` of them at a time."""

    @staticmethod
    def forward(ctx: _Context, hidden: Tensor, head: nn.Linear, labels: Labels, rows: int) -> Tensor:
        """Losses (tokens,) in float32; the gradient of each with respect to its hidden state is computed along the way."""
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        back = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        with matrix_of(head) as weight:
            for start in range(0, len(hidden), rows):
                part = slice(start, min(start + rows, len(hidden)))
                logits = torch.nn.functional.linear(hidden[part], weight, head.bias).float()
                wanted = labels(logits, part)[:, None].to(logits.device)
                total = logits.logsumexp(-1, keepdim=True)
                losses[part] = (total - logits.gather(1, wanted)).squeeze(1)
                if back is not None:
                    slope = logits.sub_(total).exp_().scatter_add_(1, wanted, torch.full_like(total, -1.0))  # softmax − one-hot
                    back[part] = (slope.to(weight.dtype) @ weight).to(back.dtype)
        if back is not None:
            ctx.save_for_backward(back)
        return losses

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with respect to the hidden states."""
        (back,), (outer,) = ctx.saved_tensors, gradients
        return back * outer[:, None].to(back.dtype), None, None, None


def chunked_head(network: nn.Module, ids: Tensor) -> nn.Linear | None:
    """The output layer whose logits are computed chunk by chunk; None where all are there at once. `ids` are any tokens."""
    head = output_layer(network)
    if not isinstance(head, nn.Linear) or is_quantized(head) or not _is_plain(network, head, ids[:1, :2]):
        return None
    return head


def vocabulary_of(network: nn.Module) -> int:
    """The number of logits of a token; 0 where the network names no output layer with weights."""
    head = output_layer(network)
    weight = head.weight if head is not None else None
    return int(weight.shape[0]) if isinstance(weight, Tensor) else 0


@torch.no_grad()
def _is_plain(network: nn.Module, head: nn.Linear, ids: Tensor) -> bool:
    """Whether the network's logits are what the output layer gives; some scale or cap them afterwards.

    It is asked in the middle of a training, of which the adapters of several members wait for rows of each.
    """
    if network not in _plain:
        seen: list[Tensor] = []
        hook = head.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
        try:
            with bare(network):
                logits = network(input_ids=ids, use_cache=False).logits
        finally:
            hook.remove()
        _plain[network] = len(seen) == 1 and bool(logits.any()) and torch.equal(seen[0].to(logits.device), logits)
    return _plain[network]


@contextmanager
def _head_reads(head: nn.Module | None, where: Tensor) -> Iterator[None]:
    """Within the `with` block the output layer sees the tokens at `where` alone: (rows, T, d) -> (counted tokens, V)."""
    if head is None:
        yield
        return

    def narrow(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0].flatten(0, 1).index_select(0, where.to(given[0].device)), *given[1:]

    hook = head.register_forward_pre_hook(narrow)
    try:
        yield
    finally:
        hook.remove()
