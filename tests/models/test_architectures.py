"""The sweep of benchmarks/architectures.py: tiny models of each architecture against transformers, PEFT and autograd."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from architecture_parts.networks import ARCHITECTURES  # noqa: E402
from architectures import COLUMNS, check, off  # noqa: E402

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
FEW = ("qwen3", "mistral", "gemma2", "gpt_neox", "mpt", "mamba", "phi3, longrope")
REFUSED = {  # columns that are refused, and words of the line
    "gpt2": ({"LoRA", "attribution"}, "no nn.Linear layer"),
    "openai-gpt": ({"LoRA", "attribution"}, "no nn.Linear layer"),
    "xlnet": (set(COLUMNS), "beside longer rows than alone"),
    "bert": (set(COLUMNS), "beside longer rows than alone"),
}
NEEDED = ("llama", "qwen", "mistral", "gemma", "phi", "gpt_neox", "starcoder2", "opt", "mixtral")


@pytest.mark.parametrize("name", FEW)
def test_a_few_architectures_are_right_in_every_column(name: str):
    assert check(BY_NAME[name]).results == dict.fromkeys(COLUMNS, "")


@pytest.mark.sweep
@pytest.mark.parametrize("name", BY_NAME)
def test_an_architecture_is_right_or_refused(name: str):
    checked = check(BY_NAME[name])
    columns, words = REFUSED.get(name, (set(), ""))
    assert checked.results == {column: "refused" if column in columns else "" for column in COLUMNS}, checked.notes
    assert words in " ".join(checked.notes)


def test_what_sees_the_tokens_behind_it_is_refused_by_name():
    [line] = check(BY_NAME["bert"], columns=("text",)).notes
    assert line.startswith("BertLMHeadModel cannot be evaluated: a row has other logits beside longer rows than alone")


def test_the_page_has_every_architecture_and_says_how_many_are_right():
    page = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^\| ([^|]+?) \| ((?:right|refused).*)\|$", page.partition("<!-- table -->")[2], re.M))
    assert list(lines) == list(BY_NAME)
    right = [name for name, cells in lines.items() if cells.startswith(" | ".join(["right"] * len(COLUMNS)))]
    assert f"{len(lines)} tiny models, {len(right)} right in every column" in page
    assert len(lines) >= 40
    assert len(right) >= 25
    for name in lines:
        assert name in right or not name.startswith(NEEDED), name


def test_what_is_not_a_number_is_off_wherever_it_stands():
    assert off([0.0, 1e-5]) == ""
    assert off([0.0, float("nan")]) == off([float("nan"), 0.0]) == "off by nan nats"
    assert off([0.1, 0.0]) == "off by 0.1 nats"
