"""Answers of a server of the OpenAI protocol with anything in them: completions, or one ModelError of one line."""

from __future__ import annotations

import json
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
from spa_bench.types import Completion, Decoding, Member, Request

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
def test_odd_answers(odd: Any, probed: bool, served: Served, tmp_path: Path):
    served.fault = lambda number, body: Fault(body=json.dumps(odd))
    _asked(served, probed=probed)


@fuzzed(
    body=damaged(json.dumps(REPLY).encode()), half=st.booleans(), status=st.sampled_from([200, 200, 400, 401, 404, 418, 500])
)
def test_damaged_answers(body: bytes, half: bool, status: int, served: Served):
    served.fault = lambda number, _: Fault(status=status, body=body.decode("latin-1"), half=half and len(body) > 0)
    _asked(served, probed=True)


@fuzzed(odd=values(), status=st.sampled_from([200, 400, 429, 503]))
def test_answers_of_any_json(odd: Any, status: int, served: Served):
    served.fault = lambda number, body: Fault(status=status, body=json.dumps(odd))
    _asked(served, probed=False)
