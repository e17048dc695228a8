"""Merged adapters: exact sums, PEFT reads them, dials, lines, hulls and soups, and what cannot be merged."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import sampler_card
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.errors import CardError, ModelError, StoreError, UsageError
from spa_bench.models.given import given_adapters, said
from spa_bench.models.hf.merged_lora import Source, balanced, check_mergeable, merged, update_norm
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, read_adapter, write_adapter
from spa_bench.models.mock import MockModel
from spa_bench.publish.report.partition import partition_of
from spa_bench.runs.job import sampler_spec
from spa_bench.runs.reopen import sampler_card as card_of_spec
from spa_bench.samplers.merge import KIND, MergeOptions, check_model, merging
from spa_bench.spa.describe import describe, text
from spa_bench.spa.merge import merged_adapters
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import TrainingData
from spa_bench.support.console import Reporter
from spa_bench.types import Decoding, Example, Member
from tiny import random_adapter

PAIRS = [Example(f"def f{i}(x):\n", f"    return x + {i}\n") for i in range(8)]


@pytest.fixture
def model(tiny_folder: Path) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


@pytest.fixture
def two(model: HFModel, tmp_path: Path) -> tuple[Path, Path]:
    """Adapters of different ranks and scales."""
    folders = []
    for name, rank in (("quality", 4), ("diversity", 2)):
        generator = torch.Generator().manual_seed(rank)
        folders.append(random_adapter(model.network, tmp_path / name, generator, rank=rank, scale=0.1 * rank))
    return folders[0], folders[1]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def update(adapter: Adapter) -> dict[str, torch.Tensor]:
    """ΔW of each layer, in float64."""
    return {path: adapter.scale * (high.double() @ low.double()) for path, (low, high) in adapter.factors.items()}


def card(rule: str = "dial", *, members: int = 1, **options: Any) -> SamplerCard:
    fields: dict[str, Any] = {"adapters": options.pop("adapters", "none"), "sources": options.pop("sources", 0)}
    made = sampler_card(kind="merge", members=members, options=MergeOptions(rule=rule, **options), **fields)
    KIND.check(made)
    return made


def made(model: HFModel, of: SamplerCard, folder: Path, seed: int = 0) -> list[Path]:
    data = TrainingData(examples=PAIRS if of.trains else [], queries=[], skipped=0)
    return merged_adapters(of, merging(of), data, model, seed, cache=folder / "stages", console=Reporter(quiet=True))


def close(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for path, delta in found.items():
        torch.testing.assert_close(delta, wanted[path], atol=1e-6, rtol=1e-5)


# sums -----------------------------------------------------------------------------------------------------------------


def test_the_update_of_a_sum_is_the_sum_of_the_updates(two: tuple[Path, Path]):
    a, b = map(read_adapter, two)
    found = merged([a, b], [0.3, 0.7])
    assert found.rank == 6
    mine, ours, theirs = update(found), update(a), update(b)
    close(mine, {path: 0.3 * ours[path] + 0.7 * theirs[path] for path in ours})


def test_an_adapter_of_weight_one_is_itself_and_zeros_are_the_base(two: tuple[Path, Path]):
    a, b = map(read_adapter, two)
    assert merged([a, b], [1.0, 0.0]) is a
    assert merged([a, b], [0.0, 1.0]) is b
    nothing = merged([a, b], [0.0, 0.0])
    assert all(not delta.any() for delta in update(nothing).values())


def test_the_norm_is_that_of_all_layers_together(two: tuple[Path, Path]):
    adapter = read_adapter(two[0])
    wanted = math.sqrt(sum(float((delta**2).sum()) for delta in update(adapter).values()))
    assert update_norm(adapter) == pytest.approx(wanted, rel=1e-9)


def test_balanced_updates_have_the_mean_of_the_norms(two: tuple[Path, Path]):
    adapters = [read_adapter(folder) for folder in two]
    norms = [update_norm(adapter) for adapter in adapters]
    assert norms[0] > 1.5 * norms[1]
    assert [n * f for n, f in zip(norms, balanced(adapters), strict=True)] == pytest.approx([sum(norms) / 2] * 2)
    assert balanced([merged(adapters, [0, 0])]) == [1.0]


def test_peft_reads_a_merged_adapter_with_the_same_logits_and_agrees_with_its_own_sum(
    model: HFModel, two: tuple[Path, Path], tiny_folder: Path, tmp_path: Path
):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    [folder] = made(model, card(given=(str(two[1]),), anchor=str(two[0]), weight=0.25), tmp_path)
    ids = torch.arange(3, 40)[None]
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(tiny_folder)), str(folder)).eval()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(tiny_folder)), str(two[0]), adapter_name="a")
    theirs.load_adapter(str(two[1]), adapter_name="b")
    theirs.add_weighted_adapter(["a", "b"], [0.75, 0.25], adapter_name="sum", combination_type="cat")
    theirs.set_adapter("sum")
    with torch.inference_mode():
        [ours] = logits(model, [folder])
        torch.testing.assert_close(read(input_ids=ids).logits[0], ours, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(theirs.eval()(input_ids=ids).logits[0], ours, atol=1e-5, rtol=1e-5)
        assert (ours - logits(model, [two[0]])[0]).abs().max() > 0.05


def logits(model: HFModel, folders: list[Path | None]) -> torch.Tensor:
    """The logits (K, T, V) of all adapters from one pass."""
    ids = torch.arange(3, 40).repeat(4 * len(folders), 1)
    with torch.inference_mode(), model.hf.adapters.use(folders):
        return model.network(input_ids=ids).logits[::4]


def test_the_members_of_one_pass_are_the_interpolations_of_the_weights(
    model: HFModel, two: tuple[Path, Path], tiny_folder: Path, tmp_path: Path
):
    """A dial's logits are those of a network whose weights are (1 - λ) × the one's + λ × the other's."""
    from transformers import AutoModelForCausalLM

    folders = made(model, card("line", members=5, given=(str(two[1]),), anchor=str(two[0])), tmp_path)
    together = logits(model, list(folders))
    ours, theirs = (update(read_adapter(folder)) for folder in two)
    for k, found in enumerate(together):
        network = AutoModelForCausalLM.from_pretrained(str(tiny_folder))
        for path in ours:
            mixed = (1 - k / 4) * ours[path] + k / 4 * theirs[path]
            network.get_submodule(path).weight.data += mixed.float()
        with torch.inference_mode():
            torch.testing.assert_close(network(input_ids=torch.arange(3, 40)[None]).logits[0], found, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(together[0], logits(model, [two[0]])[0])
    torch.testing.assert_close(together[4], logits(model, [two[1]])[0])


# rules ----------------------------------------------------------------------------------------------------------------


def test_a_dial_has_a_member_for_each_source_on_its_way_from_the_anchor():
    how = merging(card(adapters="parts", members=3, weight=0.25))
    assert how.anchor == "all"
    assert how.weights(3, 0) == [[0.75, 0.25, 0, 0], [0.75, 0, 0.25, 0], [0.75, 0, 0, 0.25]]


def test_a_soup_is_the_uniform_average_with_the_anchor_if_there_is_one():
    assert merging(card("soup", adapters="seeds", sources=4)).weights(4, 0) == [[0.25] * 4]
    assert merging(card("soup", adapters="seeds", sources=4, anchor="base")).weights(4, 0) == [[0.2] * 5]


def test_points_of_a_hull_are_points_of_the_simplex_that_the_seed_draws():
    how = merging(card("hull", adapters="parts", sources=3, members=2000))
    points = np.array(how.weights(3, 7))
    assert points.shape == (2000, 3)
    assert (points >= 0).all()
    assert points.sum(1) == pytest.approx(np.ones(2000))
    assert points.mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.02)
    assert points.var(0) == pytest.approx(np.full(3, 1 / 18), abs=0.005)  # of Dirichlet(1, 1, 1)
    assert how.weights(3, 7) == points.tolist()
    assert how.weights(3, 8) != points.tolist()
    corners = np.array(merging(card("hull", adapters="parts", sources=3, members=500, concentration=0.01)).weights(3, 7))
    assert np.median(corners.max(1)) > 0.99


