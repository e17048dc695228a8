"""The plan of a run says how long attribution and training take, and what memory."""

import re
from typing import Any

import pytest

from doubles import MockModel, sampler_card
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.base import Model
from spa_bench.models.hf.model import HFModel
from spa_bench.runs.job import load_task
from spa_bench.runs.plan import estimate_line, plan_lines
from spa_bench.spa.estimate import Size, plan_estimates, training_estimate, warm_up_estimate
from spa_bench.spa.footprint import footprint
from spa_bench.spa.training_data import read_sources

STAGE = r"(\d+ s|\d+ min|[\d.]+ h) and [\d.]+ GB"


def estimated(card: SamplerCard, model: Model) -> str:
    return estimate_line(card, model, read_sources(card))


def test_the_plan_estimates_attribution_and_training(tiny_model: HFModel):
    line = estimated(load_sampler_card("spa-influence", {}), tiny_model)
    assert re.fullmatch(rf"estimate a seed, .* factor of 2: attribution {STAGE}; training {STAGE} at the peak", line), line


def test_a_warm_up_of_the_attribution_is_estimated_beside_it(tiny_model: HFModel):
    card = load_sampler_card("spa-influence", {"attribution.checkpoints": [8, 24]})
    line = estimated(card, tiny_model)
    assert re.search(rf": warm-up {STAGE}; attribution {STAGE}; training {STAGE} at the peak", line), line
    line = estimate_line(card, tiny_model, read_sources(card), trained=False)
    assert re.search(rf": warm-up {STAGE}; attribution {STAGE} at the peak", line), line


def test_the_warm_up_on_all_data_is_estimated_as_a_training_of_its_steps(tiny_model: HFModel):
    lora = LoraCard(steps=400, batch=4)
    cost, layers, size = footprint(tiny_model, lora), tiny_model.lora_layers(lora.targets), Size(10, 2, 50.0)
    found = warm_up_estimate(cost, AttributionCard(checkpoints=(0, 100)), lora, layers, size)
    assert found
    assert found.seconds == pytest.approx(training_estimate(cost, lora, layers, [10], 50.0).seconds / 4)
    assert warm_up_estimate(cost, AttributionCard(checkpoints=(0,)), lora, layers, size) is None


def seconds(card: SamplerCard, model: HFModel, **more: Any) -> dict[str, float]:
    found = plan_estimates(card, model, read_sources(card), scored="influence" in card.name, **more)
    return {one.stage: one.seconds for one in found}


def test_an_anchor_on_all_pairs_is_one_more_training(tiny_model: HFModel):
    card = load_sampler_card("merge", {"lora.steps": 0, "lora.epochs": 1.0})
    alone = seconds(card, tiny_model)["training"]
    assert seconds(card, tiny_model, anchored=True)["training"] == pytest.approx(2 * alone, rel=0.02)  # parts make up all pairs
    for anchor in ("all", "base"):
        card = load_sampler_card("merge", {"options.anchor": anchor, "lora.steps": 9000})
        [training] = plan_estimates(card, tiny_model, read_sources(card), scored=False, anchored=anchor == "all")
        assert str(training) in estimated(card, tiny_model)


def test_workers_share_the_pairs_and_the_members_that_are_not_together(tiny_model: HFModel):
    card = load_sampler_card("spa-influence", {"attribution.curvature": "identity"})
    one, four = seconds(card, tiny_model), seconds(card, tiny_model, workers=4)
    assert one["attribution"] / 4 < four["attribution"] < one["attribution"] / 2
    assert four["training"] == pytest.approx(one["training"])  # all members are one shard
    apart = load_sampler_card("spa-influence", {"attribution.curvature": "identity", "lora.together": 1})
    assert seconds(apart, tiny_model, workers=3)["training"] == pytest.approx(one["training"] / 2)  # 4 members by 3 workers


def test_without_gradients_of_the_data_training_alone_is_estimated(tiny_model: HFModel):
    line = estimated(load_sampler_card("spa-random", {}), tiny_model)
    assert re.fullmatch(rf"estimate a seed, .* factor of 2: training {STAGE} at the peak", line), line


def test_without_training_there_is_no_estimate(tiny_model: HFModel):
    assert estimated(sampler_card(), tiny_model) == ""
    assert estimated(sampler_card(), MockModel(lambda _: "")) == ""


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"steps": 3, "batch": 4}, "4 LoRA × 3 steps × 4 = 48 training rows"),
        ({"steps": 3, "batch": 4, "accumulation": 5}, "4 LoRA × 3 steps × 20 = 240 training rows"),
        ({"steps": 0, "epochs": 1.0}, "4 LoRA × 1 epoch of the pairs of each"),
        ({"steps": 0, "epochs": 2.5}, "4 LoRA × 2.5 epochs of the pairs of each"),
    ],
)
def test_the_cost_counts_all_pairs_that_training_reads(lora: dict[str, float], said: str):
    card = load_sampler_card("spa-random", {f"lora.{key}": value for key, value in lora.items()})
    task = load_task(load_task_card("mini-code"))
    lines = plan_lines(card, task, MockModel(lambda _: ""), n=4, seeds=[0], limit=2, embedded=False)
    assert f"cost a seed: {said}, 8 answers" in lines


@pytest.mark.parametrize(
    ("checkpoints", "said"),
    [
        ([0], "one gradient pass over the data, 4 LoRA"),
        ([24], "a warm-up of 24 steps × 16 on all data, one gradient pass over the data, 4 LoRA"),
        ([0, 1], "a warm-up of 1 step × 16 on all data, 2 gradient passes over the data, 4 LoRA"),
    ],
)
def test_the_cost_counts_the_warm_up_and_each_checkpoint(checkpoints: list[int], said: str):
    card = load_sampler_card("spa-influence", {"attribution.checkpoints": checkpoints})
    lines = plan_lines(
        card, load_task(load_task_card("mini-code")), MockModel(lambda _: ""), n=4, seeds=[0], limit=2, embedded=False
    )
    assert any(line.startswith(f"cost a seed: {said} × 24 steps") for line in lines), lines


def test_the_plan_names_queries_where_scores_make_the_parts():
    task = load_task(load_task_card("mini-code"))
    for name, queries in (("spa-lexical", ", queries: mini"), ("spa-random", "")):
        lines = plan_lines(load_sampler_card(name, {}), task, MockModel(lambda _: ""), n=4, seeds=[0], limit=2, embedded=False)
        [data] = [line for line in lines if line.startswith("data: ")]
        assert data.partition(", queries")[1:] == queries.partition(", queries")[1:]
