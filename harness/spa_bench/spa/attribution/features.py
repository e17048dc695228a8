"""Reduces an example's gradient to blocks of numbers, one or two for each layer.

- lora: the gradient of the adapter's own factors. With W + s·B·A (s = alpha / rank) a layer has the block of B,
  Σ_t s δ_t (A x_t)ᵀ of shape (out, r), and that of A, Σ_t (s Bᵀδ_t) x_tᵀ of shape (r, in). At LoRA's start B = 0, so that
  the second is exactly zero and left out.
- projection: a sparse random projection of these blocks to `dimensions` numbers: each entry is added to one of them with a
  random sign, which keeps inner products on average (Charikar et al. 2002; Kane and Nelson 2014, arXiv 1012.1577).
- core: the gradient of the layer's own weight, seen through two fixed projections, Σ_t (P_o δ_t)(P_i x_t)ᵀ of (k, k) (LoGra,
  Choe et al. 2024, arXiv 2405.13954). The projections are random, principal components, or the trained adapter's Bᵀ and A.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import CardError
from spa_bench.models.hf.placed import layer_device
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear, initial_down
from spa_bench.support.seeds import derive_seed

Half = tuple[str, Tensor, Tensor]  # block, inputs (rows, T, i), gradients (rows, T, o)
Gather = Callable[[], Mapping[str, tuple[Tensor, Tensor]]]  # second moments (in, in), (out, out) of each layer's x and δ

_DIMENSIONS = {"projection": 4096, "core": 16}


class Features(Protocol):
    """Blocks of an example's gradient."""

    summed: bool  # the parts of all layers add up to one block

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """(o, i) of each block."""
        ...

    def halves(self, path: str, x: Tensor, delta: Tensor) -> Iterator[Half]:
        """A layer's blocks as inputs and gradients of tokens, whose outer products add up to the block."""
        ...

    def gradients(self, path: str, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
        """A layer's part of its blocks, (rows, o, i), in float32."""
        ...


class LoraFeatures:
    """The gradient of the adapter's factors."""

    summed = False

    def __init__(self, layers: Mapping[str, StackedLinear], adapter: Adapter | None, lora: LoraCard, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self._scale = lora.alpha / lora.rank if adapter is None else adapter.scale
        self._down: dict[str, Tensor] = {}  # (r, in)
        self._up: dict[str, Tensor] = {}  # (out, r)
        self.shapes: dict[str, tuple[int, int]] = {}
        for path, layer in layers.items():
            device = layer_device(layer.base)
            if adapter is None:
                self._down[path] = initial_down(layer.base.in_features, lora.rank, generator).to(device)
            elif path in adapter.factors:
                self._down[path], self._up[path] = (f.to(device).float() for f in adapter.factors[path])
                self.shapes[f"{path}.A"] = (self._down[path].shape[0], self._down[path].shape[1])
            if path in self._down:
                self.shapes[f"{path}.B"] = (layer.base.out_features, self._down[path].shape[0])

    def factors(self) -> dict[str, Tensor]:
        """The values of the blocks: B (out, r) and A (r, in); at LoRA's start B alone, which is zero."""
        values = {}
        for path, low in self._down.items():
            values[f"{path}.B"] = self._up.get(path, low.new_zeros(self.shapes[f"{path}.B"]))
            if path in self._up:
                values[f"{path}.A"] = low
        return values

    def stacked(self, factors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`down` (K, r, in) and scaled `up` (K, r, out) for use_factors, of K members' blocks (K, o, i)."""
        up = {path: factors[f"{path}.B"].mT * self._scale for path in self._down}
        down = {p: factors.get(f"{p}.A", low.expand(len(up[p]), *low.shape)) for p, low in self._down.items()}
        return down, up

    def halves(self, path: str, x: Tensor, delta: Tensor) -> Iterator[Half]:
        """See Features."""
        if path not in self._down:
            return
        x, delta = x.float(), delta.float() * self._scale
        yield f"{path}.B", x @ self._down[path].T, delta
        if path in self._up:
            yield f"{path}.A", x, delta @ self._up[path]

    def gradients(self, path: str, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
        """See Features."""
        for block, inputs, gradients in self.halves(path, x, delta):
            yield block, gradients.mT @ inputs


class CoreFeatures:
    """A small core of each layer's weight gradient; `projections` maps a path to P_i (k, in) and P_o (k, out)."""

    summed = False

    def __init__(self, projections: Mapping[str, tuple[Tensor, Tensor]]):
        self._projections = projections
        self.shapes = {path: (high.shape[0], low.shape[0]) for path, (low, high) in projections.items()}

    def halves(self, path: str, x: Tensor, delta: Tensor) -> Iterator[Half]:
        """See Features."""
        if path in self._projections:
            low, high = self._projections[path]
            yield path, x.float() @ low.T, delta.float() @ high.T

    def gradients(self, path: str, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
        """See Features."""
        for block, inputs, gradients in self.halves(path, x, delta):
            yield block, gradients.mT @ inputs


class ProjectedFeatures:
    """A sparse random projection of another kind's blocks to one of (1, dimensions)."""

    summed = True

    def __init__(self, inner: LoraFeatures, dimensions: int, seed: int):
        self._inner, self._dimensions, self._seed = inner, dimensions, seed
        self._places: dict[str, tuple[Tensor, Tensor]] = {}
        self.shapes = {"projection": (1, dimensions)}

    def halves(self, path: str, x: Tensor, delta: Tensor) -> Iterator[Half]:
        """Unavailable: the card refuses the settings that need it. Raises CardError."""
        raise CardError("a projection has no layers apart")

    def gradients(self, path: str, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
        """See Features."""
        for block, gradient in self._inner.gradients(path, x, delta):
            flat = gradient.flatten(1)
            place, sign = self._place(block, flat.shape[1], flat.device)
            out = torch.zeros(len(flat), self._dimensions, device=flat.device)
            yield "projection", out.index_add_(1, place, flat * sign)[:, None]

    def _place(self, block: str, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if block not in self._places:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "projection", block))
            place = torch.randint(self._dimensions, (count,), generator=generator)
            sign = torch.randint(2, (count,), generator=generator) * 2.0 - 1
            self._places[block] = place.to(device), sign.to(device)
        return self._places[block]


def build_features(
    card: AttributionCard,
    lora: LoraCard,
    layers: Mapping[str, StackedLinear],
    *,
    adapter: Adapter | None,
    seed: int,
    moments: Gather,
) -> Features:
    """The features that the card names; `moments` is called only for principal components."""
    size = card.dimensions or _DIMENSIONS.get(card.features, 0)
    if card.features == "lora":
        return LoraFeatures(layers, adapter, lora, seed)
    if card.features == "projection":
        return ProjectedFeatures(LoraFeatures(layers, adapter, lora, seed), size, seed)
    return CoreFeatures(_projections(card.core, size, layers, adapter=adapter, seed=seed, moments=moments))


def _projections(
    kind: str, size: int, layers: Mapping[str, StackedLinear], *, adapter: Adapter | None, seed: int, moments: Gather
) -> dict[str, tuple[Tensor, Tensor]]:
    if kind == "adapter":
        if adapter is None:
            raise CardError(
                'attribution.core = "adapter" has no gradient at LoRA\'s start, where B = 0: use a later checkpoint'
            )
        return {
            path: (low.to(layer_device(layers[path].base)).float(), high.to(layer_device(layers[path].base)).float().T)
            for path, (low, high) in adapter.factors.items()
        }
    if kind == "pca":
        return {path: (_components(x, size), _components(delta, size)) for path, (x, delta) in moments().items()}
    generator = torch.Generator().manual_seed(derive_seed(seed, "core"))

    def drawn(width: int, device: torch.device) -> Tensor:
        k = min(size, width)
        return torch.randn(k, width, generator=generator).div_(k**0.5).to(device)

    return {
        path: (
            drawn(layer.base.in_features, layer_device(layer.base)),
            drawn(layer.base.out_features, layer_device(layer.base)),
        )
        for path, layer in layers.items()
    }


def _components(moment: Tensor, size: int) -> Tensor:
    """(k, width): the directions of the largest second moments."""
    vectors: Tensor = torch.linalg.eigh(moment.double())[1]
    return vectors[:, -size:].flip(1).T.float().contiguous()
