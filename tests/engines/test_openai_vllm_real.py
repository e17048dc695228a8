"""`--engine openai` against `vllm serve` with two adapters: members by name, as transformers draws and scores them."""

from __future__ import annotations

import pytest
from test_vllm_serve_real import Served, serve, server

from engines_reference import World
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.types import Asked, Decoding, Member, Request

pytestmark = pytest.mark.engines
__all__ = ["serve", "server"]  # fixtures

TEXTS = ('def add(a, b):\n    """Return the sum."""\n', "def is_even(n):", "Q: What is on the hill?\nA:")


@pytest.fixture(scope="module")
def asking(server: Served, mini: World) -> ServedModel:
    return ServedModel(mini.name, OpenAIOptions(base_url=f"{server.url}/v1", api_key_env="SPA_BENCH_TEST_KEY"))


@pytest.fixture(scope="module")
def here(mini: World) -> HFModel:
    return HFModel(str(mini.folder), HFOptions(device="cpu", threads=1))


def members(one: World, decoding: Decoding) -> tuple[list[Member], list[Member]]:
    """The base and two adapters: as names on the server, and as folders."""
    adapters = one.adapters[:2]
    base = Member("base", None, decoding)
    served = [base, *(Member(a.name, None, decoding, served=a.name) for a in adapters)]
    return served, [base, *(Member(a.name, a.folder, decoding) for a in adapters)]


def requests(decoding: Decoding, draws: int = 1) -> list[Request]:
    return [
        Request(problem_id=t, member=m, draw=d, kind="generate", prompt=t, decoding=decoding, seed=100 * d + m)
        for t in TEXTS
        for m in range(3)
        for d in range(draws)
    ]


def test_the_probe_finds_what_vllm_does(asking: ServedModel, mini: World):
    said = asking.numerics()
    assert (said["seed"], said["top_k"]) == ("kept", "as asked")
    assert str(said["fingerprint"]).startswith("vllm-0.32.0-")
    assert asking.describe()["context"] == 256
    assert "score" not in asking.unable
    names = [a.name for a in mini.adapters[:2]]
    asking.check_served(names)
    assert asking.describe()["served"] == {name: name for name in names}


def test_greedy_texts_of_served_members_are_those_of_the_adapters_here(asking: ServedModel, here: HFModel, mini: World):
    for stop in ((), ("\n", "return")):
        decoding = Decoding(max_new_tokens=24, stop=stop)
        served, loaded = members(mini, decoding)
        theirs = {c.key: (c.text, c.finish) for c in asking.generate(requests(decoding), served)}
        ours = {c.key: (c.text, c.finish) for c in here.generate(requests(decoding), loaded)}
        assert theirs == ours
        assert len({text for text, _ in theirs.values()}) > 3


def test_draws_keep_their_seeds_whatever_is_drawn_beside_them(asking: ServedModel, mini: World):
    decoding = Decoding(temperature=1.0, top_k=30, top_p=0.95, min_p=0.02, max_new_tokens=12)
    served, _ = members(mini, decoding)
    first = {c.key: c.text for c in asking.generate(requests(decoding, 2), served)}
    again = {c.key: c.text for c in asking.generate(requests(decoding, 2)[::-1], served)}
    assert sum(first[key] == again[key] for key in first) >= len(first) - 1  # one may sit on an edge that the batch moves
    assert len({*first.values()}) > len(first) // 2


def test_options_have_the_log_probabilities_of_the_adapters_here(asking: ServedModel, here: HFModel, mini: World):
    asked = [
        Asked("a", tuple((TEXTS[2], f" {word}") for word in ("Yes", "No", "The river")), 3),
        Asked("b", (("def f ", "(x)"),), 1),
    ]
    asking.check_options(asked)
    served, loaded = members(mini, Decoding())
    theirs = {s.problem: s for s in asking.option_scores(asked, served)}
    for ours in here.option_scores(asked, loaded):
        assert theirs[ours.problem].tokens == ours.tokens
        assert theirs[ours.problem].logprobs == pytest.approx(ours.logprobs, abs=1e-3)
        assert (theirs[ours.problem].greedy == ours.greedy).all()


def test_an_answer_is_as_long_as_the_context_has_room_for(asking: ServedModel, here: HFModel, mini: World):
    decoding = Decoding(max_new_tokens=200)
    long = "def f(x):\n    return x\n" * 14
    assert len(here.encode_pair(long, "")[0]) + 200 > asking.context == here.context
    request = Request(problem_id="p", member=0, draw=0, kind="generate", prompt=long, decoding=decoding, seed=1)
    [theirs] = asking.generate([request], [Member("base", None, decoding)])
    [ours] = here.generate([request], [Member("base", None, decoding)])
    assert (theirs.text, theirs.finish, theirs.tokens) == (ours.text, ours.finish, ours.tokens)
