"""lm-eval's scoring of our answers: groups, filters, repeats, several right answers; against lm-eval itself where it runs."""

from __future__ import annotations

import csv
import json
import random
import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from doubles import MockModel
from nlu_reference import answered, assert_same, define, reference, scores, task_of, with_files
from spa_bench.errors import DataError, UsageError
from spa_bench.tasks.lm_eval import asking
from spa_bench.tasks.lm_eval.library import quiet
from spa_bench.tasks.lm_eval.scoring import judged, mean_of
from spa_bench.tasks.lm_eval.task import LmEvalTask
from spa_bench.types import Choices, Completion, Key, Record, Verdict

if find_spec("lm_eval") is None:
    pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'", allow_module_level=True)

COLOURS = ["red", "green", "blue"]
MEAN = {"aggregation": "mean", "higher_is_better": True}


def rows_of(folder: Path, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Where a definition says that its rows are: a file beside it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"data_files": {"test": str(folder / f"{name}.jsonl")}, "cache_dir": str(folder / "cache")}
    return {"task": name, "dataset_path": "json", "dataset_kwargs": own, "test_split": "test"}


def choice_task(folder: Path, name: str, count: int, **changes: Any) -> None:
    """`count` questions after a colour, three to choose from."""
    rows = [{"text": f"The {i}th flag is", "answer": i % 3} for i in range(count)]
    content = {
        "output_type": "multiple_choice", "doc_to_text": "{{text}}", "doc_to_choice": COLOURS, "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}], "metadata": {"version": 1.0},
    }  # fmt: skip
    define(folder, name, {**rows_of(folder, name, rows), **content, **changes})


def text_task(folder: Path, name: str, **changes: Any) -> None:
    """Two sums, the answer behind `####`."""
    rows = [{"text": "1 + 1 =", "answer": "2"}, {"text": "2 + 3 =", "answer": "5"}]
    filters = [
        {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "#### (\\d+)"}, {"function": "take_first"}]},
        {"name": "loose", "filter": [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "take_first"}]},
    ]
    content = {
        "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{answer}}", "filter_list": filters,
        "generation_kwargs": {"until": ["\n\n", "Q:"], "max_gen_toks": 7}, "metric_list": [{"metric": "exact_match", **MEAN}],
    }  # fmt: skip
    define(folder, name, {**rows_of(folder, name, rows), **content, **changes})


def chose(place: str, choice: int | None, member: int = 0, draw: int = 0) -> Record:
    return Record(problem=place, member=member, draw=draw, raw="", graded="", finish="stop", tokens=1, seed=0, choice=choice)


def wrote(place: str, text: str, member: int = 0, draw: int = 0) -> Record:
    return Record(problem=place, member=member, draw=draw, raw=text, graded=text, finish="stop", tokens=1, seed=0)


def thinks(place: str, *members: list[float]) -> Choices:
    """Log-probabilities of each member; greedy is the best."""
    greedy = [[x == max(row) for x in row] for row in members]
    return Choices(problem=place, logprobs=[*members], greedy=greedy, tokens=[1] * len(members[0]), matrices={}, members={})


