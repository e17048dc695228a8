"""Finds out which linear layers LoRA can change, by watching a network read a few rows: no list of layers says it.

A layer is changed where it is called once a reading, on every token, and gives x Wᵀ + b. Others have the class alone: routers
that return tuples, experts that see some tokens, layers whose parents read the weight. They are left out, and said.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from spa_bench.errors import ModelError
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.placed import input_device, is_offloaded, is_quantized, layer_device, matrix_of
from spa_bench.models.hf.probe import FAILURES, first_line
from spa_bench.models.hf.rounding import distance, tolerance
from spa_bench.models.hf.stacked_lora import StackedLinear, attach, plain, use_factors
from spa_bench.support.memory import is_out_of_memory

_ROWS, _TOKENS, _RANK = 4, 6, 4
_ROUNDED = 0.1  # of the spread: the most mean distance of a quantised layer from the product with its weights


def seeded_ids(network: nn.Module, vocabulary: int) -> Tensor:
    """Token ids (4, 6) on the network's device."""
    ids = torch.randint(vocabulary, (_ROWS, _TOKENS), generator=torch.Generator().manual_seed(1))
    return ids.to(input_device(network))


@torch.inference_mode()
def odd_layers(network: nn.Module, paths: Sequence[str], ids: Tensor) -> dict[str, str]:
    """Why LoRA cannot change the layers at these of `paths`: path -> reason."""
    calls: dict[str, int] = dict.fromkeys(paths, 0)
    odd: dict[str, str] = {}

    def see(path: str, layer: nn.Linear, given: tuple[Any, ...], out: object) -> None:
        calls[path] += 1
        x = given[0] if len(given) == 1 and isinstance(given[0], Tensor) else None
        if not isinstance(out, Tensor) or x is None:
            odd[path] = "does not map one tensor to one"
        elif x.shape[-1] != layer.in_features or x.numel() != ids.numel() * layer.in_features:
            odd[path] = "does not see every token once"
        elif not _is_product(layer, x, out):
            odd[path] = "does not give x W + b"

    hooks = [plain(network.get_submodule(path)).register_forward_hook(partial(see, path)) for path in paths]
    try:
        network(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {p: odd.get(p) or "is not called" for p in paths if p in odd or not calls[p]}


def _is_product(layer: nn.Linear, x: Tensor, out: Tensor) -> bool:
    with matrix_of(layer) as weight:
        want = nn.functional.linear(x.to(weight), weight, None if layer.bias is None else layer.bias.to(weight))
    got = out.to(want)
    if is_quantized(layer):  # of 8 bits: the rows are rounded too
        return not bool(want.isfinite().all()) or distance(got, want) <= _ROUNDED
    return torch.allclose(got, want, rtol=1e-2, atol=1e-3, equal_nan=True)


@torch.inference_mode()
def check_stacked(network: nn.Module, paths: Sequence[str], ids: Tensor, dtype: torch.dtype) -> dict[str, str]:
    """Wrap the layers at `paths`, and return those in which a stack of two random adapters is not each of them alone.

    Raises ModelError when no random adapter moves the logits.
    """
    layers = attach(network, paths)
    bare = _logits(network, ids)
    if not bare.isfinite().all():
        return {}
    members = [_random(layers, dtype, seed) for seed in (0, 1)]
    allowed = tolerance(network, lambda: _logits(network, ids[:2], layers, members[:1])[0])

    def differs(chosen: Mapping[str, StackedLinear], bare: Tensor | None = None) -> bool:
        try:
            alone = [_logits(network, part, chosen, [m]) for part, m in zip(ids.chunk(2), members, strict=True)]
            both = _logits(network, ids, chosen, members)
        except FAILURES as error:
            if is_out_of_memory(error):
                raise
            return True
        if bare is not None and distance(both, bare) == 0:
            return True
        return any(distance(b, a) > allowed for b, a in zip(both, torch.cat(alone), strict=True))

    odd: dict[str, str] = {}
    whole = differs(layers, bare)
    if whole:
        names = dict.fromkeys(path.rsplit(".", 1)[-1] for path in layers)
        for name in names:
            part = {p: layer for p, layer in layers.items() if p.rsplit(".", 1)[-1] == name}
            if differs(part):
                odd |= dict.fromkeys(part, "mixes the rows of members")
    good = {p: layer for p, layer in layers.items() if p not in odd}
    if good and whole and differs(good, bare):
        raise ModelError(
            f"{type(network).__name__} cannot be adapted: two adapters over one base are not each alone, or have no effect"
        )
    return odd


def _random(layers: Mapping[str, StackedLinear], dtype: torch.dtype, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors (in a stack of one) for each layer, which change its output by about a third."""
    generator, factors = torch.Generator().manual_seed(seed), {}
    for path, layer in layers.items():
        with matrix_of(layer.base) as weight:
            spread = float(weight.float().std())
        bound = 1 / math.sqrt(layer.base.in_features)
        low = torch.empty(1, _RANK, layer.base.in_features).uniform_(-bound, bound, generator=generator)
        size = 0.3 * spread / bound
        high = torch.randn(1, _RANK, layer.base.out_features, generator=generator) * size
        device = layer_device(layer.base)
        factors[path] = low.to(device, dtype), high.to(device, dtype)
    return factors


def _logits(
    network: nn.Module,
    ids: Tensor,
    layers: Mapping[str, StackedLinear] | None = None,
    members: Sequence[Mapping[str, tuple[Tensor, Tensor]]] = (),
) -> Tensor:
    layers = layers or {}
    down, up = ({p: torch.cat([m[p][side] for m in members]) for p in layers} for side in (0, 1))
    with use_factors(layers, down, up):
        return cast(Tensor, network(input_ids=ids, use_cache=False).logits.float())


@contextmanager
def unwrapped(network: nn.Module, layers: Mapping[str, StackedLinear]) -> Iterator[None]:
    """Within the block the wrapped layers of `network` are the plain ones again, whatever is put in their place in it."""
    for path, layer in layers.items():
        _place(network, path, layer.base)
    try:
        yield
    finally:
        for path, layer in layers.items():
            _place(network, path, layer)


def _place(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


@torch.inference_mode()
def peft_differs(
    network: nn.Module,
    layers: Mapping[str, StackedLinear],
    folder: Path,
    use: Callable[[], AbstractContextManager[None]],
    vocabulary: int,
) -> str:
    """Why PEFT, which puts the adapter in `folder` on the same network, does not give the logits that it has within `use()`.

    "" where it gives them, PEFT is not installed, or weights lie in main memory or on disk, which PEFT would place anew. Where
    memory ends nothing is known of PEFT: that is "" too, with a warning.
    """
    if is_offloaded(network):
        return ""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it where it is there, and it says what it lacks
    try:
        from peft import PeftModel
    except ImportError:
        return ""
    why = within_memory(partial(_compared, PeftModel, network, layers, folder=folder, use=use, vocabulary=vocabulary))
    if why is None:
        warnings.warn("out of memory: whether PEFT reads the adapters alike is not known", stacklevel=2)
    return why or ""


def _compared(
    peft: Any,
    network: nn.Module,
    layers: Mapping[str, StackedLinear],
    *,
    folder: Path,
    use: Callable[[], AbstractContextManager[None]],
    vocabulary: int,
) -> str:
    ids = seeded_ids(network, vocabulary)
    with use():
        want = _logits(network, ids)
        allowed = tolerance(network, lambda: _logits(network, ids)[0])
        changed = [path for path, layer in layers.items() if layer.down is not None]
    with unwrapped(network, layers):
        modules = dict(network.named_modules())
        try:
            with warnings.catch_warnings():  # PEFT asks transformers by old names
                warnings.simplefilter("ignore")
                got = _logits(cast(nn.Module, peft.from_pretrained(network, str(folder))), ids)
            kept = [path for path in changed if "lora_A" not in dict(network.get_submodule(path).named_children())]
        except (*FAILURES, OSError) as error:
            if is_out_of_memory(error):
                raise
            return first_line(error)
        finally:
            for path, module in modules.items():
                if path and network.get_submodule(path) is not module:
                    _place(network, path, module)
            vars(network).pop("peft_config", None)
    if distance(got, want) <= allowed:
        return ""
    left = f": it leaves out {len(kept)} of {len(changed)} layers, such as {kept[0]!r}" if kept else ""
    return f"it gives other logits{left}"
