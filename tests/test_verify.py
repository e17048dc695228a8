"""`verify` finds one changed byte wherever it is; `rerun` repeats a run and says what differs."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import RIGHT, WRONG, Call, InProcessJudge, Lines, MockModel, mock_run
from spa_bench.cards.task import load_task_card
from spa_bench.errors import StoreError, UsageError
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.grade import grade
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import sampler_card
from spa_bench.runs.rerun import difference_of
from spa_bench.runs.verify import check_run, verify
from spa_bench.types import Request


def half_right(request: Request) -> str:
    return RIGHT[request.problem_id] if request.draw % 2 == 0 else WRONG


@pytest.fixture
def whole(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> RunFolder:
    return mock_run(tmp_path / "runs", three, half_right, n=4)


@pytest.fixture
def faults(three: Path) -> Callable[[Path], list[str]]:
    task = load_task(load_task_card(str(three)))
    return lambda path: verify(open_run(path), task)


def test_a_changed_byte_in_where_the_pairs_lay_is_found(whole: RunFolder, faults: Callable[[Path], list[str]]):
    whole.write_json("data_files.json", {"examples": "/somewhere/pairs.jsonl"})
    path = whole.path / "data_files.json"
    assert faults(whole.path) == []
    path.write_bytes(path.read_bytes().replace(b"somewhere", b"elsewhere"))
    [fault] = faults(whole.path)
    assert "data_files.json is damaged" in fault


def test_an_untouched_run_is_whole(whole: RunFolder, faults: Callable[[Path], list[str]]):
    assert faults(whole.path) == []


COVERED = ("spec.json", "records.jsonl", "grades.jsonl", "divergence.jsonl", "metrics.json", "judged.json", "task_file.json")


@pytest.mark.parametrize("name", COVERED)
def test_one_changed_byte_is_found(name: str, whole: RunFolder, faults: Callable[[Path], list[str]], three: Path):
    path = whole.path / name
    data = path.read_bytes()
    rng = random.Random(name)
    missed = []
    for place in sorted(rng.sample(range(len(data)), min(40, len(data)))):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            found = faults(whole.path)
        except Exception as error:  # a spec that is no JSON any more cannot even be opened
            found = [str(error)]
        if not found:
            missed.append(place)
    path.write_bytes(data)
    assert missed == []
    assert faults(whole.path) == []


def test_times_may_change(whole: RunFolder, faults: Callable[[Path], list[str]]):
    whole.write_json("timings.json", {"seconds": 99.0, "stages": {}})
    assert faults(whole.path) == []


@pytest.mark.parametrize("name", ["records.jsonl", "grades.jsonl"])
@pytest.mark.parametrize("line", [0, 5, 11])
def test_a_line_that_is_gone_is_found(name: str, line: int, whole: RunFolder, faults: Callable[[Path], list[str]]):
    lines = (whole.path / name).read_bytes().splitlines(keepends=True)
    del lines[line]
    (whole.path / name).write_bytes(b"".join(lines))
    assert any(name in fault for fault in faults(whole.path))


def test_lines_in_another_order_are_found(whole: RunFolder, faults: Callable[[Path], list[str]]):
    path = whole.path / "records.jsonl"
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *rest]))
    assert faults(whole.path) == [f"{path}: the lines are not in order"]


def test_a_line_of_another_run_is_found(
    whole: RunFolder, sandbox: InProcessJudge, three: Path, tmp_path: Path, faults: Callable[[Path], list[str]]
):
    other = mock_run(tmp_path / "other", three, half_right, n=4, seed=1)
    path = whole.path / "grades.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = (other.path / "grades.jsonl").read_bytes().splitlines(keepends=True)[3]
    path.write_bytes(b"".join(lines))
    assert any("grades.jsonl, line 4 is damaged" in fault for fault in faults(whole.path))


def test_records_with_a_foreign_seed_or_text_are_found_though_their_checksum_fits(
    whole: RunFolder, faults: Callable[[Path], list[str]]
):
    rows = whole.record_log.rows()
    (whole.path / "records.jsonl").unlink()
    whole.record_log.append([replace(rows[0], seed=1), replace(rows[1], graded="    return 9"), *rows[2:]])
    found = faults(whole.path)
    assert any("the seed of three/add, member 0, draw 0 is 1, not" in fault for fault in found)
    assert any("the graded text of three/add, member 0, draw 1 is not what the raw text gives" in fault for fault in found)


def test_a_metric_that_was_not_computed_from_the_samples_is_named(whole: RunFolder, faults: Callable[[Path], list[str]]):
    content = whole.read_json("metrics.json")
    content["values"]["pass@1"][1] = 0.75
    whole.write_json("metrics.json", content)
    [fault] = faults(whole.path)
    assert "metrics.json: values differs at pass@1" in fault


def test_a_run_that_is_not_graded_is_not_whole(
    sandbox: InProcessJudge, three: Path, tmp_path: Path, faults: Callable[[Path], list[str]]
):
    folder = mock_run(tmp_path / "runs", three, half_right, graded=False)
    assert any("is not graded yet" in fault for fault in faults(folder.path))
    lines = (folder.path / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder.path / "records.jsonl").write_bytes(b"".join(lines[:2]))
    [fault] = [fault for fault in faults(folder.path) if "finish" in fault]
    assert fault == (
        f"{folder.path} has 2 of 6 samples: it is not finished; "
        f"the same `spa-bench run` again, with --out {folder.path}, resumes it"
    )


@pytest.mark.parametrize("order", [1, -1])
def test_what_cannot_be_checked_is_code_2_beside_a_whole_run(order: int, call: Call, whole: RunFolder, tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "a.json").write_text("")
    for other, why in (
        ("nowhere", "is not there; give a run folder"),
        ("a.jsonl", "is a file; give a run folder"),
        ("a.json", "is a file; give a run folder (those of a result file: docs/how-to/results.md)"),
    ):
        done = call("verify", *[whole.path, tmp_path / other][::order])
        assert done.error() == f"{tmp_path / other} {why}"
        assert done.out.startswith(f"{whole.path}: whole")


def test_a_run_is_whole_or_wrong_or_could_not_be_checked(whole: RunFolder, tmp_path: Path):
    fine = check_run(whole.path)
    assert (fine.faults, fine.compared, fine.unchecked, fine.wrong) == ((), (), None, False)
    absent = check_run(tmp_path / "nowhere")
    assert (absent.unchecked, absent.wrong) == (f"{tmp_path / 'nowhere'} is not there; give a run folder", False)
    (whole.path / "spec.json").write_text("{")
    damaged = check_run(whole.path)
    assert (len(damaged.faults), damaged.unchecked, damaged.wrong) == (1, None, True)


def test_a_strange_file_is_named(whole: RunFolder, faults: Callable[[Path], list[str]]):
    (whole.path / "notes.txt").write_text("hello")
    [fault] = faults(whole.path)
    assert "notes.txt does not belong to a run" in fault


def test_what_a_killed_process_left_half_written_is_named_and_goes_with_the_next_command(
    whole: RunFolder, three: Path, faults: Callable[[Path], list[str]]
):
    (whole.path / ".metrics.json.4194399.new").write_text("half")  # above the largest pid
    [fault] = faults(whole.path)
    assert "was left half-written by a process that was killed; the same command again removes it" in fault
    grade(open_run(whole.path), load_task(load_task_card(str(three))), Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    assert faults(whole.path) == []


def test_a_folder_under_another_name_is_found(whole: RunFolder, faults: Callable[[Path], list[str]]):
    moved = whole.path.with_name("three-mock-00000000")
    shutil.move(whole.path, moved)
    [fault] = faults(moved)
    assert "the folder's name says 00000000" in fault


@pytest.mark.parametrize("name", ["run-baseline", "run-20261130", "three-original", "copy"])
def test_a_copy_may_have_any_name(name: str, whole: RunFolder, faults: Callable[[Path], list[str]], tmp_path: Path):
    assert faults(Path(shutil.copytree(whole.path, tmp_path / name))) == []


# rerun ---------------------------------------------------------------------------------------------------------------


def test_a_repetition_that_gives_the_same_is_the_same(whole: RunFolder, three: Path, tmp_path: Path):
    again = mock_run(tmp_path / "again", three, half_right, n=4)
    found = difference_of(whole, again)
    assert found.same
    assert found.lines() == [
        "spec: the same", "texts: all 12 the same", "verdicts on equal texts: all 12 the same", "metrics: the same",
    ]  # fmt: skip


def test_other_texts_verdicts_and_metrics_are_counted_and_named(whole: RunFolder, three: Path, tmp_path: Path):
    def worse(request: Request) -> str:
        return WRONG if request.problem_id == "three/last" else half_right(request)

    found = difference_of(whole, mock_run(tmp_path / "again", three, worse, n=4))
    assert not found.same
    assert [k.problem for k in found.other_texts] == ["three/last"] * 2
    assert found.other_verdicts == []
    assert found.other_metrics["pass@1"] == (0.5, pytest.approx(1 / 3))


def test_another_verdict_on_an_equal_text_is_told_from_another_text(whole: RunFolder, three: Path, tmp_path: Path):
    again = mock_run(tmp_path / "again", three, half_right, n=4)
    rows = again.grade_log.rows()
    (again.path / "grades.jsonl").unlink()
    again.grade_log.append([replace(rows[0], verdict=rows[1].verdict), *rows[1:]])
    found = difference_of(whole, again)
    assert found.other_texts == []
    assert found.other_verdicts == [rows[0].key]


def test_a_card_comes_back_from_the_spec(whole: RunFolder):
    card = sampler_card(whole.spec, "here")
    assert (card.name, card.decoding.temperature, card.members) == ("mock-sampler", 0.8, 1)


def test_samples_from_a_file_cannot_be_drawn_again(whole: RunFolder):
    spec = {**whole.spec, "sampler": {"name": "x", "kind": "samples"}}
    with pytest.raises(UsageError, match="there is nothing to draw again"):
        sampler_card(spec, "here")


def test_grading_again_changes_no_byte(whole: RunFolder, three: Path):
    before = {p.name: p.read_bytes() for p in whole.path.iterdir() if p.name not in {"timings.json", ".lock"}}
    grade(open_run(whole.path), load_task(load_task_card(str(three))), Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    assert {p.name: p.read_bytes() for p in whole.path.iterdir() if p.name not in {"timings.json", ".lock"}} == before
    assert json.loads(before["metrics.json"])["n"] == 4


def test_a_model_that_was_never_asked_is_not_needed_to_look(whole: RunFolder, three: Path, tmp_path: Path):
    model = MockModel(half_right)
    mock_run(tmp_path / "runs", three, model, n=4)
    assert model.asked == []


@pytest.mark.parametrize("name", ["grades.jsonl", "behaviours.jsonl", "divergence.jsonl"])
def test_lines_of_any_log_in_another_order_are_found(name: str, whole: RunFolder, faults: Callable[[Path], list[str]]):
    path = whole.path / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    assert f"{path}: the lines are not in order" in faults(whole.path)


@pytest.mark.parametrize("name", ["judged.json", "divergence.jsonl", "behaviours.jsonl", "grades.jsonl"])
def test_a_file_that_is_gone_is_found(name: str, whole: RunFolder, faults: Callable[[Path], list[str]]):
    (whole.path / name).unlink()
    assert any(name in fault or "is not graded" in fault for fault in faults(whole.path))


def test_an_empty_log_that_does_not_belong_there_is_found(whole: RunFolder, faults: Callable[[Path], list[str]]):
    (whole.path / "noise.jsonl").write_text("")
    assert any("noise.jsonl" in fault for fault in faults(whole.path))


def test_a_run_whose_judge_is_not_known_is_not_graded_further(whole: RunFolder, three: Path):
    (whole.path / "judged.json").unlink()
    with pytest.raises(StoreError, match=r"judged\.json is missing, .* remove grades\.jsonl and behaviours\.jsonl too"):
        grade(open_run(whole.path), load_task(load_task_card(str(three))), Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    for name in ("grades.jsonl", "behaviours.jsonl"):
        (whole.path / name).unlink()
    grade(open_run(whole.path), load_task(load_task_card(str(three))), Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    assert whole.read_json("judged.json")["by"]


@pytest.mark.parametrize("name", ["spec.json", "metrics.json", "judged.json"])
def test_json_that_is_nested_too_deep_is_an_error_in_one_line(name: str, whole: RunFolder, faults: Callable[[Path], list[str]]):
    (whole.path / name).write_text("[" * 200_000)
    try:
        found = faults(whole.path)
    except StoreError as error:
        found = [str(error)]
    assert any(name in fault for fault in found)
    assert all("\n" not in fault for fault in found)
