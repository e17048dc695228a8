"""Doubles for fuzzing: a judge that runs nothing, and a model that draws one text and trains nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from doubles import MockModel
from spa_bench.errors import ModelError
from spa_bench.grading import Behaved, Outcome, Program
from spa_bench.types import Verdict


class StillJudge:
    """Calls every program wrong, and runs none: the programs of a fuzz test are anything."""

    @contextmanager
    def kept(self) -> Iterator[StillJudge]:
        yield self

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        for index, _ in enumerate(programs):
            yield index, Outcome(verdict=Verdict.WRONG, message="AssertionError")

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        for index, _ in enumerate(programs):
            yield index, Behaved()


class StillModel(MockModel):
    """Answers with one text; where adapters would be trained or gradients taken, it says that it cannot."""

    def __init__(self) -> None:
        super().__init__(lambda request: f"    return {request.draw}\n")

    @property
    def network(self) -> Any:
        raise ModelError("this model trains nothing")

    @network.setter
    def network(self, value: Any) -> None:
        """Nothing."""

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, Any]:
        raise ModelError("this model trains nothing")

    def embed(self, texts: Sequence[str]) -> Any:
        return np.zeros((len(texts), 2))
