"""Scores of options for a model of transformers: tokenised once, read in fixed groups by all members together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spa_bench.errors import UsageError
from spa_bench.models.base import OptionScores
from spa_bench.models.hf.option_scores import Reader
from spa_bench.models.hf.reading import Readable
from spa_bench.models.options import Encoded, OptionEncoder, Pair, encoded, groups
from spa_bench.support.interrupt import pause_point
from spa_bench.types import Asked, Member, Request

_TOKENS = {"cpu": 4096, "cuda": 32768}  # tokens of all rows that are read together
_ROWS = {"cpu": 128, "cuda": 1024}  # rows that are read together, unless the user chooses a number


class Scorer:
    """A network's scores of options. `use` gives the context in which row group i runs through adapter i."""

    def __init__(
        self,
        network: Readable,
        encoder: OptionEncoder,
        use: Callable[[Sequence[Path | None]], AbstractContextManager[Any]],
        *,
        context: int,
        vocabulary: int,
        device: torch.device,
        batch: int | None,
    ):
        self._network, self._use, self._device = network, use, device
        self._context, self._vocabulary, self._batch = context, vocabulary, batch
        self.encoder = encoder
        self._known: tuple[list[Asked], list[Encoded]] | None = None

    def encoded(self, asked: Sequence[Asked]) -> list[Encoded]:
        """The problems in `asked` as tokens; those of the last call are kept, so that the seeds of a run tokenise once."""
        if self._known is None or list(asked) != self._known[0]:
            self._known = list(asked), self.encoder.encode(asked)
        return self._known[1]

    def scores(
        self, problems: Sequence[Encoded], adapters: Sequence[Path | None], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """The scores of each problem that is not `done`, for all `adapters` in one pass."""
        kind, k = "cpu" if self._device.type == "cpu" else "cuda", len(adapters)
        most, tokens = max(1, (self._batch or _ROWS[kind]) // k), max(1, _TOKENS[kind] // k)
        use = partial(self._use, adapters)
        reader = Reader(network=self._network, device=self._device, vocabulary=self._vocabulary, members=k, adapters=use)
        for group in groups(problems, most, tokens):
            if not all(p.problem in done for p in group):
                pause_point()
                rows = min(most, max(1, tokens // group[0].longest))
                yield from (scored for scored in reader.read(group, rows) if scored.problem not in done)

    def loglikelihood(
        self, requests: Sequence[Request], pairs: Sequence[Pair], members: Sequence[Member]
    ) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood; `pairs` are the tokens of each request's prompt and continuation."""
        for request, (head, tail) in zip(requests, pairs, strict=True):
            if len(head) + len(tail) > self._context + 1:
                raise UsageError(
                    f"problem {request.problem_id}: {len(head) + len(tail)} tokens do not fit the context of {self._context}"
                )
        for member in sorted({r.member for r in requests}):
            mine = {str(i): request for i, request in enumerate(requests) if request.member == member}
            problems = [encoded(i, [pairs[int(i)]], self._context) for i in mine]
            for scored in self.scores(problems, [members[member].adapter]):
                yield mine[scored.problem], float(scored.logprobs[0, 0]), bool(scored.greedy[0, 0])
