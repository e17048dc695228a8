"""Calls to a server that fails in every way: what is sent again, what is given up, and what is kept."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from openai_server import NO_KEY, Fault, Served, serving
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.openai import client, limits
from spa_bench.models.openai.client import Server
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.models.openai.spending import Usage
from spa_bench.models.openai.wire import Call, Refused, Reply
from spa_bench.support.interrupt import patiently

pytestmark = pytest.mark.usefixtures("quick_retries")


def server(served: Served, **changes: object) -> Server:
    options = {"base_url": served.url, "api_key_env": NO_KEY, "timeout": 5.0, "tries": 4, **changes}
    return Server(OpenAIOptions(**options))


def calls(count: int, new: int = 2) -> list[Call]:
    bodies = [{"model": "toy", "prompt": f"prompt {i}", "max_tokens": new, "seed": i} for i in range(count)]
    return [Call(path="/completions", body=body, most=Usage(prompt=20, new=new)) for body in bodies]


@contextmanager
def interrupted(*after: float, told: float = 0.0) -> Iterator[None]:
    """A user who presses Ctrl-C so many seconds after the block has begun, and is told in so many seconds."""
    timers = [threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)) for seconds in after]
    with patiently(lambda text: time.sleep(told)):
        for timer in timers:
            timer.start()
        yield
    for timer in timers:
        timer.join()


def failing(faults: Sequence[Fault | None]) -> object:
    """The faults of the first calls; later ones are answered."""
    return lambda number, body: faults[number] if number < len(faults) else None


PASSES = {
    "429": Fault(status=429),
    "500": Fault(status=500, body="<html>oh no</html>"),
    "503 without a body": Fault(status=503, body=""),
    "408": Fault(status=408),
    "garbage": Fault(body="<html>hello</html>"),
    "nothing": Fault(body=""),
    "a list": Fault(body="[1, 2]"),
    "another protocol": Fault(body='{"answer": 42}'),
    "two choices": Fault(body='{"model": "toy", "choices": [{}, {}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'),
    "an answer broken off": Fault(
        body='{"model": "toy", "choices": [{"text": " sea", "finish_reason": "abort"}], '
        '"usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    ),
    "half a body": Fault(body='{"model": "toy", "choi', half=True),
    "no answer in time": Fault(hang=30.0),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_failure_that_passes_is_tried_again(served: Served, name: str):
    asking = server(served, timeout=0.8 if "time" in name else 60.0)

    def fault(number: int, body: dict[str, object]) -> Fault | None:
        if number == 1:
            asking.options = replace(asking.options, timeout=60.0)  # the last try, which is answered, is not for haste
        return PASSES[name] if number < 2 else None

    served.fault = fault
    answer = asking.one(calls(1)[0])
    assert isinstance(answer, Reply)
    assert answer.text
    assert len(served.asked) == 3
    assert served.asked[0] == served.asked[2]  # the same seed and all


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("429", r"answers 429 \(busy\): given up after 4 tries in \d+ s"),
        ("500", r"answers 500 \(<html>oh no</html>\): given up after 4 tries"),
        ("garbage", r"answered with no JSON \('<html>hello</html>'\): given up"),
        ("nothing", r"answered with nothing: given up"),
        ("half a body", r"broke off \(.*\): given up"),
        ("no answer in time", r"gave no answer in 0.6 s: given up"),
    ],
)
def test_after_the_last_try_one_line_says_so_and_that_the_command_goes_on(served: Served, name: str, said: str):
    served.fault = lambda number, body: PASSES[name]
    with pytest.raises(ModelError, match=said) as error:
        server(served, timeout=0.6 if "time" in name else 30.0).one(calls(1)[0])
    assert str(error.value).startswith(served.url)
    assert str(error.value).endswith("what is drawn is kept, and the same command resumes from there")
    assert "\n" not in str(error.value)
    assert "given up after 4 tries" in str(error.value)


def test_an_answer_that_is_broken_off_to_the_last_is_given_as_it_came_and_every_try_is_paid(served: Served):
    served.fault = lambda number, body: PASSES["an answer broken off"]
    asking = server(served)
    answer = asking.one(calls(1)[0])
    assert isinstance(answer, Reply)
    assert (answer.finish, len(served.asked)) == ("abort", 4)
    spent = asking.ledger.spent
    assert (spent.calls, spent.prompt_tokens, spent.new_tokens, spent.lost) == (4, 4, 4, 0)


def test_a_server_that_is_not_there_does_not_answer():
    with serving() as served:
        pass
    with pytest.raises(ModelError, match=r"does not answer \(ConnectError: .*\): given up after 4 tries"):
        server(served).one(calls(1)[0])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_of_one_call_is_its_own_and_is_not_tried_again(served: Served, status: int):
    refused = Fault(status=status, body='{"error": {"message": "no such\\nthing"}}')
    served.fault = lambda number, body: refused if body["seed"] == 1 else None
    answers = dict(server(served).ask(calls(3)))
    assert answers[1] == Refused(status=status, message="no such thing")
    assert isinstance(answers[0], Reply)
    assert isinstance(answers[2], Reply)
    assert len(served.asked) == 3


def test_a_prompt_that_utf8_cannot_hold_is_sent_as_far_as_it_can(served: Served):
    [call] = calls(1)
    assert call.body is not None
    call.body["prompt"] = "half \ud83d a \ud83d\ude00 pair"
    assert isinstance(server(served).one(call), Reply)
    assert [body["prompt"] for body in served.asked] == ["half \ufffd a \U0001f600 pair"]


@pytest.mark.parametrize("body", ['{"detail": "why"}', '{"message": "why"}', '{"error": "why"}', "why", '"why"'])
def test_the_words_of_a_refusal_are_found_wherever_servers_put_them(served: Served, body: str):
    served.fault = lambda number, asked: Fault(status=400, body=body)
    answer = server(served).one(calls(1)[0])
    assert isinstance(answer, Refused)
    assert answer.message in {"why", '"why"'}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=401), "asks for a key, and SPA_BENCH_TEST_KEY has none"),
        (Fault(status=403), "asks for a key"),
        (Fault(status=402), "gives no more for this account"),
        (
            Fault(status=429, body='{"error": {"message": "pay", "code": "insufficient_quota"}}'),
            r"gives no more for this account \(429: pay\)",
        ),
    ],
)
def test_what_every_call_would_get_is_not_tried_again(served: Served, fault: Fault, said: str):
    served.fault = lambda number, body: fault
    with pytest.raises(ModelError, match=said):
        server(served).one(calls(1)[0])
    assert len(served.asked) == 1


def test_the_wait_that_a_server_asks_for_is_kept_by_all_calls(served: Served):
    served.fault = failing([Fault(status=429, headers=(("Retry-After", "0.6"),))])
    asking = server(served, concurrency=1)
    assert len(list(asking.ask(calls(3)))) == 3
    assert served.times[1] - served.times[0] >= 0.6
    assert asking._gate.wait(time.monotonic(), 0) == 0  # and is over then


def test_a_server_that_asks_for_no_wait_does_not_use_up_all_tries_at_once(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "backoff", lambda tries: 0.1 * tries)
    served.fault = failing([Fault(status=429, headers=(("Retry-After", "0"),))] * 2)
    assert server(served).one(calls(1)[0])
    assert served.times[1] - served.times[0] >= 0.1
    assert served.times[2] - served.times[1] >= 0.2


def test_the_wait_for_a_limit_does_not_count_against_patience(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "MINUTE", 0.8)
    served.fault = lambda number, body: Fault(status=503) if number == 3 else None  # its call has waited for 2.4 s
    asking = server(served, concurrency=4, requests_per_minute=1, patience=2.3)
    assert len(list(asking.ask(calls(4)))) == 4
    assert len(served.asked) == 5


def test_a_wait_beyond_the_users_patience_is_not_begun(served: Served):
    served.fault = lambda number, body: Fault(status=429, headers=(("Retry-After", "3600"),))
    with pytest.raises(ModelError, match=r"answers 429 \(busy\) and asks for a wait of 3600 s: given up after one try"):
        server(served).one(calls(1)[0])


def test_answers_that_came_before_a_server_is_gone_are_given_first(served: Served):
    served.fault = lambda number, body: Fault(status=500) if body["seed"] == 3 else None
    came: list[int] = []
    with pytest.raises(ModelError, match="given up after 4 tries"):
        came.extend(place for place, _ in server(served, concurrency=2).ask(calls(40)))
    assert {0, 1, 2} <= set(came)
    assert len(came) < 39  # no new calls once one is given up


def test_calls_are_made_together_up_to_a_bound_and_each_gives_its_own_answer(served: Served):
    four = threading.Barrier(4, timeout=60)  # no answer goes out before four calls are there
    served.answer = lambda body, reply: four.wait() >= 0 and reply
    asking = server(served, concurrency=4, timeout=60.0)
    answers = dict(asking.ask(calls(12)))
    assert served.most == asking.together == 4
    served.answer = lambda body, reply: reply
    alone = {place: server(served).one(call) for place, call in enumerate(calls(12))}
    assert answers == alone


def test_limits_of_a_minute_hold_calls_back(served: Served, monkeypatch: pytest.MonkeyPatch):
    sent: list[float] = []  # when, by the client's clock: how long a call takes to arrive is the machine's affair
    note = limits.Gate.sent

    def noted(gate: limits.Gate, now: float, tokens: int) -> list[float]:
        sent.append(now)
        return note(gate, now, tokens)

    monkeypatch.setattr(limits, "MINUTE", 0.5)
    monkeypatch.setattr(limits.Gate, "sent", noted)
    list(server(served, requests_per_minute=2).ask(calls(5)))
    gaps = [later - earlier for earlier, later in zip(sent, sent[2:], strict=False)]
    assert min(gaps) >= 0.5
    served.forget()
    list(server(served, tokens_per_minute=30, concurrency=8).ask(calls(3)))  # 22 tokens at the most each, 4 once answered
    assert len(served.times) == 3
    assert served.times[1] - served.times[0] > 0.01  # not before the first is known to be shorter


def test_tokens_are_counted_and_lost_answers_at_the_most_they_can_have_cost(served: Served):
    served.fault = failing([Fault(status=500), Fault(body="garbage"), Fault(body="{", half=True)])
    asking = server(served, price_in=1.0, price_out=10.0)
    asking.one(calls(1)[0])
    spent = asking.ledger.spent
    assert (spent.calls, spent.prompt_tokens, spent.new_tokens, spent.lost) == (1, 2, 2, 2)
    assert spent.cost == pytest.approx((2 + 20 + 2 * (20 + 20)) / 1e6)


def test_cached_tokens_are_read(served: Served):
    def cached(body: dict[str, object], reply: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
        reply["usage"]["prompt_tokens_details"] = {"cached_tokens": 1}
        return reply

    served.answer = cached
    asking = server(served)
    asking.one(calls(1)[0])
    assert asking.ledger.spent.cached_tokens == 1


def test_a_budget_stops_before_the_call_that_could_exceed_it(served: Served):
    # a call takes 4 tokens and could take 22; the budget is 30 tokens
    asking = server(served, price_in=1.0, price_out=1.0, max_cost=30e-6, concurrency=8)
    came = []
    with pytest.raises(ModelError, match=r"max_cost = \$3e-05 is spent: \$0.0000120 so far, this time \$.* cost \$0.0000220;"):
        came.extend(asking.ask(calls(10)))
    assert len(came) == len(served.asked) == 3
    assert asking.ledger.spent.cost == pytest.approx(12e-6)


def test_an_answer_without_usage_is_refused(served: Served):
    served.usage = False
    with pytest.raises(ModelError, match="says nothing of tokens"):
        server(served).one(calls(1)[0])


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 10**400}]
)
def test_a_usage_that_counts_nothing_is_refused_in_words_of_its_own(served: Served, usage: dict[str, object]):
    served.answer = lambda body, reply: {**reply, "usage": usage}
    with pytest.raises(ModelError, match="the server's usage is no count of tokens"):
        server(served).one(calls(1)[0])


@pytest.mark.parametrize("usage", [{"prompt_tokens": 3, "total_tokens": 5}, {"prompt_tokens": 3, "completion_tokens": 0}])
def test_a_text_without_tokens_is_refused(served: Served, usage: dict[str, object]):
    served.answer = lambda body, reply: {**reply, "usage": usage}
    with pytest.raises(ModelError, match="counts no tokens of a text that it gave, so that nothing could be counted"):
        server(served).one(calls(1)[0])


def test_an_interrupt_gives_what_is_under_way_and_sends_no_more(served: Served):
    served.seconds = 0.2
    came: list[int] = []

    def take() -> None:
        for place, _ in server(served, concurrency=2).ask(calls(20)):
            came.append(place)
            if len(came) == 1:
                os.kill(os.getpid(), signal.SIGINT)

    with patiently(lambda text: None), pytest.raises(KeyboardInterrupt):
        take()
    assert len(came) == len(served.asked) < 20


def test_an_interrupt_ends_a_wait(served: Served):
    served.fault = lambda number, body: Fault(status=429, headers=(("Retry-After", "60"),))
    began = time.monotonic()
    with interrupted(0.3), pytest.raises(KeyboardInterrupt):
        list(server(served).ask(calls(3)))
    assert time.monotonic() - began < 30


def test_an_interrupt_is_not_lost_where_telling_of_it_takes_longer_than_a_look(served: Served):
    served.fault = lambda number, body: Fault(status=429, headers=(("Retry-After", "60"),))
    began = time.monotonic()
    with interrupted(0.3, told=0.4), pytest.raises(KeyboardInterrupt):
        list(server(served).ask(calls(3)))
    assert time.monotonic() - began < 30


def test_a_second_interrupt_does_not_wait_for_a_server_that_hangs(served: Served):
    served.fault = lambda number, body: Fault(hang=12.0)
    began = time.monotonic()
    with interrupted(0.3, 0.5), pytest.raises(KeyboardInterrupt):
        list(server(served, timeout=60.0).ask(calls(1)))
    assert time.monotonic() - began < 10


def test_answers_that_nobody_waits_for_are_broken_off(served: Served):
    served.seconds = 0.05
    asking = server(served, concurrency=2)
    answers = asking.ask(calls(1000))
    next(answers)
    assert "calls to a server" in {thread.name for thread in threading.enumerate()}
    answers.close()
    assert "calls to a server" not in {thread.name for thread in threading.enumerate()}
    assert len(served.asked) < 1000


def test_a_missing_package_is_one_line_with_the_command(served: Served, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(client, "version", missing)
    with pytest.raises(UsageError, match=r"needs the package openai: pip install 'spa-bench\[openai\]'"):
        server(served)


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="needs a key, and the environment variable OPENAI_API_KEY has none"):
        Server(OpenAIOptions())


def test_a_key_with_characters_that_no_key_has_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, served: Served):
    monkeypatch.setenv(NO_KEY, "sk-pl\u00e4nted")
    with pytest.raises(UsageError, match="holds characters that no key has") as error:
        server(served)
    assert "nted" not in str(error.value)
