"""`spa-bench real`: base, single and SPA on HumanEval, its settings said, resumed by the same command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doubles import Call
from spa_bench.publish import real, series
from spa_bench.runs import perform
from spa_bench.runs.options import RunOptions


@pytest.fixture
def humaneval(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))


@pytest.mark.usefixtures("humaneval")
@pytest.mark.slow
def test_it_makes_three_runs_prints_the_board_with_its_settings_and_resumes(
    call: Call, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "real"
    small = ["--set", "lora.steps=1", "--set", "lora.batch=2", "--set", "data.share=0.01", "--set", "task.max_new_tokens=4"]
    words = ["real", "--out", out, "--subset", 2, "--model", tiny_folder, "--threads", 1, *small]
    done = call(*words)
    assert done.code == 0, done.err
    specs = [json.loads(path.read_text()) for path in sorted(out.glob("*/spec.json"))]
    assert {spec["sampler"]["name"] for spec in specs} == {"base", "single", "spa-influence"}
    assert {(spec["limit"], spec["task"]["shuffle"], spec["task"]["max_new_tokens"]) for spec in specs} == {(2, 0, 4)}
    assert {spec["data"].get("examples") for spec in specs} == {None, "mini"}
    assert (out / "leaderboard.md").read_text().strip() in done.out
    assert "Trained on embedded pairs." in done.out
    assert (out / "report" / "index.html").is_file()
    last = done.out.splitlines()[-1]
    assert last.startswith("It took ")
    assert "task.shuffle=0" in last
    assert "lora.steps=1," in last
    assert "lora.steps=8" not in last
    monkeypatch.setattr("spa_bench.models.hf.draw.Drawer.draw", lambda *_: pytest.fail("drawn again"))
    assert call(*words).code == 0


def test_whole_takes_all_problems_with_the_same_training(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    seen: list[RunOptions] = []
    monkeypatch.setattr(perform, "run", lambda sampler, task, options: seen.append(options) or [])
    monkeypatch.setattr(series, "write_board", lambda out, *_: series.Board(text="the board", path=out))
    monkeypatch.setattr(series, "write_page", lambda out, *_: series.Page(path=out))
    assert call("real", "--out", tmp_path / "x", "--whole").code == 0
    assert call("real", "--out", tmp_path / "x").code == 0
    assert [options.limit for options in seen] == [None] * 3 + [real.SUBSET] * 3
    assert seen[0].settings == real.SETTINGS
    assert seen[3].settings == (*real.SETTINGS, "task.shuffle=0", "task.stratify=false")
    assert "give one of them" in call("real", "--whole", "--subset", 3).error()
