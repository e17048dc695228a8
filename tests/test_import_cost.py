"""What imports load, each in a process of its own, where nothing is loaded before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from test_layering import HEAVY


def test_importing_the_package_loads_nothing_heavy():
    script = "import spa_bench, sys; print(sorted({'torch', 'pandas', 'numpy', 'altair', 'matplotlib'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "modules",
    [
        "spa_bench",
        "spa_bench.api.runs, spa_bench.api.objects, spa_bench.api.pictures",
        "spa_bench.cli.main, spa_bench.compare.leaderboard, spa_bench.cards.sampler, spa_bench.metrics.suite",
        "spa_bench.publish.report.page, spa_bench.runs.folder",
        "spa_bench.runs.reopen, spa_bench.runs.verify, spa_bench.publish.report.write, spa_bench.publish.export",
        "spa_bench.compare.gate, spa_bench.compare.power, spa_bench.publish.view.server, spa_bench.publish.show",
    ],
)
def test_looking_at_results_loads_no_torch(modules: str, tmp_path: Path):
    script = f"import {modules}, sys; print(sorted({sorted(HEAVY)!r} & sys.modules.keys()))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)})
    assert done.stderr == ""
    assert done.stdout == "[]\n"


SCORE = """
import sys
from spa_bench.cli.main import main
assert main(["score", "--task", "t.toml", "--samples", "s.jsonl", "--sandbox", "none-i-trust-this-code", "--out", "runs"]) == 0
assert main(["list", "models"]) == 0
print(sorted({"torch", "transformers", "peft"} & sys.modules.keys()))
"""


def test_scoring_samples_from_elsewhere_loads_no_torch(tmp_path: Path):
    """It would take longer than everything else, in a gate that has no model."""
    problem = {"task_id": "t/0", "prompt": "def add(a, b):\n", "canonical_solution": "    return a + b\n", "entry_point": "add"}
    problem["test"] = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
    (tmp_path / "t.jsonl").write_text(json.dumps(problem) + "\n")
    (tmp_path / "t.toml").write_text('description = "one"\nfile = "t.jsonl"\nversion = "1"\n')
    (tmp_path / "s.jsonl").write_text(json.dumps({"task_id": "t/0", "completion": "    return a + b\n"}) + "\n")
    done = subprocess.run([sys.executable, "-c", SCORE], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
