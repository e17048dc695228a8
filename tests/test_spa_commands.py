"""`spa-bench spa attribute|partition|adapt|describe`: what they print, share and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from doubles import Call, Done

CARD = """
description = "two members, trained for one step"
members = 2
adapters = "parts"
[lora]
rank = 2
steps = 1
batch = 2
targets = ["q_proj"]
[attribution]
method = "bm25"
"""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(CARD)
    return tmp_path / "mine.toml"


def pairs(path: Path, count: int) -> Path:
    bodies = ("sum(nums[{}:])", "text.lower()[{}]")
    rows = [{"prompt": f"def f{i}(x):\n", "completion": f"    return {bodies[i % 2].format(i)}\n"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def spa(call: Call, card: Path, tiny_folder: Path, tmp_path: Path) -> Call:
    """A stage of the card on ten pairs and two queries with the tiny model; later arguments win."""
    data = ["--data", pairs(tmp_path / "pairs.jsonl", 10), "--queries", pairs(tmp_path / "queries.jsonl", 2)]

    def called(stage: str, *arguments: object) -> Done:
        options = ["--sampler", card, "--model", tiny_folder, "--threads", 1, "--device", "cpu"]
        return call("spa", stage, *options, *data, *arguments)

    return called


def stage(done: Done) -> Path:
    """The folder that a stage printed, alone on stdout."""
    assert done.code == 0, done.err
    [line] = done.out.splitlines()
    return Path(line)


def cached(tmp_path: Path) -> list[str]:
    return sorted(p.name.rsplit("-", 1)[0] for p in (tmp_path / "cache" / "stages").iterdir())


def test_each_stage_prints_its_folder_and_does_what_it_needs(spa: Call, tmp_path: Path):
    assert (stage(spa("attribute")) / "scores.npy").is_file()
    assert cached(tmp_path) == ["scores"]
    assert (stage(spa("partition")) / "parts.json").is_file()
    assert cached(tmp_path) == ["parts", "scores"]
    assert (stage(spa("adapt")) / "member-1" / "adapter_model.safetensors").is_file()
    assert cached(tmp_path) == ["adapters", "parts", "scores"]


def test_each_stage_says_beforehand_what_it_will_take(spa: Call):
    def estimates(stage: str, method: str) -> list[str]:
        lines = spa(stage, "--set", f"attribution.method={method}").err.splitlines()
        return [line for line in lines if line.startswith("estimate a seed, from a short pass")]

    for stage in ("attribute", "partition"):
        [line] = estimates(stage, "influence")
        assert re.search(r": attribution \d+ s and [\d.]+ GB at the peak$", line)
        assert estimates(stage, "bm25") == []
    assert re.search(r": attribution .*; training \d+ s and [\d.]+ GB at the peak$", *estimates("adapt", "influence"))
    assert re.search(r": training \d+ s and [\d.]+ GB at the peak$", *estimates("adapt", "bm25"))


def test_a_new_partition_takes_the_scores_from_the_cache(spa: Call):
    first = spa("partition")
    other = spa("partition", "--set", "partition.method=kmeans")
    assert "attribution (bm25)" in first.err
    assert "attribution (bm25)" not in other.err
    assert "scores: from the stage cache" in other.err
    assert stage(first) != stage(other)


def test_partition_reports_on_the_parts_and_keeps_the_report(spa: Call):
    done = spa("partition")
    assert "2 parts of 10 examples, silhouette" in done.err
    assert json.loads((stage(done) / "report.json").read_text())["sizes"] == [5, 5]


def test_random_parts_attribute_nothing(spa: Call, tmp_path: Path):
    stage(spa("partition", "--set", "partition.method=random", "--queries", pairs(tmp_path / "one.jsonl", 1)))
    assert cached(tmp_path) == ["parts"]
    said = spa("attribute", "--set", "partition.method=random").error()
    assert said.startswith("partition.method 'random' of 'mine' looks at no scores: there is nothing to attribute")


def test_the_seed_and_the_settings_count(spa: Call):
    random = ("partition", "--set", "partition.method=random")
    folders = {stage(spa(*random)), stage(spa(*random, "--seed", 1)), stage(spa(*random, "--set", "members=5"))}
    assert len(folders) == 3


def test_json_prints_rows_and_nothing_else(spa: Call, tmp_path: Path):
    for name, part in (("attribute", "scores"), ("partition", "parts"), ("adapt", "adapters")):
        done = spa(name, "--json")
        [row] = json.loads(done.out)
        assert (row["stage"], row["sampler"], row["seed"], row["examples"]) == (part, "mine", 0, 10)
        assert Path(row["folder"]).is_dir()
        assert row["report"]["queries"]
    assert row["parts"].startswith(str(tmp_path / "cache"))


def test_a_run_takes_what_the_stages_made(spa: Call, run: Call, card: Path, tmp_path: Path):
    stage(spa("adapt"))
    data = ["--data", tmp_path / "pairs.jsonl", "--queries", tmp_path / "queries.jsonl"]
    done = run("--sampler", card, "--limit", 1, "--until", "generate", *data)
    assert done.code == 0, done.err
    assert "adapters: from the stage cache" in done.err


def test_a_folder_is_described_and_drawn(spa: Call, call: Call, tmp_path: Path):
    folder = stage(spa("partition"))
    done = call("spa", "describe", folder, "--out", tmp_path / "parts.png")
    assert done.code == 0, done.err
    assert "2 parts of 10 examples" in done.out
    assert f"picture: {tmp_path / 'parts.png'}" in done.err
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")
    [row] = json.loads(call("spa", "describe", folder, "--json").out)
    assert row["report"] == json.loads((folder / "report.json").read_text())


def test_parts_are_compared_with_a_file_of_labels(spa: Call, call: Call, tmp_path: Path):
    styles = tmp_path / "styles.txt"
    styles.write_text("sum\nlower\n" * 5)
    done = spa("partition", "--against", styles)
    assert f"with {styles}: NMI 1.000, adjusted 1.000" in done.err
    [row] = json.loads(call("spa", "describe", stage(done), "--against", styles, "--json").out)
    assert row["against"] == {"with": str(styles), "nmi": 1.0, "ami": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "base"], "the sampler 'base' trains nothing"),
        (["--sampler", "single"], "the sampler 'single' trains on all data and has no parts"),
        (["--set", "task.seconds=3"], "spa has no task"),
        (["--set", "members=11"], "11 parts from 10 examples"),
        (["--set", "members=11", "--set", "partition.method=random"], "11 parts from 10 examples"),
        (["--set", "partition.least=6"], "has 5 examples, and partition.least is 6 (sizes 5, 5)"),
        (["--set", "partition.method=file"], "need each other"),
        (["--set", "partition.method=file", "--set", "partition.file=nowhere.txt"], "cannot read the labels in nowhere.txt"),
        (["--set", "partition.method=nowhere:parts"], "'nowhere:parts' leads to the module 'nowhere'"),
        (["--set", "partition.capacity=0.5"], "partition.capacity is 0.5"),
        (["--set", "partition.capacity=nan"], "partition.capacity is nan"),
        (["--set", "partition.capacity=inf"], "partition.capacity is inf"),
        (["--set", "attribution.variant=l"], "attribution.variant is 'l'"),
        (["--seed", "-1"], "a seed is -1"),
        (["--threads", "0"], "--threads is 0"),
        (["--against", "nowhere.txt"], "cannot read the labels in nowhere.txt"),
    ],
)
def test_what_cannot_be_done_is_one_line(spa: Call, arguments: list[str], message: str):
    assert message in spa("partition", *arguments).error()


def test_a_partition_to_compare_with_is_read_before_anything_is_computed(spa: Call, tmp_path: Path):
    assert "cannot read the labels in nowhere.txt" in spa("partition", "--against", "nowhere.txt").error()
    assert not (tmp_path / "cache").exists()


def test_adapters_on_all_data_are_a_stage_too(spa: Call, call: Call, tmp_path: Path):
    small = ["lora.steps=1", "lora.rank=2", "lora.batch=2", 'lora.targets=["q_proj"]']
    folder = stage(spa("adapt", "--sampler", "single", *(x for s in small for x in ("--set", s))))
    assert cached(tmp_path) == ["adapters"]
    assert "parts: none beside them" in call("spa", "describe", folder).out
    said = call("spa", "describe", folder, "--out", tmp_path / "a.png").error()
    assert "the parts of these adapters are not beside them, so there is nothing to draw" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no folder of the stage cache (key.json is missing)"),
        (["nowhere", "--out", "a.gif"], "--out is a.gif; a picture is a file that ends in .png, .svg, .pdf"),
    ],
)
def test_a_folder_that_cannot_be_described_is_one_line(call: Call, arguments: list[str], message: str):
    assert message in call("spa", "describe", *arguments).error()


def test_spa_without_a_stage_names_the_stages(call: Call):
    assert call("spa").code == 2
    assert call("spa", "describe", "--help").code == 0