def test_a_dial_on_the_base_scales_the_update(model: HFModel, two: tuple[Path, Path], tmp_path: Path):
    [folder] = made(model, card(given=(str(two[0]),), anchor="base", weight=0.4), tmp_path)
    close(update(read_adapter(folder)), {path: 0.4 * delta for path, delta in update(read_adapter(two[0])).items()})
    [none] = made(model, card(given=(str(two[0]),), anchor="base", weight=0.0), tmp_path)
    torch.testing.assert_close(logits(model, [none])[0], logits(model, [None])[0])


def test_balance_averages_updates_of_one_norm(model: HFModel, two: tuple[Path, Path], tmp_path: Path):
    [folder] = made(model, card("soup", given=tuple(map(str, two)), balance=True), tmp_path)
    a, b = (read_adapter(one) for one in two)
    mean = (update_norm(a) + update_norm(b)) / 2
    ours, theirs = update(a), update(b)
    wanted = {p: 0.5 * mean * (ours[p] / update_norm(a) + theirs[p] / update_norm(b)) for p in ours}
    close(update(read_adapter(folder)), wanted)


# stages ---------------------------------------------------------------------------------------------------------------


def test_the_ends_of_a_dial_are_the_adapters_of_single_and_of_the_others(model: HFModel, tmp_path: Path):
    """Trained once, from the same stages as those of the samplers at the ends."""
    start = replace(card(adapters="seeds", members=2), lora=replace(load_sampler_card("single").lora, rank=2, steps=2, batch=2))
    data = TrainingData(examples=PAIRS, queries=[], skipped=0)
    console = Reporter(quiet=True)
    alone = replace(start, kind="mixture", adapters="all", members=1)
    [single] = Stages(alone, data, model, seed=0, cache=tmp_path / "stages", console=console).adapters()
    seeds = Stages(replace(start, kind="mixture"), data, model, seed=0, cache=tmp_path / "stages", console=console).adapters()
    before = {path.name for path in (tmp_path / "stages").iterdir()}
    for weight, ends in ((0.0, [single, single]), (1.0, seeds)):
        found = made(model, replace(start, options=MergeOptions(weight=weight)), tmp_path)
        assert [(f / "adapter_model.safetensors").read_bytes() for f in found] == [
            (f / "adapter_model.safetensors").read_bytes() for f in ends
        ]
    after = {path.name for path in (tmp_path / "stages").iterdir() if not path.name.startswith(".")}
    assert sorted(name.split("-")[0] for name in after - before) == ["merged", "merged"]


