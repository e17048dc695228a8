"""What a page is made of: runs in any state and result files, with a sentence for all that cannot be shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from made_up import made_up
from report_runs import made_run
from spa_bench.compare.leaderboard import save
from spa_bench.errors import StoreError
from spa_bench.publish.report import read
from spa_bench.publish.report.partition import Partition
from spa_bench.publish.report.runs import mean_matrices
from spa_bench.runs.folder import SCHEMA_VERSION, RunFolder, open_run
from spa_bench.runs.log import Log
from spa_bench.types import Choices, Divergence, Grade, Key, Verdict


def said(*paths: Path) -> str:
    return "\n".join(read(paths).said)


def test_seeds_of_one_sampler_are_one_row_with_their_runs_behind_it(tmp_path: Path):
    for seed in (0, 1):
        made_run(tmp_path, seed=seed)
    data = read([tmp_path])
    [section] = data.sections
    [row] = section.rows
    assert row.seeds == [0, 1]
    assert [run.seed for run in data.runs_of(row)] == [0, 1]
    assert [p.id for p in data.problems] == ["t/0", "t/1", "t/2"]
    assert all(len(p.answers) == 2 for p in data.problems)


def test_equal_texts_of_a_problem_are_kept_once(tmp_path: Path):
    made_run(tmp_path, n=4, text=lambda key: "the same", members=1)
    [problem, *_] = read([tmp_path]).problems
    assert problem.texts.texts == ["the same", "the same\n# more"]
    assert len(problem.answers[0]) == 4


def test_the_same_folders_give_the_same_chunks(tmp_path: Path):
    made_run(tmp_path, members=2, choices=3)
    first, second = ([p.chunk() for p in read([tmp_path]).problems] for _ in range(2))
    assert first == second


def test_a_run_that_is_going_on_is_shown_as_far_as_it_is(tmp_path: Path):
    made_run(tmp_path, drawn=3, graded=1)
    data = read([tmp_path])
    assert data.sections[0].rows == ()
    [run] = data.runs
    assert (run.samples, run.expected, run.graded, run.finished) == (3, 6, 1, False)
    assert "is not finished: 3 of 6 samples are there" in "\n".join(data.said)
    assert sum(len(rows) for p in data.problems for rows in p.answers.values()) == 3


def test_a_run_that_has_only_begun_is_shown_too(tmp_path: Path):
    folder = made_run(tmp_path, drawn=0)
    assert not (folder.path / "records.jsonl").exists()
    assert "0 of 6 samples" in "\n".join(read([folder.path]).said)


def test_a_run_that_is_not_graded_says_how_to_go_on(tmp_path: Path):
    folder = made_run(tmp_path, graded=0)
    assert f"6 of 6 samples are not graded; spa-bench grade {folder.path}" in said(tmp_path)


def test_a_damaged_log_is_named_and_the_rest_is_shown(tmp_path: Path):
    made_run(tmp_path, name="whole")
    folder = made_run(tmp_path, name="damaged", seed=1)
    path = folder.path / "grades.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0].replace("wrong", "passed"), *lines[1:]]))
    data = read([tmp_path])
    assert [row.label for row in data.sections[0].rows] == ["whole"]
    assert f"{path}, line 1 is damaged" in "\n".join(data.said)
    assert len(data.runs) == 2
    assert all(len(p.answers) == 2 for p in data.problems)


def test_a_torn_end_is_left_out(tmp_path: Path):
    folder = made_run(tmp_path, drawn=4, graded=4)
    with (folder.path / "records.jsonl").open("ab") as stream:
        stream.write(b'{"problem": "t/2", "mem')
    assert read([tmp_path]).runs[0].samples == 4


def test_damaged_metrics_are_named(tmp_path: Path):
    folder = made_run(tmp_path)
    made_run(tmp_path, name="other")
    path = folder.path / "metrics.json"
    path.write_text(path.read_text().replace('"n": 2', '"n": 3'))
    data = read([tmp_path])
    assert [row.label for row in data.sections[0].rows] == ["other"]
    assert f"{path} is damaged" in "\n".join(data.said)


def test_a_run_of_a_newer_schema_is_named_and_the_others_are_shown(tmp_path: Path):
    made_run(tmp_path)
    newer = made_run(tmp_path, name="newer", seed=1)
    spec = json.loads((newer.path / "spec.json").read_text())
    (newer.path / "spec.json").write_text(json.dumps({**spec, "schema_version": SCHEMA_VERSION + 1}))
    data = read([tmp_path])
    assert f"{newer.path} has schema {SCHEMA_VERSION + 1}, this spa-bench reads up to {SCHEMA_VERSION}" in "\n".join(data.said)
    assert len(data.runs) == 1


def test_a_spec_that_lacks_its_sampler_is_no_run(tmp_path: Path):
    made_run(tmp_path)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "spec.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "task": {"name": "t"}}))
    assert f"{odd / 'spec.json'} is no spec of a run: it lacks 'sampler'" in said(tmp_path)


def test_nothing_to_show_is_an_error(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no runs and no results in"):
        read([tmp_path / "empty"])
    with pytest.raises(StoreError, match=r"nowhere is not there; give a run folder"):
        read([tmp_path / "nowhere"])


def test_a_path_that_is_nothing_does_not_hide_the_others(tmp_path: Path):
    folder = made_run(tmp_path)
    assert "nowhere is not there" in said(folder.path, tmp_path / "nowhere")


def test_the_same_run_twice_counts_once(tmp_path: Path):
    folder = made_run(tmp_path / "a")
    shutil.copytree(folder.path, tmp_path / "b" / "copy")
    data = read([tmp_path / "a", tmp_path / "b", folder.path])
    assert len(data.runs) == 1
    assert data.said[0].endswith(f"is the same run as {folder.path}, which is shown")


@pytest.mark.parametrize("damaged_first", [True, False])
def test_of_two_copies_the_whole_one_is_shown_and_what_ails_the_other_is_said(tmp_path: Path, *, damaged_first: bool):
    whole = made_run(tmp_path / "a").path
    copy = shutil.copytree(whole, tmp_path / "b" / "copy")
    (copy / "metrics.json").unlink()
    data = read([copy, whole] if damaged_first else [whole, copy])
    assert [run.finished for run in data.runs] == [True]
    assert f"{copy} is the same run as {whole}, which is shown (it is not finished or not graded)" in data.said
    (copy / "metrics.json").write_text("{")
    assert f"{copy} is the same run as {whole}, which is shown ({copy / 'metrics.json'}" in said(copy, whole)


def test_a_result_file_stands_beside_runs_and_holds_no_answers(tmp_path: Path):
    file = save(made_up("elsewhere", quality=0.5, spread=0.5), tmp_path / "results")
    data = read([file])
    assert [row.label for row in data.sections[0].rows] == ["elsewhere"]
    assert (data.runs, data.problems, data.said) == ((), (), ())


def test_a_run_and_its_own_file_are_one_row(tmp_path: Path):
    folder = made_run(tmp_path / "runs")
    from spa_bench.compare.leaderboard import from_runs

    file = save(from_runs([folder])[0], tmp_path / "results")
    data = read([folder.path, file])
    assert len(data.sections[0].rows) == 1
    assert not any("other seeds" in line for line in data.said)


def test_two_results_of_one_sampler_with_other_numbers_are_said(tmp_path: Path):
    one = save(made_up("a", quality=0.5, spread=0.5), tmp_path / "one")
    other = made_up("a", quality=0.5, spread=0.5, seed=1)
    other["runs"][0]["records"] = "0c" * 16
    data = read([one, save(other, tmp_path / "other")])
    assert len(data.sections[0].rows) == 1
    assert "hold the same a with other numbers; give one of them; " in data.said[0]
    assert data.said[0].endswith(f"{one} is shown")


def test_tasks_have_sections_and_other_problems_tables_of_their_own(tmp_path: Path):
    made_run(tmp_path, task="a")
    made_run(tmp_path, task="b", seed=1)
    made_run(tmp_path, task="b", seed=2, limit=2)
    sections = read([tmp_path]).sections
    assert [s.title for s in sections] == ["a 1", "b 1"]
    assert [len(s.tables) for s in sections] == [1, 2]


def test_a_task_in_two_versions_is_two_sections_that_are_told_apart(tmp_path: Path):
    made_run(tmp_path, version="1")
    made_run(tmp_path, version="2", seed=1)
    assert [s.title for s in read([tmp_path]).sections] == ["t 1 (t-1)", "t 2 (t-2)"]


def test_prompts_stand_beside_answers_in_the_order_of_the_task(tmp_path: Path):
    made_run(tmp_path)
    data = read([tmp_path], ask=lambda folder: {"t/2": "third?", "t/0": "first?", "t/9": "not here"})
    assert [(p.id, p.question) for p in data.problems] == [("t/1", None), ("t/2", "third?"), ("t/0", "first?")]


def test_where_prompts_cannot_be_had_it_says_why(tmp_path: Path):
    made_run(tmp_path)
    assert "t: questions are not shown: prompts of this task are only loaded on request" in said(tmp_path)


@pytest.mark.parametrize("order", [{}, {"shuffle": 0}, {"shuffle": 3, "stratify": True}])
def test_prompts_of_the_embedded_task_are_at_hand_in_the_order_of_the_run(tmp_path: Path, order: dict[str, Any]):
    from dataclasses import replace

    from spa_bench.cards.task import load_task_card
    from spa_bench.publish.report.questions import at_hand
    from spa_bench.runs.job import load_task

    task = load_task(replace(load_task_card("mini-code"), **order))
    folder = made_run(tmp_path)
    found = at_hand(RunFolder(folder.path, {**folder.spec, "task": json.loads(json.dumps(task.describe()))}))
    assert list(found) == [p.id for p in task.problems]
    assert found["mini-code/0"] == next(p.prompt for p in task.problems if p.id == "mini-code/0")


def test_what_is_said_of_an_answer_has_message_call_and_what_is_odd(tmp_path: Path):
    def judged(key: Key) -> Grade:
        return Grade(
            **key._asdict(), verdict=Verdict.WRONG, message="AssertionError", call="1, 2", suite="plus", mark="one process"
        )

    made_run(tmp_path, n=1, grade=judged)
    [problem, *_] = read([tmp_path]).problems
    assert problem.words.texts == ["wrong", "AssertionError\nplus tests, first failing call: (1, 2)\none process"]


def test_divergences_are_means_over_problems(tmp_path: Path):
    made_run(tmp_path, members=2)
    matrices = read([tmp_path]).runs[0].matrices
    assert matrices is not None
    assert matrices.problems["kl"] == 3
    assert matrices.means["kl"] == [[0.0, 0.011], [0.011, 0.0]]


def test_a_problem_with_choices_counts_once_behind_a_mean_of_divergences():
    kl = [[0.0, 1.0], [2.0, 0.0]]
    scored = [Divergence(problem=p, tokens=1, matrices={"kl": kl}, members={}, overall={}) for p in "abc"]
    chosen = [
        Choices(
            problem=p, logprobs=[[0.0, -1.0]] * 2, greedy=[[True]] * 2, tokens=[1], matrices={"kl[choices]": kl}, members={}
        )
        for p in "ab"
    ]
    matrices = mean_matrices(scored, chosen)
    assert matrices is not None
    assert matrices.problems == {"kl": 3, "kl[choices]": 2}


def test_one_member_has_no_divergences(tmp_path: Path):
    made_run(tmp_path)
    assert read([tmp_path]).runs[0].matrices is None


def test_parts_come_from_the_stage_cache_beside_the_adapters(tmp_path: Path):
    folder, stages = made_run(tmp_path / "runs", members=2), tmp_path / "stages"
    folder.write_json("adapters.json", {"stage": "adapters-1", "hashes": ["a", "b"]})
    for name in ("adapters-1", "parts-1", "parts-2"):
        (stages / name).mkdir(parents=True)
    (stages / "adapters-1" / "key.json").write_text(json.dumps({"parts": "digest", "examples": "e"}))
    for name, digest in (("parts-1", "another"), ("parts-2", "digest")):
        (stages / name / "key.json").write_text(json.dumps({"examples": "e"}))
        (stages / name / "parts.json").write_text(json.dumps({"digest": digest}))
        report = {"method": name, "examples": 3, "sizes": [2, 1], "parts": [], "silhouette": {"value": 0.5}}
        (stages / name / "report.json").write_text(json.dumps(report))
    found = read([folder.path], stages=stages).runs[0].partition
    assert found == Partition(
        reason="", method="parts-2", examples=3, sizes=(2, 1), parts=[], silhouette=0.5, words="", margin=""
    )


@pytest.mark.parametrize("stage", ["adapters-9", "../secrets", "", 7])
def test_parts_that_are_not_here_have_a_reason(tmp_path: Path, stage: object):
    folder = made_run(tmp_path, members=2)
    folder.write_json("adapters.json", {"stage": stage, "hashes": []})
    reason = read([folder.path], stages=tmp_path).runs[0].partition.reason
    assert reason.startswith("not in the run folder") or reason == "the adapters are not made yet"


def test_reading_writes_nothing(tmp_path: Path):
    folder = made_run(tmp_path, drawn=3)
    with (folder.path / "records.jsonl").open("ab") as stream:
        stream.write(b"torn")
    before = {p: p.read_bytes() for p in folder.path.iterdir()}
    read([tmp_path])
    assert {p: p.read_bytes() for p in folder.path.iterdir()} == before
    assert isinstance(open_run(folder.path).record_log, Log)
