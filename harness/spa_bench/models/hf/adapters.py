"""The adapters of a model's members: read from PEFT's folders, stacked, and kept while the same adapters are in use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from spa_bench.models.hf import stacked_lora
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear

_Version = tuple[tuple[Path, int] | None, ...]


class Adapters:
    """The layers of a network that adapters change, and the factors that were last stacked for them."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, device: torch.device):
        self._network, self._dtype, self._device = network, dtype, device
        self._layers: dict[str, StackedLinear] = {}
        self._stacked: tuple[_Version, tuple[dict[str, Tensor], dict[str, Tensor]]] | None = None

    def layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """The layers that LoRA changes, wrapped for stacking; see stacked_lora.target_modules for `targets`."""
        layers = stacked_lora.attach(self._network, stacked_lora.target_modules(self._network, targets))
        self._layers.update(layers)
        return layers

    def use(self, folders: Sequence[Path | None]) -> AbstractContextManager[None]:
        """Context in which row group i runs through adapter i; None is the bare base."""
        version = tuple(None if f is None else (f, _written(f)) for f in folders)
        # many batches of the same members follow each other, and each would copy all factors to the device again
        if self._stacked is None or self._stacked[0] != version:
            self._stacked = None  # frees its memory before more is allocated
            self._stacked = version, self._stack([None if v is None else _read(*v) for v in version])
        down, up = self._stacked[1]
        used: AbstractContextManager[None] = stacked_lora.use_factors(self._layers, down, up)
        return used

    def _stack(self, adapters: Sequence[Adapter | None]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        touched = {path for a in adapters if a is not None for path in a.factors}
        unknown = [p for p in touched if p not in self._layers]
        if unknown:
            for path in unknown:
                stacked_lora.check_linear(self._network, path)
            self._layers.update(stacked_lora.attach(self._network, unknown))
        return stacked_lora.stack(adapters, self._layers, dtype=self._dtype, device=self._device)


def _written(folder: Path) -> int:
    """When the weights in `folder` were written, in nanoseconds; 0 where there are none."""
    weights = folder / "adapter_model.safetensors"
    return weights.stat().st_mtime_ns if weights.exists() else 0


@lru_cache(maxsize=64)
def _read(folder: Path, _when: int) -> Adapter:
    return stacked_lora.read_adapter(folder)
