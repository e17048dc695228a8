"""Stages are kept whole under the hash of what they depend on, and recalled."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import Lines, sampler_card
from spa_bench.cards.sampler import DecodingCard, SamplerCard
from spa_bench.cards.training import AttributionCard, LoraCard, PartitionCard
from spa_bench.errors import StoreError
from spa_bench.models.hf.model import HFModel
from spa_bench.spa import stages
from spa_bench.spa.kept import digest
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import TrainingData
from spa_bench.support.cache import stage_cache
from spa_bench.types import Example

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n") for i in range(12)]
QUERIES = [Example(f"def g{i}(text):\n", f"    return text[{i}]\n") for i in range(4)]
DATA = TrainingData(examples=PAIRS, queries=QUERIES, skipped=0)
CARD = sampler_card(
    "spa",
    members=2,
    adapters="parts",
    lora=LoraCard(rank=2, steps=1, batch=2, targets=("q_proj",)),
    attribution=AttributionCard(method="bm25"),
    partition=PartitionCard(method="balanced"),
)


class Trained:
    """Counts trainings and keeps their parts and seeds; the real one runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.parts: list[list[list[Example]]] = []
        self.seeds: list[list[int]] = []
        real = stages.train_adapters

        def counting(model: Any, parts: Any, card: Any, seeds: Any, **rest: Any) -> Any:
            self.parts.append([list(p) for p in parts])
            self.seeds.append(list(seeds))
            return real(model, parts, card, seeds, **rest)

        monkeypatch.setattr(stages, "train_adapters", counting)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "stages"


def adapters(model: HFModel, cache: Path, card: SamplerCard = CARD, *, seed: int = 0, data: TrainingData = DATA) -> list[Path]:
    return Stages(card, data, model, seed=seed, cache=cache, console=Lines()).adapters()


def names(cache: Path) -> list[str]:
    return sorted(p.name.rsplit("-", 1)[0] for p in cache.iterdir())


def test_a_second_call_takes_the_adapters_from_the_cache(tiny_model: HFModel, cache: Path, trained: Trained):
    first = adapters(tiny_model, cache)
    console = Lines()
    again = Stages(CARD, DATA, tiny_model, seed=0, cache=cache, console=console).adapters()
    assert again == first
    assert len(trained.parts) == 1
    assert console.stages == []
    assert any(note.startswith("adapters: from the stage cache") for note in console.notes)
    assert names(cache) == ["adapters", "parts", "scores"]


def test_the_parts_are_disjoint_and_cover_the_data(tiny_model: HFModel, cache: Path, trained: Trained):
    folders = adapters(tiny_model, cache)
    [parts] = trained.parts
    assert sorted((e for part in parts for e in part), key=PAIRS.index) == PAIRS
    assert [len(p) for p in parts] == [6, 6]
    assert [f.name for f in folders] == ["member-0", "member-1"]
    assert all((f / "adapter_model.safetensors").is_file() for f in folders)


def test_another_seed_trains_anew(tiny_model: HFModel, cache: Path, trained: Trained):
    first, other = (adapters(tiny_model, cache, seed=s) for s in (0, 1))
    assert set(first).isdisjoint(other)
    assert set(trained.seeds[0]).isdisjoint(trained.seeds[1])


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"decoding": DecodingCard(temperature=1.5)}, {"scores", "parts", "adapters"}),
        ({"name": "other", "draws": 8, "description": "x"}, {"scores", "parts", "adapters"}),
        ({"lora": replace(CARD.lora, steps=2)}, {"scores", "parts"}),
        ({"partition": PartitionCard(method="balanced", scale="none")}, {"scores", "adapters"}),  # the parts come out the same
        ({"members": 3}, {"scores"}),
        ({"attribution": AttributionCard(method="random")}, set()),
    ],
    ids=["decoding", "name", "lora", "partition", "members", "attribution"],
)
def test_a_change_redoes_what_depends_on_it_and_nothing_else(
    change: dict[str, Any], kept: set[str], tiny_model: HFModel, cache: Path
):
    adapters(tiny_model, cache)
    before = set(cache.iterdir())
    adapters(tiny_model, cache, replace(CARD, **change))
    made = {p.name.rsplit("-", 1)[0] for p in set(cache.iterdir()) - before}
    assert made == {"scores", "parts", "adapters"} - kept


