"""Scores of options for a model of transformers: read in fixed groups by all members together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spa_bench.models.base import OptionScores
from spa_bench.models.hf.option_scores import Reader
from spa_bench.models.hf.reading import Readable
from spa_bench.models.options import ROWS as _ROWS
from spa_bench.models.options import TOKENS as _TOKENS
from spa_bench.models.options import Encoded, groups
from spa_bench.support.interrupt import pause_point


class Scorer:
    """A network's scores of options. `use` gives the context in which row group i runs through adapter i."""

    def __init__(
        self,
        network: Readable,
        use: Callable[[Sequence[Path | None]], AbstractContextManager[Any]],
        *,
        vocabulary: int,
        device: torch.device,
        batch: int | None,
        half: bool = False,
    ):
        self._half = half
        self._network, self._use, self._device = network, use, device
        self._vocabulary, self._batch = vocabulary, batch

    def scores(
        self, problems: Sequence[Encoded], adapters: Sequence[Path | None], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """The scores of each problem that is not `done`, for all `adapters` in one pass."""
        kind, k = "cpu" if self._device.type == "cpu" else "cuda", len(adapters)
        most, tokens = max(1, (self._batch or _ROWS[kind]) // k), max(1, _TOKENS[kind] // k)
        use = partial(self._use, adapters)
        reader = Reader(
            network=self._network,
            device=self._device,
            vocabulary=self._vocabulary,
            members=k,
            half=self._half,
            adapters=use,
        )
        for group in groups(problems, most, tokens):
            if not all(p.problem in done for p in group):
                pause_point()
                rows = min(most, max(1, tokens // group[0].longest))
                yield from (scored for scored in reader.read(group, rows) if scored.problem not in done)
