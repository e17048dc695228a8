"""Options, waits, limits of a minute, and the ledger: no server is needed."""

from __future__ import annotations

import email.utils
import time
from dataclasses import fields

import pytest

from spa_bench.models.base import Spending, dollars
from spa_bench.models.openai import limits
from spa_bench.models.openai.limits import Gate, backoff, retry_after
from spa_bench.models.openai.options import OPENAI, OpenAIOptions
from spa_bench.models.openai.spending import Ledger, Usage
from spa_bench.models.openai.wire import told

KEY = "sk-planted-0123456789"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"api": "responses"}, "api is 'responses'; it must be one of auto, completions, chat"),
        ({"base_url": "localhost:8000"}, "base_url must be an address such as http://localhost:8000/v1"),
        ({"base_url": "ftp://host/v1"}, "base_url must be an address"),
        ({"base_url": "http://host:99999/v1"}, "base_url must be an address"),
        ({"base_url": "http://host:port/v1"}, "base_url must be an address"),
        ({"base_url": "http://host/v1\n"}, "base_url must be an address"),
        ({"base_url": " http://host/v1"}, "base_url must be an address"),
        ({"base_url": "http://a host/v1"}, "base_url must be an address"),
        ({"concurrency": 0}, "concurrency is 0; it must be at least 1"),
        ({"tries": 0}, "tries is 0"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0"),
        ({"timeout": 0.0}, "timeout is 0.0; it must be more than 0 seconds"),
        ({"patience": float("nan")}, "patience is nan"),
        ({"price_in": -1.0, "price_out": 1.0}, "price_in is -1.0"),
        ({"price_in": 1.0}, "price_in and price_out go together"),
        ({"price_cached": 1.0}, "price_in and price_out go together"),
        ({"max_cost": 1.0}, "max_cost needs price_in and price_out"),
    ],
)
def test_an_option_out_of_range_is_named(changes: dict[str, object], said: str):
    with pytest.raises(ValueError, match=said):
        OpenAIOptions(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key_env": KEY},
        {"base_url": f"https://user:{KEY}@host/v1"},
        {"base_url": f"https://{KEY}@host/v1"},
        {"base_url": f"https://host/v1?key={KEY}"},
        {"base_url": f"https://host/v1#{KEY}"},
    ],
)
def test_a_key_in_an_option_is_refused_and_not_repeated(changes: dict[str, object]):
    with pytest.raises(ValueError, match=r"api_key_env") as error:
        OpenAIOptions(**changes)
    assert KEY not in str(error.value)


def test_the_address_comes_from_the_option_then_the_environment_then_openai(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert OpenAIOptions().url == OPENAI
    monkeypatch.setenv("OPENAI_BASE_URL", "http://there/v1/")
    assert OpenAIOptions().url == "http://there/v1"
    assert OpenAIOptions(base_url="http://here/v1/").url == "http://here/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:{KEY}@there/v1")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL") as error:
        _ = OpenAIOptions().url
    assert KEY not in str(error.value)


def test_what_changes_no_text_stays_out_of_specs():
    seen = {f.name for f in fields(OpenAIOptions) if f.metadata.get("in_spec", True)}
    assert seen == {"base_url", "api", "answers_as", "context"}


def test_the_wait_is_below_a_bound_that_doubles_up_to_a_minute():
    for tries, bound in ((1, 1.0), (2, 2.0), (4, 8.0), (7, 60.0), (5000, 60.0)):
        waits = [backoff(tries) for _ in range(200)]
        assert 0 <= min(waits) < 0.2 * bound  # full jitter: from nothing
        assert 0.8 * bound < max(waits) <= bound


def test_retry_after_is_seconds_milliseconds_or_a_date(monkeypatch: pytest.MonkeyPatch):
    now = 1_700_000_000.0
    monkeypatch.setenv("TZ", "America/Lima")
    time.tzset()
    assert retry_after({"retry-after": "7"}, now) == 7.0
    assert retry_after({"retry-after": "0.5"}, now) == 0.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}, now) == 0.25
    assert retry_after({"retry-after": email.utils.formatdate(now + 90, usegmt=True)}, now) == 90.0
    assert retry_after({"retry-after": email.utils.formatdate(now - 90, usegmt=True)}, now) == 0.0
    assert retry_after({"retry-after": email.utils.formatdate(now + 90)}, now) == 90.0
    for nothing in (
        {},
        {"retry-after": "soon"},
        {"retry-after": "-3"},
        {"retry-after": "inf"},
        {"retry-after": f"{10**20} Jan 2024 00:00:00"},
    ):
        assert retry_after(nothing, now) is None
    monkeypatch.undo()
    time.tzset()


def test_no_minute_has_more_requests_than_allowed():
    gate = Gate(requests=2, tokens=None)
    for now in (0.0, 10.0):
        assert gate.wait(now, 5) == 0
        gate.sent(now, 5)
    assert gate.wait(20.0, 5) == 40.0  # until the first one is a minute ago
    assert gate.wait(60.0, 5) == 0


