"""The files of a training, as safetensors: its current state, and finished adapters.

The state is one file (factors, Adam's moments, the steps done), replaced once a minute. Adapters at the wanted steps lie
beside it, a file for each step of each group of members that is trained together: NAME.FIRST-END.STEP.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spa_bench.cards.training import LoraCard
from spa_bench.models.hf.stacked_lora import Adapter
from spa_bench.spa.trainee import Trainee


def save(path: Path, step: int, trainees: Sequence[Trainee], key: str) -> None:
    """Replace the state at `path` atomically; `step` >= 1 steps are done. `key` names the training."""
    tensors = {}
    for trainee in trainees:
        for i, parameter in enumerate(trainee.parameters):
            tensors[f"{trainee.number}.{i}.value"] = parameter.detach().cpu().contiguous()
            for name, moment in trainee.optimizer.state[parameter].items():
                tensors[f"{trainee.number}.{i}.{name}"] = moment.detach().cpu().contiguous()
    members = f"{trainees[0].number}-{trainees[-1].number + 1}"
    _write(path, tensors, {"step": str(step), "members": members, "key": key})


def found(path: Path, key: str) -> tuple[int, range] | None:
    """(steps done, members) of the state at `path`; None where there is none of the training `key`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as stream:
            meta = stream.metadata()
        first, _, end = meta["members"].partition("-")
        return (int(meta["step"]), range(int(first), int(end))) if meta["key"] == key else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None  # incomplete after a crash of the machine: training begins again


def restore(path: Path, trainees: Sequence[Trainee]) -> None:
    """Load the state that `found` reports into the members' factors and optimisers."""
    from safetensors.torch import load_file

    tensors = load_file(str(path))
    with torch.no_grad():
        for trainee in trainees:
            for i, parameter in enumerate(trainee.parameters):
                parameter.copy_(tensors.pop(f"{trainee.number}.{i}.value"))
                for name in [n for n in tensors if n.startswith(f"{trainee.number}.{i}.")]:
                    moment = tensors.pop(name)
                    kind = name.rpartition(".")[2]
                    # Adam counts its steps on the CPU
                    trainee.optimizer.state[parameter][kind] = moment if kind == "step" else moment.to(parameter.device)


def clear(path: Path) -> None:
    """Remove everything that a training left at and beside `path`."""
    for file in [path, path.with_suffix(".new"), *_beside(path), *_beside(path, step="new")]:
        file.unlink(missing_ok=True)


class Shelf:
    """Adapters of groups of members after some of their steps, beside the state at `path`; in memory without a path."""

    def __init__(self, path: Path | None, key: str, card: LoraCard):
        self._path, self._key, self._card = path, key, card
        self._held: dict[tuple[range, int], list[Adapter]] = {}

    def put(self, members: range, step: int, adapters: Sequence[Adapter]) -> None:
        """Keep the adapters of `members` after `step` steps."""
        if self._path is None:
            self._held[members, step] = list(adapters)
            return
        factors = {
            f"{m}.{side}.{p}": f
            for m, adapter in zip(members, adapters, strict=True)
            for p, pair in adapter.factors.items()
            for side, f in zip(("down", "up"), pair, strict=True)
        }
        _write(self._file(self._path, members, step), factors, {"key": self._key})

    def has(self, members: range, steps: Sequence[int]) -> bool:
        """Whether the adapters of `members` are here for all `steps`, undamaged."""
        if self._path is None:
            return all((members, s) in self._held for s in steps)
        return all(self._whole(self._path, members, s) for s in steps)

    def get(self, members: range, step: int) -> list[Adapter]:
        """The adapters of `members` after `step` steps, which are here."""
        from safetensors.torch import load_file

        if self._path is None:
            return self._held[members, step]
        factors: dict[int, dict[str, dict[str, Tensor]]] = {m: {} for m in members}
        for name, tensor in load_file(str(self._file(self._path, members, step))).items():
            member, side, path = name.split(".", 2)
            factors[int(member)].setdefault(path, {})[side] = tensor
        pairs = [{p: (f["down"], f["up"]) for p, f in factors[m].items()} for m in members]
        return [Adapter(p, self._card.rank, self._card.alpha) for p in pairs]

    def groups(self, first: int) -> list[range]:
        """The groups that begin with member `first` and have files on disk, the smallest first."""
        if self._path is None:
            return []
        names = (re.search(rf"\.{first}-(\d+)\.\d+$", f.name) for f in _beside(self._path))
        return [range(first, end) for end in sorted({int(n[1]) for n in names if n})]

    def _whole(self, path: Path, members: range, step: int) -> bool:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self._file(path, members, step)), framework="pt") as stream:
                return bool((stream.metadata() or {}).get("key") == self._key)
        except (OSError, SafetensorError):
            return False

    @staticmethod
    def _file(path: Path, members: range, step: int) -> Path:
        return path.with_name(f"{path.name}.{members.start}-{members.stop}.{step}")


def _beside(path: Path, step: str = r"\d+") -> list[Path]:
    return [f for f in path.parent.iterdir() if re.fullmatch(re.escape(path.name) + rf"\.\d+-\d+\.{step}", f.name)]


def _write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    from safetensors.torch import save_file

    new = path.with_suffix(".new")
    save_file(dict(tensors), str(new), metadata=dict(meta))
    descriptor = os.open(new, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    new.replace(path)
