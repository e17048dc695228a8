"""The adapters of a model's members: read from PEFT's folders, stacked, and kept while the same adapters are in use."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from spa_bench.errors import ModelError
from spa_bench.models.hf import stacked_lora
from spa_bench.models.hf.lora_probe import check_stacked, odd_layers, peft_differs, seeded_ids
from spa_bench.models.hf.placed import weights_said
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear

_Version = tuple[tuple[Path, int] | None, ...]
_KEPT = 2**30  # bytes of adapters that are kept after they were stacked


class Adapters:
    """The layers of a network that adapters change, and the factors that were last stacked for them."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, vocabulary: int):
        self._network, self._dtype = network, dtype
        self._vocabulary = vocabulary
        self._layers: dict[str, StackedLinear] = {}
        self._odd: dict[str, str] = {}  # layers that LoRA cannot change: path -> why
        self._stacked: tuple[_Version, tuple[dict[str, Tensor], dict[str, Tensor]]] | None = None
        self._files = AdapterFiles(_KEPT)

    def layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """The layers that LoRA changes, wrapped for stacking; see stacked_lora.target_modules for `targets`.

        Those that LoRA cannot change are left out: see lora_probe. Raises ModelError when none is left.
        """
        wanted = stacked_lora.target_modules(self._network, targets)
        layers = self._attach([p for p in wanted if p not in self._odd])
        if not layers:
            why = "; ".join(f"{name} {why}" for name, why in self._odd_names(wanted))
            raise ModelError(f"no layer of {type(self._network).__name__} can be adapted: {why}")
        return layers

    def left_out(self, targets: str | Sequence[str]) -> str:
        """A line on the layers that `targets` mean and LoRA cannot change; "" where there are none."""
        self.layers(targets)
        odd = [p for p in stacked_lora.target_modules(self._network, targets) if p in self._odd]
        said = "; ".join(
            f"{name} ({sum(p.rsplit('.', 1)[-1] == name for p in odd)}) {why}" for name, why in self._odd_names(odd)
        )
        return f"LoRA leaves out {len(odd)} linear layers: {said}" if odd else ""

    def _odd_names(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """(last name, why) of the layers among `paths` that LoRA cannot change, each name once."""
        return list({p.rsplit(".", 1)[-1]: self._odd[p] for p in paths if p in self._odd}.items())

    def _attach(self, paths: Sequence[str]) -> dict[str, StackedLinear]:
        """The wrapped layers at `paths`, without those that LoRA cannot change; new ones are probed."""
        if new := [p for p in paths if p not in self._layers]:
            ids = seeded_ids(self._network, self._vocabulary)
            self._odd |= odd_layers(self._network, new, ids)
            if good := [p for p in new if p not in self._odd]:
                self._odd |= check_stacked(self._network, good, ids, self._dtype)
                self._layers |= stacked_lora.attach(self._network, [p for p in good if p not in self._odd])
        return {p: self._layers[p] for p in paths if p in self._layers}

    def peft_differs(self, folder: Path) -> str:
        """Why PEFT does not read the adapter in `folder` as it is meant, on one line; "" where it gives the same logits."""
        return peft_differs(self._network, self._layers, folder, partial(self.use, [folder]), self._vocabulary)

    def forget(self) -> None:
        """Free the factors that were last stacked, and those that were read."""
        self._stacked = None
        self._files.forget()

    def use(self, folders: Sequence[Path | None], *, only: int | None = None) -> AbstractContextManager[None]:
        """Context in which row group i runs through adapter i; None is the bare base.

        With `only`, all rows run through that one of the adapters, whose factors are not stacked again for it.
        """
        version = tuple(None if f is None else (f, _written(f)) for f in folders)
        # many batches of the same members follow each other, and each would copy all factors to the device again
        if self._stacked is None or self._stacked[0] != version:
            self._stacked = None  # frees its memory before more is allocated
            self._note_others([v[0] for v in version if v is not None])
            self._stacked = version, self._stack([None if v is None else self._files.read(*v) for v in version])
        down, up = self._stacked[1]
        if only is not None:
            down, up = ({path: factor[only : only + 1] for path, factor in part.items()} for part in (down, up))
        used: AbstractContextManager[None] = stacked_lora.use_factors(self._layers, down, up)
        return used

    def _note_others(self, folders: Sequence[Path]) -> None:
        """Warn of adapters that were trained over quantised weights other than this network's, once for each such kind."""
        here = weights_said(self._network)
        for there in dict.fromkeys(map(stacked_lora.trained_over, folders)):
            if there and there != here:
                warnings.warn(
                    f"adapters trained over {there} weights are used over {here or 'weights that are not quantised'}: "
                    "they give other answers than over their own base",
                    stacklevel=4,
                )

    def _stack(self, adapters: Sequence[Adapter | None]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        touched = {path for a in adapters if a is not None for path in a.factors}
        unknown = [p for p in touched if p not in self._layers]
        if unknown:
            for path in unknown:
                stacked_lora.check_linear(self._network, path)
            self._attach(unknown)
            if odd := next((p for p in unknown if p in self._odd), ""):
                raise ModelError(f"the adapter changes {odd!r}, which {self._odd[odd]} in {type(self._network).__name__}")
        return stacked_lora.stack(adapters, self._layers, dtype=self._dtype)


def _written(folder: Path) -> int:
    """When the weights in `folder` were written, in nanoseconds; 0 where there are none."""
    weights = folder / "adapter_model.safetensors"
    return weights.stat().st_mtime_ns if weights.exists() else 0


class AdapterFiles:
    """Adapters read from disk; those last used are kept, in at most `most` bytes of factors."""

    def __init__(self, most: int):
        self._most = most
        self._kept: dict[tuple[Path, int], Adapter] = {}  # the one last used at the end

    @property
    def size(self) -> int:
        """Bytes of the factors that are kept."""
        return sum(map(_size, self._kept.values()))

    def read(self, folder: Path, when: int) -> Adapter:
        """The adapter in `folder`, whose weights were written at `when`. Raises ModelError as stacked_lora.read_adapter."""
        adapter = self._kept.pop((folder, when), None)
        if adapter is None:
            adapter = stacked_lora.read_adapter(folder)
        self._kept[folder, when] = adapter
        while self.size > self._most:
            del self._kept[next(iter(self._kept))]
        return adapter

    def forget(self) -> None:
        """Keep none."""
        self._kept.clear()


def _size(adapter: Adapter) -> int:
    return sum(factor.numel() * factor.element_size() for pair in adapter.factors.values() for factor in pair)
