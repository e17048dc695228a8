"""The logits of a network of transformers, a few tokens at a time and with the output layer in float32.

The hidden states of a row are small and its logits are not, so the network is run once and its output layer piece by piece.
What an architecture does with the logits behind that layer (scaling, a soft cap) stays the network's own work: where there is
such work, the network is run on one made-up token a row with the piece in the place of its own last hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spa_bench.models.hf.placed import in_place_of_forward, input_device, is_quantized, matrix_of
from spa_bench.models.hf.reading import at
from spa_bench.models.hf.stacked_lora import StackedLinear, output_layer

_PIECE = 1 << 14  # outputs of the layer whose weights are turned into float32 at once

Forward = Callable[[Tensor], Tensor]


class OutputLayer:
    """The output layer of `network`, which is any causal language model of transformers."""

    def __init__(self, network: Any):
        self._network = network
        self._behind: bool | None = None  # whether something is done with the logits behind the layer; None: not known yet

    def last_states(self, inputs: dict[str, Tensor], keep: int, place: Tensor | None = None) -> Tensor:
        """What the output layer gets at the last `keep` places of each row, or at `place` (rows, keep): (rows, keep, d).

        Where a network has no such layer, or runs it otherwise than once on all rows, these are its logits, (rows, keep, V).
        """
        layer, caught = output_layer(self._network), list[tuple[Tensor, Tensor, Tensor]]()
        rows, columns = inputs["input_ids"].shape

        def catch(states: Tensor) -> Tensor:
            out: Tensor = own(states[:, -1:])
            caught.append((states, out, out.clone()))  # a network may change the logits in their place
            return out

        if layer is not None:
            with in_place_of_forward(layer, catch) as own:
                logits = self._network(**inputs, use_cache=False).logits
            if len(caught) == 1 and caught[0][0].shape[:2] == (rows, columns):
                self._behind = _differ(logits, *caught[0][1:])
                return caught[0][0][:, -keep:] if place is None else at(caught[0][0], place)
        self._behind = None
        logits = self._network(**inputs, use_cache=False).logits
        return cast(Tensor, logits[:, -keep:] if place is None else at(logits, place))

    def logits(self, states: Tensor, *, own: bool = False) -> Tensor:
        """The logits (R, T, V) behind `states` (R, T, ...), some of the places of last_states; float32 where it has a layer.

        Row group i runs through the adapter that is in use for it, as in the network. With `own` the layer computes in its own
        type, as the network does, and the result is float32 all the same.
        """
        layer = output_layer(self._network)
        if layer is None or self._behind is None:
            return states.float()
        with nullcontext(layer.forward) if own else _wide(layer) as forward:
            if not self._behind:
                return forward(states).float()
            one = torch.zeros(len(states), 1, dtype=torch.long, device=input_device(self._network))
            with in_place_of_forward(layer, lambda _: forward(states)):
                behind = self._network(input_ids=one, use_cache=False).logits
            return cast(Tensor, behind.float())


def _differ(logits: Tensor, out: Tensor, given: Tensor) -> bool:
    """Whether a network's logits are other numbers than `given`, which its output layer gave; a copy elsewhere is the same.

    `out` is what the layer gave, with what the network has done to it since.
    """
    if logits.device == out.device and logits.data_ptr() != out.data_ptr():
        return True
    return not torch.equal(logits, given.to(logits.device))


@contextmanager
def _wide(layer: nn.Module) -> Iterator[Forward]:
    """The layer's own way, in float32 for the time of the block where it is linear and of another type."""
    linear = layer.base if isinstance(layer, StackedLinear) else layer
    if not isinstance(linear, nn.Linear) or is_quantized(linear) or linear.weight.dtype is torch.float32:
        yield layer.forward
        return

    def wide(states: Tensor) -> Tensor:
        with matrix_of(linear) as weight:
            return product(states.to(weight.device).float(), weight)

    def product(states: Tensor, weight: Tensor) -> Tensor:
        logits = torch.empty(*states.shape[:-1], linear.out_features, dtype=torch.float32, device=states.device)
        for start in range(0, linear.out_features, _PIECE):
            part = slice(start, start + _PIECE)
            bias = None if linear.bias is None else linear.bias[part].to(states)
            logits[..., part] = functional.linear(states, weight[part].float(), bias)
        return logits

    own = layer.forward
    with in_place_of_forward(linear, wide):
        yield (lambda states: own(states.float())) if linear is not layer else wide
