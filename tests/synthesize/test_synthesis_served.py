"""A synthesis whose pairs a server writes: when the server fails half-way, what is there stays and the same command resumes."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, Done
from openai_server import NO_KEY, WORDS, Fault, Served

ROUND = 4  # drafts, of which each is a call of the server
CALLS = 6  # that the server answers before it fails: one whole round, and half of the second


def is_question(body: dict[str, Any]) -> bool:
    """Whether a call asks for a pair."""
    return "inspiration" in str(body.get("messages"))


def sectioned(body: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A reply of an instruct model that depends on the question and its seed alone."""
    if not is_question(body):  # the harness looks at what the server is like
        return said
    rng = random.Random(zlib.crc32(json.dumps([body["messages"], body["seed"]]).encode()))
    words = " ".join(rng.choice(WORDS) for _ in range(12))
    name = f"f{rng.randrange(10**6)}"
    text = (
        f"[Problem]\nWrite {name}, of {words}.\n[Solution]\n```python\ndef {name}(x):\n    return x + {rng.randrange(99)}\n```"
    )
    said["choices"][0] |= {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return said


def questions(served: Served) -> list[dict[str, Any]]:
    return [body for body in served.asked if is_question(body)]


@pytest.fixture
def synthesize(call: Call, served: Served, quick_retries: None, tmp_path: Path) -> Call:
    served.answer = sectioned
    settings = [
        f"engine.base_url={served.url}",
        f"engine.api_key_env={NO_KEY}",
        "engine.tries=2",
        "engine.concurrency=1",
        "code=parse",
        f"options.round={ROUND}",
    ]

    def called(*arguments: object) -> Done:
        words = ["--method", "oss-instruct", "--targets", "mini", "--engine", "openai", "--model", "toy", "--pairs", 12]
        return call("synthesize", *words, *(w for s in settings for w in ("--set", s)), *arguments)

    return called


def test_a_server_that_fails_half_way_leaves_whole_rounds_and_the_same_command_goes_on(
    synthesize: Call, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "made.jsonl"
    served.fault = lambda number, body: Fault(status=503) if len(questions(served)) > CALLS else None
    done = synthesize("--out", out)
    said = done.err.splitlines()[-1]
    assert done.code in {2, 3}, done.err
    assert "Traceback" not in done.err
    assert f"synthesis (oss-instruct): {ROUND} of 12 pairs from 1 whole round are kept, and the same command resumes" in said
    assert not out.exists()
    served.fault = lambda number, body: None
    served.forget()
    assert synthesize("--out", out).code == 0
    assert len(questions(served)) == 2 * ROUND  # the first round is not asked for again
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "elsewhere"))
    assert synthesize("--out", tmp_path / "whole.jsonl").code == 0
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(out.read_text().splitlines()) == 12
