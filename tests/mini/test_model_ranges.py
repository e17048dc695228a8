"""The shipped model is neither ignorant nor perfect: on both embedded tasks there is room to tell samplers apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import spa_bench
from doubles import Call
from spa_bench.mini.data import MODEL
from spa_bench.mini.text.data import documents
from spa_bench.mini.text.world import FAMILIES

pytestmark = pytest.mark.slow

EVALUATE = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
found = simple_evaluate(
    model="hf", model_args={"pretrained": sys.argv[2], "device": "cpu", "dtype": "float32"}, tasks=["mini_nlu"],
    task_manager=TaskManager(include_path=sys.argv[1], include_defaults=False), bootstrap_iters=0, batch_size=16,
)
print(json.dumps({name: values for name, values in found["results"].items() if name != "mini_nlu"}))
"""
GENERATED = ("counting", "pick")
COUNTS = 7  # totals of two numbers from 1 to 4


def chance(family: str) -> float:
    """Accuracy of a blind choice, for "counting" of a blind total."""
    rows = documents(family)
    return 1 / COUNTS if family == "counting" else sum(len(r["right"]) / len(r["choices"]) for r in rows) / len(rows)


def test_on_mini_nlu_some_families_are_clearly_above_chance_and_none_is_saturated():
    if find_spec("lm_eval") is None:
        pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'")
    folder = Path(spa_bench.__file__).resolve().parent / "mini" / "nlu"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", EVALUATE, str(folder), str(MODEL)]
    done = subprocess.run(command, env=offline, capture_output=True, text=True, timeout=600, check=True)
    results = json.loads(done.stdout.splitlines()[-1])
    key = {family: "exact_match,first-word" if family in GENERATED else "acc,none" for family in FAMILIES}
    accuracy = {family: results[f"mini_nlu_{family}"][key[family]] for family in FAMILIES}
    above = [family for family in FAMILIES if accuracy[family] > chance(family) + 0.2]
    assert len(above) >= 3, accuracy
    assert max(accuracy.values()) <= 0.95, accuracy
    assert 0.45 < sum(accuracy.values()) / len(accuracy) < 0.85, accuracy


def test_on_mini_code_the_bare_model_passes_about_half(call: Call, bwrap: str, tmp_path: Path):
    options = ["--set", "decoding.temperature=0", "--n", 1, "--threads", 1, "--device", "cpu", "--sandbox", bwrap, "--json"]
    done = call("run", "--sampler", "base", "--task", "mini-code", *options, "--out", tmp_path / "runs")
    assert done.code == 0, done.err
    [row] = json.loads(done.out)
    assert 0.5 < row["metrics"]["pass@1"]["value"] < 0.75