def test_a_wait_that_rounding_ends_early_lets_no_tokens_through():
    gate = Gate(requests=3, tokens=100)
    for sent, tokens in ((481.17449625908654, 4), (481.17449625908654, 59), (500.97376051322146, 11)):
        gate.sent(sent, tokens)
    now = 517.8943610519356 + gate.wait(517.8943610519356, 122)
    assert now - limits.MINUTE < 481.17449625908654  # a minute later but for the last digit
    assert gate.wait(now, 122) == 500.97376051322146 + limits.MINUTE - now


def test_no_minute_has_more_tokens_than_allowed_and_what_was_not_used_counts_no_more():
    gate = Gate(requests=None, tokens=100)
    first = gate.sent(0.0, 60)
    assert gate.wait(1.0, 40) == 0
    gate.sent(1.0, 30)
    assert gate.wait(2.0, 40) == 58.0
    assert gate.wait(2.0, 80) == 59.0  # both must be a minute ago
    first[1] = 20.0
    assert gate.wait(2.0, 40) == 0
    assert gate.wait(2.0, 1000) == 59.0  # more than a minute ever has: alone in one
    assert gate.wait(61.0, 1000) == 0


def test_a_closed_gate_holds_back_every_call():
    gate = Gate(requests=None, tokens=None)
    gate.close(5.0)
    gate.close(3.0)
    assert gate.wait(1.0, 1) == 4.0
    assert gate.wait(5.0, 1) == 0


def test_prompt_cached_and_new_tokens_have_prices_of_their_own():
    ledger = Ledger(OpenAIOptions(price_in=2.0, price_out=10.0, price_cached=0.5))
    usage = Usage(prompt=1_000_000, cached=400_000, new=100_000)
    ledger.hold(usage)
    ledger.answered(usage, usage)
    assert ledger.spent == Spending(
        calls=1, prompt_tokens=1_000_000, cached_tokens=400_000, new_tokens=100_000, cost=1.2 + 0.2 + 1
    )
    plain = Ledger(OpenAIOptions())
    plain.hold(usage)
    plain.answered(usage, usage)
    assert plain.spent.cost is None


def test_the_budget_holds_back_what_calls_under_way_may_cost():
    ledger = Ledger(OpenAIOptions(price_in=1.0, price_out=1.0, max_cost=10.0))
    most, used = Usage(prompt=2_000_000, new=2_000_000), Usage(prompt=1_000_000, new=500_000)
    assert ledger.hold(most)
    assert ledger.hold(most)
    assert not ledger.hold(most)  # 4 + 4 + 4 > 10
    assert not ledger.idle
    ledger.answered(most, used)
    assert ledger.hold(most)  # 1.5 + 4 + 4
    ledger.lost(most)  # it may have been billed
    assert ledger.spent.cost == 5.5
    assert ledger.spent.lost == 1
    ledger.release(most)  # it was not
    assert ledger.idle
    assert ledger.total == 5.5
    assert ledger.lasts(most, 1)
    assert not ledger.lasts(most, 2)  # 5.5 + 4 + 4 > 10


def test_what_earlier_parts_cost_counts_against_the_budget_and_is_not_counted_again():
    ledger = Ledger(OpenAIOptions(price_in=1.0, price_out=1.0, max_cost=10.0), Spending(cost=6.5))
    assert not ledger.hold(Usage(prompt=2_000_000, new=2_000_000))  # 6.5 + 4 > 10
    assert ledger.hold(Usage(prompt=2_000_000, new=1_000_000))
    ledger.answered(Usage(prompt=2_000_000, new=1_000_000), Usage(prompt=1_000_000, new=0))
    assert (ledger.total, ledger.spent.cost) == (7.5, 1.0)


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0.0, "$0.00"), (12.5, "$12.50"), (1234.567, "$1234.57"), (0.0095, "$0.00950"), (1.2e-05, "$0.0000120")],
)
def test_dollars_have_two_decimals_and_three_digits_that_count(amount: float, said: str):
    assert dollars(amount) == said


def test_parts_of_a_run_add_up():
    one = Spending(calls=1, prompt_tokens=2, cached_tokens=1, new_tokens=3, lost=1, cost=0.5)
    assert one.plus(one) == Spending(calls=2, prompt_tokens=4, cached_tokens=2, new_tokens=6, lost=2, cost=1.0)
    assert one.plus(Spending(calls=1)).cost == 0.5
    assert Spending().plus(Spending()).cost is None


def test_words_of_a_server_are_one_short_line_without_the_key():
    assert told(f"bad key\n  {KEY}!", KEY) == "bad key ***!"
    assert len(told("x" * 1000, "")) == 300
    assert limits.LONGEST == 60.0
