"""The kinds of engines that come with spa-bench."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spa_bench.cards.kinds import as_declared
from spa_bench.errors import UsageError
from spa_bench.models.base import Model
from spa_bench.models.engine import STAGES, Stage, Target, TargetScores
from spa_bench.models.hf.weights import WeightOptions
from spa_bench.models.mock import MockModel, MockOptions, read_replies
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.models.vllm.options import ModelFacts, VllmOptions
from spa_bench.runs.engines import EngineKind, EngineRequest
from spa_bench.support.console import Reporter

if TYPE_CHECKING:
    from spa_bench.models.hf.model import HFModel
    from spa_bench.models.hf.unloaded import UnloadedModel

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
    return ServedModel(request.model, request.options_as(OpenAIOptions), request.spent)


def _openai_known(model: str, options: object) -> dict[str, object]:
    try:
        return {"name": model, "base_url": as_declared(options, OpenAIOptions).url}
    except ValueError as error:
        raise UsageError(str(error)) from None


def _vllm(request: EngineRequest) -> Model:
    options = request.options_as(VllmOptions)
    from spa_bench.models.vllm.engine import vllm_engine

    model: HFModel | UnloadedModel
    reference = None
    if options.hf:
        model = loaded = request.hf()
        reference = partial(_scores, loaded)
    else:
        model = request.unloaded()
    model.use(vllm_engine(_facts(model), options, reference=reference, tell=Reporter().note), request.stages)
    return model


def _facts(model: HFModel | UnloadedModel) -> ModelFacts:
    from spa_bench.models.hf.loading import device_of, dtype_of

    loading = model.options
    return ModelFacts(
        path=model.path,
        name=model.name,
        vocabulary=model.vocabulary,
        ends=model.codec.ends_by,
        context=model.context,
        positions=model.positions,
        dtype=str(dtype_of(loading.dtype, device_of(loading.device))).removeprefix("torch."),
        threads=loading.threads or len(os.sched_getaffinity(0)),
        revision=loading.revision,
        trust_remote_code=loading.trust_remote_code,
    )


def _scores(model: HFModel, targets: Sequence[Target]) -> Iterator[TargetScores]:
    """Scores by transformers, behind which a GPU is free again."""
    yield from model.hf.score(targets)
    if model.exclusive:
        model.hf.close()


HF_KIND = EngineKind(
    build=_hf,
    options=WeightOptions,
    stages=STAGES,
    description="transformers: trains, draws, scores and measures divergence",
)
MOCK_KIND = EngineKind(
    build=_mock,
    options=MockOptions,
    model="unused",
    stages=STAGES,
    loads=False,
    description="made-up answers and numbers in no time, for dry runs and tests: no model is loaded",
)
OPENAI_KIND = EngineKind(
    build=_openai,
    options=OpenAIOptions,
    model="given",
    known=_openai_known,
    stages=OPENAI_STAGES,
    loads=False,
    description="any server of the OpenAI protocol, asked for the model that --model names: draws, and scores where it can",
)
VLLM_KIND = EngineKind(
    build=_vllm,
    options=VllmOptions,
    description="vLLM, in a process of its own or a running `vllm serve`; hf trains, measures divergence and checks adapters",
)