@pytest.mark.parametrize("partition", ["random", "kmeans-embedding", "file"])
def test_parts_that_need_no_scores_attribute_nothing_and_depend_on_no_model(
    partition: str, tiny_model: HFModel, cache: Path, tmp_path: Path
):
    file = tmp_path / "labels.txt"
    file.write_text("0\n1\n" * 6)
    card = replace(CARD, partition=PartitionCard(method=partition, file=str(file) if partition == "file" else ""))
    stage = Stages(
        card, TrainingData(examples=PAIRS, queries=[], skipped=0), tiny_model, seed=0, cache=cache, console=Lines()
    ).partition()
    assert names(cache) == ["parts"]
    key = json.loads((stage / "key.json").read_text())
    assert not {"model", "attribution", "queries"} & set(key)
    assert Stages(card, DATA, tiny_model, seed=0, cache=cache, console=Lines()).partition() == stage
    other = Stages(card, DATA, tiny_model, seed=1, cache=cache, console=Lines()).partition()
    assert (other == stage) == (partition == "file")


def test_a_file_of_parts_counts_by_what_it_holds(tiny_model: HFModel, cache: Path, tmp_path: Path):
    found = []
    for name, content in (("a.txt", "0\n1\n" * 6), ("b.txt", "0\n1\n" * 6), ("c.txt", "1\n0\n" * 6)):
        (tmp_path / name).write_text(content)
        card = replace(CARD, partition=PartitionCard(method="file", file=str(tmp_path / name)))
        found.append(Stages(card, DATA, tiny_model, seed=0, cache=cache, console=Lines()).partition())
        assert DATA.describe(card)["parts"]
    assert found[0] == found[1] != found[2]


def test_a_new_partition_of_the_same_scores_attributes_nothing_again(tiny_model: HFModel, cache: Path):
    console = Lines()
    for method in ("argmax", "balanced", "kmeans"):
        Stages(
            replace(CARD, partition=PartitionCard(method=method)), DATA, tiny_model, seed=0, cache=cache, console=console
        ).partition()
    assert console.stages.count("attribution (bm25)") == 1
    assert names(cache) == ["parts"] * 3 + ["scores"]


def test_the_encoder_counts_for_scores_by_embedding(tiny_model: HFModel, tiny_folder: Path, cache: Path):
    for encoder in ("tf-idf", str(tiny_folder)):
        card = replace(CARD, attribution=AttributionCard(method="embedding", encoder=encoder))
        Stages(card, DATA, tiny_model, seed=0, cache=cache, console=Lines()).attribute()
    assert names(cache) == ["scores"] * 2


def test_other_data_redoes_everything(tiny_model: HFModel, cache: Path):
    adapters(tiny_model, cache)
    adapters(tiny_model, cache, data=TrainingData(examples=[*PAIRS[1:], Example("a", "b")], queries=QUERIES, skipped=0))
    assert names(cache) == ["adapters"] * 2 + ["parts"] * 2 + ["scores"] * 2


def test_other_queries_redo_the_scores(tiny_model: HFModel, cache: Path):
    adapters(tiny_model, cache)
    adapters(
        tiny_model,
        cache,
        data=TrainingData(examples=PAIRS, queries=[*QUERIES[1:], Example("def nums(sum):\n", "return nums")], skipped=0),
    )
    assert names(cache).count("scores") == 2


def test_influence_scores_depend_on_the_rank_and_lexical_ones_do_not(tiny_model: HFModel, cache: Path):
    wider = replace(CARD, lora=replace(CARD.lora, rank=3))
    adapters(tiny_model, cache)
    adapters(tiny_model, cache, wider)
    assert names(cache).count("scores") == 1
    influence = {"attribution": AttributionCard(method="influence")}
    adapters(tiny_model, cache, replace(CARD, **influence))
    adapters(tiny_model, cache, replace(wider, **influence))
    assert names(cache).count("scores") == 3


