"""`spa-bench describe`: tables, pages, pictures and JSON, of sources and of the parts of a partition."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from doubles import SANDBOX, Call, Done
from spa_bench.datasets.measures import MEASURES

ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """code.jsonl of 24 functions with tests, prose.jsonl of 20 answers, and the labels of three parts of the first."""
    monkeypatch.chdir(tmp_path)
    code = [
        {
            "prompt": f"def {ANIMALS[i % 8]}_{i}(x):\n",
            "completion": f"    return x + {i % 5}\n",
            "tests": f"assert {ANIMALS[i % 8]}_{i}(1) == {1 + i % 5 + (i % 4 == 0)}",
        }
        for i in range(24)
    ]
    prose = [
        {"prompt": f"Tell of the {ANIMALS[i % 8]}.", "completion": f"Once there was one, of {i} years."} for i in range(20)
    ]
    for name, rows in (("code", code), ("prose", prose)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "labels.txt").write_text("".join(f"{i % 3}\n" for i in range(24)))
    return tmp_path


@pytest.fixture
def describe(call: Call, files: Path) -> Call:
    """The command on these files, without a model."""

    def called(*arguments: object) -> Done:
        done = call("describe", *arguments, "--sandbox", SANDBOX, "--workers", 1)
        assert "Traceback" not in done.err
        return done

    return called


def test_tables_say_what_is_measured_and_what_is_not(describe: Call):
    done = describe("code.jsonl", "prose.jsonl")
    assert done.code == 0, done.err
    assert "are at m = 10 pairs for every set" in done.out
    assert re.search(r"^passes +0\.750 \[0\.5\d+, 0\.9\d+\] +not code$", done.out, re.M)
    assert re.search(r"^parses +1\.000 \[0\.\d+, 1\.000\] +not code$", done.out, re.M)
    assert "left out: perplexity, loss, tokens and gradients (no model was named: --model)" in done.out
    assert "Similarity" not in done.out


def test_json_has_every_measure_or_the_reason_why_it_is_missing(describe: Call):
    rows = json.loads(describe("code.jsonl", "--target", "prose.jsonl", "--json").out)
    assert (rows["size"], rows["target"]) == (10, "prose.jsonl")
    for one in rows["sets"]:
        assert set(MEASURES) <= set(one["values"])
        for name, value in one["values"].items():
            assert (value["value"] is None) == (
                value["low"] is None and value["reason"] != "" and "interval" not in value["reason"]
            ), name
    mine = rows["sets"][0]["values"]
    assert mine["auc"]["value"] > 0.9
    assert mine["vendi[gradient,q=1]"]["reason"] == "no model was named"


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("a.svg", b"<?xml"),
        pytest.param("a.png", b"\x89PNG", marks=pytest.mark.slow),
        ("a.html", b"<!doctype html>"),
        pytest.param("a.md", b"# ", marks=pytest.mark.slow),
    ],
)
def test_pages_and_pictures_have_the_same_bytes_each_time(describe: Call, files: Path, name: str, begin: bytes):
    first = describe("code.jsonl", "prose.jsonl", "--no-run", "--out", name)
    assert first.code == 0, first.err
    content = (files / name).read_bytes()
    assert content.startswith(begin)
    assert describe("code.jsonl", "prose.jsonl", "--no-run", "--out", name).code == 0
    assert (files / name).read_bytes() == content


def test_a_page_has_its_picture_its_command_and_nothing_from_a_network(describe: Call, files: Path):
    describe("code.jsonl", "prose.jsonl", "--out", "a.html", "--seed", 3, "--no-run")
    page = (files / "a.html").read_text()
    assert 'src="data:image/svg+xml;base64,' in page
    assert "spa-bench describe code.jsonl prose.jsonl --seed 3 --no-run" in page
    assert "<table>" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r'(src|href)="https?:', page)
    describe("code.jsonl", "--out", "b.md", "--no-run")
    assert "](b.svg)" in (files / "b.md").read_text()
    assert (files / "b.svg").read_bytes().startswith(b"<?xml")


def test_a_name_of_a_file_cannot_become_markup(describe: Call, files: Path):
    (files / "x<b>|y.jsonl").write_text((files / "prose.jsonl").read_text())
    assert describe("x<b>|y.jsonl", "--out", "a.html").code == 0
    page = (files / "a.html").read_text()
    assert "<b>" not in page.split('<main id="main"')[1].split("</main>")[0].replace("x&lt;b&gt;", "")


def test_parts_have_a_row_each_beside_the_whole(describe: Call):
    done = describe("code.jsonl", "--parts", "labels.txt", "--json")
    sets = json.loads(done.out)["sets"]
    assert [(one["name"], one["pairs"], one["part_of"]) for one in sets] == [
        ("code.jsonl", 24, None),
        ("code.jsonl, part 0", 8, "code.jsonl"),
        ("code.jsonl, part 1", 8, "code.jsonl"),
        ("code.jsonl, part 2", 8, "code.jsonl"),
    ]
    whole, *parts = (one["values"]["passes"] for one in sets)
    assert sum(one["value"] for one in parts) / 3 == pytest.approx(whole["value"])


def test_a_partition_of_a_stage_is_described(call: Call, files: Path, tiny_folder: Path):
    (files / "mine.toml").write_text(
        'description = ""\nmembers = 2\nadapters = "parts"\n[lora]\nrank = 2\nsteps = 1\n[attribution]\nmethod = "bm25"\n'
    )
    options = ["--model", tiny_folder, "--threads", 1, "--device", "cpu"]
    made = call("spa", "partition", "--sampler", "mine.toml", "--data", "code.jsonl", "--queries", "prose.jsonl", *options)
    assert made.code == 0, made.err
    done = call("describe", "code.jsonl", "--parts", made.out.strip(), "--no-run", "--no-gradients", "--json", *options)
    assert done.code == 0, done.err
    sets = json.loads(done.out)["sets"]
    assert sum(one["pairs"] for one in sets[1:]) == sets[0]["pairs"] == 24
    assert sets[1]["values"]["loss"]["value"] > 0
    other = call("describe", "prose.jsonl", "--parts", made.out.strip(), "--no-run")
    assert other.code == 2
    assert "has parts of other pairs than prose.jsonl (24 there, 20 here)" in other.err


def test_a_limit_is_said_and_a_share_of_1_takes_all(describe: Call):
    assert "code.jsonl: 12 pairs drawn from 24" in describe("code.jsonl", "--limit", 12, "--no-run").out
    assert "code.jsonl: 6 pairs drawn from 24" in describe("code.jsonl", "--share", 0.25, "--no-run").out
    assert "code.jsonl: 24 pairs." in describe("code.jsonl", "--share", 1, "--no-run").out


def test_a_sandbox_that_is_absent_leaves_out_what_it_would_run(call: Call, files: Path, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.errors import SandboxError

    def none(*_: object) -> None:
        raise SandboxError("no sandbox here can run untrusted code")

    monkeypatch.setattr("spa_bench.datasets.from_sources.choose", none)
    done = call("describe", "code.jsonl")
    assert done.code == 0
    assert "left out: the shares that run and pass (no sandbox: no sandbox here can run untrusted code)" in done.out
    assert "parses" in done.out
    assert call("describe", "code.jsonl", "--sandbox", "bwrap").code == 2


@pytest.mark.parametrize("setting", ["data.duplicates=drop", "data.share=0.5", "data.decontaminate=true", "data.queries=code"])
def test_a_setting_without_effect_is_refused(describe: Call, setting: str):
    done = describe("prose.jsonl", "--set", setting)
    assert done.code == 2
    assert f"that say how rows are read, such as data.unusable=drop; got {setting.partition('=')[0]}" in done.err


def test_the_command_of_a_page_has_every_option_that_can_change_a_number(describe: Call, files: Path):
    describe("prose.jsonl", "--out", "a.md", "--no-run", "--dtype", "float32", "--judge-template", "a/b.txt")
    assert "spa-bench describe prose.jsonl --judge-template a/b.txt --dtype float32 --no-run" in (files / "a.md").read_text()
