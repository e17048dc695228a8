"""Methods that ask an instruct model: what they ask, what they read of replies, what they refuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from doubles import ignore
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import CardError, DataError, ModelError
from spa_bench.models.mock import MockModel, Reply
from spa_bench.samplers.asking.case import Reply as Heard
from spa_bench.spa.data.near import words_of
from spa_bench.spa.synthesize.asking import fenced, sections
from spa_bench.spa.synthesize.base import Draft, Prepared, Setting, synthesis_kind
from spa_bench.spa.synthesize.oss_instruct import draft_of
from spa_bench.spa.synthesize.self_instruct import rouge_l, tasks_in
from spa_bench.types import Completion, Example, Member, Request

TARGETS = [
    Example(f"Write a function that adds {i}.\n", f"```python\ndef add(x):\n    return x + {i}\n```") for i in range(1, 7)
]
SECTIONS = "[Problem Description]\nDouble a number.\n\n[Solution]\n```python\ndef double(x):\n    return 2 * x\n```\n"


class Listening(MockModel):
    """A mock that keeps what it was asked."""

    def __init__(self, replies: Sequence[Reply]):
        super().__init__(replies=replies)
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], members: Sequence[Member]):
        self.asked += requests
        yield from super().generate(requests, members)


def card(method: str, **options: object) -> SynthesisCard:
    values = {f"synthesize.options.{key}": value for key, value in options.items()}
    return load_sampler_card("single", {"synthesize.method": method, **values}).synthesize


def method(made: SynthesisCard, replies: Sequence[Reply], seed: int = 0, *, kept: Path = Path()) -> tuple[Prepared, Listening]:
    model = Listening(replies=replies)
    own = synthesis_kind(made.method).build(Setting(card=made, model=model, targets=TARGETS, seed=seed))
    return own.prepare(progress=ignore, kept=kept), model


# reading replies ----------------------------------------------------------------------------------------------------

NAMES = (("problem", "problem description"), ("solution",), ("tests?",))


@pytest.mark.parametrize(
    "reply",
    [
        "[Problem Description]\nDouble.\n[Solution]\nx",
        "## Problem Description\n\nDouble.\n\n## Solution\n\nx",
        "**Problem Description:** Double.\n\n**Solution:**\nx",
        "Here you are!\n\n[Problem Description]: Double.\n[Solution]: x",
        "<think>[Problem] no</think>\n[Problem]\nDouble.\n[Solution]\nx\n",
    ],
)
def test_sections_are_found_under_many_marks(reply: str):
    assert sections(reply, NAMES) == ["Double.", "x", None]


def test_a_fence_hides_headings():
    reply = "[Problem]\nDouble.\n[Solution]\n```\n# Tests\nx\n```\n[Tests]\ny"
    assert sections(reply, NAMES) == ["Double.", "```\n# Tests\nx\n```", "y"]


def test_a_sentence_is_no_heading():
    assert sections("[Problem]\nDouble.\nSolution of this is hard\n[Solution]\nx", NAMES)[1] == "x"


def test_the_first_block_is_the_code():
    assert fenced("so:\n```python\nassert f()\n```\n```\nno\n```") == "assert f()"
    assert fenced("assert f()") == "assert f()"


def test_a_draft_has_problem_solution_and_tests():
    reply = Heard(text=SECTIONS + "[Tests]\n```python\nassert double(2) == 4\n```", tokens=9, finish="stop")
    made = draft_of(reply, "target 1")
    assert made.example == Example("Double a number.", "```python\ndef double(x):\n    return 2 * x\n```")
    assert (made.tests, made.tokens, made.source) == ("assert double(2) == 4", 9, "target 1")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Heard(text="def f(): pass", tokens=1, finish="stop"), "the reply has no section for the problem"),
        (Heard(text="[Problem]\nx", tokens=1, finish="stop"), "the reply has no section for the answer"),
        (Heard(text="[Problem]\nx", tokens=1, finish="length"), "no section for the answer, and was cut at its limit"),
        (Heard(text=SECTIONS, tokens=1, finish="length"), "the reply was cut at its limit"),
        (Heard(text="", tokens=0, finish="failed", failure="no room"), "no room"),
    ],
)
def test_a_reply_without_a_pair_says_why(reply: Heard, why: str):
    made = draft_of(reply, "")
    assert made.example is None
    assert why in made.failure


# oss-instruct -------------------------------------------------------------------------------------------------------


def test_a_seed_is_a_few_lines_of_a_target():
    made, model = method(card("oss-instruct", round=40), [Reply(text=SECTIONS)])
    drafts = list(made.round(0, ()))
    assert len(drafts) == 40
    assert all(draft.example for draft in drafts)
    lines = {f"    return x + {i}" for i in range(1, 7)} | {"def add(x):"}
    for request, draft in zip(model.asked, drafts, strict=True):
        snippet = request.prompt.split("```\n")[1].split("\n```")[0]
        assert set(snippet.splitlines()) <= lines
        own = f"    return x + {draft.source.removeprefix('target ')}"
        assert set(snippet.splitlines()) <= {"def add(x):", own}
    assert len({request.seed for request in model.asked}) == 40
    assert {draft.source for draft in drafts} == {f"target {i}" for i in range(1, 7)}


def test_a_round_is_the_same_again_and_the_next_another():
    replies = [Reply(text=SECTIONS.replace("Double", word)) for word in ("Double", "Halve", "Square")]
    one, _ = method(card("oss-instruct"), replies)
    two, _ = method(card("oss-instruct"), replies)
    assert list(one.round(3, ())) == list(two.round(3, ()))
    assert list(one.round(3, ())) != list(one.round(4, ()))
    other, _ = method(card("oss-instruct"), replies, seed=1)
    assert list(one.round(3, ())) != list(other.round(3, ()))


def test_the_system_message_comes_first():
    made, model = method(card("oss-instruct", system="Be brief.", round=1), [Reply(text=SECTIONS)])
    list(made.round(0, ()))
    assert model.asked[0].messages[0] == ("system", "Be brief.")
    assert (model.asked[0].decoding.temperature, model.asked[0].decoding.max_new_tokens) == (0.8, 1024)


@pytest.mark.parametrize("loose", [True, False])
def test_words_and_a_program_are_a_pair_where_that_is_wanted(loose: bool):
    text = "Double a number.\n\n```python\ndef double(x):\n    return 2 * x\n```\n\nThat is all."
    made, _ = method(card("oss-instruct", round=1, loose=loose), [Reply(text=text)])
    [draft] = made.round(0, ())
    wanted = Example("Double a number.", "```python\ndef double(x):\n    return 2 * x\n```")
    assert (draft.example, draft.failure == "") == ((wanted, True) if loose else (None, False))


# self-instruct ------------------------------------------------------------------------------------------------------

NEW = (
    "### Task 1\nName three rivers of Europe.\n\n"
    "### Task 2:\nWrite a function that adds 3.\n\n"
    "### Task 3\nDraw a picture of a cat."
)


def self_instruct(**options: object) -> tuple[Prepared, Listening]:
    replies = [Reply(text=NEW, problem="synthesis/self-instruct/0"), Reply(text="Rhine, Danube and Loire.")]
    return method(card("self-instruct", **options), replies)


def test_new_tasks_are_answered_and_known_ones_fall():
    made, _ = self_instruct(round=1)
    one, known, drawn = made.round(0, ())
    assert one.example == Example("Name three rivers of Europe.", "Rhine, Danube and Loire.")
    assert (known.example, known.failure) == (None, "ROUGE-L with a known task is 0.7 or more")
    assert (drawn.example, drawn.failure) == (None, "it asks for what a text cannot give")


def test_a_task_of_the_same_round_is_known():
    made, _ = self_instruct(round=2)
    drafts: list[Draft] = list(made.round(0, ()))
    assert [draft.example is not None for draft in drafts] == [True, False, False, False, False, False]
    assert "ROUGE-L" in drafts[3].failure


def test_a_task_of_an_earlier_pair_is_known():
    made, _ = self_instruct(round=1)
    [one, *_] = made.round(0, [Example("Name three rivers of Europe", "x")])
    assert "ROUGE-L" in one.failure


def test_the_prompt_shows_targets_and_at_most_two_own():
    made, model = self_instruct(round=1, shown=4)
    list(made.round(0, [Example(f"own {i}", f"answer {i}") for i in range(9)]))
    prompt = model.asked[0].prompt
    assert (prompt.count("### Task "), prompt.count("own "), prompt.count("Write a function")) == (4, 2, 2)
    assert "4 new tasks" in prompt


@pytest.mark.parametrize(("asked", "fell"), [(4, 1), (3, 1), (2, 0)])
def test_the_task_in_which_a_reply_was_cut_falls(asked: int, fell: int):
    text = "### Task 1\nName three rivers of Europe.\n\n### Task 2\nSay who wrote Faust.\n\n### Task 3\nList the plan"
    replies = [Reply(text=f"{text}ets.", problem="synthesis/self-instruct/0"), Reply(text="Yes.")]
    made, _ = method(card("self-instruct", round=1, asked=asked, max_new_tokens=len(text)), replies)
    drafts = list(made.round(0, ()))
    assert [draft.failure for draft in drafts] == ["", "", *["the task was cut at the limit of its reply"] * fell]


def test_all_tokens_count_once():
    made, _ = self_instruct(round=1)
    drafts = list(made.round(0, ()))
    assert sum(draft.tokens for draft in drafts) == len(NEW) + len("Rhine, Danube and Loire.")


@pytest.mark.parametrize(
    ("reply", "tasks"),
    [
        ("1. Add.\n2. Divide.", ["Add.", "Divide."]),
        ("### Task 9\nAdd.\n### Answer 9\nno\n### Task 10\nDivide\nby two.", ["Add.", "Divide\nby two."]),
        ("Task 1: Add.\nTask 2: Divide.", ["Add.", "Divide."]),
        ("", []),
    ],
)
def test_tasks_of_a_reply(reply: str, tasks: list[str]):
    assert tasks_in(reply, 4) == tasks


@pytest.mark.parametrize(
    ("one", "other"),
    [("add two numbers", "add three numbers"), ("a b c d", "d c b a"), ("x", "y"), ("the cat sat", "the cat sat on the mat")],
)
def test_rouge_is_that_of_rouge_score(one: str, other: str):
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score comes with lm-eval")
    wanted = scorer.RougeScorer(["rougeL"]).score(one, other)["rougeL"].fmeasure
    assert rouge_l(words_of(one), words_of(other)) == pytest.approx(wanted, abs=1e-12)


# skill-mix ----------------------------------------------------------------------------------------------------------

MIXED = "[Instruction]\nSort by length.\n[Response]\nsorted(xs, key=len)"


def skills(*lists: str) -> list[Reply]:
    named = [Reply(text=text, problem=f"synthesis/skill-list/{i}") for i, text in enumerate(lists)]
    return [*named, Reply(text=MIXED)]


def test_skills_are_named_first_and_mixed_then(tmp_path: Path):
    made, model = method(
        card("skill-mix", shown=3, round=20), skills("1. Loops\n2. Lists", "- lists.\n- Recursion"), kept=tmp_path
    )
    named = made.facts["skills"]
    assert isinstance(named, list)
    assert named == ["lists", "loops", "recursion"]  # by how often, then by place
    drafts = list(made.round(0, ()))
    assert {draft.example for draft in drafts} == {Example("Sort by length.", "sorted(xs, key=len)")}
    assert {draft.source for draft in drafts} <= {f"skills {a}, {b}" for a in named for b in named if a != b}
    assert "- lists" in "".join(request.prompt for request in model.asked[2:])


def test_a_stopped_extraction_asks_only_for_the_rest(tmp_path: Path):
    (tmp_path / "skills-00000.json").write_text(json.dumps({"skills": ["kept"], "tokens": 5}))
    made, model = method(card("skill-mix", shown=3), skills("never", "1. other"), kept=tmp_path)
    assert made.facts["skills"] == ["kept", "other"]
    assert [request.problem_id for request in model.asked] == ["synthesis/skill-list/1"]


def test_the_skill_in_which_a_reply_was_cut_is_none(tmp_path: Path):
    text = "1. Loops\n2. Lists\n3. Recur"
    made, _ = method(card("skill-mix", shown=6, max_new_tokens=len(text)), skills(f"{text}sion"), kept=tmp_path)
    assert made.facts["skills"] == ["loops", "lists"]


def test_too_few_skills_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="skill-mix found 0 skills in 6 targets, and a task mixes 2"):
        method(card("skill-mix"), skills("", ""), kept=tmp_path)


# what is refused ----------------------------------------------------------------------------------------------------


class NoChat(MockModel):
    def check_chat(self) -> None:
        raise ModelError("model 'plain' has no chat template")

    def generate(self, requests: Sequence[Request], members: Sequence[Member]):
        raise AssertionError("nothing is to be drawn")
        yield Completion  # a generator, as the protocol has it


@pytest.mark.parametrize("name", ["oss-instruct", "self-instruct", "skill-mix"])
def test_a_model_without_a_chat_template_is_refused(name: str):
    with pytest.raises(ModelError, match="has no chat template"):
        synthesis_kind(name).check_model(card(name), NoChat())


@pytest.mark.parametrize(
    ("name", "option", "value", "said"),
    [
        ("oss-instruct", "lines", 0, "synthesize.options.lines is 0; it must be at least 1"),
        ("oss-instruct", "temperature", -1.0, "temperature is -1.0; it must be finite and not negative"),
        ("oss-instruct", "template", "no placeholder {here}", "has no {snippet}"),
        ("self-instruct", "rouge", 0.0, "rouge is 0; it is a share above 0 and at most 1"),
        ("self-instruct", "own", 8, "own is 8; it must be between 0 and 7"),
        ("skill-mix", "mixed", 100, "mixed is 100, of 64 skills that are kept"),
        ("skill-mix", "top_p", 1.5, "top_p is 1.5; it is a share above 0 and at most 1"),
        ("skill-mix", "lines", 1, "unknown key 'synthesize.options.lines'"),
    ],
)
def test_options_out_of_range(name: str, option: str, value: object, said: str):
    with pytest.raises(CardError) as caught:
        card(name, **{option: value})
    assert said in str(caught.value)
