"""The text world: its answers and explanations are true by an independent reading, and what is held out stays out."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter

import pytest
from text_claims import READERS

from spa_bench.mini.corpus import draw_pair
from spa_bench.mini.text import data
from spa_bench.mini.text.item import Item
from spa_bench.mini.text.world import FAMILIES, draw_answer, draw_item, is_held_out
from spa_bench.spa.data import hash_examples
from spa_bench.spa.data.sets import load_examples, load_queries

each_family = pytest.mark.parametrize("family", FAMILIES)


def items(family: str, count: int = 250) -> list[Item]:
    """Questions of both sides of the split."""
    rng = random.Random(f"tests-{family}")
    return [draw_item(rng, family, held_out=i % 2 == 1) for i in range(count)]


def explanations(item: Item) -> list[tuple[int, str]]:
    """(true choice, explanation), in every style and wording."""
    return [(a, text) for a, why in zip(item.right, item.why, strict=True) for texts in why.values() for text in texts]


@each_family
def test_the_true_answers_are_those_of_another_reader(family: str):
    for item in items(family):
        right, _ = READERS[family](item.prompt, item.choices, item.rest)
        assert list(item.right) == right, item


@each_family
def test_every_explanation_is_true(family: str):
    for item in items(family):
        _, holds = READERS[family](item.prompt, item.choices, item.rest)
        for answer, why in explanations(item):
            assert holds(answer, why), (item.prompt, item.choices[answer], why)


@each_family
def test_the_reader_refuses_most_explanations_of_other_questions(family: str):
    refused = total = 0
    for item, other in zip(items(family, 200), items(family, 201)[1:], strict=True):
        _, holds = READERS[family](item.prompt, item.choices, item.rest)
        for _, why in explanations(other):
            total += 1
            try:
                refused += not holds(item.right[0], why)
            except (ValueError, KeyError, IndexError):
                refused += 1  # it speaks of what is not there
    assert refused / total > 0.6


@each_family
def test_answers_are_spread_and_no_position_gives_them_away(family: str):
    found = items(family, 600)
    if family == "counting":
        assert len({item.choices for item in found}) >= 6
        return
    first = Counter(item.right[0] for item in found if len(item.right) == 1)
    assert max(first.values()) / first.total() < 0.62
    assert len(first) >= 2


@each_family
def test_a_true_answer_can_be_explained_in_four_styles(family: str):
    for item in items(family, 60):
        for answer in item.right:
            assert len(item.styles(answer)) == 4
            assert item.styles(answer)[0] == "because"
            assert len({text for a, text in explanations(item) if a == answer}) >= 4


def test_some_questions_have_several_true_answers():
    several = Counter(item.family for family in FAMILIES for item in items(family) if len(item.right) > 1)
    assert set(several) == {"pick", "table"}
    assert all(count > 40 for count in several.values())


def test_weights_move_the_choice_of_style():
    rng = random.Random(0)
    item = draw_item(rng, "boolean")
    often = Counter(draw_answer(item, rng, {"because": 50.0})[1] for _ in range(200))
    assert often["because"] > 150
    assert set(Counter(draw_answer(item, rng)[1] for _ in range(200))) == set(item.styles(item.right[0]))


# what is held out ----------------------------------------------------------------------------------------------------


@each_family
def test_one_combination_in_five_is_held_out(family: str):
    rng = random.Random("share")
    drawn = {(item := FAMILIES[family](rng)).key: is_held_out(item) for _ in range(6000)}
    assert 0.14 < sum(drawn.values()) / len(drawn) < 0.26  # the smallest family has some two hundred


def test_training_sees_no_held_out_combination():
    rng = random.Random("training")
    held_out = {(i.family, i.key) for family in FAMILIES for i in items(family) if is_held_out(i)}
    seen = {(i.family, i.key) for i in (draw_item(rng) for _ in range(4000))}
    assert seen.isdisjoint(held_out)
    assert {family for family, _ in seen} == set(FAMILIES)


@each_family
def test_documents_are_held_out_and_differ(family: str):
    rows = data.documents(family)
    assert len(rows) == data.DOCUMENTS == len({(r["prompt"], r["rest"]) for r in rows})
    trained = {e.prompt for e in [*data.instructions(), *data.queries()]}
    rng = random.Random("corpus")
    trained |= {draw_item(rng, family).prompt for _ in range(1500)}
    if family != "pronoun":  # there the same beginning is asked with another ending
        assert trained.isdisjoint(r["prompt"] for r in rows)
    wholes = {e.prompt + e.completion for e in [*data.instructions(), *data.queries()]}
    for row in rows:
        for answer in row["answers"]:
            assert not any(w.startswith(f"{row['prompt']} {answer} {row['rest']}".rstrip()) for w in wholes)


# the sets ------------------------------------------------------------------------------------------------------------

# Regenerate after a deliberate change of the world: python -m pytest tests/mini -k pinned, and copy what it says.
DOCUMENTS = "4a120c848bf1e940914dbacb5e0604e9"
INSTRUCTIONS = "2ec8d0dcbc84c637dbd41231d911a12d"
QUERIES = "bf703321d180f8fbb18410747d33bc6d"


def test_the_documents_are_pinned():
    rows = {family: data.documents(family) for family in FAMILIES}
    assert hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest() == DOCUMENTS


def test_the_text_instructions_are_pinned():
    assert hash_examples(data.instructions()) == INSTRUCTIONS


def test_the_text_queries_are_pinned():
    assert hash_examples(data.queries()) == QUERIES


def test_there_are_768_pairs_of_which_six_in_ten_begin_with_because():
    styles = Counter(data.styles())
    assert len(data.instructions()) == styles.total() == 768
    assert 0.55 < styles["because"] / 768 < 0.65


def test_queries_have_all_families_and_styles_alike():
    found = data.queries()
    assert len(found) == len(set(found)) == 48
    because = sum(", because" in e.completion or " It was " in e.completion for e in found)
    assert 9 <= because <= 18  # one style of four, in two of six rounds


def test_the_sets_are_found_by_their_name():
    assert load_examples("mini-nlu") == data.instructions()
    assert load_queries("mini-nlu", [], 0) == data.queries()
    assert load_examples("mini") != data.instructions()


# the corpus ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_text_in_the_corpus_is_what_is_asked_for(share: float):
    rng = random.Random(1)
    prompts = [draw_pair(rng, text=share).prompt for _ in range(400)]
    assert sum(not p.startswith("def ") for p in prompts) / 400 == pytest.approx(share, abs=0.07)


def test_the_corpus_holds_no_held_out_combination(monkeypatch: pytest.MonkeyPatch):
    from spa_bench.mini import corpus

    drawn: list[Item] = []

    def keeping(rng: random.Random) -> Item:
        drawn.append(draw_item(rng))
        return drawn[-1]

    monkeypatch.setattr(corpus, "draw_item", keeping)
    rng = random.Random(2)
    pairs = [draw_pair(rng, text=1.0) for _ in range(1000)]
    assert [p.prompt for p in pairs] == [item.prompt for item in drawn]
    assert not any(is_held_out(item) for item in drawn)