def verdicts(task: LmEvalTask, *records: Record, choices: tuple[Choices, ...] = ()) -> list[Verdict]:
    found = {g.key: g.verdict for g in task.score(records, None, choices)}  # type: ignore[arg-type]
    return [found[r.key] for r in records]


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_is_weighted_as_it_says(by_size: bool, tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    choice_task(tmp_path / "yaml", "few", 3)
    choice_task(tmp_path / "yaml", "many", 17, doc_to_text="Which colour? {{text}}", target_delimiter="")
    metric = {"metric": "acc", "weight_by_size": by_size}
    define(tmp_path / "yaml", "both", {"group": "both", "task": ["few", "many"], "aggregate_metric_list": [metric]})
    theirs = reference(tmp_path / "yaml", "both", tiny_folder)
    task = task_of("lm-eval:both", include=tmp_path / "yaml")
    ours = assert_same(task, answered(task, tiny_model), theirs)
    few, many = ours["few"]["acc,none"], ours["many"]["acc,none"]
    assert few != many
    assert ours["both"]["acc,none"] == pytest.approx((3 * few + 17 * many) / 20 if by_size else (few + many) / 2)


def test_an_answer_is_right_when_its_choice_is(tmp_path: Path):
    choice_task(tmp_path / "yaml", "flags", 3)
    task = task_of("lm-eval:flags", include=tmp_path / "yaml")
    assert [p.id for p in task.problems] == ["flags/0", "flags/1", "flags/2"]
    assert [p.reference for p in task.problems] == [" red", " green", " blue"]
    assert {p.choices for p in task.problems} == {3}
    assert verdicts(task, chose("flags/1", 0), chose("flags/1", 1, draw=1), chose("flags/1", None, draw=2)) == [
        Verdict.WRONG, Verdict.PASSED, Verdict.REFUSED,
    ]  # fmt: skip
    (grade,) = task.score([chose("flags/1", 2)], None, ())  # type: ignore[arg-type]
    assert grade.message == "answered 'blue', not 'green'"


def test_several_answers_may_be_right(tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    rows = [{"text": f"Flag {i} is", "answer": right} for i, right in enumerate([[0, 2], [1], [0, 1]])]
    choice_task(tmp_path / "yaml", "flags", 3, **{**rows_of(tmp_path / "yaml", "several", rows), "task": "flags"})
    task = task_of("lm-eval:flags", include=tmp_path / "yaml")
    assert [(p.choices, p.right) for p in task.problems] == [(3, 2), (3, 1), (3, 2)]
    choice_task(tmp_path / "yaml", "twice", 1, doc_to_target=[0, 0, 2, 2])
    assert task_of("lm-eval:twice", include=tmp_path / "yaml").problems[0].right == 2  # an answer that is named twice is one
    assert verdicts(task, *[chose("flags/0", i, draw=i) for i in range(3)]) == [
        Verdict.PASSED, Verdict.WRONG, Verdict.PASSED,
    ]  # fmt: skip
    assert_same(task, answered(task, tiny_model), reference(tmp_path / "yaml", "flags", tiny_folder))


def test_numbers_of_right_answers_may_be_numpys(tmp_path: Path):
    folder = tmp_path / "yaml"
    choice_task(folder, "flags", 2)
    lines = [f"{key}: {json.dumps(value)}" for key, value in json.loads((folder / "flags.yaml").read_text()).items()]
    asked = [line for line in lines if not line.startswith("doc_to_target")] + ["doc_to_target: !function rights.right"]
    (folder / "flags.yaml").write_text("\n".join(asked))
    (folder / "rights.py").write_text("import numpy as np\n\ndef right(doc):\n    return list(np.arange(2))\n")
    task = task_of("lm-eval:flags", include=folder)
    assert [(p.reference, p.right) for p in task.problems] == [(" red", 2)] * 2


def test_unconditional_options_are_scored_and_never_chosen(tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    metrics = [{"metric": "acc_mutual_info", **MEAN}, {"metric": "acc", **MEAN}]
    choice_task(tmp_path / "yaml", "flags", 7, metric_list=metrics)
    task = task_of("lm-eval:flags", include=tmp_path / "yaml")
    [asked] = task.asked_by(tiny_model, 1).asked
    assert (asked.choices, len(asked.options)) == (3, 6)
    assert asked.options[3] == ("", " red")
    assert_same(task, answered(task, tiny_model), reference(tmp_path / "yaml", "flags", tiny_folder))
    assert verdicts(task, chose("flags/0", 0), chose("flags/0", 1, draw=1)) == [Verdict.PASSED, Verdict.WRONG]


def test_one_right_text_is_judged_by_what_greedy_decoding_writes(tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    content = {"output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": " {{answer}}"}
    rows = [{"text": "The sky is", "answer": "blue"}, {"text": "Grass is", "answer": "green"}]
    metrics = [{"metric": "acc", **MEAN}, {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]
    define(tmp_path / "yaml", "words", {**rows_of(tmp_path / "yaml", "words", rows), **content, "metric_list": metrics})
    task = task_of("lm-eval:words", include=tmp_path / "yaml", bootstrap=2000)
    assert [one.choices for one in task.options(None)] == [1, 1]
    assert [a.choices for a in task.asked_by(tiny_model, None).asked] == [1, 1]
    assert task.problems[0].choices is None
    seen = (
        thinks("words/0", [-1.0]),
        Choices(problem="words/1", logprobs=[[-9.0]], greedy=[[False]], tokens=[2], matrices={}, members={}),
    )
    both = chose("words/0", 0), chose("words/1", 0)
    assert verdicts(task, *both, choices=seen) == [Verdict.PASSED, Verdict.WRONG]
    assert verdicts(task, *both) == [Verdict.REFUSED, Verdict.REFUSED]
    answers = answered(task, tiny_model)
    theirs = reference(tmp_path / "yaml", "words", tiny_folder, bootstrap_iters=2000)
    ours = scores(task, answers)["words"]
    assert ours["acc,none"] == theirs.results["words"]["acc,none"]
    assert ours["perplexity,none"] == pytest.approx(theirs.results["words"]["perplexity,none"], rel=1e-5)
    assert ours["perplexity_stderr,none"] == pytest.approx(theirs.results["words"]["perplexity_stderr,none"], rel=1e-3)


@pytest.mark.parametrize("kind", ["multiple_choice", "generate_until"])
def test_a_metric_of_which_less_is_better_calls_no_answer_right(kind: str, tmp_path: Path):
    folder, less = tmp_path / "yaml", {"aggregation": "mean", "higher_is_better": False}
    make = choice_task if kind == "multiple_choice" else lambda folder, name, _, **changes: text_task(folder, name, **changes)
    make(folder, "crowd", 3, metric_list=[{"metric": "stereotyped", **less}, {"metric": "fair", **MEAN}])
    path = folder / "crowd.yaml"  # JSON has no tags: as the first line of a block it is YAML
    lines = [f"{key}: {json.dumps(value)}" for key, value in json.loads(path.read_text()).items()]
    path.write_text("\n".join([*lines, "process_results: !function judging.judge"]))
    said = "results[0][0] == 0.0" if kind == "multiple_choice" else "results[0] == '2'"
    (folder / "judging.py").write_text(
        f"def judge(doc, results):\n    bad = float({said})\n    return {{'stereotyped': bad, 'fair': 1 - bad}}\n"
    )
    task = task_of("lm-eval:crowd", include=folder)
    assert str(task.describe()["scoring"]["crowd"]["verdict"]).startswith("fair,")  # type: ignore[index]
    path.write_text("\n".join([*lines, "process_results: !function judging.judge"]).replace("true", "false"))
    with pytest.raises(
        UsageError, match=r"no metric that calls .* \(it has stereotyped, of which less is better, fair, of which"
    ):
        task_of("lm-eval:crowd", include=folder).describe()


def test_filters_are_lm_evals_and_the_first_decides(tmp_path: Path):
    text_task(tmp_path / "yaml", "sums")
    task = task_of("lm-eval:sums", include=tmp_path / "yaml")
    strict, loose = wrote("sums/0", "It is #### 2"), wrote("sums/0", "It is 2", draw=1)
    assert verdicts(task, strict, loose) == [Verdict.PASSED, Verdict.WRONG]
    other = task_of("lm-eval:sums", include=tmp_path / "yaml", filter="loose")
    assert verdicts(other, strict, loose) == [Verdict.PASSED, Verdict.PASSED]
    assert task.describe()["scoring"]["sums"]["verdict"] == "exact_match,strict"  # type: ignore[index]
    (prompt, _) = task.asked_by(MockModel(lambda request: ""), None).prompts
    assert (prompt.text, prompt.max_new_tokens, prompt.stop) == ("1 + 1 =", 7, ("\n\n", "Q:"))
    record = task.record(Completion(key=Key("sums/0", 0, 0), text="2 \nQ: more", tokens=3, finish="stop", seed=0))
    assert (record.graded, record.raw) == ("2 \n", "2 \nQ: more")


def test_equal_answers_behave_alike_whatever_was_written_around_them(tmp_path: Path):
    text_task(tmp_path / "yaml", "sums")
    task = task_of("lm-eval:sums", include=tmp_path / "yaml", filter="loose")
    records = [wrote("sums/1", text, draw=i) for i, text in enumerate(["so 5", "I say 5", "4", ""])]
    records.append(
        Record(problem="sums/1", member=0, draw=4, raw="", graded="", finish="failed", tokens=0, seed=0, failure="memory")
    )
    one, two, other, empty, failed = sorted(task.behave(records, None, ()), key=lambda b: b.draw)  # type: ignore[arg-type]
    assert one.digest == two.digest
    assert len({one.digest, other.digest, empty.digest}) == 3
    assert [b.right for b in (one, two, other, empty)] == [1, 1, 0, 0]
    assert (failed.ran, failed.digest) == (False, "")


def test_draws_of_a_member_are_runs_and_values_their_mean(tmp_path: Path):
    text_task(tmp_path / "yaml", "sums")
    task = task_of("lm-eval:sums", include=tmp_path / "yaml", filter="loose")
    texts = {(0, 0): ("2", "5"), (0, 1): ("2", "no"), (1, 0): ("3", "no"), (1, 1): ("2", "no")}
    records = [wrote(f"sums/{i}", t, *key) for key, pair in texts.items() for i, t in enumerate(pair)]
    found = task.own_scores(records, [], 4, 2)
    assert found is not None
    assert [m["sums"]["exact_match,loose"] for m in found["members"]] == [0.75, 0.25]
    assert found["harness"].startswith("lm-eval 0.")


def test_a_task_that_asks_several_times_gets_a_members_draws_as_its_repeats(tmp_path: Path):
    vote = [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "majority_vote"}, {"function": "take_first"}]
    text_task(tmp_path / "yaml", "sums", repeats=3, filter_list=[{"name": "vote", "filter": vote}])
    task = task_of("lm-eval:sums", include=tmp_path / "yaml")
    records = [wrote(f"sums/{i}", t, draw=d) for i in range(2) for d, t in enumerate(["2", "5", "5"])]
    found = task.own_scores(records, [], 3, 1)
    assert found is not None
    assert found["members"][0]["sums"]["exact_match,vote"] == 0.5  # the vote is 5, right for the second alone
    assert verdicts(task, *records[:3]) == [Verdict.PASSED, Verdict.WRONG, Verdict.WRONG]


def test_scores_are_of_the_member_and_of_what_was_asked(tmp_path: Path):
    choice_task(tmp_path / "yaml", "flags", 3)
    task = task_of("lm-eval:flags", include=tmp_path / "yaml")
    choices = [thinks("flags/0", [-1, -2, -3], [-2, -1, -3]), thinks("flags/1", [-2, -1, -3], [-1, -2, -3])]
    found = task.own_scores([], choices, 2, 2)
    assert found is not None
    assert [m["flags"]["acc,none"] for m in found["members"]] == [1.0, 0.0]
    assert [m["flags"]["sample_len"] for m in found["members"]] == [2, 2]
    json.dumps(found, allow_nan=False)


def gpqa(folder: Path) -> Path:
    """Made-up rows with the columns of GPQA's file."""
    rows = [
        {
            "Pre-Revision Question": "", "Question": f"What is {i} + {i}?", "Correct Answer": f"{2 * i} in all",
            **{f"Incorrect Answer {j}": f" {2 * i + j} [title]  or so" for j in (1, 2, 3)},
            "Explanation": "Add.", "Subdomain": "Arithmetic", "High-level domain": "Mathematics", "Record ID": f"rec{i}",
        }
        for i in range(10, 40)
    ]  # fmt: skip
    (folder / "gpqa").mkdir(parents=True)
    file = folder / "gpqa" / "gpqa_main.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_gpqas_choices_are_shuffled_as_lm_eval_shuffles_them(tiny_folder: Path, tiny_model: Any, tmp_path: Path):
    file = gpqa(tmp_path / "data")
    name = "gpqa_main_zeroshot"
    with_files(tmp_path / "yaml", f"gpqa/zeroshot/{name}.yaml", name, {"train": file})
    theirs = reference(tmp_path / "yaml", name, tiny_folder)
    random.seed(5)
    task = task_of("gpqa", local=[tmp_path / "data"])
    assert_same(task, answered(task, tiny_model), theirs)
    assert {p.reference for p in task.problems} == {" (A)", " (B)", " (C)", " (D)"}
    assert "\n(A) " in task.problems[0].prompt
    drawn = random.random()
    random.seed(5)
    assert random.random() == drawn  # the global generator is where it was


def test_a_task_that_draws_while_it_is_asked_draws_as_in_lm_eval(tmp_path: Path):
    folder = tmp_path / "yaml"
    for name in ("first", "second"):
        choice_task(folder, name, 5)
        lines = [f"{key}: {json.dumps(value)}" for key, value in json.loads((folder / f"{name}.yaml").read_text()).items()]
        asked = [line for line in lines if not line.startswith("doc_to_text")] + ["doc_to_text: !function drawing.asked"]
        (folder / f"{name}.yaml").write_text("\n".join(asked))
    draw = "import random\n\ndef asked(doc):\n    return doc['text'] + ''.join(random.sample('abcdefgh', 8))\n"
    (folder / "drawing.py").write_text(draw)
    define(folder, "both", {"group": "both", "task": ["first", "second"]})
    with quiet():
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(folder), include_defaults=False)
        theirs = simple_evaluate(model="dummy", tasks=["both"], task_manager=manager, bootstrap_iters=0)["samples"]
    task = task_of("lm-eval:both", include=folder)
    wanted = {f"{name}/{row['doc_id']}": row["arguments"][0][0] for name, rows in theirs.items() for row in rows}
    assert {p.id: p.prompt for p in task.problems} == wanted


# functions of a task that fail ---------------------------------------------------------------------------------------


def own(task: LmEvalTask, *choices: Choices) -> dict[str, Any]:
    return dict(task.own_scores([], choices, 1, 1))


def test_a_metric_whose_aggregation_fails_is_missing_with_the_reason_and_the_others_stay(tmp_path: Path):
    changes = {"metric_list": [{"metric": "acc", **MEAN}, {"metric": "f1"}]}  # f1 of three classes: scikit-learn raises
    choice_task(tmp_path / "yaml", "flags", 3, **changes)
    choice_task(tmp_path / "yaml", "more", 3, metric_list=changes["metric_list"][:1])
    lists = [{"metric": name, "aggregation": "mean", "weight_by_size": True} for name in ("acc", "f1")]
    define(tmp_path / "yaml", "all", {"group": "all", "task": ["flags", "more"], "aggregate_metric_list": lists})
    task = task_of("lm-eval:all", include=tmp_path / "yaml")
    chosen = [thinks(f"{name}/{i}", [0.0, -1.0, -2.0]) for name in ("flags", "more") for i in range(3)]
    found = own(task, *chosen)
    [scores] = found["members"]
    assert scores["flags"]["acc,none"] == scores["all"]["acc,none"] == pytest.approx(1 / 3)
    assert scores["flags"]["f1,none"] is None
    assert scores["all"].get("f1,none") is None
    assert list(found["failed"]) == ["flags,f1,none"]
    assert found["failed"]["flags,f1,none"].startswith("f1 of flags: its aggregation fails: ValueError: Target is multiclass")


AGAIN = "count = []\ndef own(values):\n    count.append(1)\n    assert len(count) == 1, 'again'\n    return 1.0\n"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def own(values):\n    return None\n", "gives None, which is no finite number"),
        ("def own(values):\n    return {'a': 1}\n", "gives {'a': 1}, which is no finite number"),
        (
            "def own(values):\n    values.clear()\n    return sum(values) / len(values)\n",
            "fails: ZeroDivisionError: division by zero",
        ),
        (AGAIN, "fails: AssertionError: again"),
    ],
)
def test_an_aggregation_of_ones_own_that_gives_no_number_takes_no_other_metric_with_it(code: str, why: str, tmp_path: Path):
    folder = tmp_path / "yaml"
    choice_task(folder, "flags", 3)
    content = json.loads((folder / "flags.yaml").read_text())
    lines = [f"{key}: {json.dumps(value)}" for key, value in content.items() if key != "metric_list"]
    lines += ["metric_list:", "  - {metric: acc, aggregation: mean, higher_is_better: true}", "  - metric: acc_norm"]
    lines += ["    aggregation: !function adding.own", "    higher_is_better: true"]
    (folder / "flags.yaml").write_text("\n".join(lines))
    (folder / "adding.py").write_text(code)
    task = task_of("lm-eval:flags", include=folder)
    found = own(task, *[thinks(f"flags/{i}", [0.0, -1.0, -2.0]) for i in range(3)])
    [scores] = found["members"]
    assert scores["flags"]["acc,none"] == pytest.approx(1 / 3)
    assert scores["flags"]["acc_norm,none"] is None
    assert found["failed"]["flags,acc_norm,none"] == f"acc_norm of flags: its aggregation {why}"


def test_a_standard_error_that_fails_takes_no_other_with_it(tmp_path: Path):
    folder = tmp_path / "yaml"
    choice_task(folder, "flags", 3)
    lines = [f"{key}: {json.dumps(value)}" for key, value in json.loads((folder / "flags.yaml").read_text()).items()]
    lines = [line for line in lines if not line.startswith("metric_list")]
    lines += ["metric_list:", "  - {metric: acc, aggregation: mean, higher_is_better: true}"]
    lines += ["  - {metric: acc_norm, aggregation: median, higher_is_better: true}"]
    (folder / "flags.yaml").write_text("\n".join(lines))
    task = task_of("lm-eval:flags", include=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.evaluator_utils.stderr_for_metric", lambda metric, bootstrap_iters: _fails_on_median(metric))
        found = own(task, *[thinks(f"flags/{i}", [0.0, -1.0, -2.0]) for i in range(3)])
    [scores] = found["members"]
    assert scores["flags"]["acc_stderr,none"] == 0.5
    assert (scores["flags"]["acc_norm,none"], scores["flags"]["acc_norm_stderr,none"]) == (0.0, None)
    assert found["failed"] == {
        "flags,acc_norm_stderr,none": "acc_norm of flags: its standard error fails: ValueError: one class"
    }


def _fails_on_median(metric: Any) -> Any:
    def error(values: list[float]) -> float:
        if metric.__name__ == "median":
            raise ValueError("one class")
        return 0.5

    return error


def test_a_value_without_an_aggregation_that_has_no_mean_takes_no_other_with_it(tmp_path: Path):
    folder = tmp_path / "yaml"
    choice_task(folder, "flags", 3)
    lines = [f"{key}: {json.dumps(value)}" for key, value in json.loads((folder / "flags.yaml").read_text()).items()]
    (folder / "flags.yaml").write_text("\n".join([*lines, "process_results: !function judging.judge"]))
    (folder / "judging.py").write_text("def judge(doc, results):\n    return {'acc': 1.0, 'pair': (1, 0)}\n")
    task = task_of("lm-eval:flags", include=folder)
    found = own(task, *[thinks(f"flags/{i}", [0.0, -1.0, -2.0]) for i in range(3)])
    assert found["members"][0]["flags"]["acc,none"] == 1.0
    assert found["failed"]["flags,pair,none"].startswith("pair of flags: its aggregation fails: TypeError")


def test_a_score_that_one_run_lacks_has_no_mean():
    whole = {"sums": {"exact_match,none": 1.0, "sample_len": 2}}
    for tables in ([whole, {}], [{}, whole], [whole, {"sums": {"sample_len": 2}}]):
        assert mean_of(tables)["sums"]["exact_match,none"] is None
    assert mean_of([whole, {"sums": {"exact_match,none": 0.5, "sample_len": 2}}])["sums"]["exact_match,none"] == 0.75


def test_a_process_results_that_fails_names_task_and_document(tmp_path: Path):
    folder = tmp_path / "yaml"
    choice_task(folder, "flags", 3)
    path = folder / "flags.yaml"  # JSON has no tags: as the first line of a block it is YAML
    content = json.loads(path.read_text())
    lines = [f"{key}: {json.dumps(value)}" for key, value in content.items()]
    path.write_text("\n".join([*lines, "process_results: !function judging.judge"]))
    fails = "    if doc['text'] == 'The 1th flag is':\n        raise SystemExit('no')\n"
    (folder / "judging.py").write_text(f"def judge(doc, results):\n{fails}    return {{'acc': results[0][1]}}\n")
    with pytest.raises(DataError, match=r"lm-eval's scoring fails in process_results of flags, on flags/1: SystemExit: no"):
        verdicts(task_of("lm-eval:flags", include=folder), *(chose(f"flags/{i}", 0) for i in range(3)))


# several threads, as the runs of a study are made in --------------------------------------------------------------------


@dataclass
class Part:
    """As much of an instance of lm-eval as scoring reads."""

    resps: list[str] = field(default_factory=list)
    filtered_resps: dict[str, str] = field(default_factory=dict)
    doc: str = ""


def test_each_of_two_threads_gets_the_scores_of_its_own_answers():
    found: dict[str, object] = {}

    class Shared:
        """A task, while whose filters work for the first thread the second one comes."""

        _instances: list[Part]

        def apply_filters(self) -> None:
            if threading.current_thread() is not second:
                second.start()
                second.join(0.3)
            for part in self._instances:
                part.filtered_resps["none"] = part.resps[0]

        def process_results(self, doc: str, seen: list[str]) -> dict[str, str]:
            return {"said": seen[0]}

    def judge(name: str) -> None:
        question: Any = SimpleNamespace(task="sums", instances=[Part()], problem=SimpleNamespace(id=name))
        found[name] = judged(task, [(question, [[name]])])  # type: ignore[list-item]

    task, second, streams = Shared(), threading.Thread(target=judge, args=("2",)), (sys.stdout, sys.stderr)
    judge("1")
    second.join()
    assert found == {name: {"none": [({"said": name}, [name])]} for name in "12"}
    assert (sys.stdout, sys.stderr) == streams


def test_each_of_two_threads_has_its_own_draw_of_the_examples(monkeypatch: pytest.MonkeyPatch):
    done: list[tuple[str, str]] = []

    class Shared:
        instances: tuple[Any, ...] = ()

        def set_fewshot_seed(self, seed: int) -> None:
            done.append((threading.current_thread().name, "seed"))

    def build(*_: object) -> None:
        if threading.current_thread() is not second:
            second.start()
            second.join(0.3)
        done.append((threading.current_thread().name, "draw"))

    def ask() -> None:
        asking.questions(SimpleNamespace(tasks={"sums": Shared()}, generators=None), None)  # type: ignore[arg-type]

    monkeypatch.setattr(asking, "_build", build)
    monkeypatch.setattr(asking, "compiled_once", nullcontext)
    second, first = threading.Thread(target=ask, name="second"), threading.current_thread().name
    ask()
    second.join()
    assert done == [(first, "seed"), (first, "draw"), ("second", "seed"), ("second", "draw")]
