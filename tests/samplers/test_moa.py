"""Self-MoA, its sequential form, and Mixture-of-Agents: which drafts are aggregated, by whom, and what is spent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from doubles import Call, InProcessJudge, sampler_card
from openai_server import Served
from scripted import CODE, TEXT, Scripted, asked, ended, lost
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.templates import with_texts
from spa_bench.errors import CardError, ModelError
from spa_bench.runs.folder import given_run
from spa_bench.samplers.base import sampler_kind
from spa_bench.types import Completion, Key, Request

WORDS = {"draft": "draft {prompt} as {answer}", "aggregate": "merge {prompt} as {answer}:\n{responses}", "text": "T\n"}


def reply(request: Request) -> str:
    """Drafts are d0, d1 and so on; an aggregation names what it read."""
    question = request.messages[-1][1]
    return f"d{request.draw}" if question.startswith("draft") else f"[{' '.join(responses(question))}]"


def responses(question: str) -> list[str]:
    return re.findall(r"^Response \d+:\n\n(.*)$", question, re.MULTILINE)


def self_moa(model: Scripted, n: int = 4, prompts: Any = (TEXT,), **options: Any) -> dict[Key, Completion]:
    return asked("self-moa", model, prompts, n=n, **{**WORDS, **options})


def windows(model: Scripted) -> list[list[str]]:
    return [responses(q) for q in model.questions if q.startswith("merge")]


# self-moa ------------------------------------------------------------------------------------------------------------


def test_each_answer_aggregates_a_window_of_the_drafts():
    model = Scripted(reply)
    found = self_moa(model, n=20, drafts=5, window=2)
    assert model.questions[:5] == ["draft Name a colour. as T"] * 5
    assert all(len(set(w)) == 2 and set(w) <= {f"d{i}" for i in range(5)} for w in windows(model))
    assert len({tuple(sorted(w)) for w in windows(model)}) > 5
    assert [c.text for c in found.values()] == [f"[{' '.join(w)}]" for w in windows(model)]


def test_a_window_of_0_is_all_drafts_in_an_order_of_each_answer():
    model = Scripted(reply)
    self_moa(model, n=8, drafts=4)
    assert all(sorted(w) == ["d0", "d1", "d2", "d3"] for w in windows(model))
    assert len({tuple(w) for w in windows(model)}) > 1


def test_responses_are_numbered_below_the_problem():
    model = Scripted(reply)
    self_moa(model, n=1, drafts=2)
    [merged] = [q for q in model.questions if q.startswith("merge")]
    assert merged.startswith("merge Name a colour. as T:\nResponse 1:\n\nd")
    assert "\n\nResponse 2:\n\nd" in merged


def test_the_aggregation_may_have_a_temperature_of_its_own():
    model = Scripted(reply)
    self_moa(model, n=2, drafts=2, temperature=0.0)
    assert [r.decoding.temperature for r in model.requests] == [0.8, 0.8, 0.0, 0.0]


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_drafts_and_aggregations_are_spent(n: int, sequential: bool):
    model = Scripted(reply)
    found = self_moa(model, n=n, drafts=5, window=3, reserved=1, sequential=sequential)
    assert sum(c.spent or 0 for c in found.values()) == sum(len(reply(r)) for r in model.requests)


def test_drafts_that_failed_are_left_out_and_noted():
    model = Scripted(lambda r: lost(r, "memory", spent=2) if r.draw == 1 else " " if r.draw == 2 else reply(r))
    found = self_moa(model, n=2, drafts=4)
    assert all(set(w) == {"d0", "d3"} for w in windows(model))
    assert {c.note for c in found.values()} == {"2 of 4 drafts have a text"}
    none = self_moa(Scripted(lambda r: lost(r, "no room")), n=2, drafts=4)
    assert {(c.failure, c.finish) for c in none.values()} == {("drafts: no room", "skipped")}
    empty = self_moa(Scripted(lambda r: ""), n=2, drafts=4)
    assert {(c.failure, c.finish) for c in empty.values()} == {("drafts: all replies are empty", "failed")}
    late = self_moa(Scripted(lambda r: lost(r, "no room") if r.draw == 3 else reply(r)), n=2, drafts=2)
    assert [c.failure for c in late.values()] == ["", "aggregation: no room"]


def test_drafts_that_were_cut_are_used_and_noted():
    model = Scripted(lambda r: ended(r, f"d{r.draw}") if r.draw < 2 else " " if r.draw == 2 else reply(r))
    found = self_moa(model, n=2, drafts=4)
    assert all(set(w) == {"d0", "d1", "d3"} for w in windows(model))
    assert {c.note for c in found.values()} == {"3 of 4 drafts have a text; 2 of 4 drafts were cut at their limit"}


def test_in_sequence_a_window_that_was_cut_is_noted():
    model = Scripted(lambda r: ended(r, "[half") if r.draw in {5, 9} else reply(r))  # the first and last window of one answer
    found = self_moa(model, n=2, drafts=5, window=3, reserved=2, sequential=True)
    assert [found[key].note for key in sorted(found)] == ["1 of 3 windows were cut at their limit", None]
    assert [found[key].finish for key in sorted(found)] == ["length", "stop"]


# self-moa, sequential ------------------------------------------------------------------------------------------------


def test_in_sequence_the_answer_so_far_takes_the_reserved_places():
    """9 drafts, windows of 4 with 2 reserved: 4 drafts, then 2, 2 and 1 more."""
    model = Scripted(reply)
    [found] = self_moa(model, n=1, drafts=9, window=4, reserved=2, sequential=True).values()
    first, second, third, last = windows(model)
    assert len(first) == 4
    for before, window, new in ((first, second, 2), (second, third, 2), (third, last, 1)):
        assert window[:2] == [f"[{' '.join(before)}]"] * 2
        assert len(window) == 2 + new
    drafts = [*first, *second[2:], *third[2:], *last[2:]]
    assert sorted(drafts) == [f"d{i}" for i in range(9)]
    assert found.text == f"[{' '.join(last)}]"


def test_in_sequence_a_window_that_holds_all_drafts_is_one_aggregation():
    model = Scripted(reply)
    self_moa(model, n=2, drafts=3, window=0, reserved=2, sequential=True)
    assert [sorted(w) for w in windows(model)] == [["d0", "d1", "d2"]] * 2


def test_in_sequence_a_chain_ends_where_it_fails_and_the_others_go_on():
    def failing(request: Request) -> str | Completion:
        return {4: lost(request, "no room"), 6: " "}.get(request.draw, reply(request))

    model = Scripted(failing)  # 4 drafts are draws 0 to 3; the first windows of 3 answers are 4 to 6
    found = self_moa(model, n=3, drafts=4, window=3, reserved=2, sequential=True)
    assert [c.failure for c in found.values()] == ["window 1: no room", "", "window 1: the reply is empty"]
    assert len(windows(model)) == 4
    last = Scripted(lambda r: lost(r, "memory") if r.draw == 5 else reply(r))
    assert [c.failure for c in self_moa(last, n=1, drafts=4, window=3, reserved=2, sequential=True).values()] == [
        "window 2: memory"
    ]
    gone = Scripted(lambda r: lost(r, "no room") if r.draw in (4, 5) else reply(r))
    assert [c.failure for c in self_moa(gone, n=2, drafts=4, window=3, reserved=2, sequential=True).values()] == [
        "window 1: no room"
    ] * 2


@pytest.mark.parametrize("sequential", [False, True])
def test_a_problem_that_was_stopped_gives_the_same_answers(sequential: bool):
    options: dict[str, Any] = {"drafts": 6, "window": 3, "reserved": 1, "sequential": sequential}
    whole = self_moa(Scripted(reply), n=3, prompts=(TEXT, CODE), **options)
    done = [Key("text", 0, d) for d in range(3)] + [Key("code", 0, 2)]
    model = Scripted(reply)
    assert self_moa(model, n=3, prompts=(TEXT, CODE), done=done, **options) == {k: c for k, c in whole.items() if k not in done}
    assert {r.problem_id for r in model.requests} == {"code"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drafts": 0}, "drafts is 0; it must be between 1 and 1,000"),
        ({"window": 7}, "window is 7; it must be between 0, for all, and the 6 drafts"),
        ({"window": 3, "sequential": True}, "reserved is 3; it must leave room for a draft in a window of 3"),
        ({"window": 3, "sequential": True, "reserved": 0}, "reserved is 0; it must leave room for a draft in a window of 3"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be finite and not negative"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(CardError) as error:
        load_sampler_card("self-moa", {f"options.{k}": v for k, v in options.items()})
    assert str(error.value) == f"sampler 'self-moa': options.{message}"


# moa -----------------------------------------------------------------------------------------------------------------


def moa(
    model: Scripted, n: int, served: Sequence[str] = ("left", "right"), prompts: Any = (TEXT,), **options: Any
) -> dict[Key, Completion]:
    kind = sampler_kind("moa")
    made = with_texts(kind.options(**{**WORDS, **options}), None, "moa")
    card = sampler_card(kind="moa", options=made, members=len(served), adapters="served", served=tuple(served))
    kind.check(card)
    return {c.key: c for c in kind.build(card, []).sample(model, prompts, n, 0, task="t")}


def by_member(request: Request) -> str:
    question = request.messages[-1][1]
    return f"m{request.member}" if question.startswith("draft") else f"m{request.member}[{' '.join(responses(question))}]"


def test_members_propose_and_each_aggregates_its_share_of_the_answers():
    model = Scripted(by_member)
    found = moa(model, 4)
    assert {k: c.text for k, c in found.items()} == {
        Key("text", 0, 0): "m0[m0 m1]",
        Key("text", 0, 1): "m0[m0 m1]",
        Key("text", 1, 0): "m1[m0 m1]",
        Key("text", 1, 1): "m1[m0 m1]",
    }
    assert sum(c.spent or 0 for c in found.values()) == sum(len(by_member(r)) for r in model.requests)


def test_layers_in_between_read_all_of_the_layer_before():
    model = Scripted(by_member)
    found = moa(model, 2, layers=3, drafts=2, temperature=0.0)
    layer = "m0[m0 m0 m1 m1] m0[m0 m0 m1 m1] m1[m0 m0 m1 m1] m1[m0 m0 m1 m1]"
    assert [c.text for c in found.values()] == [f"m0[{layer}]", f"m1[{layer}]"]
    assert [r.decoding.temperature for r in model.requests] == [0.8] * 8 + [0.0] * 2


def test_proposers_may_be_others_than_the_aggregator():
    found = moa(Scripted(by_member), 2, served=["chief"], proposers=("a", "chief", "b"))
    assert [c.text for c in found.values()] == ["m0[m1 m0 m2]"] * 2
    assert set(found) == {Key("text", 0, 0), Key("text", 0, 1)}


def test_a_proposer_without_an_answer_is_left_out_and_noted():
    found = moa(Scripted(lambda r: lost(r, "no room") if r.draw == 0 else by_member(r)), 2)
    assert [c.text for c in found.values()] == ["m0[m1]", "m1[m1]"]
    assert {c.note for c in found.values()} == {"1 of 2 drafts have a text"}
    none = moa(Scripted(lambda r: lost(r, "no room", spent=1)), 2)
    assert {(c.failure, c.finish, c.spent) for c in none.values()} == {("layer 1: drafts: no room", "skipped", 1)}


def test_what_is_no_mixture_is_refused():
    with pytest.raises(CardError, match=r"kind 'moa' mixes models that a server has by name, and adapters is 'none'; set"):
        load_sampler_card("moa", {"adapters": "none", "served": [], "members": 1})
    with pytest.raises(CardError, match=r"kind 'moa' mixes several models, and x is one; name others"):
        load_sampler_card("moa", {"served": ["x"], "members": 1})
    load_sampler_card("moa", {"served": ["x"], "members": 1, "options.proposers": ["y"]})
    for options, message in (
        ({"layers": 1}, r"options\.layers is 1; it must be between 2 and 100"),
        ({"drafts": 0}, r"options\.drafts is 0; it must be between 1 and 1,000"),
        ({"proposers": ["a", "a"]}, r"options\.proposers is \['a', 'a'\]: a name is empty or there twice"),
        ({"temperature": -0.5}, r"options\.temperature is -0\.5; it must be finite and not negative"),
    ):
        with pytest.raises(CardError, match=message):
            load_sampler_card("moa", {f"options.{k}": v for k, v in options.items()})


def test_all_models_that_are_asked_must_be_on_the_server():
    class Serving(Scripted):
        def check_served(self, names: Sequence[str]) -> None:
            if gone := [name for name in names if name == "gone"]:
                raise ModelError(f"serves no model {gone[0]!r}")

    kind, model = sampler_kind("moa"), Serving(by_member)
    kind.check_model(load_sampler_card("moa", {"options.proposers": ["there"]}), model)
    with pytest.raises(ModelError, match="serves no model 'gone'"):
        kind.check_model(load_sampler_card("moa", {"options.proposers": ["gone"]}), model)


def test_an_engine_with_one_model_refuses_it_in_one_line(call: Call, three: Any, tmp_path: Any):
    options = ("--task", three, "--engine", "mock", "--out", tmp_path / "runs")
    said = call("run", "--sampler", "moa", *options).error()
    assert said == "moa draws from member-0, member-1 on a server, and mock is no server; use --engine openai"
    assert not (tmp_path / "runs").exists()


def test_a_run_asks_the_models_of_a_server(
    call: Call, three: Any, served: Served, tmp_path: Any, sandbox: InProcessJudge, quick_retries: None
):
    served.models = ("left", "right", "chief")
    engine = ["--engine", "openai", "--model", "chief", "--set", f"engine.base_url={served.url}"]
    names = ["--set", 'served=["chief"]', "--set", "members=1", "--set", 'options.proposers=["left", "right"]']
    done = call("run", "--sampler", "moa", *names, *engine, "--task", three, "--out", tmp_path / "runs", "--n", 2)
    assert done.code == 0, done.err
    asked = [body["model"] for body in served.asked if "Task:" in str(body.get("messages"))]
    assert {name: asked.count(name) for name in served.models} == {"left": 3, "right": 3, "chief": 6}  # of 3 problems
    folder = given_run(next((tmp_path / "runs").iterdir()))
    assert folder.spec["model"]["served"].keys() == {"left", "right", "chief"}
    assert {k[1:] for k in folder.records()} == {(0, 0), (0, 1)}
