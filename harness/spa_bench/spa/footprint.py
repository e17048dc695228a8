"""What one token costs a model in a forward and backward pass, found by a short pass: seconds, and bytes that are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spa_bench.cards.training import LoraCard
from spa_bench.errors import ModelError
from spa_bench.models.base import LoraTrainable
from spa_bench.models.hf.checkpointing import blocks_of, checkpointed
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.placed import devices_of, input_device, layer_device, number_type, parameter_count, room_over
from spa_bench.models.hf.stacked_lora import Dropout, use_factors
from spa_bench.models.hf.trained_lora import train_factors
from spa_bench.spa.losses import CHUNK_BYTES, chunked_head, token_losses, vocabulary_of

_WORK = 2e10  # operations of a pass on a CPU, which takes a fraction of a second
_LEAST = 16  # tokens of a pass
_COUNTED = 0.5  # share of the tokens that count in the loss
_ROOM = 0.6  # share of the free memory that kept activations may take
_KEY = tuple[object, ...]

_known: WeakKeyDictionary[nn.Module, dict[_KEY, Footprint]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The cost of passes with a LoRA adapter."""

    seconds: float  # a token, forward and backward
    kept: float  # bytes a token that are kept for the backward pass
    kept_again: float  # the same where activations are computed twice; as `kept` where the network has no blocks
    weights: int  # bytes of the network
    parameters: int
    vocabulary: int
    chunked: bool  # whether logits are held a chunk at a time
    device: torch.device  # of the token ids
    devices: tuple[torch.device, ...]  # over which the layers are spread

    def holds(self, tokens: int) -> bool:
        """Whether the activations of a pass of `tokens` fit well into the free memory."""
        return self.kept * tokens <= _ROOM * room_over(self.devices)

    def logits(self, tokens: int) -> float:
        """Bytes of the logits of `tokens` that are held together, in float32."""
        whole = 4 * self.vocabulary * tokens
        return min(whole, CHUNK_BYTES[self.device.type]) if self.chunked else whole


def footprint(model: LoraTrainable, lora: LoraCard) -> Footprint:
    """The footprint of `model`, measured once for each setting that changes it.

    Two or three passes of 16 to 128 tokens, which take a second or less on a CPU. There the seconds are those of the process
    by its threads, so that other work on the machine does not count.
    """
    key = (lora.rank, lora.targets, lora.precision, lora.dropout > 0)
    found = _known.setdefault(model.network, {})
    if key not in found:
        found[key] = _measured_within_memory(model, lora)
    return found[key]


def twice(model: LoraTrainable, lora: LoraCard, tokens: int) -> AbstractContextManager[None]:
    """A block whose activations are computed twice: where the card says so, or where those of `tokens` would not fit."""
    if lora.gradient_checkpointing or (blocks_of(model.network) and not footprint(model, lora).holds(tokens)):
        return checkpointed(model.network, model.name)
    return nullcontext()


def _measured_within_memory(model: LoraTrainable, lora: LoraCard) -> Footprint:
    """See _measured; a pass of fewer tokens where memory ends. Raises ModelError where it does not hold one of a few."""
    device, count = input_device(model.network), parameter_count(model.network)
    tokens = min(model.context, 256 if device.type != "cpu" else max(_LEAST, min(128, int(_WORK / (4 * count)))))
    while (found := within_memory(partial(_measured, model, lora, tokens))) is None:
        if tokens <= _LEAST:
            raise ModelError(f"out of memory with a pass of {tokens} tokens; use a smaller dtype, lora.rank or model")
        tokens = max(_LEAST, tokens // 2)
    return found


def _measured(model: LoraTrainable, lora: LoraCard, tokens: int) -> Footprint:
    """The footprint by passes of so many tokens."""
    network, layers = model.network, model.lora_layers(lora.targets)
    parameters = list(network.parameters())
    device, drops = input_device(network), lora.dropout > 0
    whole = number_type(network) is torch.float32 and lora.precision == "float32" and not drops
    ids = torch.arange(tokens, device=device)[None] % 97
    places = {p: layer_device(x.base) for p, x in layers.items()}
    down = {p: torch.zeros(1, lora.rank, x.base.in_features, device=places[p]).requires_grad_() for p, x in layers.items()}
    up = {p: torch.zeros(1, lora.rank, x.base.out_features, device=places[p]).requires_grad_() for p, x in layers.items()}

    def run(counted: int) -> Tensor:
        where = torch.arange(counted, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=lora.precision == "bfloat16"):
            losses = token_losses(network, ids, where, lambda _, part: ids[0, where[part]])
        return losses.sum()

    own = {p.untyped_storage().data_ptr() for p in (*parameters, *network.buffers(), *down.values(), *up.values())}
    dropout = Dropout(lora.dropout, (1, tokens), [(0, 0, tokens, 0)]) if drops else None
    with train_factors(layers, down, up) if whole else use_factors(layers, down, up, dropout):
        kept = _kept(lambda: run(1), own)
        again = float(kept)
        if blocks := blocks_of(network):
            with checkpointed(network, model.name):
                again = _kept(lambda: run(1), own) + kept / len(blocks)
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        best = float("inf")
        for _ in range(2):
            began = clock()
            run(max(1, int(_COUNTED * tokens))).backward()  # type: ignore[no-untyped-call]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, clock() - began)
    return Footprint(
        seconds=best / tokens / (torch.get_num_threads() if device.type == "cpu" else 1),
        kept=kept / tokens,
        kept_again=again / tokens,
        weights=sum(p.numel() * p.element_size() for p in parameters if not p.is_meta),
        parameters=parameter_count(network),
        vocabulary=vocabulary_of(network),
        chunked=chunked_head(network, ids) is not None,
        device=device,
        devices=devices_of(network),
    )


def _kept(run: Callable[[], Tensor], own: set[int]) -> int:
    """Bytes of the storages that `run` keeps for its backward pass, those at the addresses `own` left out."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its graph, and the graph it, for ever

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    del loss
    return sum(sizes.values())