def test_the_context_counts_where_packs_are_as_long_as_it(tiny_model: HFModel, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def keys(**change: Any) -> list[str]:
        """Of the warm-up in two contexts."""
        found = []
        for context in (512, 1024):
            monkeypatch.setattr(tiny_model, "context", context)
            card = replace(CARD, lora=replace(CARD.lora, **change))
            found.append(digest(Stages(card, DATA, tiny_model, seed=0, cache=cache, console=Lines())._warm_up_recipe()))
        return found

    assert len(set(keys(packing=True))) == 2
    for change in ({}, {"packing": True, "length": 100}):
        assert len(set(keys(**change))) == 1


def test_samplers_that_decode_otherwise_share_one_adapter_on_all_data(tiny_model: HFModel, cache: Path, trained: Trained):
    cards = [replace(CARD, name=str(t), members=1, adapters="all", decoding=DecodingCard(temperature=t)) for t in (0.1, 0.8)]
    data = TrainingData(examples=PAIRS, queries=[], skipped=0)
    assert adapters(tiny_model, cache, cards[0], data=data) == adapters(tiny_model, cache, cards[1], data=data)
    assert trained.parts == [[PAIRS]]
    assert names(cache) == ["adapters"]


def test_the_seeds_control_trains_every_member_on_all_data_with_its_own_seed(
    tiny_model: HFModel, cache: Path, trained: Trained
):
    folders = adapters(
        tiny_model, cache, replace(CARD, members=3, adapters="seeds"), data=TrainingData(examples=PAIRS, queries=[], skipped=0)
    )
    assert trained.parts == [[PAIRS] * 3]
    assert len({*trained.seeds[0]}) == 3
    assert len({(f / "adapter_model.safetensors").read_bytes() for f in folders}) == 3


def test_a_stage_that_was_cut_short_is_not_taken_for_a_whole_one_and_is_gone_on_with(
    tiny_model: HFModel, cache: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
):
    real = stages.write_adapter

    def break_at_the_second(adapter: Any, folder: Path, **rest: Any) -> None:
        if folder.name == "member-1":
            raise KeyboardInterrupt
        real(adapter, folder, **rest)

    with monkeypatch.context() as context:
        context.setattr(stages, "write_adapter", break_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            adapters(tiny_model, cache)
    assert names(cache) == [".adapters", "parts", "scores"]
    assert len(adapters(tiny_model, cache)) == 2
    assert len(trained.parts) == 2


def test_a_half_written_stage_of_a_killed_process_is_not_taken(tiny_model: HFModel, cache: Path, trained: Trained):
    [folder] = {f.parent for f in adapters(tiny_model, cache)}
    folder.rename(cache / ".adapters-killed")
    (cache / ".adapters-killed" / "member-1" / "adapter_model.safetensors").unlink()
    assert {f.parent for f in adapters(tiny_model, cache)} == {folder}
    assert len(trained.parts) == 2


def test_a_stage_says_what_it_depends_on(tiny_model: HFModel, cache: Path):
    folder = adapters(tiny_model, cache)[0].parent
    recipe = json.loads((folder / "key.json").read_text())
    assert recipe["model"] == tiny_model.describe()["hash"]
    assert recipe["lora"]["rank"] == 2
    assert recipe["numerics"]["threads"] == 1
    assert len(recipe["seeds"]) == 2
    [parts] = cache.glob("parts-*")
    assert json.loads((parts / "parts.json").read_text())["sizes"] == [6, 6]


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "a"))
    assert stage_cache() == tmp_path / "a" / "stages"
    monkeypatch.delenv("SPA_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert stage_cache() == tmp_path / "b" / "spa-bench" / "stages"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert stage_cache() == tmp_path / "c" / ".cache" / "spa-bench" / "stages"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "key"])
def test_a_damaged_stage_is_made_again_to_the_same_bytes(tiny_model: HFModel, cache: Path, damage: str):
    folder = adapters(tiny_model, cache)[0]
    path = folder / "adapter_model.safetensors"
    before = path.read_bytes()
    if damage == "flip":
        path.write_bytes(before[:-5] + bytes([before[-5] ^ 255]) + before[-4:])
    elif damage == "cut":
        path.write_bytes(before[:500])
    elif damage == "remove":
        path.unlink()
    else:
        (folder.parent / "key.json").write_text("{")
    assert (adapters(tiny_model, cache)[0] / "adapter_model.safetensors").read_bytes() == before


def test_labels_that_were_changed_are_made_again(tiny_model: HFModel, cache: Path):
    adapters(tiny_model, cache)
    [parts] = cache.glob("parts-*")
    before = (parts / "parts.json").read_bytes()
    content = json.loads(before)
    (parts / "parts.json").write_text(json.dumps({**content, "labels": content["labels"][::-1]}))
    adapters(tiny_model, cache)
    assert (parts / "parts.json").read_bytes() == before


def test_a_damaged_stage_that_cannot_be_removed_is_not_used(tiny_model: HFModel, cache: Path, monkeypatch: pytest.MonkeyPatch):
    folder = adapters(tiny_model, cache)[0].parent
    (folder / "key.json").write_text("{")
    monkeypatch.setattr(stages.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(StoreError, match=rf"{folder.name} is damaged and cannot be removed; remove it"):
        adapters(tiny_model, cache)
