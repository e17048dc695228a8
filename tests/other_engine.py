"""An engine of somebody else's: it draws and scores by transformers' network, token by token, and says so by its own name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from spa_bench.models.base import Model
from spa_bench.models.engine import Draw, Drawn, LoraAdapter, Pair, Stage, Target, TargetScores
from spa_bench.models.hf.engine import HFEngine
from spa_bench.runs.engines import EngineKind, EngineRequest
from spa_bench.types import DivergenceSums


@dataclass(frozen=True, kw_only=True)
class Options:
    size: int = 1
    hf: bool = True  # whether the weights are loaded beside the engine
    room: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")


class OtherEngine:
    """Draws without a look at stop strings: its tokens go on behind the first, as those of an engine by steps may."""

    name = "other"
    can: frozenset[Stage] = frozenset({"draw", "score"})

    def __init__(self, hf: HFEngine, options: Options):
        self._hf, self._options = hf, options
        self.context = options.room
        self.opened: list[list[LoraAdapter]] = []

    def fingerprint(self) -> dict[str, object]:
        return {"version": "1", "size": self._options.size}

    def open(self, adapters: Sequence[LoraAdapter]) -> None:
        self.opened.append(list(adapters))

    def batch_free(self, columns: Sequence[int]) -> bool:
        return True

    def draw(self, draws: Sequence[Draw]) -> Iterator[Drawn]:
        yield from self._hf.draw([replace(d, decoding=replace(d.decoding, stop=())) for d in draws])

    def score(self, targets: Sequence[Target]) -> Iterator[TargetScores]:
        yield from reversed(list(self._hf.score(targets)))

    def divergence(
        self,
        pairs: Sequence[Pair],
        adapters: Sequence[LoraAdapter | None],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums]:
        raise NotImplementedError

    def close(self) -> None:
        self.opened.clear()


def build(request: EngineRequest) -> Model:
    options = request.options_as(Options)
    engine = OtherEngine(request.hf().hf, options)  # stands for a process that has the weights
    model = request.hf() if options.hf else request.unloaded()
    model.use(engine, request.stages)
    return model


KIND = EngineKind(build=build, options=Options, description="an engine of somebody else's")
