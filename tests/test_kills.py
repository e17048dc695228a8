"""Killed anywhere, resumed: the same bytes as a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spa_bench.mini.data import instructions
from tiny import save_tiny

POINTS = 50
FEW = 10  # points where slow tests are left out, over the whole of the run too
BATCH_IN_HAND = 8 + 4  # answers decoded together, and answers synced together


@pytest.fixture(scope="module")
def points(request: pytest.FixtureRequest) -> int:
    """How many points there are: all, where one of the tests of the many is to run."""
    here = [item for item in request.session.items if item.path == request.path]
    return POINTS if any(item.get_closest_marker("slow") for item in here) else FEW


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, points: int) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("kills")
    rows = []
    for i in range(6):
        test = f"def check(candidate):\n    assert candidate({i}) == {2 * i}\n"
        prompt = f"def double{i}(x):\n"
        row = {"task_id": f"six/{i}", "prompt": prompt, "entry_point": f"double{i}", "test": test}
        rows.append(json.dumps({**row, "canonical_solution": "    return 2 * x\n"}) + "\n")
    (folder / "six.jsonl").write_text("".join(rows))
    card = folder / "six.toml"
    card.write_text('description = "six"\nfile = "six.jsonl"\nversion = "1"\nmax_new_tokens = 6\nstop = ["\\ndef "]\n')
    pairs = folder / "pairs.jsonl"
    short = sorted(instructions(), key=lambda e: len(e.prompt) + len(e.completion))[:16]
    pairs.write_text("".join(json.dumps({"prompt": e.prompt, "completion": e.completion}) + "\n" for e in short))
    (folder / "model").mkdir()
    model = save_tiny(folder / "model", layers=1)  # what becomes lasting does not depend on its size
    config = {"model": str(model), "task": str(card), "data": str(pairs), "folder": str(folder / "w"), "points": points}
    (folder / "config.json").write_text(json.dumps(config))
    here = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    command = [sys.executable, str(here / "kill_server.py"), str(folder / "config.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_undisturbed_run_draws_nothing_twice_and_makes_many_lasting_calls(outcomes: list[dict[str, Any]]):
    assert outcomes[0]["repeated"] == 0
    assert outcomes[0]["calls"] > 1.5 * POINTS  # whatever the number of points at which it is killed


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.slow if n > FEW else ()) for n in range(1, POINTS + 1)])
def test_a_killed_run_goes_on_to_the_same_bytes(number: int, outcomes: list[dict[str, Any]]):
    found = outcomes[number]
    assert found["ends"][0] == -9
    assert found["ends"][-1] == 0
    assert found["differ"] == []
    assert found["repeated"] <= BATCH_IN_HAND * (len(found["ends"]) - 1)
