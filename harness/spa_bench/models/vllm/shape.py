"""What vLLM must know of adapters before it loads a model: how many they are, their ranks and the modules that they change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.errors import ModelError
from spa_bench.models.engine import LoraAdapter
from spa_bench.support.text import one_line


@dataclass(frozen=True)
class Shape:
    """The ranks of some adapters, and the last names of all modules that they change."""

    ranks: tuple[int, ...] = ()
    modules: frozenset[str] = frozenset()

    @staticmethod
    def of(adapters: Sequence[LoraAdapter]) -> Shape:
        """The shape of `adapters`. Raises ModelError for a folder that is no adapter in PEFT's format."""
        return Shape(tuple(rank_of(a.folder) for a in adapters), frozenset().union(*(modules_of(a.folder) for a in adapters)))

    def holds(self, other: Shape) -> bool:
        """Whether a model that was loaded for this shape can take adapters of the `other`."""
        return (
            len(other.ranks) <= len(self.ranks)
            and max(other.ranks, default=0) <= max(self.ranks, default=0)
            and other.modules <= self.modules
        )


def rank_of(folder: Path) -> int:
    """The highest rank of the adapter in `folder`. Raises ModelError where its config does not say."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return max([int(config["r"]), *(int(r) for r in (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"the adapter in {folder} names no rank in adapter_config.json ({_said(error)})") from error


def modules_of(folder: Path) -> frozenset[str]:
    """The last names of the modules that the adapter in `folder` changes, as q_proj.

    vLLM wraps these alone: it would wrap the output layer as well, and cannot score a prompt then (0.32 on a CPU).
    Raises ModelError where the weights cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", framework="np") as tensors:
            names = list(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the weights of the adapter in {folder} cannot be read ({_said(error)})") from error
    return frozenset(n.partition(".lora_")[0].rpartition(".")[2] for n in names if ".lora_" in n)


def _said(error: Exception) -> str:
    """`error` on one line, without the whole of a long name that a file holds."""
    return one_line(repr(error), 300)
