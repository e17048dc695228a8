"""The engine of transformers: a network with K stacked LoRA adapters over one copy of the weights. It can do every stage.

The parts: `draw` (answers), `scorer` (options and likelihoods), `divergence` (distributions of every next token, as sums),
`adapters`. All of them run the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spa_bench.models.base import OptionScores
from spa_bench.models.beams import BeamSearch
from spa_bench.models.engine import STAGES, Draw, Drawn, LoraAdapter, Pair, Stage, Target, TargetScores
from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.divergence import Forced, Wanted
from spa_bench.models.hf.draw import Drawer, DrawnBeams
from spa_bench.models.hf.placed import is_movable, quantized_layers
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import BLOCK
from spa_bench.models.hf.scorer import Scorer
from spa_bench.models.options import Encoded
from spa_bench.types import Decoding, DivergenceSums

_ONE_PIECE = 512  # columns that a CPU's attention adds in one piece; it splits more of them where the padding begins
_TOGETHER = 8  # targets of one adapter that are scored in one call


def folders_of(adapters: Sequence[LoraAdapter | None]) -> list[Path | None]:
    """The folder of each adapter; None for the base."""
    return [None if adapter is None else adapter.folder for adapter in adapters]


@dataclass(frozen=True, kw_only=True)
class HFParts:
    """A loaded network and what its engine needs to know of it."""

    reads: Readable
    codec: Codec
    dtype: torch.dtype
    device: torch.device
    vocabulary: int
    batch: int | None  # rows decoded together; None: as many as memory holds


class HFEngine:
    """See spa_bench.models.engine.Engine. `numerics` gives the fingerprint of the network where it is."""

    name = "hf"
    can: frozenset[Stage] = frozenset(STAGES)
    context: int | None = None

    def __init__(self, parts: HFParts, numerics: Callable[[], dict[str, object]]):
        self._parts, self._numerics = parts, numerics
        self.network = parts.reads.network
        self._parked = False  # whether another engine has the GPU
        self.adapters = Adapters(self.network, parts.dtype, vocabulary=parts.vocabulary)

    @cached_property
    def _drawer(self) -> Drawer:
        p = self._parts
        return Drawer(p.reads, p.codec, self.adapters, vocabulary=p.vocabulary, device=p.device, batch=p.batch)

    @cached_property
    def _scorer(self) -> Scorer:
        p = self._parts
        half = torch.finfo(p.dtype).bits < 32
        return Scorer(p.reads, self.adapters.use, vocabulary=p.vocabulary, device=p.device, batch=p.batch, half=half)

    @cached_property
    def _forced(self) -> Forced:
        p = self._parts
        return Forced(p.reads, self.adapters.use, vocabulary=p.vocabulary, device=p.device)

    @property
    def together(self) -> int:
        """The most rows that were decoded together so far."""
        return self._drawer.together

    def fingerprint(self) -> dict[str, object]:
        """See Engine.fingerprint."""
        return self._numerics()

    def open(self, adapters: Sequence[LoraAdapter]) -> None:
        """See Engine.open: the network is on its device; adapters are read when rows run through them."""
        if self._parked:
            self.network.to(self._parts.device)
            self._parked = False

    def close(self) -> None:
        """See Engine.close: on a GPU, the network goes to the memory of the CPU, so that another engine has room."""
        self.adapters.forget()
        if self._parts.device.type != "cpu" and not self._parked and is_movable(self.network):
            self.network.to("cpu")
            self._parked = True
            torch.cuda.empty_cache()

    def batch_free(self, columns: Sequence[int]) -> bool:
        """See Engine.batch_free: where the probe found it, on a CPU in float32, as long as its attention adds in one piece."""
        parts = self._parts
        if parts.device.type != "cpu" or parts.dtype is not torch.float32 or not parts.reads.way.same_bytes:
            return False
        if quantized_layers(parts.reads.network):  # 8 bits round a row by the largest numbers of the rows beside it
            return False
        return all(n + 2 * BLOCK <= _ONE_PIECE for n in columns)

    def check_decoding(self, decoding: Decoding) -> None:
        """See ChecksDecoding: it does them all, by spa_bench.models.hf.cuts."""

    def draw(self, draws: Sequence[Draw]) -> Iterator[Drawn]:
        """See Engine.draw and spa_bench.models.hf.draw."""
        return self._drawer.draw(draws)

    def beams(self, draws: Sequence[Draw], adapter: LoraAdapter | None, search: BeamSearch) -> Iterator[DrawnBeams]:
        """See Drawer.beams."""
        return self._drawer.beams(draws, adapter.folder if adapter else None, search)

    def options(
        self, problems: Sequence[Encoded], adapters: Sequence[LoraAdapter | None], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See spa_bench.models.text.OptionReader."""
        return self._scorer.scores(problems, folders_of(adapters), done)

    def score(self, targets: Sequence[Target]) -> Iterator[TargetScores]:
        """See Engine.score. Targets of equal probability share the better rank."""
        self.open(())
        by_adapter: dict[LoraAdapter | None, list[Target]] = {}
        for target in targets:
            by_adapter.setdefault(target.adapter, []).append(target)
        for adapter, mine in by_adapter.items():
            for start in range(0, len(mine), _TOGETHER):
                part = mine[start : start + _TOGETHER]
                pairs = [(list(t.context), list(t.tokens)) for t in part]
                for target, logprobs in zip(part, self._forced.logprobs(pairs, folders_of([adapter])), strict=True):
                    mine_of = logprobs[0][np.arange(len(target.tokens)), list(target.tokens)]
                    ranks = 1 + (logprobs[0] > mine_of[:, None]).sum(1)
                    yield TargetScores(name=target.name, logprobs=mine_of.astype(np.float64), ranks=ranks.astype(np.int64))

    def divergence(
        self,
        pairs: Sequence[Pair],
        adapters: Sequence[LoraAdapter | None],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums]:
        """See Engine.divergence and spa_bench.models.hf.divergence."""
        folders = [*folders_of(adapters), *([None] if base else [])]
        wanted = Wanted(adapters=folders, members=len(adapters), top=min(top, self._parts.vocabulary), again=again)
        return self._forced.sums(pairs, wanted)

    def logprobs(self, pairs: Sequence[Pair], adapters: Sequence[LoraAdapter | None]) -> Iterator[NDArray[np.float32]]:
        """Log-probabilities (K, T, V) in nats behind each token of each pair's second part, in order, on the host."""
        return self._forced.logprobs(pairs, folders_of(adapters))
