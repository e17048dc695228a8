"""What the probe finds out: servers that take a field and ignore it, and those that would draw wrongly."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from openai_server import NO_KEY, Fault, Served
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.openai.model import ServedModel
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.models.openai.probe import Found, same_model
from spa_bench.types import RARE, Completion, Decoding, Member, Request

pytestmark = pytest.mark.usefixtures("quick_retries")


def model(served: Served, name: str = "toy", **changes: object) -> ServedModel:
    return ServedModel(name, OpenAIOptions(**{"base_url": served.url, "api_key_env": NO_KEY, "tries": 2, **changes}))


def found(served: Served, api: str = "completions", **changes: object) -> Found:
    return model(served, **changes)._found[api]


def answers(of: ServedModel, decoding: Decoding, count: int = 1) -> list[Completion]:
    requests = [
        Request(problem_id="p", member=0, draw=i, kind="generate", prompt="a prompt", decoding=decoding, seed=i)
        for i in range(count)
    ]
    return list(of.generate(requests, [Member("base", None, decoding)]))


def test_a_server_that_does_everything(served: Served):
    of = model(served)
    assert of.notes == ()
    assert of.context == 10_000
    assert of.describe() == {"name": "toy", "base_url": served.url, "id": "toy", "context": 10_000}
    said = of.numerics()
    assert said.pop("client").startswith("openai ")
    assert said == {
        "device": "server",
        "api": "completions, chat",
        "seed": "kept",
        "top_k": "as asked",
        "fingerprint": "f1",
    }
    assert set(of.unable) == {"train", "divergence"}
    assert of.engines == {"train": "none", "draw": "openai", "score": "openai", "divergence": "none"}
    assert len(served.asked) < 40
    assert all(body.get("max_tokens", 0) <= 16 for body in served.asked)
    assert not any("n" in body for body in served.asked)  # each draw is a call of its own


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_temperature_that_is_ignored_refuses_draws_but_not_greedy_answers(served: Served, api: str):
    served.ignores = frozenset({"temperature"})  # draws at temperature 1, always
    with pytest.raises(ModelError, match="gives 3 different texts for 3 seeds at temperature 0: it ignores the temperature"):
        answers(model(served, api=api), Decoding(temperature=1.0))
    served.answer = lambda body, reply: fixed(reply)
    of = model(served, api=api)
    with pytest.raises(ModelError, match=r"gives one text for 3 seeds at temperature 1 \('the same'\): it ignores"):
        answers(of, Decoding(temperature=0.5))
    assert answers(of, Decoding())[0].text == "the same"


def fixed(reply: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    for choice in reply["choices"]:
        if "text" in choice:
            choice["text"] = "the same"
        else:
            choice["message"] = {"content": "the same"}
    return reply


def test_a_seed_that_is_ignored_is_marked_and_draws_go_on(served: Served):
    served.ignores = frozenset({"seed"})
    of = model(served)
    assert of.numerics()["seed"] == "ignored"
    assert of.notes == ("the server ignores seeds: the same command would draw other texts",)
    assert len(answers(of, Decoding(temperature=1.0), 3)) == 3


def test_a_seed_that_is_refused_is_not_sent(served: Served):
    served.refuses = frozenset({"seed"})
    of = model(served)
    assert of.numerics()["seed"] == "ignored"
    served.forget()
    answers(of, Decoding(temperature=1.0))
    assert "seed" not in served.asked[0]


def test_stop_strings_that_are_ignored_are_cut_here_and_marked(served: Served):
    served.ignores = frozenset({"stop"})
    of = model(served)
    assert of.notes[0].startswith("the server does not stop at stop strings")
    stop = (" sea", " sand", " gull", " tide", " wind", " boat")
    [answer], [whole] = answers(of, Decoding(max_new_tokens=8, stop=stop)), answers(of, Decoding(max_new_tokens=8))
    assert (answer.finish, whole.finish) == ("stop", "length")
    assert answer.text == whole.text[: min(place for s in stop if (place := whole.text.find(s)) >= 0)]
    assert answer.tokens == whole.tokens == 8


def test_a_server_of_four_stop_strings_gets_the_first_four(served: Served):
    served.max_stops = 4
    of = model(served)
    assert of.notes[0].startswith("the server takes 4 stop strings: an answer that ends at another is cut here")
    served.forget()
    answers(of, Decoding(stop=("a1", "a2", "a3", "a4", "a5", "a6")))
    assert served.asked[0]["stop"] == ["a1", "a2", "a3", "a4"]


@pytest.mark.parametrize("how", ["ignores", "refuses"])
def test_log_probabilities_that_are_not_given_are_found_missing(served: Served, how: str):
    setattr(served, how, frozenset({"logprobs"}))
    for api in ("completions", "chat"):
        assert not found(served, api).logprobs
    of = model(served)
    assert of.unable["score"] == f"{served.url} gives no log-probabilities of given texts (echo with logprobs on /completions)"
    with pytest.raises(UsageError, match="gives no log-probabilities of given texts"):
        of.check_options([])


@pytest.mark.parametrize("how", ["ignores", "refuses"])
def test_an_echo_that_is_not_given_is_found_missing(served: Served, how: str):
    setattr(served, how, frozenset({"echo"}))
    assert found(served).logprobs
    assert not found(served).echo


def test_an_echo_whose_tokens_are_not_those_that_are_counted_is_not_used(served: Served):
    def begun(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:  # a first token that is counted and not shown
        reply["usage"]["prompt_tokens"] += 1
        return reply

    served.answer = begun
    assert found(served).logprobs
    assert not found(served).echo


def test_an_echo_whose_tokens_are_numbers_is_used(served: Served):
    def numbered(body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo"):
            said = reply["choices"][0]["logprobs"]
            said["tokens"] = [f"token_id:{place}" for place in range(len(said["tokens"]))]
        return reply

    served.answer = numbered
    assert found(served).echo


def test_fields_beyond_the_protocol_are_left_out_where_they_are_refused(served: Served):
    served.refuses = frozenset({"top_k", "min_p", "repetition_penalty", "generation_config"})
    of = model(served)
    assert of.numerics()["top_k"] == "the server's own"
    assert of.notes[0].startswith("the server takes no top-k and no repetition penalty")
    served.forget()
    answers(of, Decoding(temperature=0.5, top_p=0.9))
    assert served.asked[-1].keys() == {"model", "prompt", "temperature", "top_p", "max_tokens", "seed"}
    for decoding, name in ((Decoding(top_k=5), "top_k"), (Decoding(min_p=0.1), "min_p")):
        served.forget()
        with pytest.raises(ModelError, match=f"the server takes no {name}"):
            answers(of, decoding)
        assert not served.asked


def test_fields_that_are_ignored_count_as_not_taken(served: Served):
    served.ignores = frozenset({"top_k"})
    assert model(served).numerics()["top_k"] == "the server's own"


def test_transformers_takes_them_as_a_text(served: Served):
    served.refuses = frozenset({"top_k", "min_p", "repetition_penalty"})
    assert found(served).dialect.knobs == "generation_config"
    served.forget()
    answers(model(served), Decoding(temperature=0.5, top_k=7))
    assert '"top_k": 7' in served.asked[-1]["generation_config"]


def test_neutral_values_are_sent_because_servers_have_defaults_of_their_own(served: Served):
    of = model(served)
    served.forget()
    answers(of, Decoding(temperature=0.5))
    sent = {k: served.asked[0][k] for k in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}
    assert sent == {"temperature": 0.5, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@pytest.mark.parametrize(
    ("name", "decoding"),
    [
        ("top_p", Decoding(temperature=1, top_p=0.9)),
        ("min_p", Decoding(temperature=1, min_p=0.1)),
        ("typical_p", Decoding(temperature=1, typical_p=0.9)),
        ("top_n_sigma", Decoding(temperature=1, top_n_sigma=1.0)),
        ("mirostat_tau", Decoding(temperature=1, mirostat_tau=2.0)),
    ],
)
def test_a_knob_that_is_ignored_is_refused_before_anything_is_drawn(served: Served, name: str, decoding: Decoding):
    served.ignores = frozenset({name, "mirostat"} if "mirostat" in name else {name})
    of = model(served)
    served.forget()
    with pytest.raises(ModelError, match=f"takes {name} and ignores it"):
        answers(of, decoding)
    assert len(served.asked) == 2  # the two looks at the knob
    served.ignores = frozenset()
    of = model(served)
    assert answers(of, decoding)
    served.forget()
    assert answers(of, decoding)
    assert len(served.asked) == 1  # it is looked at once


def test_mirostat_is_asked_for_in_its_second_version(served: Served):
    of = model(served)
    assert answers(of, Decoding(temperature=1, mirostat_tau=2.0, mirostat_eta=0.3))
    assert {k: v for k, v in served.asked[-1].items() if "mirostat" in k} == {
        "mirostat": 2,
        "mirostat_tau": 2.0,
        "mirostat_eta": 0.3,
    }
    answers(of, Decoding(temperature=1))
    assert not any("mirostat" in key or key in RARE for key in served.asked[-1])


@pytest.mark.parametrize("knob", ["epsilon_cutoff", "eta_cutoff"])
def test_a_knob_that_no_server_of_a_dialect_has_is_refused(served: Served, knob: str):
    of, decoding = model(served), Decoding(temperature=1, **{knob: 0.01})  # type: ignore[arg-type]
    for refused in (lambda: of.check_decoding(decoding), lambda: answers(of, decoding)):
        with pytest.raises(ModelError, match=f"takes no {knob} as it is asked here; draw with --engine hf, or use a sampler"):
            refused()


def test_a_server_that_reads_a_generation_config_gets_its_knobs_there(served: Served):
    served.refuses = frozenset({"top_k", "min_p", "repetition_penalty"})
    of = model(served)
    assert found(served).dialect.knobs == "generation_config"
    for knob in ("typical_p", "epsilon_cutoff", "eta_cutoff"):
        assert answers(of, Decoding(temperature=1, **{knob: 0.5}))  # type: ignore[arg-type]
        assert json.loads(served.asked[-1]["generation_config"])[knob] == 0.5
    with pytest.raises(ModelError, match="takes no top_n_sigma"):
        answers(of, Decoding(temperature=1, top_n_sigma=1.0))
    served.ignores = frozenset({"epsilon_cutoff"})
    with pytest.raises(ModelError, match="takes eta_cutoff and ignores it"):
        answers(model(served), Decoding(temperature=1, eta_cutoff=0.01))


def test_a_limit_by_another_name_is_found(served: Served):
    refuse = "Unsupported parameter: max_tokens is not supported with this model. Use max_completion_tokens instead."
    served.fault = lambda number, body: Fault(status=400, body=refuse) if "max_tokens" in body else None
    assert found(served, "chat").dialect.limit == "max_completion_tokens"


def test_another_model_is_refused(served: Served):
    served.answers_as = "other"
    with pytest.raises(
        ModelError, match="the model 'other' answers, and 'toy' was asked for; ask for that name, or say with answers_as"
    ):
        model(served)
    of = model(served, answers_as=("other",))
    assert of.describe()["id"] == "other"
    assert answers(of, Decoding())


def test_a_model_may_answer_with_a_date_or_a_revision():
    for answered in ("m", "m-2024-08-06", "m-20240806", "m@main", "m:latest"):
        assert same_model("m", answered)
    for answered in ("m-large", "m2", "other", "n-2024-08-06", "m-2024-08-06-x", ""):
        assert not same_model("m", answered)
    assert same_model("m", "other", ("other",))


def test_a_model_that_is_not_served_is_named_with_those_that_are(served: Served):
    served.models = ("a", "b")
    with pytest.raises(ModelError, match=r"gives no answers of 'toy' .*404 The model `toy` does not exist.*; it serves a, b"):
        model(served)


def test_an_address_under_which_nothing_lies_is_said(served: Served):
    served.apis, served.models = frozenset(), ()
    with pytest.raises(ModelError, match=r"404.*; base_url is the address under which /models and /chat/completions lie, and"):
        model(served)


def test_a_model_that_only_reasons_is_not_said_to_ignore_the_temperature(served: Served):
    served.answer = lambda body, reply: {
        **reply,
        "choices": [{"finish_reason": "length", "message": {"content": "", "reasoning_content": "Well"}}],
    }
    with pytest.raises(ModelError, match=r"that have no text \(finish_reason 'length', all of it reasoning\)"):
        model(served, api="chat")


def test_one_path_is_enough(served: Served):
    served.apis = frozenset({"chat"})
    of = model(served)
    assert of.numerics()["api"] == "chat"
    of.check_chat()
    with pytest.raises(
        ModelError, match=r"takes no texts without messages \(404: .*\); with api = \"chat\" each text is the only"
    ):
        answers(of, Decoding())
    assert answers(model(served, api="chat"), Decoding())
    served.apis = frozenset({"completions"})
    of = model(served)
    with pytest.raises(ModelError, match=r"takes no messages \(404: no /v1/chat/completions here\)"):
        of.check_chat()
    with pytest.raises(ModelError, match="because api is 'completions'"):
        model(served, api="completions").check_chat()


def test_a_path_that_only_ever_fails_counts_as_missing(served: Served):
    served.fault = lambda number, body: Fault(status=500, body="no chat template") if "messages" in body else None
    of = model(served, tries=9)
    assert of.numerics()["api"] == "completions"
    assert sum("messages" in body for body in served.asked) == 3
    with pytest.raises(ModelError, match=r"takes no messages .*answers 500 \(no chat template\): given up after 3 tries"):
        of.check_chat()


def test_a_server_that_is_starting_is_waited_for(served: Served):
    served.fault = lambda number, body: Fault(status=500) if number < 8 else None
    assert set(model(served, tries=9).numerics()["api"].split(", ")) == {"completions", "chat"}
    served.forget()
    served.fault = lambda number, body: Fault(status=503) if number < 8 else None
    assert set(model(served, tries=9).numerics()["api"].split(", ")) == {"completions", "chat"}


def test_a_fingerprint_that_changes_from_call_to_call_is_marked(served: Served):
    served.answer = lambda body, reply: {**reply, "system_fingerprint": f"f{random.random()}"}
    of = model(served)
    assert of.numerics()["fingerprint"] == "changes"
    assert of.notes == ("the server's fingerprint changes from answer to answer: more than one machine or version draws",)
    assert answers(of, Decoding())


def test_a_server_without_a_fingerprint_or_a_list_of_models(served: Served):
    served.fingerprint, served.list_fails = "", True
    of = model(served)
    assert "fingerprint" not in of.numerics()
    assert of.notes == ("the server does not say how long its context is",)
    assert of.describe()["context"] is None
    assert model(served, context=77).context == 77


def test_whether_a_chat_goes_on_with_an_answer_that_is_begun_shows_in_its_prompts(served: Served):
    assert found(served, "chat").goes_on
    served.ignores = frozenset({"continue_final_message"})
    assert not found(served, "chat").goes_on
    served.refuses = frozenset({"continue_final_message"})
    assert not found(served, "chat").goes_on
