"""Verbalized sampling: what is asked in one turn and several, what is drawn from what is stated, and what is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from scripted import CODE, TEXT, Scripted, asked, lost
from spa_bench.cards.reading import cards_folder
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError, UsageError
from spa_bench.runs.job import check_draws
from spa_bench.samplers.base import sampler_kind
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Completion, Key, Request


def stating(*answers: tuple[str, object]) -> str:
    return "".join(f"<response><text>{t}</text><probability>{p}</probability></response>" for t, p in answers)


def texts(found: dict[Key, Completion]) -> list[str]:
    return [found[key].text for key in sorted(found)]


def verbalized(reply: Any, n: int = 4, **options: Any) -> dict[Key, Completion]:
    return asked("verbalized", Scripted(reply if callable(reply) else lambda r: reply), [TEXT], n=n, **options)


# what is asked -------------------------------------------------------------------------------------------------------


def test_one_question_a_problem_has_k_the_problem_and_the_kind_of_answer():
    model = Scripted(lambda r: "")
    asked(
        "verbalized",
        model,
        [CODE, TEXT],
        n=4,
        answers=3,
        template="{prompt}|{n}|{answer}|{threshold}",
        program="P{{n}}",
        text="T\n",
    )
    assert model.questions == ['def f(x):\n    """{n} {answer}"""|3|P{{n}}|0.1', "Name a colour.|3|T|0.1"]
    assert [r.decoding.max_new_tokens for r in model.requests] == [30, 21]  # k times the task's limit
    assert [role for role, _ in model.requests[0].messages] == ["user"]


def test_our_templates_are_those_of_the_folder():
    model = Scripted(lambda r: "")
    asked("verbalized", model, [TEXT], system="Be brief.", max_new_tokens=50)
    words = (cards_folder("templates") / "verbalized.txt").read_text()
    answer = (cards_folder("templates") / "answer-text.txt").read_text().strip()
    filled = words.replace("{n}", "5").replace("{answer}", answer).replace("{prompt}", "Name a colour.").strip()
    assert model.requests[0].messages == (("system", "Be brief."), ("user", filled))
    assert model.requests[0].decoding.max_new_tokens == 50


def test_further_turns_continue_the_conversation():
    replies = {0: stating(("red", 0.5)), 1: stating(("blue", 0.5)), 2: stating(("green", 0.5))}
    model = Scripted(lambda r: replies[r.draw])
    found = asked(
        "verbalized", model, [TEXT], n=3, answers=1, turns=3, draw="all", template="{prompt}{n}", next="{n} more of {prompt}"
    )
    assert texts(found) == ["red", "blue", "green"]
    assert [r.messages for r in model.requests] == [
        (("user", "Name a colour.1"),),
        (("user", "Name a colour.1"), ("assistant", replies[0]), ("user", "1 more of Name a colour.")),
        (
            ("user", "Name a colour.1"),
            ("assistant", replies[0]),
            ("user", "1 more of Name a colour."),
            ("assistant", replies[1]),
            ("user", "1 more of Name a colour."),
        ),
    ]
    assert {c.note for c in found.values()} == {None}


def test_conversations_share_the_draws():
    replies = [stating(("red", 1)), stating(("blue", 1))]
    model = Scripted(lambda r: replies[r.draw])
    assert texts(asked("verbalized", model, [TEXT], n=3, answers=1, calls=2)) == ["red", "red", "blue"]
    assert len({r.seed for r in model.requests}) == 2


# what is drawn -------------------------------------------------------------------------------------------------------


def test_draws_follow_the_stated_probabilities():
    found = verbalized(stating(("red", 0.6), ("blue", 0.3), ("green", 0.0), ("pink", 0.1)), n=2000, answers=4)
    shares = {text: count / 2000 for text, count in Counter(texts(found)).items()}
    assert shares.keys() == {"red", "blue", "pink"}
    for text, share in (("red", 0.6), ("blue", 0.3), ("pink", 0.1)):
        assert abs(shares[text] - share) < 4 * np.sqrt(share * (1 - share) / 2000)


def test_the_draws_are_those_of_the_problems_own_generator():
    seed = derive_seed(derive_seed(0, "t", "text", "asking", "choices"), "draws of conversation 0")
    places = [0 if u < 0.75 else 1 for u in np.random.default_rng(seed).random(6)]  # 0.6 and 0.2 sum to 0.8
    assert texts(verbalized(stating(("red", 0.6), ("blue", 0.2)), n=6, answers=2)) == [["red", "blue"][i] for i in places]


def test_without_repetition_each_answer_is_drawn_once():
    found = verbalized(stating(("red", 0.98), ("blue", 0.01), ("green", 0.01)), n=4, answers=4, repeat=False)
    assert sorted(texts(found)[:3]) == ["blue", "green", "red"]
    assert found[Key("text", 0, 3)].failure == "3 answers are stated, each is taken once"
    assert texts(verbalized(stating(("red", 0), ("blue", 1), ("green", 0)), n=1, repeat=False, answers=3)) == ["blue"]


def test_all_are_taken_in_their_order():
    found = verbalized(stating(("red", 0.1), ("blue", 0.9), ("green", 0)), n=2, answers=3, draw="all")
    assert texts(found) == ["red", "blue"]
    assert [c.tokens for c in found.values()] == [3, 4]  # of as many tokens as characters


def test_an_answer_that_is_missing_has_the_reply_that_lacks_it():
    reply = stating(("red", 0.8), ("blue", 0.7))
    for options in ({"draw": "tail"}, {"repeat": False}):
        found = verbalized(reply, n=3, answers=3, **options)
        assert found[Key("text", 0, 2)].failure
        assert found[Key("text", 0, 2)].reply == reply


def test_the_tail_is_drawn_from_what_is_stated_below_the_threshold():
    reply = stating(("red", 0.8), ("blue", 0.05), ("green", "?"), ("pink", 0))
    assert set(texts(verbalized(reply, n=20, answers=4, draw="tail"))) == {"blue"}
    assert set(texts(verbalized(reply, n=20, answers=4, draw="tail", threshold=0.9))) == {"red", "blue"}
    none = verbalized(stating(("red", 0.8)), n=2, answers=1, draw="tail")
    assert [(c.failure, c.finish) for c in none.values()] == [
        ("none of the stated answers has a probability below 0.1", "failed")
    ] * 2
    once = verbalized(reply, n=3, answers=4, draw="tail", repeat=False)
    assert [c.failure for c in once.values()] == ["", "", "2 answers below the threshold are stated, each is taken once"]


def test_several_turns_make_one_distribution():
    replies = {0: stating(("red", 0.5), ("blue", 0.5)), 1: stating(("green", 1), ("pink", 0))}
    found = verbalized(lambda r: replies[r.draw], n=2000, answers=2, turns=2)
    shares = {text: count / 2000 for text, count in Counter(texts(found)).items()}
    assert shares["green"] == pytest.approx(0.5, abs=0.05)
    assert shares["red"] == pytest.approx(0.25, abs=0.05)


# what goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["I cannot.", ""])
def test_a_reply_that_states_nothing_is_n_failures(reply: str):
    found = verbalized(reply, n=3)
    assert [(c.failure, c.finish, c.text) for c in found.values()] == [("the reply states no answer", "failed", "")] * 3
    assert {c.reply for c in found.values()} == {reply or None}
    assert sum(c.spent or 0 for c in found.values()) == len(reply)


def test_no_room_is_told_as_the_model_tells_it():
    found = verbalized(lambda r: lost(r, "the prompt leaves no room", spent=3), n=2)
    assert [(c.failure, c.finish) for c in found.values()] == [("the prompt leaves no room", "skipped")] * 2
    assert sum(c.spent or 0 for c in found.values()) == 3


def test_what_a_reply_lacks_is_noted_with_each_of_its_answers():
    few = verbalized(stating(("red", 0.5), ("blue", "high")), n=2)
    assert {c.note for c in few.values()} == {"the reply states 2 of 5 answers; 1 of 2 answers have no valid probability"}
    assert {c.failure for c in few.values()} == {""}
    many = verbalized(stating(*((c, 0.2) for c in "abc")), n=2, answers=2, draw="all")
    assert texts(many) == ["a", "b"]
    assert {c.note for c in many.values()} == {"the reply states 3 of 2 answers"}
    assert {c.note for c in verbalized(stating(("red", 0.5)), n=2, answers=1).values()} == {None}


def test_an_answer_in_which_the_reply_ended_is_drawn_only_where_there_is_no_other():
    reply = stating(("red", 0.5)) + "<response><text>blu"

    class Cut(Scripted):
        cuts = True

    model = Cut(lambda r: reply + "e" * 99)
    found = asked("verbalized", model, [TEXT], n=4, answers=2, max_new_tokens=len(reply))
    assert set(texts(found)) == {"red"}
    assert {c.note for c in found.values()} == {"the reply states 1 of 2 answers and was cut at its limit"}
    alone = asked("verbalized", Cut(lambda r: "<response><text>blue"), [TEXT], n=1, answers=1, max_new_tokens=19)
    [only] = alone.values()
    assert (only.text, only.finish) == ("blu", "length")


def test_thoughts_in_which_the_reply_ended_are_no_answers():
    thoughts = "<reasoning>\n1. a loop (probability 0.5)\n2. recursion (probability 0.3)\nNow"

    class Cut(Scripted):
        cuts = True

    model = Cut(lambda r: thoughts + "e" * 99)
    found = asked("verbalized", model, [CODE, TEXT], n=2, max_new_tokens=len(thoughts))
    assert {c.failure for c in found.values()} == {"the reply states no answer and was cut at its limit"}


def test_markers_are_a_part_of_an_answer_that_is_stated():
    program = "import re\n\n\ndef f(x):\n    # Answer\n    return x"
    for written in (program, f"```python\n{program}\n```\n\nAnswer: it gives x"):
        found = asked("verbalized", Scripted(lambda r, w=written: stating((w, 0.5))), [CODE], n=1, answers=1)
        assert [c.text.strip() for c in found.values()] == [program]
    assert texts(verbalized(stating(("Riddle: what is red?\nAnswer: a fox", 0.5)), n=1, answers=1)) == [
        "Riddle: what is red?\nAnswer: a fox"
    ]


def test_a_turn_that_fails_ends_its_conversation_and_is_noted():
    model = Scripted(lambda r: lost(r, "no room", spent=2) if r.draw else stating(("red", 0.5)))
    found = asked("verbalized", model, [TEXT], n=2, answers=1, turns=3)
    assert len(model.requests) == 2
    assert texts(found) == ["red", "red"]
    assert {c.note for c in found.values()} == {"turn 2: no room"}
    later = Scripted(lambda r: stating(("red", 0.5)) if r.draw else "Let me see.")
    assert texts(asked("verbalized", later, [TEXT], n=1, answers=1, turns=2)) == ["red"]


@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_tokens_spent_are_those_of_all_replies(n: int):
    replies = {0: stating(("red", 0.5)), 1: "nothing here"}
    found = verbalized(lambda r: replies[r.draw], n=n, answers=1, turns=2)
    assert sum(c.spent or 0 for c in found.values()) == sum(map(len, replies.values()))


def test_a_problem_that_was_stopped_gives_the_same_draws():
    def reply(request: Request) -> str:
        return stating(*((f"c{request.seed % 97 + i}", 0.2) for i in range(5)))

    whole = asked("verbalized", Scripted(reply), [CODE, TEXT], n=6)
    done = [Key("code", 0, d) for d in range(6)] + [Key("text", 0, 2)]
    model = Scripted(reply)
    assert asked("verbalized", model, [CODE, TEXT], n=6, done=done) == {k: c for k, c in whole.items() if k not in done}
    assert [r.problem_id for r in model.requests] == ["text"]


# cards ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": 0}, "options.answers is 0; it must be between 1 and 1,000"),
        ({"turns": 0}, "options.turns is 0; it must be between 1 and 1,000"),
        ({"threshold": 0.0}, "options.threshold is 0.0; it must be a probability above 0"),
        ({"threshold": 1.5}, "options.threshold is 1.5; it must be a probability above 0"),
        ({"max_new_tokens": -1}, "options.max_new_tokens is -1; it must be at least 0"),
        ({"draw": "tails"}, "options.draw is 'tails'; did you mean 'tail'?"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(CardError) as error:
        load_sampler_card("verbalized", {f"options.{k}": v for k, v in options.items()})
    assert str(error.value) == f"sampler 'verbalized': {message}"


def test_numbers_of_answers_that_are_not_stated_are_refused():
    all_of = load_sampler_card("verbalized", {"options.draw": "all", "options.calls": 2})
    check_draws(all_of, 10)
    with pytest.raises(
        UsageError, match=r"n is 11, and verbalized takes each of 10 stated answers once \(calls x turns x answers"
    ):
        check_draws(all_of, 11)
    check_draws(load_sampler_card("verbalized"), 99)
    with pytest.raises(UsageError, match=r"n is 1, and options\.calls is 2: some conversations would give no answer"):
        check_draws(all_of, 1)


def test_several_members_are_refused():
    with pytest.raises(CardError, match="kind 'verbalized' has one member, and the card has 2"):
        load_sampler_card("verbalized", {"members": 2, "adapters": "seeds"})


@pytest.mark.parametrize("name", ["verbalized", "verbalized-chain", "verbalized-tail", "verbalized-turns"])
def test_the_shipped_cards_ask_in_their_own_words(name: str):
    card = load_sampler_card(name)
    model = Scripted(lambda r: stating(*((f"c{i}", 0.05) for i in range(5))))
    found = list(sampler_kind(card.kind).build(card, []).sample(model, [TEXT], 4, 0, task="t"))
    assert all(c.text and not c.note for c in found)
    question = model.questions[0]
    assert ("reasoning" in question) == (name == "verbalized-chain")
    assert ("below 0.1" in question) == (name == "verbalized-tail")
    assert len(model.questions) == (2 if name == "verbalized-turns" else 1)
    assert sampler_kind(card.kind).drawn(card, 4) == (10 if name == "verbalized-turns" else 5)
