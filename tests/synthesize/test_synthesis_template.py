"""The method template: pairs of the embedded world, of the families that are wanted, never a problem of its tasks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import ignore
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError, DataError
from spa_bench.mini.data import instructions, problems
from spa_bench.mini.families import FAMILIES
from spa_bench.mini.text.data import instructions as sentences
from spa_bench.mini.text.world import FAMILIES as QUESTIONS
from spa_bench.mini.text.world import draw_item
from spa_bench.mini.world import draw_family, draw_pipeline
from spa_bench.models.mock import MockModel
from spa_bench.spa.synthesize.base import Draft, Setting
from spa_bench.spa.synthesize.template import Template, TemplateOptions, family_of
from spa_bench.types import Example


def drawn(targets: list[Example], *families: str, seed: int = 0, number: int = 0, count: int = 64) -> list[Draft]:
    card = SynthesisCard(method="template", options=TemplateOptions(families=families, round=count))
    method = Template(Setting(card=card, model=MockModel(), targets=targets, seed=seed))
    return list(method.prepare(progress=ignore, kept=Path()).round(number, ()))


def test_a_round_depends_on_seed_and_number():
    assert drawn(instructions()) == drawn(instructions())
    assert drawn(instructions()) != drawn(instructions(), seed=1)
    assert drawn(instructions()) != drawn(instructions(), number=1)


def test_targets_say_which_world():
    assert all(draft.example and draft.example.prompt.startswith("def ") for draft in drawn(instructions()))
    assert not any(draft.example and draft.example.prompt.startswith("def ") for draft in drawn(sentences()))


def test_no_pair_is_a_problem():
    wording = {p.prompt.partition('"""')[2] for p in problems(load_task_card("mini-code"))[0]}
    made = [draft.example.prompt.partition('"""')[2] for draft in drawn(instructions(), count=1000) if draft.example]
    assert not wording & set(made)


def test_programs_are_right():
    for draft in drawn(instructions(), count=50):
        assert draft.example
        scope: dict[str, object] = {}
        exec(draft.text, scope)  # the package's own code


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_standalone_family_is_recognised(family):
    for seed in range(4):
        assert family_of(draw_family(random.Random(seed), family).prompt) == family.name


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_pipelines_are_recognised_by_what_they_take(level: int):
    for seed in range(60):
        task = draw_pipeline(random.Random(seed), level=level)
        assert family_of(task.prompt) == task.element, task.prompt


@pytest.mark.parametrize("family", QUESTIONS)
def test_a_family_of_questions_is_recognised(family: str):
    for seed in range(60):
        prompt = draw_item(random.Random(seed), family).prompt
        assert family_of(prompt) == family, prompt


def test_families_of_the_targets_alone():
    gcd = next(family for family in FAMILIES if family.name == "gcd")
    task = draw_family(random.Random(0), gcd)
    made = drawn([Example(task.prompt, "    return 1\n")], "targets")
    assert {draft.source for draft in made} == {"gcd"}


def test_named_families_come_equally_often():
    made = drawn(instructions(), "int", "gcd", count=200)
    assert 60 < sum(draft.source == "gcd" for draft in made) < 140
    assert all(draft.source == "gcd" or draft.source.startswith("int") for draft in made)


def test_targets_of_no_family_are_refused():
    with pytest.raises(DataError, match=r"target 1 \('What is love\?'\) is of none of its families"):
        drawn([Example("What is love?", "Baby")], "targets")


def test_families_that_do_not_go_together_are_refused():
    with pytest.raises(CardError, match="families are of code and of text: gcd, table"):
        load_sampler_card("single", {"synthesize.method": "template", "synthesize.options.families": ["gcd", "table"]})
    with pytest.raises(CardError, match="did you mean 'gcd'"):
        load_sampler_card("single", {"synthesize.method": "template", "synthesize.options.families": ["gdc"]})
    with pytest.raises(ValueError, match="stands alone"):
        replace(TemplateOptions(), families=("targets", "gcd"))
