"""lm-eval's own command and our adapter say the same of one model, number by number, on real rows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nlu_reference import answered, assert_same, define, reference, task_of, with_files

if find_spec("lm_eval") is None:
    pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'", allow_module_level=True)

SUBJECTS = ["anatomy", "virology"]


def mmlu(folder: Path, data: Path) -> None:
    """Two subjects of lm-eval's MMLU and their group, over the local rows."""
    for subject in SUBJECTS:
        files = {split: data / "mmlu" / split / f"{subject}.jsonl" for split in ("test", "dev")}
        with_files(folder, f"mmlu/default/mmlu_{subject}.yaml", f"mmlu_{subject}", files)
    metric = {"metric": "acc", "weight_by_size": True}
    define(folder, "mmlu", {"group": "mmlu", "task": [f"mmlu_{s}" for s in SUBJECTS], "aggregate_metric_list": [metric]})


@pytest.mark.parametrize("shots", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_mmlu_equals_lm_eval_with_and_without_examples(
    shots: int, data: Path, tiny_folder: Path, tiny_model: Any, tmp_path: Path
):
    mmlu(tmp_path / "yaml", data)
    theirs = reference(tmp_path / "yaml", "mmlu", tiny_folder, num_fewshot=shots, limit=12)
    task = task_of("mmlu", local=[data], subjects=SUBJECTS, per_task=12, fewshot=shots, too_long="cut")
    ours = assert_same(task, answered(task, tiny_model), theirs)
    assert ours["mmlu"]["sample_len"] == 24
    assert 0 < ours["mmlu"]["acc,none"] < 1


@pytest.mark.slow
def test_prompts_that_are_too_long_are_cut_as_lm_eval_cuts_them(data: Path, tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    name = "mmlu_high_school_us_history"
    files = {split: data / "mmlu" / split / "high_school_us_history.jsonl" for split in ("test", "dev")}
    with_files(tmp_path / "yaml", f"mmlu/default/{name}.yaml", name, files)
    theirs = reference(tmp_path / "yaml", name, tiny_folder, num_fewshot=5, limit=12)
    task = task_of(f"lm-eval:{name}", folder="mmlu/default", local=[data], fewshot=5, per_task=12, too_long="cut")
    answers = answered(task, tiny_model)
    assert_same(task, answers, theirs)
    assert all(asked.cut for asked in answers.asking.asked)


@pytest.mark.parametrize("shots", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_winogrande_equals_lm_eval(shots: int, data: Path, tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    files = {"validation": data / "winogrande" / "validation.jsonl"}
    with_files(tmp_path / "yaml", "winogrande/default.yaml", "winogrande", files, training_split=None)
    theirs = reference(tmp_path / "yaml", "winogrande", tiny_folder, num_fewshot=shots, limit=40)
    task = task_of("winogrande", local=[data], per_task=40, fewshot=shots)
    assert_same(task, answered(task, tiny_model), theirs)


@pytest.mark.parametrize("shots", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_bbh_equals_lm_eval(shots: int, data: Path, tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    names = ["bbh_cot_fewshot_navigate", "bbh_cot_fewshot_sports_understanding"]
    for name in names:
        short = name.removeprefix("bbh_cot_fewshot_")
        with_files(tmp_path / "yaml", f"bbh/cot_fewshot/{short}.yaml", name, {"test": data / "bbh" / f"{short}.jsonl"})
    metric = {"metric": "exact_match", "weight_by_size": True, "filter_list": "get-answer"}
    define(tmp_path / "yaml", "bbh", {"group": "bbh", "task": names, "aggregate_metric_list": [metric]})
    settings = {"num_fewshot": shots, "limit": 8, "gen_kwargs": {"max_gen_toks": 24}}
    theirs = reference(tmp_path / "yaml", "bbh", tiny_folder, **settings)
    task = task_of(
        "bbh", local=[data], subjects=["navigate", "sports_understanding"], per_task=8, fewshot=shots, max_gen_toks=24,
        too_long="cut",
    )  # fmt: skip
    assert_same(task, answered(task, tiny_model), theirs)
