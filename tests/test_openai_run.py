"""Runs with `--engine openai`: members by name, a server that goes away, a budget, and a key that nobody sees again."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doubles import SANDBOX, Call, InProcessJudge
from openai_server import NO_KEY, Fault, Served, serving
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError, SpaBenchError, UsageError
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.job import sampler_spec
from spa_bench.samplers.mixture import build

KEY = "sk-planted-4Dq7Zk0bXw2s"
Run = Callable[..., object]

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(models=("toy", "left", "right")) as state:
        yield state


@pytest.fixture
def asking(call: Call, three: Path, served: Served, tmp_path: Path, sandbox: InProcessJudge) -> Call:
    """`run` on the three problems with the toy model of the server; later arguments win."""

    def called(*arguments: object) -> object:
        engine = ["--engine", "openai", "--set", f"engine.base_url={served.url}", "--set", "engine.tries=2"]
        if "--key" not in arguments:
            engine += ["--set", f"engine.api_key_env={NO_KEY}"]
        given = [a for a in arguments if a != "--key"]
        options = ["--sampler", "base", "--task", three, "--model", "toy", "--n", 4, "--out", tmp_path / "runs"]
        return call("run", *options, "--sandbox", SANDBOX, "--noise-floor", "no", *engine, *given)

    return called


def folder_of(tmp_path: Path) -> RunFolder:
    [path] = (tmp_path / "runs").iterdir()
    return open_run(path)


SERVED = ("--sampler", "served", "--set", 'served=["left", "right"]')


def test_members_are_drawn_from_the_models_that_the_card_names(asking: Call, served: Served, tmp_path: Path):
    done = asking(*SERVED)
    assert done.code == 0, done.err
    assert "members: left, right, which the server has: what they were trained on is unknown, and in no hash" in done.err
    folder = folder_of(tmp_path)
    assert folder.spec["sampler"]["served"] == ["left", "right"]
    assert folder.spec["sampler"]["adapters"] == "served"
    assert not {"lora", "data", "partition", "attribution"} & folder.spec["sampler"].keys()
    assert folder.spec["model"]["served"] == {"left": "left", "right": "right"}
    assert folder.spec["engine"]["options"] == {"base_url": served.url}
    drawn = [body for body in served.asked if body.get("prompt", "").startswith("def ")]
    assert sorted(body["model"] for body in drawn) == ["left"] * 6 + ["right"] * 6
    assert {r.member for r in folder.record_log.rows()} == {0, 1}


def test_a_name_that_the_server_has_not_is_one_line_before_anything_is_written(asking: Call, tmp_path: Path):
    said = asking("--sampler", "served", "--set", 'served=["left", "up"]').error()
    assert "serves no model 'up' (404: The model `up` does not exist.)" in said
    assert not (tmp_path / "runs").exists()


def test_a_repetition_takes_what_no_spec_says_of_a_server(
    asking: Call, call: Call, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert asking().code == 0
    path = folder_of(tmp_path).path
    monkeypatch.setenv("SPA_BENCH_OTHER_KEY", KEY)
    served.forget()
    served.most = 0
    again = call("rerun", path, "--set", "engine.api_key_env=SPA_BENCH_OTHER_KEY", "--set", "engine.concurrency=1")
    assert again.code == 0, again.err
    assert set(served.keys) == {f"Bearer {KEY}"}
    assert (again.out.splitlines()[0], served.most) == ("spec: the same", 1)
    served.forget()
    for setting, said in (
        (f"engine.base_url={served.url}", "engine.base_url is in the run's spec, which stays as it is"),
        ("engine.no_such=1", "unknown key 'engine.no_such'"),
        ("decoding.temperature=1", "--set takes keys that begin with engine.; got 'decoding.temperature'"),
        ("task.seconds=1", "--set takes keys that begin with engine.; got 'task.seconds'"),
    ):
        assert said in call("rerun", path, "--set", setting).error()
    said = call("rerun", path, *PRICES, "--set", "engine.max_cost=0.001").error()
    assert "does not last to look at what the server does" in said
    assert not served.asked


def test_a_sampler_that_trains_is_refused(asking: Call, tmp_path: Path):
    assert "a model on a server cannot be trained" in asking("--sampler", "single").error()


def test_a_decoding_that_the_server_has_not_is_refused_before_anything_is_written(asking: Call, tmp_path: Path):
    said = asking("--set", "decoding.eta_cutoff=0.001", "--set", "decoding.temperature=1").error()
    assert said == (
        "the server takes no eta_cutoff as it is asked here; draw with --engine hf, or use a sampler without eta_cutoff"
    )
    assert not (tmp_path / "runs").exists()


def test_other_engines_refuse_members_of_a_server(call: Call, three: Path, tmp_path: Path):
    arguments = ["run", *SERVED, "--task", three, "--engine", "mock", "--n", 2, "--out", tmp_path / "runs"]
    assert call(*arguments).error() == "served draws from left, right on a server, and mock is no server; use --engine openai"


def test_the_engine_does_its_stages_alone(call: Call, three: Path):
    said = call("run", "--sampler", "base", "--task", three, "--model", "toy", "--engine", "draw=openai").error()
    assert said == "engine openai does draw and score, and no more (score): give --engine openai alone"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"served": ["a"]}, r"served names 1 models, \['a'\], and members is 2; name each, as --set"),
        ({"served": ["a", "a"]}, "a name is empty or there twice"),
        ({"served": ["a", ""]}, "a name is empty or there twice"),
        ({"adapters": "seeds"}, "served is .* and adapters is 'seeds'; set adapters = \"served\""),
        ({"served": "a"}, "'served' in .* must be a list of texts; got 'a'"),
    ],
)
def test_a_card_names_each_member_once(changes: dict[str, object], said: str):
    with pytest.raises(CardError, match=said):
        load_sampler_card("served", changes)


def test_the_card_makes_members_of_its_names_and_others_keep_their_spec():
    card = load_sampler_card("served", {"served": ["x", "y", "z"], "members": 3})
    assert [(m.served, m.adapter) for m in build(card, []).members] == [("x", None), ("y", None), ("z", None)]
    assert "served" not in sampler_spec(load_sampler_card("base"))
    assert "served" not in sampler_spec(load_sampler_card("seeds"))


def test_a_server_that_goes_away_loses_nothing_and_the_same_command_goes_on(asking: Call, served: Served, tmp_path: Path):
    whole = asking("--until", "generate", "--out", tmp_path / "whole")
    assert whole.code == 0
    [path] = (tmp_path / "whole").iterdir()
    records = open_run(path).record_log.rows()
    served.forget()
    served.fault = lambda number, body: Fault(status=503) if draws(served) > 5 else None
    said = asking("--until", "generate", "--set", "engine.concurrency=2").error()
    assert "answers 503 (busy): given up after 2 tries" in said
    assert said.endswith("what is drawn is kept, and the same command resumes from there")
    have = len(folder_of(tmp_path).record_log.rows())
    assert 3 <= have < 12
    served.forget()
    served.fault = lambda number, body: None
    assert asking("--until", "generate").code == 0
    assert draws(served) == 12 - have
    assert folder_of(tmp_path).record_log.rows() == records


def draws(served: Served) -> int:
    return sum(body["prompt"].startswith("def ") for body in served.asked if "prompt" in body)


@pytest.mark.slow
def test_a_budget_that_is_raised_goes_on_in_the_same_folder(
    asking: Call, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prices = ["--until", "generate", "--set", "engine.price_in=1", "--set", "engine.price_out=1"]
    model = ServedModel("toy", OpenAIOptions(base_url=served.url, api_key_env=NO_KEY, price_in=1, price_out=1))
    probed = model.spent().cost or 0.0
    monkeypatch.setattr("spa_bench.models.openai.probe._CALLS", 0)
    said = asking(*prices, "--set", f"engine.max_cost={probed + 200e-6:.9f}").error()
    assert "is spent" in said
    have = len(folder_of(tmp_path).record_log.rows())
    assert 0 < have < 12
    first = folder_of(tmp_path).timings()["spent"]
    assert first["cost"] >= probed * 0.99
    assert asking(*prices, "--max-cost", "1").code == 0
    assert len(folder_of(tmp_path).record_log.rows()) == 12  # and there is one folder
    both = folder_of(tmp_path).timings()["spent"]
    assert both["calls"] > first["calls"] >= have
    assert both["cost"] == pytest.approx((both["prompt_tokens"] + both["new_tokens"]) * 1e-6)


PRICES = ("--set", "engine.price_in=1", "--set", "engine.price_out=1")


def test_a_stopped_run_counts_what_it_spent_before_the_server_is_asked_again(asking: Call, served: Served, tmp_path: Path):
    served.fault = lambda number, body: Fault(status=503) if draws(served) > 5 else None
    assert asking(*PRICES).code == 2
    spent = folder_of(tmp_path).timings()["spent"]["cost"]
    served.forget()
    said = asking(*PRICES, "--max-cost", f"{spent + 1e-6:.9f}").error()
    assert "does not last to look at what the server does" in said
    assert f"${spent:.6f}"[:6] in said  # what the earlier part spent is said
    assert not served.asked
    other = asking(*PRICES, "--max-cost", f"{spent + 1e-6:.9f}", "--seed", 1, "--limit", 1).error()
    assert "$0.00 are spent" in other  # another run has spent nothing


def test_a_finished_run_is_not_paid_again(asking: Call, served: Served, tmp_path: Path):
    assert asking("--until", "generate").code == 0
    served.forget()
    done = asking("--max-cost", "0", *PRICES)
    assert done.code == 0, done.err
    assert "every answer is there: engine openai is not asked, and nothing is spent" in done.err
    assert (folder_of(tmp_path).path / "metrics.json").exists()  # graded now
    for other in (("--n", 8), ("--seed", 3), ("--set", "decoding.temperature=0.7"), ("--noise-floor", "yes"), ("--limit", 2)):
        assert "does not last" in asking(*PRICES, "--max-cost", "0", *other).error()
    assert not served.asked
    assert asking("--seeds", "0,3").code == 0  # one of them is there
    assert draws(served) == 12


@pytest.mark.slow
def test_a_finished_study_is_not_paid_again(call: Call, three: Path, served: Served, tmp_path: Path):
    options = ["--task", three, "--model", "toy", "--seeds", "0", "--grid", "0.5,1", "--samplers", "single=base", "--n", 2]
    options += ["--engine", "openai", "--set", f"engine.base_url={served.url}", "--set", f"engine.api_key_env={NO_KEY}"]
    options += ["--sandbox", SANDBOX, "--out", tmp_path / "runs", "--write", tmp_path / "page", *PRICES]
    first = call("study", "temperature", *options)
    assert first.code == 0, first.err
    served.forget()
    again = call("study", "temperature", *options, "--max-cost", "0")
    assert again.code == 0, again.err
    assert "every run is there: engine openai is not asked, and nothing is spent" in again.err
    assert again.out == first.out
    assert not served.asked


def test_a_killed_process_has_counted_what_it_spent(
    asking: Call, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.models.openai.client._WATCH", 0.0)
    seen: list[object] = []

    def look(number: int, body: dict[str, object]) -> None:
        if draws(served) == 12:
            end = time.monotonic() + 60
            while "spent" not in (known := folder_of(tmp_path).timings()) and time.monotonic() < end:
                time.sleep(0.01)
            seen.append(known["spent"]["cost"])

    served.fault = look
    assert asking(*PRICES, "--set", "engine.concurrency=1", "--until", "generate").code == 0
    [before, *_] = seen
    assert 0 < before < folder_of(tmp_path).timings()["spent"]["cost"]


def test_a_server_is_asked_for_a_model_that_the_command_names(call: Call, three: Path, tmp_path: Path):
    arguments = ["run", "--sampler", "base", "--task", three, "--engine", "openai", "--out", tmp_path / "runs"]
    assert call(*arguments).error() == "--engine openai needs --model: the name that the model has there"


@pytest.mark.parametrize("reply", [{"choices": []}, {"choices": [{"text": 3, "finish_reason": "stop"}]}])
def test_a_server_without_texts_is_not_said_to_ignore_anything(asking: Call, served: Served, reply: dict[str, object]):
    served.answer = lambda body, given: {**given, **reply}
    assert "gives answers of 'toy' that have no text" in asking().error()


# a key ---------------------------------------------------------------------------------------------------------

DIARY = """
import dataclasses, json, os

