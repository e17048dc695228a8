"""`spa-bench synthesize` and `spa-bench spa synthesize`: what they write, share and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doubles import Call, Done
from spa_bench.spa.data.sets import load_examples

SECTIONS = "[Problem]\nWrite a function that doubles {}.\n[Solution]\n```python\ndef {}(x):\n    return 2 * x\n```"


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    """Replies of an instruct model: of four, one is no pair and one repeats another."""
    texts = [
        SECTIONS.format("a number", "one"),
        SECTIONS.format("every word", "two"),
        "I am sorry.",
        SECTIONS.format("all", "x"),
    ]
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path / "replies.jsonl"


@pytest.fixture
def synthesize(call: Call, replies: Path, tmp_path: Path) -> Call:
    """The command with the mock engine, oss-instruct and the embedded pairs; later arguments win."""

    def called(*arguments: object) -> Done:
        asked = ["--method", "oss-instruct", "--targets", "mini", "--engine", "mock", "--set", f"engine.replies={replies}"]
        return call("synthesize", *asked, "--set", "code=parse", "--out", tmp_path / "made.jsonl", *arguments)

    return called


def refused(done: Done) -> str:
    assert done.code == 2, (done.out, done.err)
    assert "Traceback" not in done.err
    return done.err.splitlines()[-1]


def test_it_writes_pairs_and_a_report(synthesize: Call, tmp_path: Path):
    done = synthesize("--pairs", 3)
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'made.jsonl'}\n"
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert [sorted(row) for row in rows] == [["instruction", "response"]] * 3
    assert len(load_examples(str(tmp_path / "made.jsonl"))) == 3
    report = json.loads((tmp_path / "made.report.json").read_text())
    assert (report["pairs"], report["method"]) == (3, "oss-instruct")
    assert "| readable " in done.err
    assert "synthesis: 3 pairs by oss-instruct from 767 targets of mini, of at most 48 drafts a seed" in done.err
    assert "compared with no task, as none is named" in done.err


def test_the_same_command_takes_what_is_there(synthesize: Call, tmp_path: Path):
    synthesize("--pairs", 3)
    before = (tmp_path / "made.jsonl").read_bytes()
    (tmp_path / "made.jsonl").unlink()
    done = synthesize("--pairs", 3)
    assert "synthesis: from the stage cache" in done.err
    assert (tmp_path / "made.jsonl").read_bytes() == before


def test_json_has_the_report(synthesize: Call, tmp_path: Path):
    [row] = json.loads(synthesize("--pairs", 2, "--json").out)
    assert (row["file"], row["pairs"], row["filters"][0]["filter"]) == (str(tmp_path / "made.jsonl"), 2, "readable")


def test_too_few_pairs_are_kept_and_can_be_used(synthesize: Call, tmp_path: Path):
    said = refused(synthesize("--pairs", 5))
    assert "3 of 5 pairs from 80 drafts" in said
    assert "--set synthesize.least=3 uses them" in said
    assert not (tmp_path / "made.jsonl").exists()
    assert synthesize("--pairs", 5, "--set", "synthesize.least=3").code == 0
    assert len((tmp_path / "made.jsonl").read_text().splitlines()) == 3
    assert synthesize("--pairs", 5, "--set", "least=3").code == 0  # the table's name may be left out


def test_pairs_of_the_task_are_left_out(call: Call, tmp_path: Path):
    out = tmp_path / "p.jsonl"
    options = [
        "--method",
        "template",
        "--targets",
        "mini",
        "--pairs",
        30,
        "--engine",
        "mock",
        "--set",
        "code=parse",
        "--out",
        out,
    ]
    done = call("synthesize", *options, "--task", "mini-code")
    assert done.code == 0, done.err
    assert "compared with: 120 problems of the task" in done.err
    assert call("audit", "mini-code", "--data", out).out.startswith("0 of 30 training pairs overlap 0 of 120")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "oss-instrct"], "did you mean 'oss-instruct'"),
        (["--out", "pairs.parquet"], "name a file that ends in .jsonl"),
        (["--pairs", "0"], "synthesize.pairs is 0"),
        (["--set", "nears=1"], "unknown key 'synthesize.nears'"),
        (["--set", "options=3"], "'synthesize.options' in"),
        (["--set", "data.share=0.5"], "data.share has no effect: of [data] the keys columns, labels, unusable say how targets"),
        (["--set", "options.template=gone.txt"], "cannot read the template"),
        (["--targets", "gone.jsonl"], "cannot read the examples in gone.jsonl"),
        (["--task", "gone"], "unknown task 'gone'"),
        (["--set", "task.limit=3"], "is of a task, and none is named"),
        (["--seed", "-1"], "seeds are 0 or more"),
    ],
)
def test_mistakes(synthesize: Call, arguments: list[str], said: str, tmp_path: Path):
    line = refused(synthesize(*arguments))
    assert said in line
    assert "sampler 'single'" not in line
    assert not (tmp_path / "made.jsonl").exists()


def test_one_target_is_refused(synthesize: Call, tmp_path: Path):
    (tmp_path / "one.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert "has 1 example, and oss-instruct needs at least 2" in refused(synthesize("--targets", tmp_path / "one.jsonl"))


@pytest.mark.parametrize("method", ["oss-instruct", "self-instruct", "skill-mix"])
def test_a_model_without_a_chat_template_is_refused(method: str, call: Call, tiny_folder: Path, tmp_path: Path):
    done = call("synthesize", "--method", method, "--targets", "mini", "--model", tiny_folder, "--out", tmp_path / "p.jsonl")
    assert "has no chat template" in refused(done)


def test_a_stage_by_itself(call: Call, tmp_path: Path, tiny_folder: Path):
    options = ["--set", "synthesize.pairs=20", "--set", "synthesize.code=none", "--model", tiny_folder, "--threads", 1]
    done = call("spa", "synthesize", "--sampler", "spa-synth", *options)
    assert done.code == 0, done.err
    folder = Path(done.out.strip())
    assert len((folder / "pairs.jsonl").read_text().splitlines()) == 20
    [row] = json.loads(call("spa", "synthesize", "--sampler", "spa-synth", *options, "--json").out)
    assert row["folder"] == str(folder)


def test_a_sampler_that_makes_no_pairs_is_refused(call: Call):
    said = refused(call("spa", "synthesize", "--sampler", "spa-influence"))
    assert "the sampler 'spa-influence' takes the pairs that it is given; use one with [synthesize], such as spa-synth" in said


def test_given_pairs_beside_a_synthesis_are_refused(call: Call, tmp_path: Path):
    said = refused(call("run", "--sampler", "spa-synth", "--task", "mini-code", "--data", tmp_path / "x.jsonl"))
    assert "makes the pairs, and data.examples is" in said
