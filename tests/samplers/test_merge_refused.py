"""Adapters that cannot be merged are refused in one line, before anything is trained; a base that may be another is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import sampler_card
from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.given import given_adapters
from spa_bench.models.hf.merged_lora import Source, check_mergeable
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import MARK, Adapter, read_adapter, write_adapter
from spa_bench.samplers.merge import KIND, MergeOptions, check_model, merging
from spa_bench.spa.merge import merged_adapters
from spa_bench.spa.training_data import TrainingData
from spa_bench.support.console import Reporter
from tiny import random_adapter


@pytest.fixture
def model(tiny_folder: Path) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


@pytest.fixture
def given(model: HFModel, tmp_path: Path) -> Path:
    return random_adapter(model.network, tmp_path / "given", torch.Generator().manual_seed(0), rank=2, scale=0.1)


def renamed(folder: Path, base: str | None) -> Path:
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
    return folder


def card(*given: Path, **options: Any) -> SamplerCard:
    """A soup of one adapter that is trained and those that are given."""
    made = sampler_card(
        kind="merge", adapters="all", options=MergeOptions(rule="soup", given=tuple(map(str, given)), **options)
    )
    KIND.check(made)
    return made


def test_a_given_adapter_of_another_base_than_that_which_is_trained_is_refused_first(model: HFModel, given: Path):
    check_model(card(given), model)
    renamed(given, "other")
    with pytest.raises(ModelError) as caught:
        check_model(card(given), model)
    assert "(to be trained) and given cannot be merged: their bases are 'tiny' and 'other'; where both names" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    check_model(card(given, same_base=True), model)
    check_model(card(renamed(given, None)), model)  # it names no base


def test_a_given_anchor_is_held_against_what_is_trained_too(model: HFModel, given: Path):
    of = replace(card(given), options=MergeOptions(rule="dial", anchor=str(renamed(given, "other"))))
    with pytest.raises(
        ModelError, match=r"all-0 \(to be trained\) and given cannot be merged: their bases are 'tiny' and 'other'"
    ):
        check_model(of, model)


def test_a_given_adapter_over_quantised_weights_is_refused_first(model: HFModel, given: Path):
    (given / MARK).write_text(json.dumps({"weights": "4bit nf4 (bitsandbytes)"}))
    with pytest.raises(ModelError, match=r"one was trained over whole weights, the other over 4bit nf4 \(bitsandbytes\)"):
        check_model(card(given), model)


def test_a_given_adapter_of_a_wider_model_is_refused_first(model: HFModel, given: Path):
    adapter = read_adapter(given)
    path = next(iter(adapter.factors))
    low, high = adapter.factors[path]
    wider = Adapter({**adapter.factors, path: (torch.zeros(2, low.shape[1] + 1), high)}, adapter.rank, adapter.alpha)
    write_adapter(wider, given, base_model="tiny", network=model.network)
    with pytest.raises(
        ModelError, match=r"at model.layers.* their updates are \(64, 128\) and \(64, 129\); they were made for diff"
    ):
        check_model(card(given), model)


@pytest.mark.parametrize("bases", [(None, "one", "other"), ("", "one", "other"), ("one", None, "other")])
def test_adapters_of_two_bases_are_refused_beside_one_that_names_none(
    bases: tuple[str | None, ...], model: HFModel, tmp_path: Path
):
    generator = torch.Generator().manual_seed(0)
    folders = [random_adapter(model.network, tmp_path / str(i), generator, rank=2, scale=0.1) for i in range(3)]
    sources = [Source.at(renamed(folder, base), folder.name) for folder, base in zip(folders, bases, strict=True)]
    with pytest.raises(ModelError, match="cannot be merged: their bases are 'one' and 'other'"):
        check_mergeable(sources)
    check_mergeable(sources, same_base=True)
    check_mergeable(sources[:2])


class Notes(Reporter):
    """A console that keeps its notes."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_given_adapters_of_another_base_than_the_model_are_said_at_every_run(
    model: HFModel, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))

    def said(folder: Path, **options: Any) -> list[str]:
        chosen = MergeOptions(rule="dial", anchor="base", given=(str(folder),), **options)
        of, data, console = (
            sampler_card(kind="merge", options=chosen),
            TrainingData(examples=[], queries=[], skipped=0),
            Notes(),
        )
        merged_adapters(of, merging(of), data, model, 0, cache=tmp_path / "stages", console=console)
        return [note for note in console.notes if "the model here" in note]

    assert said(given) == said(renamed(given, None)) == []
    renamed(given, "other")
    for _ in range(2):  # the second time the merged adapter is in the cache
        [line] = said(given)
        assert (
            "were made for 'other', and the model here is 'tiny'; where both names are of one model, options.same_base" in line
        )
    assert said(given, same_base=True) == []


@pytest.mark.parametrize("concentration", [1e-300, 1e-9, 1.0, 1e9])
def test_points_of_a_hull_sum_to_one_at_every_concentration(concentration: float):
    of = sampler_card(
        kind="merge", adapters="seeds", members=5, sources=4, options=MergeOptions(rule="hull", concentration=concentration)
    )
    points = np.array(merging(of).weights(4, 3))
    assert points.sum(1) == pytest.approx(np.ones(5))
    assert (points >= 0).all()


def test_a_concentration_at_which_the_draws_overflow_is_refused():
    with pytest.raises(ValueError, match=r"concentration is 1e\+308; it must be greater than 0 and at most 1e9"):
        MergeOptions(rule="hull", concentration=1e308)


def test_a_run_that_remembers_no_adapters_is_one_line(tmp_path: Path):
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "adapters.json").write_text(json.dumps({"stage": "adapters-0", "hashes": []}))
    with pytest.raises(UsageError, match=r"has no adapters \(adapters.json\)"):
        given_adapters(str(tmp_path))
