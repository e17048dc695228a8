"""vLLM as a server, by a server of the test's own: requests, adapters, and every way in which a server can be no good."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from types import SimpleNamespace

import pytest

from spa_bench.errors import ModelError
from spa_bench.models.vllm import over_http
from spa_bench.models.vllm.asked import Answer, Asked
from spa_bench.models.vllm.over_http import OverHttp
from vllm_doubles import FACTS, adapter, options
from vllm_server import Fake, Json, serving_fake

PLAIN = {"temperature": 0.0, "max_tokens": 3}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving_fake() as state:
        yield state


def backend(fake: Fake, **given: object) -> OverHttp:
    return OverHttp(FACTS, options(base_url=fake.url, **given))


def ask(ids: tuple[int, ...] = (5, 6), name: str | None = None, **sampling: object) -> Asked:
    return Asked(ids=ids, adapter=name, sampling={**PLAIN, **sampling})


def test_a_server_tells_its_version_and_context_and_what_it_does_not_tell_is_said(fake: Fake):
    one = backend(fake)
    assert one.facts() == {
        "version": "0.32.0",
        "max_model_len": 64,
        "runner": "not told by the server",
        "attention": "not told by the server",
        "settings": "not told by the server",
    }
    assert one.positions == 63


def test_a_server_in_development_mode_tells_its_settings(fake: Fake):
    fake.told = {
        "vllm_config": {"scheduler_config": {"max_num_seqs": 16}, "model_config": {"dtype": "torch.float32"}},
        "vllm_env": {"VLLM_BATCH_INVARIANT": True},
    }
    found = backend(fake).facts()
    assert (found["max_num_seqs"], found["dtype"], found["batch_invariant"]) == (16, "float32", True)
    assert "settings" not in found


def test_requests_are_token_ids_and_answers_come_back_to_their_places(fake: Fake):
    one = backend(fake, concurrency=3)
    vllm = one.open([])
    got = dict(vllm.answers([ask((5,) * n) for n in range(1, 9)]))
    assert [got[place].tokens for place in range(8)] == [(n, 0) for n in range(1, 9)]
    assert all(b["return_token_ids"] and not b["stream"] and b["model"] == "base" for b in fake.bodies)


def test_scores_are_read_by_token(fake: Fake):
    one = backend(fake)
    vllm = one.open([])
    [(_, answer)] = vllm.answers([ask((5, 6, 9), prompt_logprobs=0)])
    assert answer.prompt == ((-0.6, 6), (-0.9, 9))


def test_an_adapter_that_is_served_by_its_name_is_used_and_another_is_loaded(fake: Fake, tmp_path: Path):
    first, second = adapter(tmp_path, 1), adapter(tmp_path, 2)
    fake.adapters = [first.name]
    one = backend(fake)
    vllm = one.open([first, second])
    assert fake.adapters == [first.name, second.name]
    list(vllm.answers([ask(name=second.name)]))
    assert fake.bodies[-1]["model"] == second.name


def test_a_server_that_loads_no_adapters_is_said_with_both_ways_out(fake: Fake, tmp_path: Path):
    fake.loads = False
    one = adapter(tmp_path, 1)
    with pytest.raises(ModelError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1") as error:
        backend(fake).open([one])
    assert f"--lora-modules {one.name}={one.folder}" in str(error.value)


def test_an_adapter_that_does_not_fit_is_said_in_the_servers_words(fake: Fake, tmp_path: Path):
    with pytest.raises(ModelError, match="LoRA rank 64 is greater than max_lora_rank 8"):
        backend(fake).open([adapter(tmp_path, 64)])


def test_which_base_is_meant_must_be_clear(fake: Fake):
    fake.models = ["one", "two"]
    with pytest.raises(ModelError, match="'one', 'two', which of them is not said; name one by `served`"):
        backend(fake).open([])
    with pytest.raises(ModelError, match="'one', 'two', not 'three'"):
        backend(fake, served="three").open([])
    one = backend(fake, served="two")
    vllm = one.open([])
    list(vllm.answers([ask()]))
    assert fake.bodies[-1]["model"] == "two"


@pytest.mark.parametrize("cards", [[{"parent": None, "max_model_len": 64}], [{"id": 7, "parent": None}], ["base"], None])
def test_a_server_whose_models_have_no_names_serves_none(fake: Fake, cards: object):
    fake.spoil_get = lambda path, good: {"data": cards} if path == "/v1/models" else good
    with pytest.raises(ModelError, match=r"serves the base models none, which of them is not said; name one by `served`"):
        backend(fake).open([])


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda a: b"<html>busy</html>", "answered /v1/completions with '<html>busy</html>', which is no JSON object"),
        (lambda a: b"[" * 100_000, "which is no JSON object"),
        (lambda a: b'{"model": HALF', "is gone"),
        (lambda a: None, "is gone"),
        (lambda a: 500, "vLLM failed to answer: 500"),
        (lambda a: 401, "wants a key; put it into VLLM_API_KEY"),
        (lambda a: {**a, "model": "other"}, "answered for the model 'other', and 'base' was asked"),
        (lambda a: {**a, "choices": [{"text": "x", "finish_reason": "stop"}]}, "without token ids or scores"),
        (lambda a: {**a, "choices": []}, "without token ids or scores"),
        (lambda a: {**a, "choices": [["x"]]}, "without token ids or scores"),
        (lambda a: {**a, "choices": [{**a["choices"][0], "token_ids": [float("inf")]}]}, "without token ids or scores"),
    ],
    ids=[
        "garbage",
        "deep",
        "half",
        "nothing",
        "500",
        "401",
        "other-model",
        "no-ids",
        "no-choice",
        "list-choice",
        "infinite-id",
    ],
)
def test_a_server_that_is_no_good_is_one_line_and_what_came_before_is_kept(
    fake: Fake, spoiled: Callable[[Json], Json | bytes | int | None], said: str
):
    fake.spoil = lambda n, answer: spoiled(answer) if n > 2 else answer
    one = backend(fake, concurrency=1)
    vllm = one.open([])
    got = []
    with pytest.raises(ModelError) as error:
        got.extend(place for place, _ in vllm.answers([ask() for _ in range(6)]))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    fake.spoil = lambda n, answer: answer
    assert len(dict(vllm.answers([ask() for _ in range(6)]))) == 6


def test_answers_that_came_together_with_a_failure_are_kept(monkeypatch: pytest.MonkeyPatch):
    def answered(self: OverHttp, server: object, model: str, asked: Asked) -> Answer:
        if asked.ids == (0,):
            raise ModelError("it is gone")
        return Answer(tokens=asked.ids, finish="stop")

    def failures_first(running: Collection[Future[Answer]], **_: object) -> SimpleNamespace:
        wait_for(running)
        return SimpleNamespace(done=sorted(running, key=lambda future: future.exception() is None))

    monkeypatch.setattr(OverHttp, "_answer", answered)
    monkeypatch.setattr(over_http, "wait", failures_first)
    one = OverHttp(FACTS, options(base_url="http://127.0.0.1:1", concurrency=3))
    got = []
    with pytest.raises(ModelError, match="it is gone"):
        got.extend(place for place, _ in one._answers({None: "base"}, [ask((n,)) for n in range(3)]))
    assert sorted(got) == [1, 2]


def test_a_server_that_hangs_is_given_up(fake: Fake):
    over = threading.Event()
    fake.spoil = lambda n, answer: over.wait(20) and answer
    one = backend(fake, still_seconds=0.3)
    vllm = one.open([])
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"gave no answer for 0\.3 s"):
        list(vllm.answers([ask()]))
    assert time.monotonic() - began < 10
    over.set()


def test_a_server_that_is_not_there_is_one_line(fake: Fake):
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:1 is gone \(.*refused"):
        OverHttp(FACTS, options(base_url="http://127.0.0.1:1")).facts()


def test_the_key_comes_from_the_environment_and_is_in_no_message(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_API_KEY", "planted-key")
    one = backend(fake)
    vllm = one.open([])
    list(vllm.answers([ask()]))
    assert fake.keys == ["Bearer planted-key"]
    fake.spoil = lambda n, answer: 401
    with pytest.raises(ModelError) as error:
        list(vllm.answers([ask()]))
    assert "planted-key" not in f"{error.value} {one.facts()}"


@pytest.mark.parametrize("path", ["/version", "/v1/models"])
def test_a_server_that_wants_a_key_is_not_said_to_be_no_vllm(fake: Fake, path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    fake.spoil_get = lambda asked, answer: 401 if asked == path else answer
    with pytest.raises(ModelError, match="wants a key; put it into VLLM_API_KEY"):
        backend(fake).facts()
    monkeypatch.setenv("VLLM_API_KEY", "planted-key")
    with pytest.raises(ModelError, match="refuses the key in VLLM_API_KEY"):
        backend(fake).facts()


def test_settings_that_a_server_keeps_to_itself_are_not_told(fake: Fake):
    fake.spoil_get = lambda asked, answer: 403 if asked == "/server_info" else answer
    assert backend(fake).facts()["settings"] == "not told by the server"


def test_a_key_with_a_line_end_is_sent_without_it(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_API_KEY", "planted-key\n")
    list(backend(fake).open([]).answers([ask()]))
    assert fake.keys == ["Bearer planted-key"]


@pytest.mark.parametrize("key", ["planted\nkey", "planted-key\u2026"])
def test_a_key_that_no_header_holds_is_refused_unseen(fake: Fake, key: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_API_KEY", key)
    with pytest.raises(ModelError, match="VLLM_API_KEY holds characters that no key has") as error:
        backend(fake).facts()
    assert "planted" not in str(error.value)
