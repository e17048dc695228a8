"""Answers of a model on a server: members by name, lengths, failures, and texts that are scored."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openai_server import NO_KEY, Fault, Served, logprob, pieces
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import Spending
from spa_bench.models.openai.asking import server_seed
from spa_bench.models.openai.client import Server
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.types import Asked, Completion, Decoding, Key, Member, Messages, Request

DRAWN = Decoding(temperature=1.0, max_new_tokens=6)
BASE = Member("base", None, DRAWN)

pytestmark = pytest.mark.usefixtures("quick_retries")


def model(served: Served, **changes: object) -> ServedModel:
    of = ServedModel("toy", OpenAIOptions(**{"base_url": served.url, "api_key_env": NO_KEY, "tries": 2, **changes}))
    served.forget()
    return of


def request(draw: int = 0, decoding: Decoding = DRAWN, **changes: Any) -> Request:
    asked = Request(
        problem_id="p", member=0, draw=draw, kind="generate", prompt="a prompt", decoding=decoding, seed=2**62 + draw
    )
    return replace(asked, **changes)


def by_key(of: ServedModel, requests: Sequence[Request], members: Sequence[Member] = (BASE,)) -> dict[Key, Completion]:
    return {c.key: c for c in of.generate(requests, members)}


def test_an_answer_depends_on_its_request_alone(served: Served):
    of, requests = model(served), [request(i) for i in range(12)]
    together = by_key(of, requests)
    assert len({c.text for c in together.values()}) > 8
    for one in requests[:3]:
        assert by_key(of, [one]) == {one.key: together[one.key]}
    answer = together[requests[0].key]
    assert (answer.finish, answer.tokens, answer.seed, answer.failure) == ("length", 6, 2**62, "")


def test_seeds_of_63_bits_become_some_that_every_server_takes(served: Served):
    seeds = [0, 1, 2**31 - 2, 2**31 - 1, 2**62, 2**63 - 1]
    by_key(model(served, concurrency=1), [request(i, seed=seed) for i, seed in enumerate(seeds)])
    sent = [body["seed"] for body in served.asked]
    assert sent == [server_seed(seed) for seed in seeds]
    assert all(1 <= seed <= 2**31 - 1 for seed in sent)
    assert server_seed(0) != server_seed(1)


def test_texts_go_to_completions_and_messages_to_chat(served: Served):
    messages: Messages = (("system", "be brief"), ("user", "hello"))
    of = model(served, concurrency=1)
    assert by_key(of, [request(0), request(1, messages=messages)])
    assert served.asked[0]["prompt"] == "a prompt"
    assert served.asked[1]["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    of = model(served, api="chat")
    assert by_key(of, [request(0)])
    assert served.asked[0]["messages"] == [{"role": "user", "content": "a prompt"}]
    of = model(served, api="completions")
    with pytest.raises(ModelError, match="takes no messages, because api is 'completions'"):
        by_key(of, [request(1, messages=messages)])
    assert not served.asked


def test_an_answer_that_is_begun_goes_on_only_where_the_server_can(served: Served):
    begun: Messages = (("user", "hello"), ("assistant", "Well,"))
    assert by_key(model(served), [request(messages=begun)])
    assert served.asked[0]["continue_final_message"] is True
    assert served.asked[0]["add_generation_prompt"] is False
    empty = (("user", "hello"), ("assistant", ""))
    served.ignores = frozenset({"continue_final_message"})
    of = model(served)
    assert by_key(of, [request(messages=empty)])
    assert [m["role"] for m in served.asked[0]["messages"]] == ["user"]
    served.forget()
    with pytest.raises(ModelError, match="cannot continue an answer that is begun"):
        by_key(of, [request(0), request(1, messages=begun)])
    assert not served.asked  # nothing is drawn


def test_members_are_models_that_the_server_has(served: Served):
    served.models = ("toy", "a", "b")
    of = model(served)
    members = [Member(name, None, DRAWN, served=name) for name in ("a", "b")]
    of.check_served(["a", "b"])
    assert of.describe()["served"] == {"a": "a", "b": "b"}
    requests = [request(0, member=k) for k in range(2)]
    answers = by_key(of, requests, members)
    assert {body["model"] for body in served.asked} == {"a", "b"}
    assert answers[requests[0].key].text != answers[requests[1].key].text
    assert of.notes == ()


def test_a_member_that_is_not_served_is_named(served: Served):
    with pytest.raises(ModelError, match=r"serves no model 'b' \(404: The model `b` does not exist.\)"):
        model(served).check_served(["toy", "b"])


def test_a_name_that_is_answered_by_another_model_is_refused(served: Served):
    served.models = ("toy", "a")
    of = model(served)
    served.answer = lambda body, reply: {**reply, "model": "toy"}  # the base in the place of the adapter
    with pytest.raises(ModelError, match="the model 'toy' answers, and 'a' was asked for"):
        of.check_served(["a"])
    with pytest.raises(ModelError, match="the model 'toy' answers, and 'a' was asked for"):
        by_key(of, [request()], [Member("a", None, DRAWN, served="a")])


def test_names_that_may_be_one_model_are_marked(served: Served):
    served.models = ("toy", "a", "b")
    of = model(served)

    def alike(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        for choice in reply["choices"]:
            choice["logprobs"] = {"tokens": ["x"], "token_logprobs": [-0.25], "top_logprobs": [{"x": -0.25}]}
        return reply

    served.answer = alike
    of.check_served(["a", "b"])
    assert of.notes == ("the served models a, b give the same log-probabilities: they may be one model",)


def test_an_adapter_in_a_folder_is_refused(served: Served, tmp_path: Path):
    with pytest.raises(ModelError, match="cannot draw from the adapter in"):
        by_key(model(served), [request()], [Member("m", tmp_path, DRAWN)])


@pytest.mark.parametrize("what", ["model", "system_fingerprint"])
def test_another_model_or_fingerprint_in_the_middle_of_a_run_ends_it(served: Served, what: str):
    of = model(served, concurrency=1)
    served.answer = lambda body, reply: {**reply, what: "other"} if len(served.asked) > 3 else reply
    came: list[Completion] = []
    said = "began as 'toy' and answers as 'other'" if what == "model" else "the fingerprint of .* was f1 and is other"
    with pytest.raises(ModelError, match=f"{said}.*what is drawn is kept"):
        came.extend(of.generate([request(i) for i in range(8)], [BASE]))
    assert len(came) == 3


def test_a_model_that_is_taken_away_ends_a_run(served: Served):
    of = model(served, concurrency=1)
    served.fault = lambda number, body: Fault(status=404, body='{"message": "gone"}') if number >= 2 else None
    came: list[Completion] = []
    with pytest.raises(ModelError, match=r"serves 'toy' no more \(404: gone\); what is drawn is kept"):
        came.extend(of.generate([request(i) for i in range(8)], [BASE]))
    assert len(came) == 2


def test_answers_that_are_under_way_when_a_model_is_taken_away_are_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch):
    of, gone = model(served, concurrency=4), threading.Event()

    def fault(number: int, body: dict[str, Any]) -> Fault | None:
        if number == 3:
            return Fault(status=404, body='{"message": "gone"}')
        assert gone.wait(60)  # until the client has read that
        return None

    def refused(of: Server, error: Any) -> object:
        found = status(of, error)
        threading.Timer(0.5, gone.set).start()
        return found

    served.fault, status = fault, Server._status
    came: list[Completion] = []
    monkeypatch.setattr(Server, "_status", refused)
    with pytest.raises(ModelError, match="serves 'toy' no more"):
        came.extend(of.generate([request(i) for i in range(8)], [BASE]))
    assert len(came) == 3
    assert of.spent().lost == 0


def test_an_earlier_answer_that_utf8_cannot_hold_may_stand_in_a_prompt(served: Served):
    of = model(served)
    messages: Messages = (("user", "hello"), ("assistant", "half \ud83d"), ("user", "so?"))
    answers = by_key(of, [request(0, prompt="half \ud83d"), request(1, messages=messages)])
    assert {c.finish for c in answers.values()} == {"length"}


def test_a_request_that_is_refused_fails_alone(served: Served):
    of = model(served)
    refused = Fault(status=400, body='{"error": {"message": "not this one"}}')
    served.fault = lambda number, body: refused if body["seed"] == server_seed(2**62 + 1) else None
    answers = by_key(of, [request(i) for i in range(3)])
    failed = answers[request(1).key]
    assert (failed.finish, failed.text, failed.tokens) == ("failed", "", 0)
    assert failed.failure == "the server refuses the request (400: not this one)"
    assert all(answers[request(i).key].finish == "length" for i in (0, 2))


@pytest.mark.parametrize(
    ("choice", "finish", "failure"),
    [
        ({"finish_reason": "stop"}, "stop", ""),
        ({"finish_reason": "eos_token"}, "stop", ""),
        ({"finish_reason": "stop", "text": ""}, "stop", ""),
        ({"finish_reason": "content_filter"}, "failed", "the server's content filter took the answer"),
        ({"finish_reason": "tool_calls"}, "failed", "finish_reason 'tool_calls', neither stop nor length"),
        ({"finish_reason": None}, "failed", "finish_reason '', neither stop nor length"),
        ({"text": None}, "failed", "the server gave 6 tokens and no text (finish_reason 'length')"),
        ({"message": {"content": None, "refusal": "I won't"}}, "failed", "the model refuses: I won't"),
        (None, "failed", "the server gave 6 tokens and no text (finish_reason '')"),
        (
            {"message": {"content": "", "reasoning_content": "hm"}},
            "failed",
            "the server gave 6 tokens and no text (finish_reason 'length', all of it reasoning)",
        ),
        ({"message": {"content": "so", "reasoning": "hm"}}, "length", ""),
        ({"message": {"content": "", "reasoning_content": ""}}, "length", ""),
    ],
)
def test_how_an_answer_ended(served: Served, choice: dict[str, Any] | None, finish: str, failure: str):
    of = model(served)

    def changed(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"] = [] if choice is None else [reply["choices"][0] | choice]
        return reply

    served.answer = changed
    [answer] = by_key(of, [request()]).values()
    assert answer.finish == finish
    assert failure in answer.failure
    assert bool(answer.failure) == (finish == "failed")
    assert answer.spent == (6 if finish == "failed" else None)


def test_a_text_is_cut_before_its_first_stop_string(served: Served):
    of = model(served)
    served.answer = lambda body, reply: {**reply, "choices": [{"text": "one two three", "finish_reason": "length"}]}
    [answer] = by_key(of, [request(decoding=replace(DRAWN, stop=("three", "two")))]).values()
    assert (answer.text, answer.finish) == ("one ", "stop")


def test_an_answer_is_as_long_as_the_context_has_room_for(served: Served):
    served.context = 80
    of = model(served)
    assert of.context == 80
    long = " ".join(["word"] * 70)
    answers = by_key(of, [request(0, replace(DRAWN, max_new_tokens=30), prompt=long), request(1)])
    cut = answers[request(0).key]
    assert (cut.finish, cut.tokens) == ("length", 10)
    assert answers[request(1).key].tokens == 6
    assert [body["max_tokens"] for body in served.asked if body["prompt"] == long] == [30, 1, 10]


def test_a_prompt_that_leaves_no_room_is_skipped_with_the_reason(served: Served):
    served.context = 80
    of = model(served)
    answers = by_key(of, [request(0, prompt=" ".join(["word"] * 90)), request(1)])
    skipped = answers[request(0).key]
    assert (skipped.finish, skipped.text, skipped.tokens) == ("skipped", "", 0)
    assert skipped.failure == "the prompt leaves no room in the server's context of 80 tokens"
    assert answers[request(1).key].finish == "length"


@pytest.mark.parametrize(
    ("message", "context"),
    [
        ("This model's maximum context length is 4097 tokens, however you requested 5000 tokens (4000 in your prompt)", 4097),
        ("the request exceeds the available context size (n_ctx: 512)", 512),
        ("context_length_exceeded", None),
        ("Input is longer than the model's max_model_len", None),
    ],
)
def test_servers_say_in_many_ways_that_a_prompt_is_too_long(served: Served, message: str, context: int | None):
    of = model(served, context=9999)
    served.fault = lambda number, body: Fault(status=400, body=f'{{"error": {{"message": "{message}"}}}}')
    [answer] = by_key(of, [request()]).values()
    assert answer.finish == "skipped"
    assert answer.failure == f"the prompt leaves no room in the server's context of {context or 9999} tokens"


def test_a_budget_ends_a_run_and_what_was_drawn_is_given(served: Served):
    probed = model(served, price_in=1.0, price_out=1.0).spent()
    assert probed.cost == pytest.approx((probed.prompt_tokens + probed.new_tokens) / 1e6)
    prompt = "x" * 4000  # one token, and 4,032 at the most
    most = (4032 + 6) / 1e6
    of = model(served, price_in=1.0, price_out=1.0, max_cost=probed.cost + most + 15e-6, concurrency=4)
    came: list[Completion] = []
    with pytest.raises(ModelError, match=r"the budget of max_cost = .* is spent"):
        came.extend(of.generate([request(i, prompt=prompt) for i in range(9)], [BASE]))
    assert len(came) == 3  # at 7 tokens each, a fourth could exceed what is left
    assert of.spent().cost == pytest.approx(probed.cost + 21e-6)


def test_what_earlier_parts_cost_counts_before_the_first_call(served: Served):
    options = OpenAIOptions(base_url=served.url, api_key_env=NO_KEY, price_in=1.0, price_out=1.0, max_cost=1.0)
    with pytest.raises(ModelError, match=r"^the budget of max_cost = \$1 does not last .* \$0\.999 are spent, and 30 calls"):
        ServedModel("toy", options, Spending(cost=0.999))
    assert not served.asked
    of = ServedModel("toy", options, Spending(cost=0.99))
    assert of.spent().cost == pytest.approx((of.spent().prompt_tokens + of.spent().new_tokens) / 1e6)  # of this time alone


def test_members_are_looked_for_once(served: Served):
    served.models = ("toy", "a", "b")
    of = model(served)
    of.check_served(("a", "b"))
    of.check_served(("a", "b"))
    assert len(served.asked) == 2


def test_spending_is_told_about_every_second_while_calls_are_answered(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spa_bench.models.openai.client._WATCH", 0.0)
    of, told = model(served, concurrency=1), []
    probed = of.take_spent()
    of.watch_spent(told.append)
    by_key(of, [request(i) for i in range(5)])
    assert {0, 5} <= {spending.calls for spending in told} <= set(range(6))
    assert probed.calls > 5  # and is not in what is told
    of.watch_spent(None)
    have = len(told)
    by_key(of, [request(9)])
    assert len(told) == have


def test_batches_are_calls_under_way(served: Served):
    of = model(served, concurrency=3)
    served.seconds = 0.03
    by_key(of, [request(i) for i in range(9)])
    found = of.batches()
    assert (found.rows, found.refused, found.together) == (3, 0, 3)
    assert not of.batch_free([("a", 1)])


def test_divergence_says_why_there_is_none(served: Served):
    of = model(served)
    with pytest.raises(ModelError, match="does not give the whole distribution"):
        of.divergence([], [BASE], base=False, top=5)


# given texts ---------------------------------------------------------------------------------------------------


def expected(name: str, context: str, text: str) -> tuple[float, bool, int]:
    """By the toy's own rule: the tokens after as many as the context alone has."""
    tokens, before = pieces(context + text), len(pieces(context.rstrip()))
    own = [logprob(name, "".join(tokens[:i]), tokens[i]) for i in range(before, len(tokens))]
    return math.fsum(own), all(p > -1 for p in own), len(own)