def test_a_merged_stage_is_made_once_and_again_where_it_is_damaged(model: HFModel, two: tuple[Path, Path], tmp_path: Path):
    of = card("soup", given=tuple(map(str, two)))
    [folder] = made(model, of, tmp_path)
    weights = folder / "adapter_model.safetensors"
    content, when = weights.read_bytes(), weights.stat().st_mtime_ns
    assert made(model, of, tmp_path) == [folder]
    assert weights.stat().st_mtime_ns == when
    weights.write_bytes(b"broken")
    assert made(model, of, tmp_path) == [folder]
    assert weights.read_bytes() == content


def test_a_merged_stage_says_its_weights_and_the_parts_behind_its_sources(model: HFModel, tmp_path: Path):
    lora = replace(load_sampler_card("single").lora, rank=2, steps=1, batch=2)
    method = replace(load_sampler_card("spa-random").partition, method="random")
    of = replace(card(adapters="parts", members=2, weight=0.25), lora=lora, partition=method)
    folders = made(model, of, tmp_path)
    found = describe(folders[0].parent)
    assert found.facts["weights"] == [[0.75, 0.25, 0.0], [0.75, 0.0, 0.25]]
    assert "member 1: the sum of 3 adapters, weights 0.75 0 0.25" in text(found)
    assert found.parts is not None
    read = partition_of({"sampler": sampler_spec(of)}, {"stage": folders[0].parent.name}, tmp_path / "stages")
    assert sum(read.sizes) == len(PAIRS)


