"""The plan of a run says how long attribution and training take, and what memory."""

import re

from doubles import MockModel, sampler_card
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.models.base import Model
from spa_bench.models.hf.model import HFModel
from spa_bench.runs.plan import estimate_line
from spa_bench.spa.training_data import read_sources

STAGE = r"(\d+ s|\d+ min|[\d.]+ h) and [\d.]+ GB"


def estimated(card: SamplerCard, model: Model) -> str:
    return estimate_line(card, model, read_sources(card))


def test_the_plan_estimates_attribution_and_training(tiny_model: HFModel):
    line = estimated(load_sampler_card("spa-influence", {}), tiny_model)
    assert re.fullmatch(rf"estimate a seed, .* factor of 2: attribution {STAGE}; training {STAGE} at the peak", line), line


def test_without_gradients_of_the_data_training_alone_is_estimated(tiny_model: HFModel):
    line = estimated(load_sampler_card("spa-random", {}), tiny_model)
    assert re.fullmatch(rf"estimate a seed, .* factor of 2: training {STAGE} at the peak", line), line


def test_without_training_there_is_no_estimate(tiny_model: HFModel):
    assert estimated(sampler_card(), tiny_model) == ""
    assert estimated(sampler_card(), MockModel(lambda _: "")) == ""
