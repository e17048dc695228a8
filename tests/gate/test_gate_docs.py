"""What docs/how-to/gate.md shows is what there is: its pytest example runs, its table is the one of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from made_up import estimated_anew
from simulated import simulated
from spa_bench.compare.gate.rules import RULES
from spa_bench.compare.leaderboard import save_all

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "how-to" / "gate.md"


@pytest.mark.parametrize(("quality", "code"), [(0.0, 0), (-3.0, 1)], ids=["a re-run", "a regression"])
def test_the_example_for_pytest_runs_and_its_failure_says_why(quality: float, code: int, tmp_path: Path):
    [example] = re.findall(r"```python\n(from spa_bench\.compare\.gate.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "test_it.py").write_text(example)
    [baseline] = save_all([estimated_anew(simulated("s", range(5)))], tmp_path / "leaderboards" / "results" / "mini-code.json")
    save_all([estimated_anew(simulated("s", [7], code="new", quality=quality))], tmp_path / "runs" / "new" / "t.json")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    if code:
        assert f"RED: against {baseline.relative_to(tmp_path)}: s: pass@1 fell by" in done.stdout


def test_the_table_of_tolerances_is_that_of_the_code():
    table = "\n".join(line for line in DOCS.read_text().splitlines() if line.startswith("| `"))
    for name, rule in RULES.items():
        [line] = [line for line in table.splitlines() if f"`{name}`" in line]
        wanted = "reported only" if rule.tolerance is None else str(rule.tolerance)
        assert f"| {wanted}" in line, name
