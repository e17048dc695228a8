"""Every piece of the session on a GPU runs on a CPU with tiny shapes, is kept, and makes the page's section."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIECES = ("tests", "mini", "attribution", "training", "memory", "decoding", "engines", "batches", "kl")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness"), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "benchmarks" / "gpu_session.py")
    return subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_piece_runs_on_tiny_shapes(tmp_path: Path):
    out = tmp_path / "session.json"
    done = call("--device", "cpu", "--small", "--out", str(out))
    found = json.loads(out.read_text())
    assert {name: one.get("error") for name, one in found.items()} == dict.fromkeys(PIECES)
    assert done.returncode == 0, done.stderr
    assert found["memory"]["result"]["with little memory"] <= 2 < found["memory"]["result"]["rows a pass"]
    assert found["memory"]["result"]["largest relative difference"] < 1e-3
    assert found["kl"]["result"]["largest KL"] < 1e-6
    assert found["training"]["result"]["finite"] is True
    assert found["batches"]["result"]["the same when killed and resumed"] == 1
    assert {(row["rows"], row["members"]) for row in found["decoding"]["result"]} == {
        (rows, who) for rows in (8, 16) for who in ("base", "8 adapters")
    }
    measured = {row["engine"]: row["tokens a second"] for row in found["engines"]["result"]}
    assert measured["hf, K adapters stacked over one base"] > 0
    assert len(measured) == 6
    page = call("--page", "--out", str(out)).stdout
    assert page.startswith("## On a GPU\n")
    assert all(f"**{name}** (" in page for name in PIECES)
    assert "| rows | members | seconds | peak GB | tokens a second | share of the bandwidth |" in page


def test_a_piece_takes_the_place_of_its_last_result_and_others_stay(tmp_path: Path):
    out = tmp_path / "session.json"
    out.write_text(json.dumps({"kl": {"error": "old"}, "decoding": {"error": "kept"}}))
    assert call("--piece", "kl", "--device", "cpu", "--small", "--out", str(out)).returncode == 0
    found = json.loads(out.read_text())
    assert found["decoding"] == {"error": "kept"}
    assert found["kl"]["result"]["places"] > 0


@pytest.mark.slow
def test_without_a_device_one_line_says_so(tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = call("--out", str(tmp_path / "session.json"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "torch sees no CUDA device; --device cpu --small tries the pieces on tiny shapes\n"
