"""The kinds of engines that come with spa-bench."""

from __future__ import annotations

from pathlib import Path

from spa_bench.errors import UsageError
from spa_bench.models.base import Model
from spa_bench.models.engine import STAGES, Stage
from spa_bench.models.hf.weights import WeightOptions
from spa_bench.models.mock import MockModel, MockOptions, read_replies
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.runs.engines import EngineKind, EngineRequest

OPENAI_STAGES: tuple[Stage, ...] = ("draw", "score")


def _hf(request: EngineRequest) -> Model:
    return request.hf()


def _mock(request: EngineRequest) -> Model:
    options = request.options_as(MockOptions)
    if request.stages != STAGES:
        raise UsageError(f"engine mock does all stages, or none; got {', '.join(request.stages)}. Give --engine mock")
    if not options.replies:
        return MockModel(context=options.context)
    return MockModel(replies=read_replies(Path(options.replies)), context=options.context)


def _openai(request: EngineRequest) -> Model:
    if other := [stage for stage in (*request.stages, *OPENAI_STAGES) if (stage in request.stages) != (stage in OPENAI_STAGES)]:
        raise UsageError(
            f"engine openai does {' and '.join(OPENAI_STAGES)}, and no more ({other[0]}): give --engine openai alone"
        )
    return ServedModel(request.model, request.options_as(OpenAIOptions))


HF_KIND = EngineKind(
    build=_hf,
    options=WeightOptions,
    stages=STAGES,
    description="transformers: trains, draws, scores and measures divergence",
)
MOCK_KIND = EngineKind(
    build=_mock,
    options=MockOptions,
    stages=STAGES,
    description="made-up answers and numbers in no time, for dry runs and tests: no model is loaded",
)
OPENAI_KIND = EngineKind(
    build=_openai,
    options=OpenAIOptions,
    stages=OPENAI_STAGES,
    description="any server of the OpenAI protocol, asked for the model that --model names: draws, and scores where it can",
)
