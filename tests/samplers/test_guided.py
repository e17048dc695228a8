"""Concepts first, then a solution by each; and another prompt for each draw: personas and paraphrases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripted import CODE, TEXT, Scripted, asked, ended, lost
from spa_bench.cards.reading import cards_folder
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.templates import entries
from spa_bench.errors import CardError
from spa_bench.samplers.base import sampler_kind
from spa_bench.types import Completion, Key, Request

GUIDED = {
    "concepts": "name {n} ways: {prompt}",
    "solution": "solve {prompt} by {concept} as {answer}",
    "text": "T\n",
    "program": "P\n",
}
PERSONAS = {"role": "As {persona}: {prompt} as {answer}", "text": "T\n", "personas": "# who\na cook\na poet\n\na judge\n"}


def texts(found: dict[Key, Completion]) -> list[str]:
    return [found[key].text for key in sorted(found)]


# guided --------------------------------------------------------------------------------------------------------------


def guide(request: Request) -> str:
    question = request.messages[-1][1]
    return "1. Mix.\n2. Guess.\n3. Look." if question.startswith("name") else question


def test_each_answer_follows_its_concept():
    model = Scripted(guide)
    found = asked("guided", model, [TEXT], n=3, **GUIDED)
    assert model.questions[0] == "name 3 ways: Name a colour."
    assert texts(found) == [f"solve Name a colour. by {c} as T" for c in ("Mix.", "Guess.", "Look.")]
    assert {c.note for c in found.values()} == {None}
    assert sum(c.spent or 0 for c in found.values()) == sum(len(guide(r)) for r in model.requests)


def test_too_few_concepts_are_used_again_and_noted_and_too_many_left_out():
    found = asked("guided", Scripted(guide), [TEXT], n=5, **GUIDED)
    assert texts(found)[3:] == texts(found)[:2]
    assert {c.note for c in found.values()} == {"the reply names 3 of 5 concepts, which are used again"}
    assert texts(asked("guided", Scripted(guide), [TEXT], n=1, **GUIDED)) == ["solve Name a colour. by Mix. as T"]


def test_without_a_concept_there_is_no_answer():
    model = Scripted(lambda r: "I cannot." if r.draw == 0 else "red")
    found = asked("guided", model, [TEXT], n=3, **GUIDED)
    assert {(c.failure, c.finish) for c in found.values()} == {("the reply names no concept", "failed")}
    assert {(c.text, c.reply) for c in found.values()} == {("", "I cannot.")}
    assert sum(c.spent or 0 for c in found.values()) == len("I cannot.")
    assert len(model.requests) == 1
    gone = asked("guided", Scripted(lambda r: lost(r, "no room")), [TEXT], n=2, **GUIDED)
    assert {(c.failure, c.finish) for c in gone.values()} == {("concepts: no room", "skipped")}
    half = asked("guided", Scripted(lambda r: lost(r, "memory") if r.draw == 2 else guide(r)), [TEXT], n=2, **GUIDED)
    assert [c.failure for c in half.values()] == ["", "solution: memory"]


def test_the_limit_of_the_concepts_is_an_option():
    model = Scripted(guide)
    asked("guided", model, [CODE], n=1, concept_tokens=99, **GUIDED)
    assert [r.decoding.max_new_tokens for r in model.requests] == [99, 10]
    assert model.questions[1].endswith("as P")
    with pytest.raises(CardError, match=r"options\.concept_tokens is -1; it must be at least 0"):
        load_sampler_card("guided", {"options.concept_tokens": -1})


def test_a_concept_in_which_the_list_was_cut_is_left_out_and_noted():
    def cut(said: str) -> Any:
        return lambda r: ended(r, said) if r.draw == 0 else r.messages[-1][1]

    found = asked("guided", Scripted(cut("1. Mix.\n2. Guess.\n3. Lo")), [TEXT], n=3, **GUIDED)
    assert texts(found) == [f"solve Name a colour. by {c} as T" for c in ("Mix.", "Guess.", "Mix.")]
    told = "the list of concepts was cut at its limit"
    assert {c.note for c in found.values()} == {f"{told}; the reply names 2 of 3 concepts, which are used again"}
    alone = asked("guided", Scripted(cut("1. Mi")), [TEXT], n=1, **GUIDED)
    assert [(c.text, c.note) for c in alone.values()] == [("solve Name a colour. by Mi as T", told)]
    none = asked("guided", Scripted(cut("<think>1. Mix.\n2. Gu")), [TEXT], n=1, **GUIDED)
    assert {c.failure for c in none.values()} == {"the reply names no concept and was cut at its limit"}


# personas ------------------------------------------------------------------------------------------------------------


def echo(request: Request) -> str:
    return request.messages[-1][1]


def test_each_draw_asks_another_persona_and_all_before_any_again():
    found = asked("personas", Scripted(echo), [TEXT], n=7, **PERSONAS)
    said = {f"As a {who}: Name a colour. as T" for who in ("cook", "poet", "judge")}
    assert set(texts(found)[:3]) == said
    assert texts(found)[3:] == [*texts(found)[:3], texts(found)[0]]


def test_problems_have_orders_of_their_own():
    prompts = [replace(TEXT, problem_id=f"p{i}") for i in range(12)]
    found = asked("personas", Scripted(echo), prompts, n=1, **PERSONAS)
    assert len({c.text for c in found.values()}) == 3


def test_a_paraphrase_is_answered_in_its_own_words():
    def reply(request: Request) -> str:
        question = request.messages[-1][1]
        return f"words {request.draw}" if question == "Say anew: Name a colour." else question

    words = {
        "form": "paraphrases",
        "paraphrase": "Say anew: {prompt}",
        "paraphrased": "{paraphrase} as {answer}",
        "text": "T\n",
    }
    model = Scripted(reply)
    assert texts(asked("personas", model, [TEXT], n=2, **words)) == ["words 0 as T", "words 1 as T"]
    assert len({r.seed for r in model.requests}) == 4

    def poor(request: Request) -> str | Completion:
        return {0: lost(request, "no room", spent=1), 1: " "}.get(request.draw, reply(request))

    model = Scripted(poor)
    found = asked("personas", model, [TEXT], n=3, **words)
    assert [c.failure for c in found.values()] == ["paraphrase: no room", "paraphrase: the reply is empty", ""]
    assert len(model.requests) == 4
    assert sum(c.spent or 0 for c in found.values()) == 1 + 1 + len("words 2") + len("words 2 as T")


def test_a_paraphrase_that_was_cut_is_noted():
    words = {"form": "paraphrases", "paraphrase": "Say anew: {prompt}", "paraphrased": "{paraphrase} as {answer}"}
    model = Scripted(lambda r: ended(r, "Name a") if r.draw == 1 else "red")
    found = asked("personas", model, [TEXT], n=2, **words)
    assert [found[key].note for key in sorted(found)] == [None, "the paraphrase was cut at its limit"]


def test_our_personas_are_different_people():
    ours = entries((cards_folder("templates") / "personas.txt").read_text())
    assert len(set(ours)) == len(ours) >= 8


def test_a_file_of_personas_stands_beside_its_card(tmp_path: Path):
    (tmp_path / "who.txt").write_text("a cook\na poet\n")
    (tmp_path / "mine.toml").write_text('kind = "personas"\n[options]\npersonas = "who.txt"\n')
    card = load_sampler_card(str(tmp_path / "mine.toml"))
    assert card.options.personas == "a cook\na poet\n"  # type: ignore[attr-defined]
    model = Scripted(echo)
    list(sampler_kind(card.kind).build(card, []).sample(model, [TEXT], 2, 0, task="t"))
    assert {("a cook" in q, "a poet" in q) for q in model.questions} == {(True, False), (False, True)}
    (tmp_path / "who.txt").write_text("# nobody\n")
    with pytest.raises(CardError, match=r"options\.personas \(who\.txt\) has no entry: write one on each line"):
        load_sampler_card(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("kind", ["guided", "personas"])
def test_a_problem_that_was_stopped_gives_the_same_answers(kind: str):
    def reply(request: Request) -> str:
        return f"1. {request.seed}\n2. {request.seed + 1}"

    whole: dict[Key, Completion] = asked(kind, Scripted(reply), [TEXT, CODE], n=2)
    done = [Key("text", 0, d) for d in range(2)] + [Key("code", 0, 1)]
    model = Scripted(reply)
    rest: dict[Key, Any] = asked(kind, model, [TEXT, CODE], n=2, done=done)
    assert rest == {k: c for k, c in whole.items() if k not in done}
    assert {r.problem_id for r in model.requests} == {"code"}


def test_an_unknown_form_is_refused():
    with pytest.raises(CardError, match=r"sampler 'personas': options\.form is 'role'; did you mean 'roles'\?"):
        load_sampler_card("personas", {"options.form": "role"})
