"""The first real input: StarCoder2-15B-Instruct's greedy HumanEval completions with evalplus' published verdicts."""

import json
from pathlib import Path
from typing import Any

import pytest

from spa_bench import cli
from spa_bench.store import open_run

_NAME = "evalplus-starcoder2-15b-instruct-v0.1-humaneval"


@pytest.fixture
def scored(
    data: Path, bwrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The JSON rows that `score` prints, and the verdict of each problem."""
    samples = data / "generations" / "starcoder2-15b-instruct" / f"{_NAME}.jsonl"
    if not samples.is_file():
        pytest.skip(f"no generations in {data}")
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    out = tmp_path / "runs"
    command = ["score", "--task", "humaneval", "--samples", str(samples), "--out", str(out), "--sandbox", bwrap, "--json"]
    assert cli.main([*command, "--workers", "2"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    [path] = out.iterdir()
    return rows, {g.problem: str(g.verdict) for g in open_run(path).grades().values()}


def test_verdicts_are_the_published_ones_problem_by_problem(data: Path, scored: tuple[list[Any], dict[str, str]]):
    rows, verdicts = scored
    published = json.loads((data / "generations" / "starcoder2-15b-instruct" / f"{_NAME}_eval_results.json").read_text())
    base = {problem: results[0]["base_status"] for problem, results in published["eval"].items()}
    assert len(base) == 164
    assert {p: v == "passed" for p, v in verdicts.items()} == {p: s == "pass" for p, s in base.items()}
    [row] = rows
    found = row["metrics"]["pass@1"]
    assert found["value"] == pytest.approx(119 / 164, abs=1e-12)
    assert found["n"] == 164
    assert 0.64 < found["low"] < 0.69  # Wilson's interval for 119 of 164 is [0.652, 0.788]
    assert 0.76 < found["high"] < 0.81
    assert row["n"] == row["k"] == 1
    assert row["metrics"]["vendi"]["reason"]
