"""mini-nlu in lm-eval itself: its YAML loads, asks what the world says, and counts every true answer as right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import spa_bench
from spa_bench.mini.data import MODEL
from spa_bench.mini.text.data import DOCUMENTS, documents
from spa_bench.mini.text.world import FAMILIES

FOLDER = Path(spa_bench.__file__).resolve().parent / "mini" / "nlu"
GENERATED = {"counting", "pick"}
# A model that knows what is true: mode "first" and "last" answer with the first or last true choice, "wrong" with none.
ORACLE = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

folder, modes = sys.argv[1:]

def answer(doc, mode):
    wrong = [c for c in doc["choices"] if c not in doc["answers"]]
    return {"first": doc["answers"][0], "last": doc["answers"][-1], "wrong": (wrong or ["none"])[0]}[mode]

class Oracle(LM):
    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def loglikelihood(self, requests):
        said = [(r.doc, r.args[1].strip() if r.args[0] == r.doc["prompt"] else r.args[0].split()[-1]) for r in requests]
        return [(0.0 if text == answer(doc, self.mode) else -1.0, False) for doc, text in said]

    def generate_until(self, requests):
        return [f" {answer(r.doc, self.mode)}, because it is so." for r in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

manager = TaskManager(include_path=folder, include_defaults=False)
all = {}
for mode in modes.split():
    found = simple_evaluate(model=Oracle(mode), tasks=["mini_nlu"], task_manager=manager, bootstrap_iters=0)
    all[mode] = {key: found[key] for key in ("results", "samples", "configs", "versions", "n-shot")}
print(json.dumps(all, default=str))
"""


@pytest.fixture(scope="module", autouse=True)
def _lm_eval() -> None:
    if find_spec("lm_eval") is None:  # importing it takes seconds
        pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'")


@cache
def run(script: str, argument: str) -> dict[str, Any]:
    """What `script` prints as its last line, in a process of its own, without a network."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", script, str(FOLDER), argument]
    done = subprocess.run(command, env=offline, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def oracle(mode: str) -> dict[str, Any]:
    """What lm-eval finds of the model that knows; importing lm-eval takes seconds, so one process does all modes."""
    found: dict[str, Any] = run(ORACLE, "first last wrong")[mode]
    return found


def accuracy(results: dict[str, Any], family: str) -> float:
    return float(results[f"mini_nlu_{family}"]["exact_match,first-word" if family in GENERATED else "acc,none"])


@pytest.mark.parametrize(("mode", "score"), [("first", 1.0), ("last", 1.0), ("wrong", 0.0)])
def test_every_true_answer_counts_and_no_other(mode: str, score: float):
    results = oracle(mode)["results"]
    assert {family: accuracy(results, family) for family in FAMILIES} == dict.fromkeys(FAMILIES, score)
    assert results["mini_nlu"]["acc,none"] == results["mini_nlu"]["exact_match,first-word"] == score


def test_the_group_has_all_families_at_version_1_without_examples_before_them():
    found = oracle("first")
    names = {f"mini_nlu_{family}" for family in FAMILIES}
    assert set(found["samples"]) == names
    assert {name: str(found["versions"][name]) for name in (*names, "mini_nlu")} == dict.fromkeys((*names, "mini_nlu"), "1")
    assert {found["n-shot"][name] for name in names} == {0}
    assert {found["configs"][f"mini_nlu_{f}"]["output_type"] for f in GENERATED} == {"generate_until"}


@pytest.mark.parametrize("family", FAMILIES)
def test_lm_eval_asks_the_documents_of_the_world(family: str):
    rows = sorted(oracle("first")["samples"][f"mini_nlu_{family}"], key=lambda row: row["doc_id"])
    docs = documents(family)
    assert [row["doc"] for row in rows] == docs
    assert len(rows) == DOCUMENTS
    for row, doc in zip(rows, docs, strict=True):
        asked = [tuple(arguments)[:2] for arguments in row["arguments"]]
        if family == "pronoun":  # partial evaluation: contexts differ, the scored text is one
            assert asked == [(f"{doc['prompt']} {choice}", f" {doc['rest']}") for choice in doc["choices"]]
        elif family in GENERATED:
            assert asked[0][0] == doc["prompt"]
            assert asked[0][1]["until"] == ["\n"]
        else:
            assert asked == [(doc["prompt"], f" {choice}") for choice in doc["choices"]]


def test_questions_and_answers_fit_the_embedded_model_with_room():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(MODEL))
    for family in FAMILIES:
        for row in documents(family):
            longest = max(len(tokenizer(f"{row['prompt']} {choice} {row['rest']}")["input_ids"]) for choice in row["choices"])
            assert longest + 64 < 256
