"""Asking for all answers at once: what is asked, what becomes of a reply, and what of its failures."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import MockModel, mock_run, sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.publish.show import side_by_side
from spa_bench.runs.job import load_task
from spa_bench.samplers.one_reply import OneReplyOptions, build, completions
from spa_bench.types import Completion, Decoding, Key, Member, Prompt, Request

PROMPT = "\n\ndef f(x):\n"
PROMPTS = [
    Prompt(problem_id="a", text=PROMPT, max_new_tokens=8, stop=("\ndef ",)),
    Prompt(problem_id="b", text="def g(x):\n    '{n}'\n", max_new_tokens=16, stop=()),
]
TEMPLATE = "{{ messages | length }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


def card(**options: Any):
    return sampler_card(kind="one-reply", options=OneReplyOptions(**options))


def asked(n: int = 3, **options: Any) -> list[Request]:
    seen: list[Request] = []
    model = MockModel(lambda request: seen.append(request) or "")
    list(build(card(**options), []).sample(model, PROMPTS, n, 0, task="t"))
    return seen


def reply(*codes: str, finish: str = "stop") -> Completion:
    text = "".join(f"### Answer {i}\n```python\n{code}```\n" for i, code in enumerate(codes, 1))
    return Completion(key=Key("a", 0, 0), text=text, tokens=100, finish=finish, seed=7)  # type: ignore[arg-type]


def test_one_question_a_problem_asks_for_n_answers_in_the_cards_words():
    [first, second] = asked(template="{n} ways:\n{prompt}", system="Be brief.")
    assert first.messages == (("system", "Be brief."), ("user", "3 ways:\n\n\ndef f(x):"))
    assert second.messages[1] == ("user", "3 ways:\ndef g(x):\n    '{n}'")
    assert [role for role, _ in asked()[0].messages] == ["user"]


def test_a_reply_has_room_for_all_answers_and_no_stop_strings():
    assert [r.decoding for r in asked(3)] == [
        Decoding(temperature=0.8, max_new_tokens=24),
        Decoding(temperature=0.8, max_new_tokens=48),
    ]
    assert {r.decoding.max_new_tokens for r in asked(3, max_new_tokens=70)} == {70}


def test_the_default_question_has_the_prompt_and_the_format():
    question = asked(5)[0].messages[0][1]
    assert "def f(x):" in question
    assert "5 different" in question
    assert "### Answer I" in question


def test_an_answer_that_begins_with_the_prompt_is_stored_without_it():
    first, second = completions(reply("def f(x):\n    return x\n", "import math\n\ndef f(x):\n    return x\n"), PROMPTS[0], 2)
    assert (first.text, first.whole) == ("    return x\n", False)
    assert (second.text, second.whole) == ("import math\n\ndef f(x):\n    return x\n", True)
    assert [c.key for c in (first, second)] == [Key("a", 0, 0), Key("a", 0, 1)]


def test_an_answer_to_a_task_that_asks_in_messages_is_a_whole_program_with_its_prompt():
    """Such a task takes every answer for a whole program: without the prompt it would be a body alone."""
    asked = replace(PROMPTS[0], messages=(("user", "Write f."), ("assistant", "Here it is:")))
    [found] = completions(reply("def f(x):\n    return x\n"), asked, 1)
    assert (found.text, found.whole) == ("def f(x):\n    return x\n", True)


def test_answers_that_are_missing_have_failed_with_how_many_there_are():
    found = completions(reply("x = 1\n", "x = 2\n", "x = 3\n"), PROMPTS[0], 8)
    assert [c.finish for c in found] == ["stop"] * 3 + ["failed"] * 5
    assert {c.failure for c in found[3:]} == {"the reply holds 3 of 8 answers"}
    assert {c.text for c in found[3:]} == {""}
    assert {c.reply for c in found} == {None, reply("x = 1\n", "x = 2\n", "x = 3\n").text}
    cut = completions(reply("x = 1\n", finish="length"), PROMPTS[0], 2)
    assert cut[1].failure == "the reply holds 1 of 2 answers and was cut at its limit"


def test_thoughts_and_prose_are_no_programs():
    whole = reply("def f(x):\n    return x\n")
    thought = replace(whole, text=f"<think>\n```python\ndef f(x): ...\n```\n</think>\n{whole.text}```python\nf(1)\n```\n")
    assert [c.text for c in completions(thought, PROMPTS[0], 2)] == ["    return x\n", ""]
    told = completions(replace(whole, text="1. Using `sum` is efficient.\n2. I can't."), PROMPTS[0], 1)
    assert [(c.failure, c.reply) for c in told] == [
        ("the reply holds 0 of 1 answers", "1. Using `sum` is efficient.\n2. I can't.")
    ]


def test_answers_beyond_n_are_left_out():
    assert [c.text for c in completions(reply("1\n", "2\n", "3\n"), PROMPTS[0], 2)] == ["1\n", "2\n"]


@pytest.mark.parametrize("n", [1, 3, 7])
def test_the_tokens_spent_are_those_of_the_reply(n: int):
    assert sum(c.spent or 0 for c in completions(reply("x = 1\n", "x = 2\n"), PROMPTS[0], n)) == 100
    assert sum(c.tokens for c in completions(reply("x = 1\n", "x = 2\n"), PROMPTS[0], n)) <= 100


def test_a_reply_that_failed_is_n_failures_with_its_cause():
    for finish in ("skipped", "failed"):
        lost = Completion(key=Key("a", 0, 0), text="", tokens=0, finish=finish, seed=7, failure="no room", spent=5)  # type: ignore[arg-type]
        found = completions(lost, PROMPTS[0], 3)
        assert [(c.finish, c.failure, c.text) for c in found] == [(finish, "no room", "")] * 3
        assert sum(c.spent or 0 for c in found) == 5


def test_an_answer_that_the_reply_ended_in_is_of_length():
    text = "### Answer 1\n```python\nx = 1\n```\n### Answer 2\n```python\nx ="
    found = completions(Completion(key=Key("a", 0, 0), text=text, tokens=9, finish="length", seed=0), PROMPTS[0], 2)
    assert [(c.text, c.finish) for c in found] == [("x = 1\n", "stop"), ("x =", "length")]


def test_a_problem_that_is_done_is_not_asked_and_one_half_done_gives_what_is_missing():
    model = MockModel(lambda request: reply("1\n", "2\n", "3\n").text)
    sampler = build(card(), [])
    whole = {c.key: c for c in sampler.sample(model, PROMPTS, 3, 0, task="t")}
    done = {Key("a", 0, d) for d in range(3)} | {Key("b", 0, 1)}
    model.asked.clear()
    rest = list(sampler.sample(model, PROMPTS, 3, 0, task="t", done=done))
    assert model.asked == [Key("b", 0, 0)]
    assert {c.key: c for c in rest} == {k: c for k, c in whole.items() if k not in done}


def test_no_answers_cannot_be_asked_for():
    with pytest.raises(UsageError, match="n is 0"):
        asked(0)


def test_a_run_grades_whole_programs_and_refuses_what_is_missing(tmp_path: Path, three: Path, sandbox: Any):
    def answer(request: Request) -> str:
        name = request.problem_id.partition("/")[2]
        body = {"add": "a, b: a + b", "double": "x: 2 * x", "last": "xs: xs[-1]"}[name]
        return f"### Answer 1\n```python\n{name} = lambda {body}\n\ndef helper(): pass\n```\n"

    three.write_text(three.read_text() + 'sanitiser = "stop"\n')  # the default one drops the helper, which nothing needs
    folder = mock_run(tmp_path / "runs", three, answer, n=2, kind="one-reply", options=OneReplyOptions())
    assert folder.spec["sampler"]["options"]["template"] == OneReplyOptions().template
    grades = folder.grades()
    assert {str(grades[k].verdict) for k in grades if k.draw == 0} == {"passed"}
    assert {(str(grades[k].verdict), grades[k].message) for k in grades if k.draw == 1} == {
        ("refused", "the reply holds 1 of 2 answers")
    }
    missing = [r for r in folder.records().values() if r.key == ("three/add", 0, 1)]
    assert [(r.raw, r.graded) for r in missing] == [("", "")]
    assert (missing[0].reply or "").startswith("### Answer 1\n```python\nadd = lambda a, b: a + b\n")
    shown = side_by_side(missing, dict(grades), width=100)
    assert "in the reply:" in shown
    assert "### Answer 1" in shown
    task = load_task(load_task_card(str(three)))
    [record] = [r for r in folder.records().values() if r.key == ("three/add", 0, 0)]
    assert record.whole
    assert task.program(record) == "add = lambda a, b: a + b\n\ndef helper(): pass"


# a real tokenizer ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(tiny_folder, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    return folder


def ask(model: HFModel, requests: Sequence[Request]) -> dict[Key, Completion]:
    return {c.key: c for c in model.generate(requests, [Member("base", None, Decoding())])}


def test_messages_go_through_the_chat_template(chat_folder: Path):
    model = HFModel(str(chat_folder), HFOptions(device="cpu", threads=1))
    decoding = Decoding(max_new_tokens=12)
    plain = Request(
        problem_id="p", member=0, draw=0, kind="generate", prompt="2[system]be[user]hi[assistant]", decoding=decoding, seed=0
    )
    chat = replace(plain, prompt="not this", messages=(("system", "be"), ("user", "hi")))
    assert ask(model, [chat]) == ask(model, [plain])
    assert ask(model, [chat]) != ask(model, [replace(plain, prompt="not this")])
    [(_, mine, _)] = model.loglikelihood([replace(chat, continuation="    return")], [Member("base", None, decoding)])
    [(_, same, _)] = model.loglikelihood([replace(plain, continuation="    return")], [Member("base", None, decoding)])
    assert mine == same


def test_the_tiny_chat_model_gives_n_completions_a_problem(chat_folder: Path):
    model = HFModel(str(chat_folder), HFOptions(device="cpu", threads=1))
    found = list(build(card(), []).sample(model, PROMPTS, 3, 0, task="t"))
    assert {c.key for c in found} == {Key(p, 0, d) for p in "ab" for d in range(3)}
    assert all(c.failure or c.text for c in found)


def test_a_tokenizer_without_a_chat_template_is_an_error_before_anything_is_drawn(
    tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tiny_model.hf, "network", None)  # any use of it would raise another error
    with pytest.raises(ModelError, match=r"^model 'tiny' has no chat template, so it cannot be asked in messages; choose"):
        list(build(card(), []).sample(tiny_model, PROMPTS, 3, 0, task="t"))


def test_a_template_that_refuses_a_role_is_an_error_on_one_line(chat_folder: Path, monkeypatch: pytest.MonkeyPatch):
    model = HFModel(str(chat_folder), HFOptions(device="cpu", threads=1))
    monkeypatch.setattr(model.codec.tokenizer, "chat_template", "{{ raise_exception('no system role') }}")
    with pytest.raises(ModelError, match=r"the chat template of model .* refuses the messages: no system role; .*$"):
        list(build(card(), []).sample(model, PROMPTS, 3, 0, task="t"))
