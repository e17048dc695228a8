"""What the tests of engines share: the interpreter that has vLLM, and two models with four adapters each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines_reference import Start, World, world
from spa_bench.mini.data import MODEL
from spa_bench.models.vllm.engine import VllmEngine, vllm_engine
from spa_bench.models.vllm.options import ModelFacts, VllmOptions

PYTHON = os.environ.get("SPA_BENCH_VLLM_PYTHON", "")
_CACHE = os.environ.get("SPA_BENCH_CACHE")  # the fixture of all tests changes it
_TEXTS = (
    'def add(a, b):\n    """Return the sum."""\n',
    'def last(xs):\n    """Return the last item of xs."""\n',
    "The capital of France is",
    "def is_even(n):",
)


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that has vLLM."""
    if not PYTHON or not shutil.which(PYTHON):
        pytest.skip("SPA_BENCH_VLLM_PYTHON names no interpreter with vLLM; `make test-engines` makes one")
    return PYTHON


def _smollm2() -> Path:
    from spa_bench.models.hf.gguf import converted
    from spa_bench.models.shipped import SMOLLM2

    before = os.environ.get("SPA_BENCH_CACHE")
    try:
        if _CACHE:
            os.environ["SPA_BENCH_CACHE"] = _CACHE
        ready = converted(SMOLLM2.sha256, SMOLLM2.source)
    finally:
        if _CACHE and before is not None:
            os.environ["SPA_BENCH_CACHE"] = before
    if ready is None:
        pytest.skip("smollm2 is not in the cache; get it with `spa-bench model get smollm2`")
    return ready.folder


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The embedded model."""
    return world("mini", MODEL, tmp_path_factory.mktemp("mini"), _TEXTS)


@pytest.fixture(scope="session", params=["mini", "smollm2"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The embedded model, and SmolLM2-135M."""
    if request.param == "mini":
        one: World = request.getfixturevalue("mini")
        return one
    return world("smollm2", _smollm2(), tmp_path_factory.mktemp("smollm2"), _TEXTS)


def engine_of(one: World, python: str, said: list[str], **given: Any) -> VllmEngine:
    """vLLM for that model, with a cache of 1 GiB."""
    facts = ModelFacts(
        path=str(one.folder),
        name=one.name,
        vocabulary=one.vocabulary,
        ends=lambda stop: one.ends,
        context=min(one.context, 1024),
        dtype="float32",
    )
    options = VllmOptions(**{"python": python, "kv_cache_gib": 1.0, "still_seconds": 120.0, "start_seconds": 300.0, **given})
    return vllm_engine(facts, options, reference=one.reference.score, tell=said.append)


@pytest.fixture(scope="module")
def vllm(either: World, python: str) -> Iterator[VllmEngine]:
    """An engine that is open with the four adapters of `either`; one process at a time, as each takes gigabytes."""
    one = engine_of(either, python, [])
    one.open(either.adapters)
    yield one
    one.close()


@pytest.fixture
def start(python: str) -> Iterator[Start]:
    """Engines of a test's own, which end with it."""
    begun: list[VllmEngine] = []

    def begin(one: World, **given: Any) -> VllmEngine:
        begun.append(engine_of(one, python, [], **given))
        return begun[-1]

    yield begin
    for engine in begun:
        engine.close()
