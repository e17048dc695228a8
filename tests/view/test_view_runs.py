"""What a list says of a run folder, while it grows, when it has stopped, and when something is wrong with it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, WRONG, InProcessJudge, Lines, MockModel, mock_run
from spa_bench.cards.task import load_task_card
from spa_bench.publish.view import one
from spa_bench.publish.view.folder import Runs
from spa_bench.publish.view.one import Glance, OneRun
from spa_bench.runs.folder import SCHEMA_VERSION, RunFolder, open_run
from spa_bench.runs.grade import grade
from spa_bench.runs.job import load_task
from spa_bench.runs.tail import Tail
from spa_bench.support import lock

HOLD = (
    "import sys, pathlib; from spa_bench.support import lock\n"
    "with lock.hold(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    "print('let go', flush=True)\nsys.stdin.readline()\n"
)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was just written counts as stopped where nobody holds it, as it does some seconds later."""
    monkeypatch.setattr(one, "_GRACE_SECONDS", 0.0)


@contextmanager
def held(folder: Path) -> Iterator[Any]:
    """Another process holds `folder`, until it reads a line; it lives on until it reads another."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def right(request: Any) -> str:
    return RIGHT[request.problem_id]


def stopped(out: Path, three: Path, after: int, n: int = 2) -> RunFolder:
    with pytest.raises(KeyboardInterrupt):
        mock_run(out, three, MockModel(right, stop_after=after), n=n)
    [spec] = out.glob("*/spec.json")
    return open_run(spec.parent)


def look(folder: RunFolder) -> Glance:
    return OneRun(folder.path, folder.path.parent).look()


def test_a_finished_run_has_its_metrics(tmp_path: Path, three: Path, sandbox: InProcessJudge):
    folder = mock_run(tmp_path, three, lambda r: WRONG if r.draw else RIGHT[r.problem_id])
    found = look(folder)
    assert (found.state, found.done, found.total, found.samples) == ("finished", 3, 3, 6)
    assert found.metrics["pass@1"]["value"] == 0.5
    assert found.metrics["average_kl"]["value"] is None
    facts = {k: v for k, v in found.facts.items() if k != "seconds"}
    assert facts == {"task": "three", "sampler": "mock-sampler", "model": "mock", "seed": 0, "n": 2, "k": 2}
    assert found.written == max(f.stat().st_mtime_ns for f in folder.path.iterdir() if f.name != ".lock") / 1e9


def test_a_run_that_stopped_says_where_and_how_to_go_on(tmp_path: Path, three: Path):
    found = look(stopped(tmp_path, three, 3))
    assert (found.state, found.stage) == ("stopped", "generation")
    assert (found.done, found.total, found.samples, found.samples_total) == (1, 3, 3, 6)
    assert found.said == "resume with: the command that made it"


def test_a_run_without_grades_says_how_to_grade_it(tmp_path: Path, three: Path):
    folder = mock_run(tmp_path, three, right, graded=False)
    found = look(folder)
    assert (found.state, found.stage, found.done) == ("stopped", "grading", 0)
    assert found.said == f"resume with: spa-bench grade {folder.path}"


def test_a_run_is_at_work_while_a_process_holds_it(tmp_path: Path, three: Path):
    folder = stopped(tmp_path, three, 3)
    with held(folder.path) as process:
        assert look(folder).state == "generating"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "let go\n"
        assert process.poll() is None  # it lives, and goes on with something else
        assert look(folder).state == "stopped"


def test_a_run_that_was_just_written_is_not_called_stopped_at_once(
    tmp_path: Path, three: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = stopped(tmp_path, three, 3)
    monkeypatch.setattr(one, "_GRACE_SECONDS", 3600.0)
    assert look(folder).state == "generating"


def test_looking_never_stands_in_the_way_of_a_run(tmp_path: Path, three: Path, monkeypatch: pytest.MonkeyPatch):
    folder = stopped(tmp_path, three, 3)
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.path.iterdir()}

    def refuse(*_: object) -> None:
        raise AssertionError("the lock was tried")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    look(folder)
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.path.iterdir()} == before


def test_a_lock_of_another_machine_leaves_it_open_whether_the_run_goes_on(tmp_path: Path, three: Path):
    folder = stopped(tmp_path, three, 3)
    (folder.path / ".lock").write_text(json.dumps({"host": "far-away", "pid": 1, "started": "1"}))
    found = look(folder)
    assert (found.state, found.host) == ("generating", "far-away")


def test_a_lock_by_file_counts_while_its_process_lives(tmp_path: Path, three: Path):
    folder = stopped(tmp_path, three, 3)
    me = {"host": platform.node(), "pid": os.getpid(), "started": lock._started(os.getpid())}
    (folder.path / ".lock-owner").write_text(json.dumps(me))
    assert lock.state(folder.path) == "held"
    (folder.path / ".lock-owner").write_text(json.dumps({**me, "started": "1"}))
    assert lock.state(folder.path) == "free"


def test_every_stage_shows_in_the_order_in_which_a_run_does_them(tmp_path: Path, three: Path, sandbox: InProcessJudge):
    folder = stopped(tmp_path, three, 2)
    watched, seen = OneRun(folder.path, tmp_path), []

    class Watching(Lines):
        def stage(self, name: str) -> Any:
            seen.append((name, watched.look().stage))
            return super().stage(name)

    mock_run(tmp_path, three, right, graded=False)
    task = load_task(load_task_card(str(three)))
    assert watched.look().stage == "grading"
    grade(folder, task, Watching(), sandbox=None, workers=1)
    assert seen == [("grading", "grading"), ("behaviours", "behaviours"), ("metrics", "metrics")]
    assert watched.look().state == "finished"


def test_a_line_that_is_not_whole_yet_does_not_count_and_is_no_damage(tmp_path: Path, three: Path):
    folder = stopped(tmp_path, three, 3)
    watched, log = OneRun(folder.path, tmp_path), folder.path / "records.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    assert watched.look().samples == 2
    with log.open("ab") as stream:
        stream.write(lines[2][30:])
    found = watched.look()
    assert (found.state, found.samples) == ("stopped", 3)


def test_what_grows_is_read_from_where_the_last_look_ended(tmp_path: Path, three: Path, monkeypatch: pytest.MonkeyPatch):
    folder = stopped(tmp_path, three, 5)
    log = folder.path / "records.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]))
    read: list[bytes] = []
    monkeypatch.setattr(Tail, "_count", _keeping(Tail._count, read))
    tail = Tail(log)
    assert tail.look()
    assert not tail.look()
    with log.open("ab") as stream:
        stream.write(lines[4])
    assert tail.look()
    assert read == [b"".join(lines[:4]), lines[4]]
    assert (tail.rows, tail.tokens, tail.complete(2), tail.odd) == (5, 5, 2, 0)


def _keeping(count: Any, read: list[bytes]) -> Any:
    def kept(self: Tail, lines: bytes) -> None:
        read.append(lines)
        count(self, lines)

    return kept


def test_a_log_that_was_put_in_order_or_cut_is_counted_anew(tmp_path: Path):
    log = tmp_path / "records.jsonl"
    log.write_bytes(b'{"problem": "a", "tokens": 3, "seed": 1}\n{"problem": "b", "tokens": 4, "seed": 1}\n')
    tail = Tail(log)
    tail.look()
    assert (tail.rows, tail.tokens) == (2, 7)
    other = tmp_path / "new"
    other.write_bytes(log.read_bytes())
    other.replace(log)
    tail.look()
    assert (tail.rows, tail.tokens) == (2, 7)
    log.write_bytes(b'{"problem": "b", "tokens": 4, "seed": 1}\n')
    tail.look()
    assert (tail.rows, tail.tokens) == (1, 4)


def test_texts_that_look_like_keys_do_not_count(tmp_path: Path):
    text = json.dumps(
        {"problem": 'x", "tokens": 9, "', "raw": '\n{"problem": "y", "tokens": 9, "seed"', "tokens": 2, "seed": 1}
    )
    (tmp_path / "records.jsonl").write_text(text + "\n")
    tail = Tail(tmp_path / "records.jsonl")
    tail.look()
    assert (tail.rows, tail.tokens, tail.odd) == (1, 2, 0)


def test_lines_longer_than_what_is_read_at_once_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spa_bench.runs.tail._BLOCK", 16)
    (tmp_path / "log").write_bytes(b"".join(b'{"problem": "%d", "raw": "%s"}\n' % (i, b"x" * 50) for i in range(3)) + b'{"pro')
    tail = Tail(tmp_path / "log")
    tail.look()
    assert (tail.rows, tail.odd) == (3, 0)


# what is wrong with a folder -----------------------------------------------------------------------------------------


def change_spec(folder: RunFolder, **changes: Any) -> None:
    (folder.path / "spec.json").write_text(json.dumps({**folder.spec, **changes}))


@pytest.mark.parametrize(
    ("changes", "state", "why"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "newer", "upgrade spa-bench"),
        ({"schema_version": 1}, "damaged", "make the run again"),
        ({"sampler": {}}, "damaged", "is no spec of a run: it lacks 'name'"),
        ({"task": []}, "damaged", "is no spec of a run"),
        ({"n": "4"}, "damaged", "is no spec of a run"),
    ],
)
def test_a_spec_that_cannot_be_used_is_listed_with_the_reason(
    tmp_path: Path, three: Path, changes: dict[str, Any], state: str, why: str
):
    folder = stopped(tmp_path, three, 3)
    change_spec(folder, **changes)
    found = look(folder)
    assert found.state == state
    assert why in found.said


def test_a_spec_that_is_no_json_is_damage(tmp_path: Path, three: Path):
    folder = stopped(tmp_path, three, 3)
    (folder.path / "spec.json").write_text("{")
    assert look(folder).state == "damaged"


def test_metrics_that_were_changed_are_damage(tmp_path: Path, three: Path, sandbox: InProcessJudge):
    folder = mock_run(tmp_path, three, right)
    watched = OneRun(folder.path, tmp_path)
    assert watched.look().state == "finished"
    text = (folder.path / "metrics.json").read_text()
    (folder.path / "metrics.json").write_text(text.replace('"n": 2', '"n": 3', 1))
    found = watched.look()
    assert found.state == "damaged"
    assert "its checksum does not fit" in found.said


def test_a_finished_run_without_its_samples_is_damage(tmp_path: Path, three: Path, sandbox: InProcessJudge):
    folder = mock_run(tmp_path, three, right)
    (folder.path / "records.jsonl").unlink()
    assert look(folder).said == "records.jsonl is missing or empty, and metrics.json counts 6 samples"


def test_lines_that_are_no_rows_are_damage(tmp_path: Path, three: Path):
    folder = stopped(tmp_path, three, 3)
    log = folder.path / "records.jsonl"
    log.write_bytes(b"\0\0\0\n" + log.read_bytes())
    found = look(folder)
    assert (found.state, found.said) == ("damaged", f"records.jsonl has a line that is no row: spa-bench verify {folder.path}")


def test_a_file_that_leads_out_of_the_folder_is_not_read(tmp_path: Path, three: Path):
    folder = stopped(tmp_path / "runs", three, 3)
    (tmp_path / "secret.json").write_text((folder.path / "spec.json").read_text())
    (folder.path / "spec.json").unlink()
    (folder.path / "spec.json").symlink_to(tmp_path / "secret.json")
    [found] = Runs(tmp_path / "runs").look()
    assert found.glance.state == "damaged"
    assert found.glance.said.startswith("spec.json is a link that leads out of")
    assert found.glance.facts == {}


# the folder ----------------------------------------------------------------------------------------------------------


def test_runs_are_found_below_folders_of_studies_and_links_are_not_followed(tmp_path: Path, three: Path):
    folder = stopped(tmp_path / "elsewhere", three, 3)
    root = tmp_path / "runs"
    for place in ("a", "study-main/b", ".claims/c", "1/2/3/4"):
        (root / place).mkdir(parents=True)
        (root / place / "spec.json").write_bytes((folder.path / "spec.json").read_bytes())
    (root / "link").symlink_to(folder.path)
    assert [run.name for run in Runs(root).look()] == ["a", "study-main/b"]
    assert [run.name for run in Runs(root / "a").look()] == ["a"]


def test_runs_that_come_and_go_are_listed_as_they_are(tmp_path: Path, three: Path):
    runs = Runs(tmp_path / "runs")
    assert runs.look() == []
    folder = stopped(tmp_path / "runs", three, 3)
    [listed] = runs.look()
    assert runs.chosen([listed.id, "no such id", listed.id]) == [listed]
    folder.path.rename(tmp_path / "gone")
    assert runs.look() == []
