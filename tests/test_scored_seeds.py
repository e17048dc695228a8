"""Batches of another tool's answers as seeds of one sampler: `score --seed`, which a baseline of the gate needs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT
from spa_bench.cards.task import load_task_card
from spa_bench.compare.gate import check
from spa_bench.compare.leaderboard.check import _faults as faults
from spa_bench.compare.leaderboard.results import from_runs, save_all
from spa_bench.errors import DataError, StoreError, UsageError
from spa_bench.publish.report.runs import read_run
from spa_bench.publish.report.samples import SampleBook
from spa_bench.publish.show import show
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples
from spa_bench.runs.job import load_task
from spa_bench.runs.options import ScoreOptions
from spa_bench.runs.perform import score
from spa_bench.runs.verify import verify
from spa_bench.support.console import Reporter
from spa_bench.tasks.code import CodeTask

Scored = Callable[..., RunFolder]


@pytest.fixture
def scored(three: Path, tmp_path: Path, sandbox: Any) -> Scored:
    task = load_task(load_task_card(str(three)))
    assert isinstance(task, CodeTask)

    def one(
        seed: int | None, *, comments: int = 3, out: str = "runs", problems: int = 3, draws: tuple[int, ...] = (4, 4, 4)
    ) -> RunFolder:
        """So many right answers to each problem, the first of which have comments of their own."""
        rows = [
            {"task_id": name, "completion": text + f"  # {seed}.{draw}" * (draw < comments)}
            for (name, text), count in list(zip(RIGHT.items(), draws, strict=False))[:problems]
            for draw in range(count)
        ]
        file = tmp_path / "answers.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        place = tmp_path / out
        folder = import_samples(file, task, place, label="tool", cut=False, partial=True, sandbox="none", seed=seed)
        grade(folder, task, Reporter(), sandbox="none", workers=1)
        assert verify(folder, task) == []
        return folder

    return one


def baseline(scored: Scored, place: Path) -> Path:
    return save_all(from_runs([scored(seed) for seed in range(5)]), place / "base.json")[0]


def test_batches_with_seeds_are_one_row_and_batches_without_are_several(scored: Scored):
    [result] = from_runs([scored(0), scored(1)])
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert [fault for fault in faults(result) if "sandbox" not in fault] == []
    assert len(from_runs([scored(None), scored(None, comments=2)])) == 2


def test_a_drop_in_diversity_of_answers_from_elsewhere_is_red(scored: Scored, tmp_path: Path):
    base = baseline(scored, tmp_path)
    scored(7, out="same")
    scored(8, comments=0, out="fell")
    assert check(tmp_path / "same", against=base, metrics="diversity_score").ok
    fell = check(tmp_path / "fell", against=base, metrics="diversity_score")
    assert [line.outcome for line in fell.subjects[0].lines] == ["drop"]


def test_what_a_check_would_see_is_no_smaller_than_its_interval_where_all_problems_are_alike(scored: Scored, tmp_path: Path):
    base = baseline(scored, tmp_path)
    scored(7, out="same")
    [line] = check(tmp_path / "same", against=base, metrics="pass@1").subjects[0].lines
    assert line.difference is not None
    assert line.difference.value == 0
    assert line.visible >= line.difference.high > 0.1  # type: ignore[operator]


def test_other_answers_with_a_seed_of_the_baseline_are_judged_by_their_values(scored: Scored, tmp_path: Path):
    base = baseline(scored, tmp_path)
    scored(0, comments=2, out="new")
    lines = check(tmp_path / "new", against=base, metrics="pass@1").subjects[0].lines
    assert [(line.metric, line.outcome) for line in lines] == [("pass@1", "held")]
    scored(0, out="again")
    [line] = check(tmp_path / "again", against=base, metrics="pass@1").subjects[0].lines
    assert line.outcome == "same"


def test_a_seed_is_one_batch_and_its_folder_takes_no_other(scored: Scored):
    first = scored(3)
    assert scored(3).path == first.path
    with pytest.raises(StoreError, match=r"holds other answers of tool with seed 3; give these another --seed or --out$"):
        scored(3, comments=1)
    assert len(first.record_log.rows()) == 12


@pytest.mark.parametrize("uneven", [False, True])
def test_answers_are_taken_all_or_none_and_a_run_that_has_none_says_so(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, uneven: bool
):
    task = load_task(load_task_card(str(three)))
    assert isinstance(task, CodeTask)
    file = tmp_path / "answers.jsonl"
    rows = [{"task_id": name, "completion": text} for name, text in RIGHT.items() for _ in range(2)][uneven:]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def take() -> RunFolder:
        return import_samples(file, task, tmp_path / "runs", label="tool", cut=False, sandbox="none")

    def killed(descriptor: int) -> None:
        if "records.jsonl" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            take()
    [path] = (tmp_path / "runs").iterdir()
    assert not (path / "records.jsonl").exists()
    wanted = "3 or more" if uneven else "6"
    assert show(open_run(path), task, None).startswith("unfinished: 0 ")
    assert read_run(open_run(path), 0, SampleBook(), tmp_path).said == (
        f"{path} is not finished: 0 of {'3 or more' if uneven else '6'} samples are there",
    )
    said = rf"has 0 of {wanted} samples: it is not finished; the same `spa-bench score` again, with --out \S*, resumes it$"
    with pytest.raises(DataError, match=said):
        grade(open_run(path), task, Reporter(), sandbox="none", workers=1)
    assert len(take().record_log.rows()) == len(rows)


def test_a_part_of_a_task_without_answers_says_so_and_one_with_them_names_what_it_lacks(scored: Scored, three: Path):
    task, folder = load_task(load_task_card(str(three))), scored(None, problems=2)
    with pytest.raises(UsageError, match="there is no sample of 'three/last': the run is of 2 of 3 problems"):
        show(folder, task, "three/last")
    assert "unfinished" not in show(folder, task, None)
    (folder.path / "records.jsonl").unlink()
    said = "unfinished: 0 of 8 samples are there, 2 problems lack some; the same `spa-bench score` again"
    assert said in show(folder, task, None)
    with pytest.raises(UsageError, match=f"there is no sample of 'three/add' yet: {said}"):
        show(folder, task, "three/add")


def test_a_baseline_of_one_batch_says_how_to_make_one_of_five(scored: Scored, tmp_path: Path):
    base = save_all(from_runs([scored(0)]), tmp_path / "base.json")[0]
    scored(1, out="new")
    with pytest.raises(UsageError, match=r"is 1 of the 5 batches of answers .*: score them with --seed 0 to 4$"):
        check(tmp_path / "new", against=base)


def test_a_baseline_of_batches_without_seeds_says_how_they_become_one_sampler(scored: Scored, tmp_path: Path):
    base = save_all(from_runs([scored(None), scored(None, comments=2)]), tmp_path / "base.json")[0]
    scored(1, out="new")
    with pytest.raises(UsageError, match="has tool 2 times, each with other answers; score them with --seed 0, 1, "):
        check(tmp_path / "new", against=base)


def test_answers_to_other_problems_than_the_baseline_s_say_so(scored: Scored, tmp_path: Path):
    base = baseline(scored, tmp_path)
    scored(5, problems=2, out="new")
    with pytest.raises(
        UsageError, match=r"has tool on all 3 problems, and these answers are tool \(2 of 3 problems\); score the"
    ):
        check(tmp_path / "new", against=base)


def test_seeds_need_a_name_that_all_batches_have(three: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"^--seed makes batches of one name seeds of one sampler; give --name too$"):
        score(str(three), [tmp_path / "x.jsonl"], ScoreOptions(seed=1))
    with pytest.raises(UsageError, match=r"^a seed is -1; seeds are 0 or more$"):
        score(str(three), [tmp_path / "x.jsonl"], ScoreOptions(seed=-1, name="tool"))


def test_seeds_that_are_measured_at_other_numbers_of_answers_are_not_one_row(scored: Scored):
    scored_so = [scored(seed, draws=draws) for seed, draws in ((0, (4, 5, 5)), (1, (3, 5, 5)), (2, (4, 5, 6)))]
    with pytest.raises(StoreError, match=r"seeds of one tool and measured at other numbers of answers: 4 and 3, the few"):
        from_runs(scored_so[:2])
    [result] = from_runs(scored_so[::2])
    assert (result["size"], result["k"], len(result["runs"])) == (4, 4, 2)
