"""A run that hf trains and measures and vLLM draws: one run folder, killed and resumed, with the texts of hf alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from doubles import SANDBOX, Call, Done
from spa_bench.runs.folder import RunFolder, open_run

pytestmark = pytest.mark.engines

COMMAND = [
    *("run", "--sampler", "spa-random", "--task", "mini-code", "--limit", "6", "--threads", "1", "--device", "cpu"),
    *("--set", "lora.steps=2", "--set", "lora.batch=4", "--noise-floor", "no", "--sandbox", SANDBOX),
]
VLLM = ["--engine", "vllm", "--set", "engine.kv_cache_gib=1", "--set", "engine.max_num_seqs=2"]


def folders(out: Path) -> dict[str, RunFolder]:
    """Engine that draws -> its run."""
    return {run.spec["engines"]["draw"]: run for spec in sorted(out.glob("*/spec.json")) for run in [open_run(spec.parent)]}


def finished(done: Done) -> str:
    assert done.code == 0, done.err
    return done.err


@pytest.fixture
def out(tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPA_BENCH_VLLM_PYTHON", python)
    return tmp_path / "runs"


def test_hf_trains_and_measures_and_vllm_draws_the_same_texts(call: Call, out: Path):
    finished(call(*COMMAND, "--out", out))
    assert "from the stage cache" in finished(call(*COMMAND, *VLLM, "--out", out))
    runs = folders(out)
    hf, vllm = runs["hf"], runs["vllm"]
    assert vllm.spec["engines"] == {"train": "hf", "draw": "vllm", "score": "vllm", "divergence": "hf"}
    assert vllm.spec["numerics"]["vllm"]["version"]
    assert vllm.read_json("adapters.json") == hf.read_json("adapters.json")
    assert vllm.divergence_log.rows() == hf.divergence_log.rows()
    # greedy: other texts only behind a near-tie, which these seeds do not have
    assert [(r.key, r.graded, r.finish) for r in vllm.record_log.rows()] == [
        (r.key, r.graded, r.finish) for r in hf.record_log.rows()
    ]
    assert call("verify", vllm.path).code == 0


def test_a_run_that_is_killed_while_vllm_draws_goes_on_from_there(call: Call, out: Path):
    finished(call(*COMMAND, *VLLM, "--out", out))
    [whole] = folders(out).values()
    again = out.parent / "again"
    process = subprocess.Popen([sys.executable, "-m", "spa_bench", *COMMAND, *VLLM, "--out", str(again)], env={**os.environ})
    kept = 0
    ends = time.monotonic() + 300
    while time.monotonic() < ends and not kept and process.poll() is None:
        time.sleep(0.05)
        kept = sum(path.read_text().count("\n") for path in again.glob("*/records.jsonl"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < kept < 24
    said = finished(call(*COMMAND, *VLLM, "--out", again))
    assert "resumed at" in said
    [resumed] = folders(again).values()
    assert resumed.hash == whole.hash
    assert len(resumed.record_log.rows()) == 24
    assert [(r.key, r.graded) for r in resumed.record_log.rows()] == [(r.key, r.graded) for r in whole.record_log.rows()]
    assert call("verify", resumed.path).code == 0