def test_options_are_scored_as_lm_eval_cuts_them_for_every_member(served: Served):
    served.models = ("toy", "a", "b")
    of = model(served)
    asked = [
        Asked("one", (("the sea is", " blue and wide"), ("the sea is", " red"), ("the sea is ", "wet")), 3),
        Asked("two", (("up", " down"), ("left or", " right")), 2),
    ]
    of.check_options(asked)
    members = [Member(name, None, DRAWN, served=name) for name in ("a", "b")]
    scores = {s.problem: s for s in of.option_scores(asked, members)}
    for one in asked:
        found = scores[one.problem_id]
        wanted = [[expected(name, *option) for option in one.options] for name in ("a", "b")]
        assert np.allclose(found.logprobs, [[w[0] for w in row] for row in wanted], atol=1e-12)
        assert found.greedy.tolist() == [[w[1] for w in row] for row in wanted]
        assert found.tokens == tuple(w[2] for w in wanted[0])
        assert np.isnan(found.kl).all()
        assert np.isnan(found.entropy).all()
    assert {s.problem for s in of.option_scores(asked, members, done={"one"})} == {"two"}
    [alone] = of.option_scores(asked[:1], [BASE])
    assert (alone.kl.tolist(), alone.js.tolist()) == ([[0.0]], [[0.0]])
    assert len({str(row) for row in scores["one"].logprobs.tolist()}) == 2


