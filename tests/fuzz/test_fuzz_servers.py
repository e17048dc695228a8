"""Answers of servers (OpenAI's protocol, vLLM) with anything in them: completions, or one ModelError of one line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from mutate import changed, damaged, values
from prop import fuzzed

from openai_server import NO_KEY, Fault, Served
from spa_bench.errors import SpaBenchError
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.models.vllm.asked import Answer, Asked
from spa_bench.models.vllm.over_http import OverHttp
from spa_bench.types import Completion, Decoding, Member, Request
from vllm_doubles import FACTS, adapter, options
from vllm_server import Fake, serving_fake

DRAWN = Decoding(temperature=1.0, max_new_tokens=6)
BASE = Member("base", None, DRAWN)
REPLY = {
    "id": "1", "model": "toy", "system_fingerprint": "f1",
    "choices": [{"index": 0, "finish_reason": "stop", "text": " sea boat", "logprobs": None}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("quick_retries")


def _asked(served: Served, *, probed: bool) -> None:
    """A model and two answers of it, or one line; with `probed` the odd answers begin after the model was probed."""
    odd, served.fault = served.fault, (lambda number, body: None) if probed else served.fault
    try:
        of = ServedModel("toy", OpenAIOptions(base_url=served.url, api_key_env=NO_KEY, tries=2))
        served.fault = odd
        requests = [
            Request(problem_id="p", member=0, draw=draw, kind="generate", prompt="a prompt", decoding=DRAWN, seed=draw)
            for draw in range(2)
        ]
        try:
            for one in of.generate(requests, [BASE]):
                assert isinstance(one, Completion)
                assert isinstance(one.text, str)
                assert isinstance(one.tokens, int)
                json.dumps(one.text).encode()
        finally:
            of.close()
    except SpaBenchError as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert len(said) < 4000


@fuzzed(odd=changed(REPLY), probed=st.booleans())
@pytest.mark.slow
def test_odd_answers(odd: Any, probed: bool, served: Served, tmp_path: Path):
    served.fault = lambda number, body: Fault(body=json.dumps(odd))
    _asked(served, probed=probed)


@fuzzed(
    body=damaged(json.dumps(REPLY).encode()), half=st.booleans(), status=st.sampled_from([200, 200, 400, 401, 404, 418, 500])
)
@pytest.mark.slow
def test_damaged_answers(body: bytes, half: bool, status: int, served: Served):
    served.fault = lambda number, _: Fault(status=status, body=body.decode("latin-1"), half=half and len(body) > 0)
    _asked(served, probed=True)


@fuzzed(odd=values(), status=st.sampled_from([200, 400, 429, 503]))
def test_answers_of_any_json(odd: Any, status: int, served: Served):
    served.fault = lambda number, body: Fault(status=status, body=json.dumps(odd))
    _asked(served, probed=False)


VLLM = {
    "/version": {"version": "0.32.0"},
    "/v1/models": {"data": [{"id": "base", "parent": None, "max_model_len": 64}]},
    "/server_info": {"vllm_config": {"scheduler_config": {"max_num_seqs": 16}, "model_config": {"dtype": "torch.float32"}}},
    "/v1/load_lora_adapter": {},
    "/v1/completions": {
        "model": "base",
        "choices": [
            {
                "token_ids": [2, 0],
                "finish_reason": "stop",
                "text": "?",
                "prompt_logprobs": [None, {"6": {"logprob": -0.6, "rank": 6}}],
            }
        ],
    },
}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving_fake() as state:
        yield state


def _asked_of_vllm(fake: Fake, place: str, answer: bytes | int, folder: Path) -> None:
    """The facts, an adapter, and two answers of a server that answers oddly at one place, or one line."""
    fake.adapters.clear()
    fake.spoil_get = lambda path, good: answer if path == place else good
    fake.spoil = lambda number, good: answer if place == "/v1/completions" else good
    fake.load = answer if place == "/v1/load_lora_adapter" else None
    requests = [Asked(ids=(5, 6), adapter=None, sampling={"temperature": 0.0, "max_tokens": 3, "prompt_logprobs": 0})] * 2
    one = adapter(folder, 1)
    try:
        backend = OverHttp(FACTS, options(base_url=fake.url, still_seconds=5, concurrency=1))
        json.dumps(backend.facts())
        for number, found in backend.open([one]).answers(requests):
            assert number in (0, 1)
            assert isinstance(found, Answer)
            assert all(isinstance(token, int) for token in found.tokens)
    except SpaBenchError as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert "\n" not in said
    assert len(said) < 4000


@fuzzed(data=st.data(), place=st.sampled_from(sorted(VLLM)))
def test_odd_answers_of_vllm(data: st.DataObject, place: str, fake: Fake, tmp_path: Path):
    odd = json.dumps(data.draw(changed(VLLM[place]))).encode()
    _asked_of_vllm(fake, place, odd, Path(tempfile.mkdtemp(dir=tmp_path)))


@fuzzed(data=st.data(), place=st.sampled_from(sorted(VLLM)), status=st.sampled_from([0, 0, 204, 301, 400, 401, 404, 500]))
def test_damaged_answers_of_vllm(data: st.DataObject, place: str, status: int, fake: Fake, tmp_path: Path):
    odd = status or data.draw(damaged(json.dumps(VLLM[place]).encode()))
    _asked_of_vllm(fake, place, odd, Path(tempfile.mkdtemp(dir=tmp_path)))