# given adapters -------------------------------------------------------------------------------------------------------


def test_given_adapters_that_another_process_has_just_copied_are_taken_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"numbers")
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))
    rename = os.rename

    def too_late(work: Path, final: Path) -> None:
        shutil.copytree(work, final)
        rename(work, final)

    monkeypatch.setattr(os, "rename", too_late)
    [folder] = given_adapters(str(adapter)).kept().folders
    assert (folder / "adapter_model.safetensors").read_bytes() == b"numbers"
    assert [one.name for one in folder.parent.parent.iterdir()] == [folder.parent.name]


def test_a_spec_has_the_hash_of_given_adapters_and_no_path(two: tuple[Path, Path], model: HFModel, tmp_path: Path):
    of = card("dial", given=(str(two[1]),), anchor=str(two[0]))
    spec = json.loads(json.dumps(sampler_spec(of)))
    assert str(tmp_path) not in json.dumps(spec)
    assert spec["options"]["given"] == [given_adapters(str(two[1])).said]
    first = made(model, of, tmp_path)
    again = card_of_spec({"sampler": spec}, "spec")
    moved = shutil.move(two[0], tmp_path / "elsewhere")
    assert sampler_spec(again) == sampler_spec(card_of_spec({"sampler": json.loads(json.dumps(sampler_spec(again)))}, "spec"))
    assert made(model, again, tmp_path) == first  # from the copies in our own cache
    shutil.rmtree(moved)


def test_another_adapter_at_the_same_place_is_another_spec(two: tuple[Path, Path], model: HFModel):
    of = card("soup", given=tuple(map(str, two)))
    before = sampler_spec(of)
    random_adapter(model.network, two[0], torch.Generator().manual_seed(99), rank=4, scale=0.1)
    assert sampler_spec(of) != before


def test_the_adapters_of_a_run_are_those_that_it_remembers(two: tuple[Path, Path], own_cache: Path, tmp_path: Path):
    from spa_bench.support.provenance import hash_folder

    stage, run = own_cache / "stages" / "adapters-0", tmp_path / "run"
    for k, folder in enumerate(two):
        shutil.copytree(folder, stage / f"member-{k}")
    run.mkdir()
    (run / "spec.json").write_text("{}")
    with pytest.raises(UsageError, match=r"has no adapters \(adapters.json\); name one of a sampler that trains some"):
        given_adapters(str(run))
    (run / "adapters.json").write_text(json.dumps({"stage": "adapters-0", "hashes": [hash_folder(f) for f in two]}))
    assert given_adapters(str(run)).folders == (stage / "member-0", stage / "member-1")
    assert said(str(run)).startswith("run@")
    (stage / "member-1" / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(StoreError, match=r"are no longer in .*; repeat the run with its command"):
        given_adapters(str(run))


def test_a_place_without_adapters_and_a_spec_of_another_machine_are_one_line(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no adapter in .*nowhere: name a folder in PEFT's format"):
        given_adapters(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"the adapters a@0123456789abcdef of this run are not in .*; name their folder again"):
        given_adapters("a@0123456789abcdef")


# what cannot be merged ------------------------------------------------------------------------------------------------


def source(folder: Path) -> Source:
    return Source.at(folder, folder.name)


def test_adapters_of_two_bases_are_refused_unless_they_are_one(two: tuple[Path, Path], model: HFModel):
    config = two[1] / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "other"}))
    said = "the adapters quality and diversity cannot be merged: their bases are 'tiny' and 'other'; where both names"
    with pytest.raises(ModelError, match=said):
        check_mergeable([source(two[0]), source(two[1])])
    check_mergeable([source(two[0]), source(two[1])], same_base=True)
    with pytest.raises(ModelError, match=said):
        check_model(card("soup", given=tuple(map(str, two))), model)  # before anything is trained
    check_model(card("soup", given=tuple(map(str, two)), same_base=True), model)


