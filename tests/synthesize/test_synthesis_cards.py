"""The table [synthesize] of a sampler's card: what it takes, what it refuses, what a spec has of it."""

from __future__ import annotations

import json

import pytest

from spa_bench.cards.sampler import build_sampler_card, load_sampler_card
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import CardError
from spa_bench.runs.job import sampler_spec
from spa_bench.spa.synthesize.oss_instruct import OssInstructOptions


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"synthesize.method": "templates"}, "did you mean 'template'"),
        ({"synthesize.pairs": 3}, "[synthesize] has no method"),
        ({"synthesize.method": "template", "synthesize.pairs": 0}, "synthesize.pairs is 0"),
        ({"synthesize.method": "template", "synthesize.near": 1.5}, "synthesize.near is 1.5"),
        ({"synthesize.method": "template", "synthesize.code": "runs"}, "synthesize.code is 'runs'"),
        ({"synthesize.method": "template", "synthesize.least": 300}, "synthesize.least is 300, of 256 pairs"),
        ({"synthesize.method": "template", "synthesize.drafts": 10}, "256 pairs need as many drafts"),
        ({"synthesize.method": "template", "synthesize.option": 1}, "unknown key 'synthesize.option'"),
        ({"synthesize.method": "template", "data.examples": "x.jsonl"}, "data.examples is 'x.jsonl': leave one out"),
        ({"synthesize.method": "template", "adapters": "none"}, "the sampler trains nothing on pairs"),
    ],
)
def test_what_a_card_refuses(settings: dict[str, object], said: str):
    with pytest.raises(CardError) as caught:
        load_sampler_card("single", settings)
    assert said in str(caught.value)


def test_no_method_turns_the_table_off():
    card = load_sampler_card("spa-synth", {"synthesize.method": "", "data.examples": "x.jsonl"})
    assert card.synthesize == SynthesisCard()
    assert not card.synthesizes


def test_a_spec_without_synthesis_is_as_before():
    assert "synthesize" not in sampler_spec(load_sampler_card("spa-influence"))
    assert "synthesize" not in sampler_spec(load_sampler_card("base"))


def test_a_spec_with_synthesis_makes_the_same_card():
    settings = {"synthesize.method": "oss-instruct", "synthesize.targets": "/some/where/pairs.jsonl"}
    card = load_sampler_card("single", settings)
    spec = sampler_spec(card)
    assert spec["synthesize"]["targets"] == "pairs.jsonl"  # type: ignore[index]  # a path changes no pair
    again = build_sampler_card({**json.loads(json.dumps(spec)), "description": ""}, "spec", "run").synthesize
    assert again.options == card.synthesize.options
    assert isinstance(again.options, OssInstructOptions)
    assert "{snippet}" in again.options.template


def test_the_drafts_that_a_card_allows():
    assert (SynthesisCard(pairs=10).most, SynthesisCard(pairs=10, drafts=20).most) == (160, 20)
    assert (SynthesisCard(pairs=10).wanted, SynthesisCard(pairs=10, least=3).wanted) == (10, 3)
