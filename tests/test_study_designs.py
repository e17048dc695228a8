"""Which runs a study makes: roles, cards, what is varied, and how many answers are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_bench.cards.sampler import load_sampler_card
from spa_bench.compare.study.designs import RECIPES, ROLES, STUDIES, Point, Wishes, points_of, roles_of
from spa_bench.errors import CardError, UsageError
from spa_bench.runs.job import sampler_spec
from spa_bench.samplers.merge import MergeOptions


def points(study: str, asked: str | None = None, **wishes: object) -> list[Point]:
    chosen = STUDIES[study]
    return points_of(chosen, Wishes(cards=roles_of(chosen, "embedded", asked), **wishes))  # type: ignore[arg-type]


def test_table_1_has_the_papers_four_samplers_and_two_controls_with_as_many_answers_each():
    found = points("main")
    assert [p.series for p in found] == ["single", "spa-random", "spa-lexical", "spa-influence", "seeds", "single-long"]
    assert {p.n for p in found} == {4}
    assert found[0].card.decoding.temperature == 0.1
    assert [p.label(STUDIES["main"]) for p in found] == [p.series for p in found]


def test_the_controls_are_those_that_are_shipped_and_grow_with_the_members():
    by_role = {p.role: p.card for p in points("main")}
    for role in ("seeds", "single-long"):
        assert sampler_spec(by_role[role]) == sampler_spec(load_sampler_card(role))
    eight = {p.role: p for p in points("main", members=8)}
    assert eight["seeds"].card.members == 8
    assert eight["single-long"].card.lora.steps == 8 * 24
    assert {p.n for p in eight.values()} == {8}
    assert eight["single"].card.members == 1


def test_overrides_reach_every_point_and_the_controls_follow_them():
    found = {p.role: p.card for p in points("main", settings={"lora.steps": 3, "lora.rank": 4})}
    assert {card.lora.rank for card in found.values()} == {4}
    assert found["single-long"].lora.steps == 12
    assert found["seeds"].lora.steps == 3


def test_a_temperature_is_a_point_of_every_sampler_and_shares_its_spec_with_table_1():
    found = points("temperature", "single,influence", grid=(0.5, 0.1))
    assert [(p.series, p.x, p.card.decoding.temperature) for p in found] == [
        ("single", 0.1, 0.1), ("single", 0.5, 0.5), ("spa-influence", 0.1, 0.1), ("spa-influence", 0.5, 0.5),
    ]  # fmt: skip
    assert sampler_spec(found[0].card) == sampler_spec(points("main")[0].card)
    assert {p.n for p in found} == {4}
    assert found[1].label(STUDIES["temperature"]) == "single[temperature=0.5]"
    assert min(STUDIES["temperature"].grid) == 0
    assert max(STUDIES["temperature"].grid) == 1.5


def test_k_adapters_give_k_answers_unless_the_user_says_how_many():
    found = points("members", "influence", grid=(2.0, 12.0))
    assert [(p.card.members, p.n) for p in found] == [(2, 2), (12, 12)]
    assert [p.n for p in points("members", "influence", grid=(2.0, 4.0), n=8)] == [8, 8]
    assert {8, 12} <= set(STUDIES["members"].grid)


def test_a_share_of_the_data_is_a_setting_of_the_card():
    assert [(p.x, p.card.data.share, p.n) for p in points("data-fraction")][:3] == [
        (0.05, 0.05, 4),
        (0.1, 0.1, 4),
        (0.15, 0.15, 4),
    ]
    assert points("data-fraction", grid=(1.0,))[0].card == points("main")[0].card


def test_a_role_is_played_by_the_card_that_the_user_names(tmp_path: Path):
    card = tmp_path / "mine.toml"
    card.write_text('description = "mine"\nmembers = 3\nadapters = "parts"\n')
    found = points("main", f"single,influence={card},seeds")
    assert [(p.role, p.series, p.n) for p in found] == [
        ("single", "single", 3),
        ("influence", "mine", 3),
        ("seeds", "seeds", 3),
    ]
    assert found[2].card.members == 3


@pytest.mark.parametrize("recipe", ["paper-code", "paper-nlu"])
def test_a_recipe_names_a_card_for_every_role_that_has_one(recipe: str):
    played = {role: f"{recipe}-{role}" for role in ("single", "random", "lexical", "influence")}
    assert roles_of(STUDIES["main"], recipe, None) == {**played, "seeds": "", "single-long": ""}
    plain = {"temperature", "nucleus", "merge", "balanced"}  # of the embedded recipe alone
    assert set(RECIPES[recipe]) | {"seeds", "single-long"} == set(ROLES) - plain
    assert set(RECIPES["embedded"]) | {"seeds", "single-long"} == set(ROLES)
    with pytest.raises(
        UsageError, match=f"the recipe {recipe} has no card for temperature, which merge needs; say with --samp"
    ):
        roles_of(STUDIES["merge"], recipe, None)
    with pytest.raises(UsageError, match=f"the recipe {recipe} has no card for merge; name one, as merge=CARD.toml"):
        roles_of(STUDIES["merge"], recipe, "single,merge")


def test_a_dial_has_a_point_for_each_weight_and_the_other_samplers_one_each():
    found = points("merge", "single,nucleus,lexical,merge", grid=(1.0, 0.0, 0.3))
    assert [(p.series, p.x) for p in found] == [
        ("single", None), ("spa-lexical", None), ("nucleus", None), ("merge", 0.0), ("merge", 0.3), ("merge", 1.0),
    ]  # fmt: skip
    assert {p.n for p in found} == {4}
    assert found[4].card.options_as(MergeOptions).weight == 0.3
    assert found[4].label(STUDIES["merge"]) == "merge[λ=0.3]"
    assert found[0].label(STUDIES["merge"]) == "single"
    assert {p.card.members for p in points("merge", "merge", members=3)} == {3}
    with pytest.raises(UsageError, match=r"--set options\.weight: that is what this study varies, use --grid"):
        points("merge", settings={"options.weight": 0.5})


@pytest.mark.parametrize(
    ("study", "asked", "wishes", "message"),
    [
        ("main", "singel", {}, "'singel' is no role; did you mean 'single'"),
        ("main", "seeds=mine.toml", {}, "seeds is made from the card of single and takes none"),
        ("main", "seeds", {}, "the control seeds needs single and one of random, lexical, influence"),
        ("main", None, {"settings": {"members": 8}}, "--set members: use --members K"),
        ("temperature", None, {"settings": {"decoding.temperature": 1}}, "--set decoding.temperature: that is what this study"),
        ("temperature", None, {"grid": (0.5, 0.5)}, "--grid names a value twice: 0.5, 0.5"),
        ("members", "influence", {"grid": (1.0,)}, "whole numbers from 2 on; got 1"),
        ("members", "influence", {"grid": (2.5,)}, "whole numbers from 2 on; got 2.5"),
        ("main", "single=spa-lexical,lexical", {}, "two roles are played by samplers of one name"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(study: str, asked: str | None, wishes: dict[str, object], message: str):
    with pytest.raises(UsageError) as error:
        points(study, asked, **wishes)
    assert message in str(error.value)


def test_a_recipe_that_is_unknown_and_a_setting_that_no_card_has_are_errors():
    with pytest.raises(UsageError, match="unknown recipe 'paper'"):
        roles_of(STUDIES["main"], "paper", None)
    with pytest.raises(CardError, match=r"unknown key 'lora\.step'"):
        points("main", settings={"lora.step": 3})


def test_a_card_that_counts_epochs_has_no_longer_control():
    with pytest.raises(UsageError, match=r"single-long multiplies lora\.steps, and single counts epochs"):
        points("main", settings={"lora.steps": 0, "lora.epochs": 1})
    found = points("main", "single,influence,seeds", settings={"lora.steps": 0, "lora.epochs": 1})
    assert len(found) == 3
