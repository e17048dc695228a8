"""The model, the pairs and the recipes that every part of benchmarks/attribution.py shares."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from spa_bench.cards.training import LoraCard
from spa_bench.errors import UsageError
from spa_bench.mini import data
from spa_bench.mini.world import draw_style, draw_training_task
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.support.cache import own_cache
from spa_bench.types import Example

RECIPE = LoraCard(batch=8, steps=24)
"""How the adapters of LDS and of the speed comparison are trained: the default recipe with half its batch."""


@dataclass(frozen=True)
class Where:
    """Where things are kept, and how many threads compute."""

    cache: Path
    threads: int = 1

    def folder(self, part: str, settings: object) -> Path:
        """The folder of a part under these settings; made when it is not there."""
        text = json.dumps(settings, sort_keys=True, default=_plain)
        name = f"{part}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
        folder = self.cache / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(text + "\n")
        return folder


def _plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else list(value)


def default_cache() -> Path:
    """SPA_BENCH_CACHE, or spa-bench in the user's cache folder; below it attribution-benchmark."""
    return own_cache() / "attribution-benchmark"


@lru_cache(maxsize=1)
def load_model(threads: int) -> HFModel:
    """The embedded model in float32 on the CPU."""
    return HFModel(str(data.MODEL), HFOptions(device="cpu", dtype="float32", threads=threads), name="embedded")


def training_pairs(count: int) -> list[Example]:
    """The first `count` pairs of the embedded world: its instruction set, then further draws of the same kind."""
    pairs = data.instructions()
    rng = random.Random("attribution-benchmark")
    while len(pairs) < count:
        task = draw_training_task(rng)
        pairs.append(Example(task.prompt, task.solution(draw_style(task, rng), rng)))
    return pairs[:count]


def query_pairs(count: int) -> list[Example]:
    """The first `count` of the world's 48 queries. Raises UsageError for more."""
    pairs = data.queries()
    if count > len(pairs):
        raise UsageError(f"{count} queries asked for; the embedded world has {len(pairs)}")
    return pairs[:count]


def silent(done: int, total: int) -> None:
    """A progress that nobody hears."""


def silent_text(text: str) -> None:
    """A report that nobody hears."""


def digest_of(pairs: Sequence[Example]) -> str:
    """A hash of the pairs, for the keys of caches."""
    text = json.dumps([[p.prompt, p.completion] for p in pairs])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