def test_a_context_is_counted_once_for_all_members_and_options(served: Served):
    served.models = ("toy", "a", "b")
    of = model(served)
    asked = [Asked("one", (("the sea is", " blue"), ("the sea is", " red")), 2)]
    list(of.option_scores(asked, [Member(name, None, DRAWN, served=name) for name in ("a", "b")]))
    assert sum("echo" not in body for body in served.asked) == 1
    assert sum("echo" in body for body in served.asked) == 4


def test_log_likelihoods_of_continuations(served: Served):
    of = model(served)
    texts = (" a time", " the sea")
    requests = [request(i, kind="loglikelihood", prompt="once upon", continuation=text) for i, text in enumerate(texts)]
    found = {r.draw: (value, greedy) for r, value, greedy in of.loglikelihood(requests, [BASE])}
    for i, text in enumerate(texts):
        value, greedy, _ = expected("toy", "once upon", text)
        assert found[i] == (pytest.approx(value, abs=1e-12), greedy)
    with pytest.raises(UsageError, match="no tokenizer"):
        list(of.loglikelihood([replace(requests[0], apart=True)], [BASE]))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("sea", ""), "'' adds no token to its context"),
        (("", "sea"), "a text without a context needs a token before it"),
    ],
)
def test_a_text_that_has_no_probability_is_an_error(served: Served, option: tuple[str, str], said: str):
    with pytest.raises(UsageError, match=f"one: .*{said}"):
        list(model(served).option_scores([Asked("one", (option,), 1)], [BASE]))


