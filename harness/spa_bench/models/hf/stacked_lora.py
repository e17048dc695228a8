"""K LoRA adapters over one frozen base as one batched computation (Hu et al. 2021, arXiv 2106.09685).

The rows of a batch are grouped by member: rows [m·R, (m+1)·R) belong to member m, R rows each. Every targeted
linear layer computes x Wᵀ + s (x Aᵀ) Bᵀ with A stacked to (K, r, in) and B to (K, out, r), so one pass over the base
serves all members. Limits: plain LoRA on nn.Linear only (no DoRA, no biases, no embeddings).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from spa_bench.errors import ModelError
from spa_bench.models.hf.placed import is_plain, layer_device
from spa_bench.models.hf.plain_lora import not_plain
from spa_bench.support.seeds import derive_seed
from spa_bench.support.text import one_line

ALL_LINEAR = "all-linear"
_PEFT_PREFIX = "base_model.model."
MARK = "training.json"  # beside an adapter that was trained over quantised weights


@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter: per module path the factors A (r, in) and B (out, r), and the scale of their product."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Dropout:
    """The dropout of the adapters' input, inverted as in PEFT.

    Each sample of a batch has its own seed, from which each layer's mask is drawn. A mask depends neither on the samples
    beside it nor on the padding, and recomputed activations get the same mask.
    """

    share: float
    shape: tuple[int, int]  # rows and columns of the batch
    spans: Sequence[tuple[int, int, int, int]]  # of each sample: its row, first column, column behind it, seed

    def mask(self, path: str, x: Tensor) -> Tensor:
        """The factors of the input x (rows, columns, in) of the layer at `path`: 0, or 1 / (1 - share)."""
        generator = torch.Generator(x.device)
        mask = torch.zeros(*self.shape, x.shape[-1], dtype=x.dtype, device=x.device)
        for row, first, end, seed in self.spans:
            generator.manual_seed(derive_seed(seed, path))
            mask[row, first:end].bernoulli_(1 - self.share, generator=generator)
        return mask.view(x.shape).div_(1 - self.share)


class StackedLinear(nn.Module):
    """A frozen linear layer plus, while factors are set, one low-rank update per group of rows."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.down: Tensor | None = None  # (K, r, in)
        self.up: Tensor | None = None  # (K, r, out), already scaled
        self.dropout: Callable[[Tensor], Tensor] | None = None  # the mask for an input
        self.tap: Callable[[nn.Linear, Tensor], Tensor] | None = None  # computes the layer instead, where it is set

    @property
    def weight(self) -> Tensor:
        """The base layer's weight, which some architectures read beside calling the layer."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias, likewise."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """The base layer's number of inputs."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """The base layer's number of outputs."""
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """x (K·R, ..., in) -> (K·R, ..., out)."""
        if self.tap is not None:
            return self.tap(self.base, x)
        y = cast(Tensor, self.base(x))
        if self.down is None or self.up is None:
            return y
        k = self.up.shape[0]
        if self.dropout is not None:
            x = x * self.dropout(x)
        rows, down = x.reshape(k, -1, x.shape[-1]), self.down.to(x.dtype)
        # the same product twice: (A xᵀ)ᵀ has a backward pass several times faster on a CPU, x Aᵀ does not let the last
        # bits of a row depend on how many rows there are
        low = torch.bmm(down, rows.mT).mT if torch.is_grad_enabled() else torch.bmm(rows, down.mT)
        return _added(y, low, self.up) if is_plain(self.base) else _sum(y, low, self.up)


def _added(y: Tensor, low: Tensor, up: Tensor) -> Tensor:
    """y + low @ up, in place: y comes from the base layer and is used nowhere else."""
    # autocast casts neither operations in place nor tensors that are float32 on purpose
    y.view(up.shape[0], -1, y.shape[-1]).baddbmm_(low.to(y.dtype), up.to(y.dtype))
    return y


def _sum(y: Tensor, low: Tensor, up: Tensor) -> Tensor:
    """As _added, not in place: what a quantised layer gives may be a view that autograd watches."""
    rows = y.reshape(up.shape[0], -1, y.shape[-1])
    return torch.baddbmm(rows, low.to(y.dtype), up.to(y.dtype)).view(y.shape)


def output_layer(network: nn.Module) -> nn.Module | None:
    """The layer that makes the logits; None where the network names none."""
    if not hasattr(network, "get_output_embeddings"):
        return None
    return cast("Callable[[], nn.Module | None]", network.get_output_embeddings)()


def target_modules(network: nn.Module, targets: str | Sequence[str] = ALL_LINEAR) -> list[str]:
    """Paths of the linear layers that adapters change, in model order: all but the output layer, or by last name.

    Raises ModelError when nothing matches or a match is not a linear layer.
    """
    output = output_layer(network)
    named = [(n, plain(m)) for n, m in network.named_modules() if not n.endswith(".base")]
    linear = {n for n, m in named if isinstance(m, nn.Linear) and m is not output}
    if targets == ALL_LINEAR:
        if not linear:
            kinds = sorted({type(m).__name__ for _, m in named if hasattr(m, "weight")})
            raise ModelError(
                f"no nn.Linear layer to adapt in {type(network).__name__} (layers with weights: {', '.join(kinds)})"
            )
        return [n for n, _ in named if n in linear]
    wanted = [targets] if isinstance(targets, str) else list(targets)
    matched = [n for n, _ in named if n.rsplit(".", 1)[-1] in wanted]
    missing = [w for w in wanted if not any(n.rsplit(".", 1)[-1] == w for n in matched)]
    if missing or not set(matched) <= linear:
        known = sorted({n.rsplit(".", 1)[-1] for n in linear})
        raise ModelError(f"LoRA targets {missing or wanted} are no linear layers of this model; it has {', '.join(known)}")
    return matched


def plain(module: nn.Module) -> nn.Module:
    """`module`, or the layer that it wraps."""
    return module.base if isinstance(module, StackedLinear) else module


def attach(network: nn.Module, paths: Sequence[str]) -> dict[str, StackedLinear]:
    """Wrap the layers at `paths` in place (idempotent) and return the wrappers, which have no effect without factors."""
    wrapped = {}
    for path in paths:
        module = network.get_submodule(path)
        if not isinstance(module, StackedLinear):
            parent, _, name = path.rpartition(".")
            stacked = StackedLinear(cast(nn.Linear, module))
            setattr(network.get_submodule(parent), name, stacked)
            module = stacked
        wrapped[path] = module
    return wrapped


@contextmanager
def use_factors(
    layers: Mapping[str, StackedLinear],
    down: Mapping[str, Tensor],
    up: Mapping[str, Tensor],
    dropout: Dropout | None = None,
) -> Any:
    """Set `down` (K, r, in) and scaled `up` (K, r, out) for the time of the block; other layers are bare in it.

    `dropout` is that of the batch that runs within the block.
    """
    before = {path: (layer.down, layer.up, layer.dropout) for path, layer in layers.items()}
    try:
        for path, layer in layers.items():
            layer.down, layer.up = down.get(path), up.get(path)
            layer.dropout = partial(dropout.mask, path) if dropout else None
        yield
    finally:
        for path, layer in layers.items():
            layer.down, layer.up, layer.dropout = before[path]


@contextmanager
def bare(network: nn.Module) -> Any:
    """Within the block no adapter and no dropout is in use in `network`, so that it reads any number of rows."""
    layers = [m for m in network.modules() if isinstance(m, StackedLinear)]
    before = [(layer.down, layer.up, layer.dropout, layer.tap) for layer in layers]
    try:
        for layer in layers:
            layer.down = layer.up = layer.dropout = layer.tap = None
        yield
    finally:
        for layer, (down, up, dropout, tap) in zip(layers, before, strict=True):
            layer.down, layer.up, layer.dropout, layer.tap = down, up, dropout, tap


def stack(
    adapters: Sequence[Adapter | None], layers: Mapping[str, StackedLinear], *, dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Factors of K adapters for use_factors, on the device of their layer; None is the bare base, smaller ranks are padded.

    Raises ModelError for an adapter of a layer that is not in `layers`, or that has another shape.
    """
    # padded to a multiple of 4: other widths take CPU kernels whose last bits depend on a row's place in the batch
    rank = -(-max((a.rank for a in adapters if a is not None), default=0) // 4) * 4
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    touched = {path for a in adapters if a is not None for path in a.factors}
    if unknown := touched - set(layers):
        raise ModelError(
            f"the adapter changes {sorted(unknown)[0]!r}, which this model does not have; was it made for another model?"
        )
    for path in layers:
        if path not in touched:
            continue
        base = layers[path].base
        a = torch.zeros(len(adapters), rank, base.in_features)
        b = torch.zeros(len(adapters), rank, base.out_features)
        for i, adapter in enumerate(adapters):
            if adapter is None or path not in adapter.factors:
                continue
            low, high = adapter.factors[path]
            if low.shape[1] != base.in_features or high.shape[0] != base.out_features:
                raise ModelError(
                    f"adapter and model differ in shape at {path}: {tuple(low.shape)} does not fit {base.in_features} inputs"
                )
            a[i, : adapter.rank] = low
            b[i, : adapter.rank] = high.T * adapter.scale
        device = layer_device(base)
        down[path], up[path] = a.to(device, dtype), b.to(device, dtype)
    return down, up


def initial_down(inputs: int, rank: int, generator: torch.Generator) -> Tensor:
    """The initial A (r, in) of LoRA: uniform within ±1/sqrt(in), as PEFT draws it."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(inputs, rank).uniform_(-bound, bound, generator=generator).T.contiguous()


def write_adapter(
    adapter: Adapter,
    folder: Path,
    *,
    base_model: str,
    network: nn.Module | None = None,
    weights: str = "",
    targets: Sequence[str] = (),
) -> None:
    """Write `adapter` in PEFT's format: adapter_config.json and adapter_model.safetensors.

    With `weights`, the words for those of a quantised base, a file training.json beside them says over what it was trained.

    The layers are named by their last names where these mean no other module of `network`, which the adapter changes; else by
    their whole paths, which PEFT reads too. `targets` are such names where they are known already.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for path, (low, high) in adapter.factors.items():
        tensors[f"{_PEFT_PREFIX}{path}.lora_A.weight"] = low.detach().float().cpu().contiguous()
        tensors[f"{_PEFT_PREFIX}{path}.lora_B.weight"] = high.detach().float().cpu().contiguous()
    save_file(tensors, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(targets) or _peft_names(set(adapter.factors), network),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if weights:
        (folder / MARK).write_text(
            json.dumps({"base_model": base_model, "weights": weights}, indent=2) + "\n", encoding="utf-8"
        )


def trained_over(folder: Path) -> str:
    """The words for the quantised weights over which the adapter in `folder` was trained; "" where nothing marks it."""
    try:
        return str(json.loads((folder / MARK).read_bytes()).get("weights", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _peft_names(paths: set[str], network: nn.Module | None) -> list[str]:
    """The `target_modules` that mean the modules at `paths` alone: PEFT takes every module whose path ends with such a name."""
    last = {path.rsplit(".", 1)[-1] for path in paths}
    if network is None:
        alone = not any(name.isdigit() for name in last)  # a number is the name of blocks as well
    else:
        modules = {name.removesuffix(".base") for name, _ in network.named_modules()}
        alone = {name for name in modules if name.rsplit(".", 1)[-1] in last} == paths
    return sorted(last if alone else paths)


_MOST_RANK = 1 << 16
_MOST_ALPHA = 1e30


def read_adapter(folder: Path) -> Adapter:
    """Read a LoRA adapter in PEFT's format; safetensors only. Raises ModelError when it is missing or not plain LoRA."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config_file, weights_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not config_file.is_file() or not weights_file.is_file():
        raise ModelError(f"no PEFT adapter in {folder}: adapter_config.json and adapter_model.safetensors are needed")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        tensors = load_file(str(weights_file))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} is broken: {one_line(error, 300)}") from error
    if not isinstance(config, dict):
        raise ModelError(f"the adapter in {folder} is broken: adapter_config.json holds no object")
    if odd := not_plain(config):
        raise ModelError(f"the adapter in {folder} is not plain LoRA ({odd}); only plain LoRA can be stacked")
    rank, alpha = _scaling(config, folder)
    if config.get("use_rslora"):
        alpha *= rank**0.5  # rank-stabilised LoRA scales by alpha / sqrt(r)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name in tensors:
        match = re.fullmatch(re.escape(_PEFT_PREFIX) + r"(.+)\.lora_[AB]\.weight", name)
        low, high = (f"{_PEFT_PREFIX}{match[1]}.lora_{side}.weight" for side in "AB") if match else ("", "")
        if match is None or low not in tensors or high not in tensors:
            raise ModelError(
                f"the adapter in {folder} holds {name!r}, which is no pair of LoRA factors; only plain LoRA can be stacked"
            )
        factors[match[1]] = _pair(tensors[low], tensors[high], rank, f"{match[1]!r} of the adapter in {folder}")
    if not factors:
        raise ModelError(f"the adapter in {folder} has no LoRA factors, and would change nothing; its file is broken")
    return Adapter(factors, rank, alpha)


def _scaling(config: Mapping[str, object], folder: Path) -> tuple[int, float]:
    """(rank, alpha) of an adapter's config. Raises ModelError where they are no numbers that scale."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 0 < rank <= _MOST_RANK:
        raise ModelError(f"the adapter in {folder} has r = {rank!a}; it must be a whole number from 1 to {_MOST_RANK}")
    if type(alpha) not in (int, float) or not abs(cast(float, alpha)) < _MOST_ALPHA:
        raise ModelError(f"the adapter in {folder} has lora_alpha = {str(alpha)[:40]!a}; it must be a finite number")
    return rank, float(cast(float, alpha))


def _pair(low: Tensor, high: Tensor, rank: int, where: str) -> tuple[Tensor, Tensor]:
    """The factors of a layer. Raises ModelError unless they are matrices of floats of that rank."""
    if low.ndim != 2 or high.ndim != 2 or low.shape[0] != rank or high.shape[1] != rank:
        raise ModelError(f"the factors of {where} have the shapes {tuple(low.shape)} and {tuple(high.shape)}, not rank {rank}")
    if not (low.is_floating_point() and high.is_floating_point()):
        raise ModelError(f"the factors of {where} have the types {low.dtype} and {high.dtype}, which are no floats")
    return low, high


def check_linear(network: nn.Module, path: str) -> None:
    """Raise ModelError unless the module at `path` is a linear layer."""
    try:
        module = network.get_submodule(path)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear | StackedLinear):
        raise ModelError(
            f"the adapter changes {path!r}, which is no linear layer of this model; was it made for another model?"
        )
