"""Where files of training pairs lie is no part of a run's spec: moved, the run is the same one and can be repeated."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX, Call, InProcessJudge, sampler_card
from spa_bench.cards.training import ColumnsCard, DataCard, PartitionCard
from spa_bench.runs.folder import group_hash, open_run
from spa_bench.spa.data import files_of, hubs_of, named

CARD = """
description = "two members, trained for one step"
members = 2
adapters = "{adapters}"
draws = 2
[lora]
rank = 2
steps = 1
batch = 2
targets = ["q_proj"]
[attribution]
method = "bm25"
[partition]
method = "balanced"
[decoding]
temperature = 0.7
"""


def pairs(path: Path, count: int, word: str) -> Path:
    rows = [{"prompt": f"def {word}{i}(nums):\n", "completion": f"    return sum(nums[{i}:])\n"} for i in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(CARD.format(adapters="parts"))
    return tmp_path / "mine.toml"


@pytest.fixture
def folder(run: Call, card: Path, sandbox: InProcessJudge, tmp_path: Path) -> Path:
    """A run trained on here/pairs.jsonl with the queries of here/queries.jsonl."""
    data = ["--data", pairs(tmp_path / "here" / "pairs.jsonl", 8, "f")]
    data += ["--queries", pairs(tmp_path / "here" / "queries.jsonl", 3, "g")]
    return made(run, tmp_path, "--sampler", card, *data)


def made(run: Call, tmp_path: Path, *options: object) -> Path:
    before = set((tmp_path / "runs").glob("*"))
    done = run("--limit", 1, *options)
    assert done.code == 0, done.err
    [path] = set((tmp_path / "runs").glob("*")) - before or {Path(done.err.partition("run folder: ")[2].splitlines()[0])}
    return path


def spec_of(path: Path) -> dict[str, Any]:
    return open_run(path).spec


# names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "queries", "names"),
    [
        ("a/b/pairs.json", "/c/q.jsonl", ("pairs.json", "q.jsonl")),
        ("pairs.json", "./q.jsonl", ("pairs.json", "q.jsonl")),
        ("mini", "mini", ("mini", "mini")),
        ("mini-nlu", "mini-nlu", ("mini-nlu", "mini-nlu")),
        ("pairs.json", "sample", ("pairs.json", "sample")),
        ("pairs.json", "sample:5", ("pairs.json", "sample:5")),
        ("a/mini", "a/sample", ("./mini", "./sample")),  # files, though they are called so
        ("a/sample", "a/sample:2", ("sample", "./sample:2")),
        ("hub:some/name:test", "hub:some/name", ("hub:some/name:test", "hub:some/name")),  # no paths
        ("a/code", "code", ("code", "code")),
        ("a/hub:x", "a/text", ("./hub:x", "./text")),
    ],
)
def test_a_file_is_named_without_its_folder_and_stays_a_file(examples: str, queries: str, names: tuple[str, str]):
    data = DataCard(examples=examples, queries=queries)
    assert named(data) == DataCard(examples=names[0], queries=names[1])
    assert named(named(data)) == named(data)
    more = replace(data, columns=ColumnsCard(prompt="q"), template="plain", duplicates="drop")
    assert named(more) == replace(more, examples=names[0], queries=names[1])
    card = sampler_card(members=2, adapters="parts", data=data)
    assert files_of(card).keys() == files_of(replace(card, data=named(data))).keys()


@pytest.mark.parametrize(("adapters", "files"), [("none", []), ("all", ["examples"]), ("parts", ["examples", "queries"])])
def test_the_files_of_a_sampler_are_those_that_it_is_trained_with(
    adapters: str, files: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    found = files_of(sampler_card(adapters=adapters, data=DataCard(examples="a.json", queries="sub/../b.json")))
    assert found == {what: str(tmp_path / name) for what, name in zip(files, ("a.json", "b.json"), strict=False)}
    assert files_of(sampler_card(adapters=adapters, data=DataCard())) == {}
    assert files_of(sampler_card(adapters=adapters, data=DataCard(examples="hub:a/b", queries="text"))) == {}


def test_queries_that_the_parts_do_not_depend_on_are_no_file_of_the_sampler(tmp_path: Path):
    data = DataCard(examples=str(tmp_path / "a.json"), queries=str(tmp_path / "b.json"))
    chance = sampler_card(members=2, adapters="parts", data=data, partition=PartitionCard(method="random"))
    assert list(files_of(chance)) == ["examples"]
    assert hubs_of(replace(chance, data=replace(data, queries="hub:a/b"))) == {}
    assert hubs_of(sampler_card(members=2, adapters="parts", data=replace(data, queries="hub:a/b"))) == {"queries": "hub:a/b"}


# the spec ------------------------------------------------------------------------------------------------------------


def test_the_same_pairs_under_other_paths_are_the_same_run(
    folder: Path, run: Call, card: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert str(tmp_path / "here") not in (folder / "spec.json").read_text()
    data = spec_of(folder)["data"]
    assert (data["examples"], data["examples_n"], data["queries"], data["queries_n"]) == ("pairs.jsonl", 8, "queries.jsonl", 3)
    defaults = {"labels": "auto", "unusable": "refuse", "decontaminate": False}  # said where they are others
    card_of_spec = defaults | spec_of(folder)["sampler"]["data"]
    assert card_of_spec == asdict(DataCard(examples="pairs.jsonl", queries="queries.jsonl"))
    here, there = tmp_path / "here", shutil.copytree(tmp_path / "here", tmp_path / "there")
    kept = json.loads((folder / "data_files.json").read_text())
    assert (kept["examples"], kept["queries"]) == (str(here / "pairs.jsonl"), str(here / "queries.jsonl"))
    monkeypatch.chdir(there)
    for form in ("pairs.jsonl", "./pairs.jsonl", str(there / "pairs.jsonl")):
        again = made(run, tmp_path, "--sampler", card, "--data", form, "--queries", "queries.jsonl")
        assert again == folder
    assert json.loads((folder / "data_files.json").read_text())["examples"] == str(there / "pairs.jsonl")


def test_other_pairs_or_another_name_are_another_run(folder: Path, run: Call, card: Path, tmp_path: Path):
    queries = ["--queries", tmp_path / "here" / "queries.jsonl"]
    other = made(run, tmp_path, "--sampler", card, "--data", pairs(tmp_path / "a" / "pairs.jsonl", 8, "h"), *queries)
    renamed = made(run, tmp_path, "--sampler", card, "--data", pairs(tmp_path / "a" / "more.jsonl", 8, "f"), *queries)
    assert len({folder, other, renamed}) == 3


def test_seeds_that_sample_their_queries_from_a_file_of_pairs_are_one_row(
    run: Call, call: Call, card: Path, sandbox: InProcessJudge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = pairs(tmp_path / "here" / "pairs.jsonl", 60, "f")  # of which 48 are drawn, others for every seed
    monkeypatch.chdir(file.parent)
    found = [
        made(run, tmp_path, "--sampler", card, "--data", form, "--seed", seed)
        for seed, form in enumerate(["pairs.jsonl", "./pairs.jsonl"])
    ]
    assert len({group_hash(spec_of(path)) for path in found}) == 1
    board = call("leaderboard", tmp_path / "runs", "--json")
    [row] = json.loads(board.out)
    assert row["seeds"] == [0, 1]


# rerun ---------------------------------------------------------------------------------------------------------------


def again(call: Call, folder: Path, out: Path, *options: object) -> Any:
    return call("rerun", folder, "--out", out, "--use-cache", "--sandbox", SANDBOX, *options)


def test_a_run_is_repeated_from_any_folder(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = again(call, folder, tmp_path / "out")
    assert done.code == 0, done.err
    assert "spec: the same" in done.out
    assert call("verify", folder).out.startswith(f"{folder}: whole")


def test_files_that_have_moved_are_found_by_the_options_even_under_another_name(folder: Path, call: Call, tmp_path: Path):
    here = tmp_path / "here"
    data, queries = here.rename(tmp_path / "moved") / "pairs.jsonl", tmp_path / "moved" / "queries.jsonl"
    data = data.rename(data.with_name("renamed.jsonl"))
    error = again(call, folder, tmp_path / "out").error()
    assert error == (
        f"cannot read the examples in {here / 'pairs.jsonl'}: there is no such file; "
        "--data FILE says where they are on this machine"
    )
    error = again(call, folder, tmp_path / "out", "--data", data).error()
    assert error.startswith(f"cannot read the queries in {here / 'queries.jsonl'}: ")
    assert "--queries FILE says where" in error
    assert not (tmp_path / "out").exists()
    done = again(call, folder, tmp_path / "out", "--data", data, "--queries", queries)
    assert done.code == 0, done.err
    assert "spec: the same" in done.out
    [repeated] = (tmp_path / "out").iterdir()
    assert json.loads((repeated / "data_files.json").read_text())["examples"] == str(data)
    assert again(call, repeated, tmp_path / "third").code == 0


def test_a_file_with_other_pairs_is_refused_before_anything_is_done(folder: Path, call: Call, tmp_path: Path):
    stored = spec_of(folder)["data"]
    other = pairs(tmp_path / "other.jsonl", 8, "h")
    for what, option, name in (("examples", "--data", "pairs.jsonl"), ("queries", "--queries", "queries.jsonl")):
        error = again(call, folder, tmp_path / "out", option, other).error()
        assert error.startswith(f"{other} holds other {what} (hash ")
        assert f"than {folder} was made with ({name}, {stored[f'{what}_hash']}); {option} FILE says where those are" in error
    pairs(tmp_path / "here" / "pairs.jsonl", 8, "h")  # changed where it lies
    assert again(call, folder, tmp_path / "out").error().startswith(f"{tmp_path / 'here' / 'pairs.jsonl'} holds other examples")
    assert not (tmp_path / "out").exists()


def test_a_place_of_what_was_in_no_file_is_refused(run: Call, call: Call, sandbox: InProcessJudge, card: Path, tmp_path: Path):
    file = pairs(tmp_path / "pairs.jsonl", 8, "f")
    bare = made(run, tmp_path, "--n", 1)
    assert not (bare / "data_files.json").exists()
    error = again(call, bare, tmp_path / "out", "--data", file).error()
    assert error == f"--data has no effect: {bare} was made with no examples from a file"
    sampled = made(run, tmp_path, "--sampler", card, "--data", file)
    error = again(call, sampled, tmp_path / "out", "--queries", file).error()
    assert error == f"--queries has no effect: {sampled} was made with no queries from a file"


def test_a_run_on_data_of_the_hub_is_repeated_unless_the_hub_has_changed(
    run: Call, call: Call, sandbox: InProcessJudge, card: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import datasets

    held = [{"instruction": f"Add {i}.", "output": f"    return {i}"} for i in range(8)]
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config, *, split, revision: {("some/set", "train"): held}[name, split]
    )
    folder = made(run, tmp_path, "--sampler", card, "--data", "hub:some/set")
    assert spec_of(folder)["data"]["examples"] == "hub:some/set"
    assert not (folder / "data_files.json").exists()
    done = again(call, folder, tmp_path / "out")
    assert "spec: the same" in done.out, done.err
    held[3]["output"] = "    return 4"
    error = again(call, folder, tmp_path / "out").error()
    assert error.startswith("hub:some/set holds other examples now (hash ")
    assert error.endswith("the hub has changed, and this run cannot be repeated from it")
    error = again(call, folder, tmp_path / "out", "--data", tmp_path / "x.jsonl").error()
    assert error == f"--data has no effect: {folder} was made with no examples from a file"
