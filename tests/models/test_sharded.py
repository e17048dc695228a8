"""A model in several workers gives what one process gives, byte for byte, and its stages do too.

The workers are here in this process: bytes go to them and come back as from other processes (tests/executors).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from doubles import Lines, sampler_card
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.training import AttributionCard, LoraCard, PartitionCard
from spa_bench.errors import DataError, ModelError
from spa_bench.executors.base import Seat
from spa_bench.executors.pool import Pool
from spa_bench.models import sharded
from spa_bench.models.acts import Facts, keep_adapter, software, station
from spa_bench.models.base import BeamModel, ChatModel, Model, PairEncoder, StageModel
from spa_bench.models.beams import BeamSearch
from spa_bench.models.hf import scorer
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import trained_over
from spa_bench.models.sharded import ShardedModel, request_shards
from spa_bench.models.spread import SpreadModel, Station
from spa_bench.runs.divergence import measure_divergence
from spa_bench.runs.plan import estimate_line
from spa_bench.spa.attribution.base import AttributionSetting
from spa_bench.spa.attribution.influence import InfluenceAttributor
from spa_bench.spa.shared import train_members
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import TrainingData, read_sources
from spa_bench.types import Asked, Decoding, Example, Member, Problem, Request
from tiny import random_adapter
from workers_here import Here, InThisProcess


def load(folder: Path, threads: int = 1) -> HFModel:
    return HFModel(str(folder), HFOptions(device="cpu", threads=threads), name="tiny")


@pytest.fixture(scope="module")
def two(tiny_folder: Path) -> Iterator[ShardedModel]:
    """The tiny model in two workers that adapters are sent to."""
    model = ShardedModel(Pool(InThisProcess(2), partial(station, partial(load, tiny_folder))), sends=True)
    yield model
    model.close()


@pytest.fixture(scope="module")
def members(tiny_model: HFModel, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    folder, random = tmp_path_factory.mktemp("members"), torch.Generator().manual_seed(3)
    for m in range(2):
        random_adapter(tiny_model.network, folder / str(m), random, rank=4, scale=0.3)
    decoding = Decoding(temperature=0.9, top_p=0.9, max_new_tokens=12, stop=("\ndef ",))
    return [Member("base", None, decoding), *(Member(str(m), folder / str(m), decoding) for m in range(2))]


def requests(members: Sequence[Member], *, draws: int = 3, problems: int = 7) -> list[Request]:
    return [
        Request(
            problem_id=f"p/{i}",
            member=m,
            draw=d,
            kind="generate",
            prompt=f"def f{i}(xs):\n" + "    # more\n" * (i % 4),
            decoding=member.decoding,
            seed=1000 * i + 10 * m + d,
        )
        for i in range(problems)
        for m, member in enumerate(members)
        for d in range(draws)
    ]


def test_it_is_every_kind_of_model_that_one_process_is(two: ShardedModel, tiny_model: HFModel):
    kinds = (Model, BeamModel, ChatModel, PairEncoder, StageModel)
    assert all(isinstance(two, kind) == isinstance(tiny_model, kind) for kind in kinds if kind is not Model)
    assert isinstance(two, SpreadModel)
    assert not isinstance(tiny_model, SpreadModel)
    assert two.describe() == tiny_model.describe()
    assert two.numerics() == tiny_model.numerics()
    assert (two.name, two.context) == (tiny_model.name, tiny_model.context)


def test_the_plan_has_the_time_of_all_workers_and_the_memory_of_one(two: ShardedModel, tiny_model: HFModel):
    card = load_sampler_card("spa-influence", {"attribution.checkpoints": [24], "lora.together": 1})
    line = estimate_line(card, two, read_sources(card))
    assert re.search(r": warm-up .* GB; attribution .* GB; training .* GB at the peak of a worker$", line), line
    assert estimate_line(card, tiny_model, read_sources(card)).endswith(" GB at the peak")


def test_what_takes_too_long_is_refused_by_a_worker_before_the_warm_up(two: ShardedModel):
    def never(_: Sequence[int]) -> dict[int, Path]:
        raise AssertionError("a warm-up is trained")

    card = AttributionCard(curvature="lissa", depth=10_000, repeats=500, checkpoints=(24,))
    setting = AttributionSetting(card=card, lora=LoraCard(), model=two, seed=0, warm_up=never)
    pairs = [Example(f"def f{i}():\n", "    return 1\n") for i in range(12)]
    with pytest.raises(DataError, match=r"'lissa' with 12 queries would take about .* more than 24 h"):
        InfluenceAttributor(setting).scores(pairs, pairs, progress=lambda *_: None)


def test_answers_are_those_of_one_process(two: ShardedModel, tiny_model: HFModel, members: list[Member]):
    asked = requests(members)
    found, wanted = (sorted(model.generate(asked, members), key=lambda c: c.key) for model in (two, tiny_model))
    assert found == wanted
    assert len({c.text for c in found}) > len(found) / 2
    assert two.batch_free([(r.prompt, 12) for r in asked]) is True
    assert two.batches().together >= 4


def test_beams_are_those_of_one_process(two: ShardedModel, tiny_model: HFModel, members: list[Member]):
    search = BeamSearch(groups=2, width=2, penalty=0.5)
    asked = requests(members[:1], draws=1)
    found, wanted = (
        sorted(model.diverse_beams(asked, members[1], search), key=lambda b: b.request.key) for model in (two, tiny_model)
    )
    assert found == wanted


def test_options_are_those_of_one_process_whatever_is_done(two: ShardedModel, tiny_model: HFModel, members: list[Member]):
    asked = [Asked(f"q/{i}", tuple((f"x = {i} {'y ' * i}", t) for t in (" a", " b", " cc")), 3) for i in range(40)]
    done = {f"q/{i}" for i in range(0, 40, 3)}
    found, wanted = ({s.problem: s for s in model.option_scores(asked, members, done)} for model in (two, tiny_model))
    assert found.keys() == wanted.keys() == {one.problem_id for one in asked} - done
    for problem, scores in wanted.items():
        for name in ("logprobs", "greedy", "kl", "js", "entropy"):
            assert getattr(found[problem], name).tobytes() == getattr(scores, name).tobytes(), (problem, name)
    two.check_options(asked)


def test_groups_of_options_are_cut_where_one_process_cuts_them():
    assert (sharded._OPTION_ROWS, sharded._OPTION_TOKENS) == (scorer._ROWS, scorer._TOKENS)


def test_likelihoods_are_those_of_one_process(two: ShardedModel, tiny_model: HFModel, members: list[Member]):
    asked = [replace(r, kind="loglikelihood", continuation=f"    return {r.draw}\n") for r in requests(members, draws=2)]
    found, wanted = ({r.key: rest for r, *rest in model.loglikelihood(asked, members)} for model in (two, tiny_model))
    assert found == wanted
    assert len(found) == len(asked)
    assert two.rolling(asked[0], members[1]) == tiny_model.rolling(asked[0], members[1])


def test_divergence_is_measured_in_the_groups_of_one_process(two: ShardedModel, tiny_model: HFModel, members: list[Member]):
    problems = [Problem(id=f"p/{i}", prompt=f"def f{i}(x):\n", reference="    return x\n" * (1 + i % 3)) for i in range(37)]
    problems[5] = replace(problems[5], reference="")
    found, wanted = (
        list(measure_divergence(problems, model, members, {"p/1", "p/30"}, noise=True)) for model in (two, tiny_model)
    )
    assert found == wanted
    assert [row.problem for row in found] == [p.id for p in problems if p.id not in {"p/1", "p/30"}]


def test_a_written_adapter_is_sent_again(two: ShardedModel, tiny_model: HFModel, members: list[Member], tmp_path: Path):
    texts = []
    for seed in (1, 2):
        random_adapter(tiny_model.network, tmp_path / "a", torch.Generator().manual_seed(seed), rank=4, scale=0.5)
        member = replace(members[0], adapter=tmp_path / "a")
        texts.append([c.text for c in two.generate(requests([member]), [member])])
        assert texts[-1] == [c.text for c in two.generate(requests([member]), [member])]
    assert texts[0] != texts[1]


# Stages ----------------------------------------------------------------------------------------------------------

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(40)]
QUERIES = [Example(f"def g{i}(text):\n", f"    return text[{i}]\n") for i in range(3)]
DATA = TrainingData(examples=PAIRS, queries=QUERIES, skipped=0)
CARD = sampler_card(
    "spa",
    members=3,
    adapters="parts",
    lora=LoraCard(rank=2, steps=3, batch=2, together=1, dropout=0.1, targets=("q_proj", "down_proj")),
    attribution=AttributionCard(curvature="identity"),
    partition=PartitionCard(method="balanced"),
)


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".lock"}


@pytest.mark.parametrize(
    "attribution",
    [
        AttributionCard(curvature="identity", checkpoints=(0, 2)),
        AttributionCard(curvature="fisher", curvature_examples=12),
        AttributionCard(curvature="ekfac", features="core", core="pca", dimensions=4),
        AttributionCard(curvature="cosine", features="projection", dimensions=64),
    ],
    ids=lambda card: f"{card.curvature}-{card.features}",
)
def test_scores_and_parts_are_those_of_one_process(
    attribution: AttributionCard, two: ShardedModel, tiny_model: HFModel, tmp_path: Path
):
    card = replace(CARD, attribution=attribution)
    for name, model in (("two", two), ("one", tiny_model)):
        Stages(card, DATA, model, seed=0, cache=tmp_path / name, console=Lines()).partition()
    assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.mark.parametrize("together", [1, 2, 0])
def test_adapters_are_those_of_one_process(together: int, two: ShardedModel, tiny_model: HFModel, tmp_path: Path):
    card = replace(CARD, attribution=AttributionCard(method="bm25"), lora=replace(CARD.lora, together=together))
    for name, model in (("two", two), ("one", tiny_model)):
        adapters = Stages(card, DATA, model, seed=0, cache=tmp_path / name, console=Lines()).adapters()
        assert len(adapters) == 3
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_rows_and_members_of_a_stopped_driver_are_kept(
    two: ShardedModel, tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spread, acts = two.spread, []

    def until(most: int) -> None:
        def stopped(given):
            for place, found in enumerate(spread(given)):
                acts.append(place)
                yield found
                if len(acts) == most:
                    raise KeyboardInterrupt

        monkeypatch.setattr(two, "spread", stopped)

    for most in (3, 2, 1000):  # in the middle of the rows, of the members, and nowhere
        acts.clear()
        until(most)
        try:
            Stages(CARD, DATA, two, seed=0, cache=tmp_path / "two", console=Lines()).adapters()
        except KeyboardInterrupt:
            continue
    Stages(CARD, DATA, tiny_model, seed=0, cache=tmp_path / "one", console=Lines()).adapters()
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_errors_name_the_pair_and_the_member_that_one_process_names(two: ShardedModel, tmp_path: Path):
    long = [*PAIRS[:7], Example("x", "y" * 5000)]
    with pytest.raises(DataError, match=r"^example 7 has "):
        Stages(CARD, replace(DATA, examples=long), two, seed=0, cache=tmp_path, console=Lines()).attribute()
    with pytest.raises(DataError, match=r"^part 2 is empty: nothing to train adapter 2 on$"):
        train_members(two, [PAIRS, PAIRS, []], CARD.lora, [1, 2, 3], tmp_path, progress=lambda done, total: None)


def test_an_adapter_that_a_worker_trains_over_a_quantised_base_names_its_weights(
    two: ShardedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(HFModel, "training_numerics", lambda _: {"weights": "4bit nf4"})
    train_members(two, [PAIRS[:2]], CARD.lora, [1], tmp_path, progress=lambda done, total: None)
    assert trained_over(tmp_path / "member-0") == "4bit nf4"


def test_the_weights_are_not_in_the_driver(two: ShardedModel):
    with pytest.raises(ModelError, match="cannot use several workers"):
        two.lora_layers("all-linear")
    with pytest.raises(ModelError, match="cannot use several workers"):
        next(two.network.parameters())


# Workers and shards ----------------------------------------------------------------------------------------------


def nothing(at: Station) -> None:
    """The first act of a worker that holds a model already."""


def test_workers_whose_numerics_differ_are_refused_with_both_values(tiny_folder: Path):
    class Unlike(InThisProcess):
        def start(self, place: int) -> Seat:
            seat = Here(place)
            model = load(tiny_folder)
            if place:
                model._threads = 2
            seat.state.append(Station(model=model, adapters={}, kept={}))
            return seat

    pool = Pool(Unlike(2), nothing)
    with pytest.raises(ModelError, match=r"^worker 1 \(here\) and worker 0 \(here\) differ \(threads 2 and 1\)"):
        ShardedModel(pool, sends=False)


def test_facts_that_differ_are_found_wherever_they_are(two: ShardedModel):
    facts: Facts = two._facts
    assert facts.differs(replace(facts)) == ""
    assert facts.differs(replace(facts, about={**facts.about, "hash": "0"})) == f"hash {facts.about['hash']!r} and '0'"
    assert "code" in facts.differs(replace(facts, software={**facts.software, "code": "x"}))


def test_workers_with_other_versions_than_the_driver_are_refused_although_they_agree(
    two: ShardedModel, monkeypatch: pytest.MonkeyPatch
):
    mine = {**software(), "torch": "0.1"}
    monkeypatch.setattr(sharded, "software", lambda: mine)
    with pytest.raises(
        ModelError, match=r"^this process and worker \d \(here\) differ \(torch '0\.1' and '\d.*give both the same"
    ):
        ShardedModel(two.workers, sends=True)
    del mine["torch"]  # what the driver lacks made none of its numbers
    assert ShardedModel(two.workers, sends=True).describe() == two.describe()


def test_adapters_that_were_sent_to_a_worker_do_not_outlive_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone, node = subprocess.Popen(["true"]), platform.node()
    gone.wait()
    for name in (f"{node}-{gone.pid}-a", f"{node}-{os.getppid()}-b", f"other-{gone.pid}-c"):
        (tmp_path / f"spa-bench-adapters-{name}").mkdir()
    at = station(lambda: cast(HFModel, None))
    assert len(list(tmp_path.iterdir())) == 3  # a worker that no adapter is sent to leaves nothing
    keep_adapter(at, folder=Path("there"), name="hash", files={"adapter_config.json": b"{}"})
    assert (at.adapters[Path("there")] / "adapter_config.json").read_bytes() == b"{}"
    assert {one.name.rpartition("-")[0] for one in tmp_path.iterdir()} == {
        f"spa-bench-adapters-{node}-{os.getpid()}",
        f"spa-bench-adapters-{node}-{os.getppid()}",
        f"spa-bench-adapters-other-{gone.pid}",
    }


@pytest.mark.parametrize("size", [1, 4, 7, 9, 100])
def test_shards_hold_every_request_once_and_problems_together(size: int, members: list[Member]):
    asked = requests(members)
    shards = list(request_shards(asked, size))
    assert sorted(r.key for shard in shards for r in shard) == sorted(r.key for r in asked)
    assert all(len(shard) <= max(size, 1) + 9 for shard in shards)
    if size >= 9:  # requests of a problem
        assert all(len({r.problem_id for r in shard}) * 9 == len(shard) for shard in shards)
    lengths = [max(len(r.prompt) for r in shard) for shard in shards]
    if size == 9:
        assert lengths == sorted(lengths, reverse=True)


def test_scores_are_an_array_of_the_examples_in_order(two: ShardedModel, tmp_path: Path):
    folder = Stages(CARD, DATA, two, seed=0, cache=tmp_path, console=Lines()).attribute()
    assert np.load(folder / "scores.npy").shape == (40, 3)