class Diary:
    def write(self, **content):
        with open(os.environ["DIARY"], "a") as stream:
            stream.write(json.dumps(content, default=str) + "\\n")
            stream.write(repr(sorted(content)) + "\\n")

    where = ""

    def __init__(self, run):
        self.write(**dataclasses.asdict(run))

    def progress(self, values, step):
        self.write(step=step, values=dict(values))

    def finish(self, ended):
        self.write(**dataclasses.asdict(ended))
"""


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


def echoing(status: int) -> Fault:
    """A server that repeats the key with which it is asked."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}. Header: Bearer {KEY}", "code": KEY}})
    return Fault(status=status, body=body)


def test_a_key_reaches_the_server_and_nothing_else(
    asking: Call, call: Call, served: Served, planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "diary.py").write_text(DIARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1] / 'harness'}")
    monkeypatch.setenv("DIARY", str(tmp_path / "diary.txt"))
    served.fault = lambda number, body: echoing(400) if body.get("seed", 0) % 5 == 0 and draws(served) else None
    done = asking("--key", "--log", "diary:Diary", "--log-samples")
    assert done.code == 0, done.err
    assert set(served.keys) == {f"Bearer {KEY}"}  # it was sent
    records = (folder_of(tmp_path).path / "records.jsonl").read_text()
    assert "the server refuses the request (400: Incorrect API key provided: ***" in records
    report = call("report", tmp_path / "runs", "-o", tmp_path / "out", "--problems", "none")
    assert report.code == 0, report.err
    seen = "".join([done.out, done.err, report.out, report.err])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"spec.json", "records.jsonl", "timings.json", "metrics.json", "index.html", "diary.txt"} <= {p.name for p in files}
    assert KEY not in seen
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_a_server_that_repeats_the_key_has_it_blotted_out(
    asking: Call, served: Served, planted: str, status: int, tmp_path: Path
):
    served.fault = lambda number, body: echoing(status)
    done = asking("--key")
    assert done.error()
    assert KEY not in done.out + done.err
    assert "***" in done.err
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_an_answer_that_holds_the_key_is_not_kept(asking: Call, served: Served, planted: str, tmp_path: Path):
    served.answer = lambda body, reply: (
        {**reply, "choices": [{"text": f" {KEY}", "finish_reason": "stop"}]} if draws(served) else reply
    )
    assert asking("--key", "--until", "generate").code == 0
    rows = folder_of(tmp_path).record_log.rows()
    assert {r.failure for r in rows} == {"the answer holds the key with which it was asked for, and is not kept"}
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_placeholder_in_the_place_of_a_key_may_stand_in_answers(
    asking: Call, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    served.answer = lambda body, reply: (
        {**reply, "choices": [{"text": "    return EMPTY", "finish_reason": "stop"}]} if draws(served) else reply
    )
    assert asking("--key", "--until", "generate").code == 0
    assert set(served.keys) == {"Bearer EMPTY"}
    assert {r.raw for r in folder_of(tmp_path).record_log.rows()} == {"    return EMPTY"}


def test_a_name_or_fingerprint_that_holds_the_key_is_refused_unseen(asking: Call, served: Served, planted: str, tmp_path: Path):
    served.answer = lambda body, reply: {**reply, "model": KEY}
    assert KEY not in asking("--key").error()
    served.answer = lambda body, reply: {**reply, "system_fingerprint": KEY}
    assert asking("--key", "--until", "generate").code == 0
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "setting", ["engine.api_key_env={}", "engine.base_url=https://user:{}@host/v1", "engine.base_url=https://h/?k={}"]
)
def test_a_key_in_a_setting_is_refused_and_not_repeated(call: Call, setting: str, three: Path, tmp_path: Path):
    done = call("run", "--sampler", "base", "--task", three, "--engine", "openai", "--model", "m", "--set", setting.format(KEY))
    assert KEY not in done.error()


def test_no_error_traceback_log_or_repr_has_the_key(
    served: Served, planted: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    options = OpenAIOptions(base_url=served.url, tries=1)
    with caplog.at_level(logging.DEBUG):
        model = ServedModel("toy", options)
        told = [
            repr(options),
            repr(model),
            repr(vars(model)),
            repr(vars(model._server)),
            str(model.describe()),
            str(model.numerics()),
        ]
        for fault in (echoing(401), echoing(500), Fault(body=f"garbage {KEY}"), Fault(body=KEY, half=True)):
            served.fault = lambda number, body, fault=fault: fault
            try:
                ServedModel("toy", options)
            except SpaBenchError as error:
                raised = traceback.TracebackException.from_exception(error, capture_locals=True)
                raised.stack.pop(0)  # this test's own frame, which has the key
                told.append("".join(raised.format()))
        told += [record.getMessage() for record in caplog.records]
    assert len(told) > 10
    assert not [text for text in told if KEY in text]
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\u2026")
    with pytest.raises(UsageError) as refused:
        ServedModel("toy", options)
    assert KEY not in str(refused.value)
