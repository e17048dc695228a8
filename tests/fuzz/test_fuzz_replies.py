"""Replies with anything in them: the readers of samplers that ask never fail, and give what they promise."""

from __future__ import annotations

import math
import time
from typing import Any

from hypothesis import strategies as st
from mutate import texts
from prop import fuzzed

from scripted import CODE, TEXT, Scripted, asked
from spa_bench.samplers.asking.reading import answer_in, items_in
from spa_bench.samplers.asking.stated import stated_in, weights
from spa_bench.types import Request

PIECES = (
    "<response>", "</response>", "<response", "<text>", "</text>", "<probability>", "</probability>", "0.5", "30%", "1e999",
    "-1", '{"text": ', '"probability": ', "{", "}", "[", "]", ",", ":", '"', "\\", "'", "\n", "```python\n", "```\n", "~~~",
    "### Answer 1\n", "### Answer\n", "**Answer:** 42", "1. ", "- ", "(probability: 0.2)", "probability" + " " * 50, "(((",
    "def f(x):\n    return x\n", "<think>", "</think>", "Observation 3: ", "[[[", "\ud800", "\x00", "é",
)  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "verbalized": {"turns": 2},
    "plan-search": {},
    "guided": {},
    "self-moa": {"window": 3, "sequential": True, "reserved": 1},
}
REPLIES = st.one_of(texts(), st.lists(st.one_of(st.sampled_from(PIECES), texts()), max_size=30).map("".join))


@fuzzed(reply=REPLIES, program=st.booleans(), finished=st.booleans(), most=st.integers(1, 9))
def test_readers_take_any_reply(reply: str, program: bool, finished: bool, most: int):
    found = stated_in(reply, program=program, finished=finished)
    assert all(one.text.strip() for one in found)
    assert all(one.probability is None or 0 <= one.probability <= 1 for one in found)
    if found:
        shares = weights(found)
        assert all(share >= 0 for share in shares)
        assert math.isclose(math.fsum(shares), 1)
    items = items_in(reply, most)
    assert len(items) <= most
    assert len(set(items)) == len(items)
    assert all(item and "\n" not in item for item in items)
    assert isinstance(answer_in(reply, program=program), str)


@fuzzed(piece=st.sampled_from(PIECES), other=st.sampled_from(PIECES))
def test_long_replies_are_read_in_a_moment(piece: str, other: str):
    reply = (piece + other) * (20_000 // max(1, len(piece + other)))
    start = time.process_time()
    stated_in(reply, program=True)
    items_in(reply, 5)
    answer_in(reply, program=True)
    assert time.process_time() - start < 5


@fuzzed(replies=st.lists(REPLIES, min_size=1, max_size=5), kind=st.sampled_from(sorted(KINDS)))
def test_every_kind_gives_n_answers_and_counts_all_tokens(replies: list[str], kind: str):
    def answer(request: Request) -> str:
        return replies[request.seed % len(replies)]

    model = Scripted(answer)
    found = asked(kind, model, [CODE, TEXT], n=4, **KINDS[kind])
    assert len(found) == 8
    assert all(bool(c.failure) != bool(c.text.strip()) for c in found.values())
    assert sum(c.spent or 0 for c in found.values()) == sum(len(answer(r)) for r in model.requests)
    assert asked(kind, Scripted(answer), [CODE, TEXT], n=4, **KINDS[kind]) == found
