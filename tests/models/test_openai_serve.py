"""A real server of the OpenAI protocol: `transformers serve` with the embedded model, against the model as it is loaded here.

Needs what `pip install 'transformers[serving]'` brings; run it with `pytest -m slow tests/models/test_openai_serve.py`.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import spa_bench.mini
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.types import Decoding, Member, Request

FOLDER = Path(spa_bench.mini.__file__).parent / "model"
MISSING = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}: pip install 'transformers[serving]'"
    ),
]
COMMAND = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
PROMPTS = ("def add(a, b):\n", "def double(x):\n", "Q: What is on the hill?\nA:")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    arguments = ["serve", str(FOLDER), "--port", str(port), "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments], stdout=stream, stderr=stream, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


def served(url: str, **changes: object) -> ServedModel:
    return ServedModel(str(FOLDER), OpenAIOptions(**{"base_url": url, "api_key_env": "SPA_BENCH_TEST_KEY", **changes}))


def requests(decoding: Decoding, draws: int = 1) -> list[Request]:
    return [
        Request(problem_id=prompt, member=0, draw=draw, kind="generate", prompt=prompt, decoding=decoding, seed=7 * draw + 1)
        for prompt in PROMPTS
        for draw in range(draws)
    ]


def test_greedy_texts_are_those_of_the_model_that_is_loaded_here(url: str):
    here = HFModel(str(FOLDER), HFOptions(device="cpu", threads=1))
    for stop in ((), ("\n", "return")):
        decoding = Decoding(max_new_tokens=24, stop=stop)
        members = [Member("base", None, decoding)]
        ours = {c.key: (c.text, c.finish) for c in here.generate(requests(decoding), members)}
        theirs = {c.key: (c.text, c.finish) for c in served(url).generate(requests(decoding), members)}
        assert theirs == ours


def test_what_the_probe_finds(url: str):
    model = served(url)
    assert model.describe()["id"] == f"{FOLDER}@main"
    assert model.numerics()["top_k"] == "as asked"  # as a text of JSON: its own top-k of 50 would cut every draw
    assert model.numerics()["seed"] == "ignored"  # the seed is set when a request comes, and requests come together
    assert "score" in model.unable
    assert "the server ignores seeds: the same command would draw other texts" in model.notes


def test_one_call_at_a_time_keeps_its_seed(url: str):
    model = served(url, concurrency=1)
    assert model.numerics()["seed"] == "kept"
    decoding = Decoding(temperature=1.0, top_k=30, top_p=0.95, max_new_tokens=12)
    members = [Member("base", None, decoding)]
    first = {c.key: c.text for c in model.generate(requests(decoding, 4), members)}
    assert len(set(first.values())) > 6
    assert {c.key: c.text for c in model.generate(requests(decoding, 4)[::-1], members)} == first