def test_a_log_probability_that_is_no_number_is_an_error(served: Served):
    of = model(served)

    def changed(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo"):
            reply["choices"][0]["logprobs"]["token_logprobs"][-2] = math.nan
        return reply

    served.answer = changed
    with pytest.raises(UsageError, match=r"one: .* gives no log-probability for some tokens of ' sea'"):
        list(of.option_scores([Asked("one", (("the", " sea"),), 1)], [BASE]))


@pytest.mark.parametrize("left", [0, 1, 3])
def test_log_probabilities_of_fewer_tokens_than_the_server_counts_are_an_error(served: Served, left: int):
    of = model(served)

    def cut(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo"):
            scores = reply["choices"][0]["logprobs"]
            reply["choices"][0]["logprobs"] = {name: rows[:left] for name, rows in scores.items()}
        return reply

    served.answer = cut
    with pytest.raises(ModelError, match=rf"counts 4 tokens of one and gives log-probabilities of {left}"):
        list(of.option_scores([Asked("one", (("the", " sea is blue"),), 1)], [BASE]))


def test_a_log_probability_that_no_float_holds_is_an_error(served: Served):
    of = model(served)

    def changed(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo"):
            reply["choices"][0]["logprobs"]["token_logprobs"][1] = -(10**400)
        return reply

    served.answer = changed
    with pytest.raises(UsageError, match=r"one: .* gives no log-probability for some tokens of ' sea'"):
        list(of.option_scores([Asked("one", (("the", " sea"),), 1)], [BASE]))


def test_members_of_several_tokenizers_are_not_scored_by_the_counts_of_one(served: Served):
    served.models = ("toy", "a", "b")
    of = model(served)

    def other(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        if body["model"] == "b" and body.get("echo"):  # whose tokenizer puts a token before every text
            for rows in (scores := reply["choices"][0]["logprobs"]).values():
                rows.insert(0, "<s>" if rows is scores["tokens"] else None)
            reply["usage"]["prompt_tokens"] += 1
        return reply

    served.answer = other
    asked = [Asked("one", (("the sea is", " blue"),), 1)]
    members = [Member(name, None, DRAWN, served=name) for name in ("a", "b")]
    with pytest.raises(UsageError, match=r"one: [ab] counts \d tokens of it and [ab] \d, so that they have tokenizers of"):
        list(of.option_scores(asked, members))
    for name in ("a", "b"):
        served.forget()
        assert list(of.option_scores(asked, [Member(name, None, DRAWN, served=name)]))


def test_options_that_do_not_fit_are_named_before_anything_is_drawn(served: Served):
    served.context = 80
    of = model(served)
    asked = [Asked("short", (("a", " b"),), 1), Asked("long", ((" ".join(["word"] * 90), " b"),), 1)]
    with pytest.raises(UsageError, match="long does not fit the context of the model on"):
        of.check_options(asked)
    assert len(served.asked) == 1
