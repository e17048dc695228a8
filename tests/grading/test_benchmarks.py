"""The scripts under benchmarks/ run, and print what the documents say they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def output(script: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(table: str) -> list[list[str]]:
    """Rows of a Markdown table, its head first."""
    rows = [line.strip("|\n ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
def test_grading_is_timed_without_its_peer(data: Path):
    out = output("grading.py", "--limit", "4", "--sets", "a", "--no-peer", "--workers", "2", SPA_BENCH_DATA=str(data))
    assert "(a) canonical solutions of HumanEval+: 4 samples, ours " in out
    assert "(4 passed)" in out
    assert "a sample costs " in out
    assert "evalplus" not in out.replace("HumanEval+", "")


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
def test_nothing_escapes_and_the_document_s_table_is_the_script_s():
    pytest.importorskip("evalplus")
    out = cells(output("escapes.py"))
    head = out[0]
    for row in out[1:]:
        assert row[head.index("bwrap")] == "fails", row
    documented = cells((ROOT / "docs" / "explanation" / "security.md").read_text().partition("## Beside evalplus")[2])
    if head == documented[0]:  # the same sandboxes work here
        assert out == documented
    assert [row[0] for row in out] == [row[0] for row in documented]
    assert len(out) == 13


@pytest.mark.slow
def test_stacked_generation_is_measured_and_equals_its_peer():
    settings = ["--rows", "32", "--members", "2", "--new-tokens", "4", "--rounds", "1", "--threads", "1", "--json"]
    found = json.loads(output("stacked_generation.py", *settings, OMP_NUM_THREADS="1"))
    assert found["rows_equal"] == found["rows"] == 32
    assert all(found[f"vs_{name}"] > 0 for name in ("peft_single", "peft_mixed", "base", "merged"))