def test_adapters_with_other_targets_or_shapes_are_refused(two: tuple[Path, Path], model: HFModel, tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    fewer = random_adapter(model.network, tmp_path / "fewer", generator, rank=2, scale=1, targets=["q_proj"])
    with pytest.raises(
        ModelError, match=r"'model.layers.*' is changed by one of them alone \(12 such layers\); train both with"
    ):
        check_mergeable([source(two[0]), source(fewer)])
    adapter = read_adapter(two[1])
    path = next(iter(adapter.factors))
    low, high = adapter.factors[path]
    wider = Adapter({**adapter.factors, path: (torch.zeros(2, low.shape[1] + 1), high)}, 2, 4.0)
    write_adapter(wider, tmp_path / "wider", base_model="tiny", network=model.network)
    with pytest.raises(
        ModelError, match=r"at model.layers.* their updates are \(64, 128\) and \(64, 129\); they were made for diff"
    ):
        check_mergeable([source(two[0]), source(tmp_path / "wider")])


def test_given_adapters_must_fit_those_that_are_trained(model: HFModel, tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    fewer = random_adapter(model.network, tmp_path / "fewer", generator, rank=2, scale=1, targets=["q_proj"])
    of = card("soup", adapters="all", given=(str(fewer),))
    with pytest.raises(ModelError, match=r"the adapter fewer and those that are trained cannot be merged: .* set lora.targets"):
        check_model(of, model)
    fitting = replace(of, lora=replace(of.lora, targets="q_proj"))
    check_model(fitting, model)


def test_a_model_without_weights_is_refused(two: tuple[Path, Path]):
    of = card("soup", given=tuple(map(str, two)))
    with pytest.raises(ModelError, match="sampler merges weights, and the adapters of 'mock' have none; use --engine hf"):
        check_model(of, MockModel())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"options.rule": "dail"}, "options.rule is 'dail'; did you mean 'dial'?"),
        ({"options.weight": 1.5}, "options.weight is 1.5; it is a share between 0"),
        ({"options.concentration": 0.0}, "options.concentration is 0; it must be greater than 0 and at most 1e9"),
        ({"options.anchor": "none"}, "options.anchor is 'none', and a dial goes from an anchor to sources"),
        ({"options.anchor": ""}, "options.anchor has an empty text"),
        ({"adapters": "none"}, "there is nothing to merge"),
        ({"adapters": "all", "members": 1}, 'options.anchor and adapters are both "all", one adapter'),
        ({"options.rule": "soup"}, "a soup is one average, and members is 4; set members=1 sources=4"),
        ({"options.rule": "line"}, "a line has one source and at least 2 members on the way to it; there are 4 sources"),
        ({"sources": 3}, "a dial has a member for each source; there are 3 sources, so set members=3"),
        ({"sources": 1}, 'adapters = "parts" needs at least 2 sources; got 1'),
        ({"sources": 4, "adapters": "all"}, "sources counts adapters on parts or seeds; got adapters = 'all'"),
        ({"adapters": "none", "options.given": ["x"]}, 'options.anchor is "all", which is trained, and adapters is "none"'),
    ],
)
def test_a_card_that_cannot_be_merged_is_one_line(settings: dict[str, object], said: str):
    with pytest.raises((CardError, UsageError)) as caught:
        load_sampler_card("merge", settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources_have_no_effect_on_other_kinds_and_are_refused():
    with pytest.raises(CardError, match="sources is 3, and kind 'mixture' draws from each adapter; set members alone"):
        load_sampler_card("seeds", {"sources": 3})
    assert "sources" not in sampler_spec(load_sampler_card("seeds"))


def test_a_merged_member_answers_as_any_member(model: HFModel, two: tuple[Path, Path], tmp_path: Path):
    of = card("soup", given=tuple(map(str, two)))
    built = KIND.build(of, made(model, of, tmp_path))
    assert [m.adapter for m in built.members] == made(model, of, tmp_path)
    assert isinstance(built.members[0], Member)
    assert built.members[0].decoding == replace(Decoding(), temperature=of.decoding.temperature)
