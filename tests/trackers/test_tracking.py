"""`--log` and `spa-bench log`: a tracker hears of a run, and whatever it does costs the run nothing."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, SANDBOX, Call, InProcessJudge, mock_run
from spa_bench.metrics.suite import ALIASES
from spa_bench.publish.trackers import child, tracking
from spa_bench.publish.trackers.content import config
from spa_bench.publish.trackers.tracking import Tracking, log_runs, names_of
from spa_bench.runs.folder import RunFolder

DIARY = """
import dataclasses, json, os, random, sys, time

class Diary:
    def write(self, what, **content):
        with open(os.environ["DIARY"], "a") as stream:
            stream.write(json.dumps({"what": what, **content}, default=str) + "\\n")

    def __init__(self, run):
        print("noise on stdout")
        random.seed(7)
        self.write("start", **dataclasses.asdict(run))
        self.where = "in the diary"

    def progress(self, values, step):
        self.write("progress", step=step, values=dict(values))

    def finish(self, ended):
        self.write("finish", **dataclasses.asdict(ended))

class Refusing(Diary):
    def __init__(self, run):
        raise ConnectionError("nobody\\nanswers")

class Forgetful(Diary):
    def progress(self, values, step):
        raise ValueError("lost")

class Hanging(Diary):
    def finish(self, ended):
        time.sleep(600)

class Slow(Diary):
    def __init__(self, run):
        time.sleep(600)

class Dying(Diary):
    def finish(self, ended):
        print("no luck", file=sys.stderr, flush=True)
        os._exit(3)

class Leaving(Diary):
    def __init__(self, run):
        sys.exit("not logged in")

build = Diary
"""


class Written:
    """What the tracker of `DIARY` wrote down."""

    def __init__(self, path: Path):
        self.path = path

    def all(self, what: str) -> list[dict[str, Any]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [row for row in map(json.loads, lines) if row["what"] == what]


@pytest.fixture
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """A tracker `diary_tracker:build` on the import path, and what it writes."""
    (tmp_path / "diary_tracker.py").write_text(DIARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DIARY", str(tmp_path / "diary.jsonl"))
    return Written(tmp_path / "diary.jsonl")


@pytest.fixture
def folder(tmp_path: Path, three: Path, sandbox: InProcessJudge) -> RunFolder:
    return mock_run(tmp_path / "there", three, lambda r: RIGHT[r.problem_id])


def contents(path: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in path.iterdir() if f.name not in {"timings.json", ".lock"}}


def test_a_run_is_told_of_and_its_files_are_the_same_as_without(
    run: Call, sandbox: InProcessJudge, diary: Written, tmp_path: Path
):
    assert run("--n", 2).code == 0
    [plain] = (tmp_path / "runs").iterdir()
    before = contents(plain)
    done = run("--n", 2, "--log", "diary_tracker:build", "--out", tmp_path / "told")
    assert done.code == 0
    assert "diary_tracker:build: in the diary" in done.err
    assert "noise" not in done.out + done.err
    [told] = (tmp_path / "told").iterdir()
    assert told.name == plain.name
    assert contents(told) == before
    [start], [finish] = diary.all("start"), diary.all("finish")
    metrics = json.loads(before["metrics.json"])["estimates"]
    assert start["id"].startswith(told.name.rpartition("-")[2])
    assert start["config"]["sampler.decoding.temperature"] == 0.8
    assert start["tags"] | {"spec_hash": "", "group_hash": "", "model": ""} == {
        "sampler": "base", "task": "three", "seed": "0", "model": "", "spec_hash": "", "group_hash": "",
    }  # fmt: skip
    assert finish["state"] == "finished"
    assert finish["metrics"]["pass@1"] == metrics["pass@1"]["value"]
    assert finish["metrics"]["pass@1/high"] == metrics["pass@1"]["high"]
    assert finish["metrics"]["pass@1/n"] == 3
    assert "average_kl[i<j]" not in finish["metrics"]  # one member: it has no value
    assert "vendi[ngram,q=1]" in finish["metrics"]
    assert not {name.partition("/")[0] for name in finish["metrics"]} & set(ALIASES)  # a metric has one name
    assert finish["times"]["seconds/generation"] > 0
    names = {Path(f).name for f in finish["files"]}
    assert {"spec.json", "metrics.json", "timings.json"} <= names
    assert "records.jsonl" not in names


def test_samples_go_only_to_those_who_ask(call: Call, folder: RunFolder, diary: Written):
    assert call("log", folder.path, "--to", "diary_tracker:build").code == 0
    assert call("log", folder.path, "--to", "diary_tracker:build", "--log-samples").code == 0
    without, with_samples = ({Path(f).name for f in row["files"]} for row in diary.all("finish"))
    assert with_samples - without >= {"records.jsonl", "grades.jsonl"}


def test_a_run_that_goes_on_is_the_same_run_of_the_tracker(
    run: Call, call: Call, sandbox: InProcessJudge, diary: Written, tmp_path: Path
):
    assert run("--n", 2, "--until", "generate", "--log", "diary_tracker:build").code == 0
    [made] = (tmp_path / "runs").iterdir()
    assert call("grade", made, "--sandbox", SANDBOX, "--log", "diary_tracker:build").code == 0
    first, second = diary.all("start")
    assert first == second
    assert [row["state"] for row in diary.all("finish")] == ["generated", "finished"]
    assert "pass@1" not in diary.all("finish")[0]["metrics"]


def test_progress_has_samples_problems_and_tokens(folder: RunFolder, diary: Written):
    there = threading.Event()
    with Tracking(["diary_tracker:build"], lambda _: there.set()) as told:
        told.begin(folder)
        assert there.wait(60)
        told.progress("generation", 4, 6, 1.25)
        told.progress("grading", 1, 6, 0.5)
        told.finish("finished")
    generation, grading = diary.all("progress")
    assert generation["step"] == 4
    assert generation["values"] == {
        "generation/done": 4.0, "generation/total": 6.0, "generation/seconds": 1.25, "generation/tokens": 6.0,
        "generation/problems": 3.0,
    }  # fmt: skip
    assert grading["values"] == {"grading/done": 1.0, "grading/total": 6.0, "grading/seconds": 0.5}


def test_stages_speak_now_and_then_and_at_their_end(monkeypatch: pytest.MonkeyPatch):
    heard: list[tuple[str, int]] = []
    now = 0.0
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now)
    told = Tracking(["x"], print)
    monkeypatch.setattr(told, "progress", lambda stage, done, total, seconds: heard.append((stage, done)))
    with told.reporter().stage("work") as progress:
        for second in range(1, 26):
            now = float(second)
            progress(second, 25)
    assert heard == [("work", 10), ("work", 20), ("work", 25)]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("Refusing", "nobody answers"),
        ("Leaving", "not logged in"),
        ("Hanging", "it did not answer in time"),
        ("Slow", "it did not answer in time"),
        ("Dying", "its process ended (no luck)"),
    ],
)
def test_a_tracker_that_fails_costs_one_line_and_no_time(
    run: Call, sandbox: InProcessJudge, diary: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, why: str
):
    monkeypatch.setattr(child, "START_SECONDS", 1.0)
    monkeypatch.setattr(child, "FINISH_SECONDS", 1.0)
    if kind in {"Hanging", "Dying", "Refusing", "Leaving"}:
        monkeypatch.setattr(child, "START_SECONDS", 5.0 if kind == "Hanging" else 30.0)
        monkeypatch.setattr(child, "FINISH_SECONDS", 1.0 if kind == "Hanging" else 30.0)
    began = time.monotonic()
    done = run("--n", 1, "--log", f"diary_tracker:{kind}")
    assert time.monotonic() - began < 120  # and not the 600 s for which two of them sleep
    assert done.code == 0
    assert "three" in done.out  # the table is there
    [line] = [line for line in done.err.splitlines() if "can be logged later" in line]
    [made] = (tmp_path / "runs").iterdir()
    assert line.startswith(f"diary_tracker:{kind}: {why}")
    assert line.endswith(f"spa-bench log {made} --to diary_tracker:{kind}")
    assert (made / "metrics.json").exists()


def test_progress_that_fails_keeps_the_results(folder: RunFolder, diary: Written):
    said: list[str] = []
    with Tracking(["diary_tracker:Forgetful"], said.append) as told:
        told.begin(folder)
        for _ in range(600):
            time.sleep(0.05)
            if said:
                break
        told.progress("generation", 1, 6, 0.1)
        told.finish("finished")
    assert said == ["diary_tracker:Forgetful: in the diary"]
    assert len(diary.all("finish")) == 1


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "stopped"), (ValueError, "failed")])
def test_a_run_that_ends_early_is_told_as_such(folder: RunFolder, diary: Written, error: type[BaseException], state: str):
    def begin_and_end() -> None:
        with Tracking(["diary_tracker:build"], print) as told:
            told.begin(folder)
            raise error

    with pytest.raises(error):
        begin_and_end()
    assert [row["state"] for row in diary.all("finish")] == [state]


def test_a_run_that_cannot_be_logged_later_ends_with_2(call: Call, folder: RunFolder, diary: Written):
    done = call("log", folder.path, "--to", "diary_tracker:Refusing")
    assert done.code == 2
    assert "nobody answers" in done.err
    assert log_runs([folder], ["diary_tracker:build"], print, samples=False) == []


def test_a_run_that_is_still_being_made_is_not_logged_as_stopped(folder: RunFolder, diary: Written):
    told: list[str] = []
    with folder.locked():
        assert log_runs([folder], ["diary_tracker:build"], told.append, samples=False) == [folder.path]
    assert told == [f"{folder.path}: a process works on it; log it when that has ended"]
    assert diary.all("start") == []


def test_a_machine_without_room_for_a_tracker_costs_the_run_nothing(
    folder: RunFolder, diary: Written, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> object:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(child.subprocess, "Popen", full)
    told: list[str] = []
    with Tracking(["diary_tracker:build"], told.append) as tracking:
        tracking.begin(folder)
        tracking.progress("generation", 1, 2, 3.0)
        tracking.finish("finished")
    assert len(told) == 1
    assert told[0].startswith("diary_tracker:build: its process cannot be started (Cannot allocate memory); the run is not")


def test_names_come_with_commas_or_one_by_one_and_count_once(diary: Written):
    assert names_of(["diary_tracker:build, diary_tracker:Slow", "diary_tracker:build"]) == [
        "diary_tracker:build",
        "diary_tracker:Slow",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["wandbb"], "unknown tracker 'wandbb'; did you mean 'wandb'?"),
        ([","], "--log names no tracker; wandb, mlflow or trackio"),
        (["no_such_module:build"], "cannot be imported"),
    ],
)
def test_a_tracker_that_is_not_there_is_named_before_anything_runs(call: Call, names: Sequence[str], message: str):
    assert message in call("run", "--sampler", "base", "--task", "mini-code", "--log", *names).error()


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_one_line_with_the_command(call: Call, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / name).mkdir()  # as wandb leaves one where it ran: no package
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tracking.importlib.util, "find_spec", _only_folders(tracking.importlib.util.find_spec, name))
    done = call("run", "--sampler", "base", "--task", "mini-code", "--log", name)
    assert done.error() == f"--log {name} needs the package {name}, which is not installed: pip install 'spa-bench[{name}]'"


def _only_folders(find: Any, name: str) -> Any:
    """find_spec that sees no installed package of that name, only folders."""

    def found(package: str) -> Any:
        spec = find(package)
        return None if spec is not None and package == name and spec.origin is not None else spec

    return found


def test_the_spec_becomes_flat_without_loss():
    nested = {"a": {"b": 1, "c": {"d": None}}, "stop": ["\n", "x"], "empty": {}}
    assert config(nested) == {"a.b": 1, "a.c.d": None, "stop": '["\\n", "x"]'}


def test_a_tracker_of_ones_own_may_be_declared_as_an_object(diary: Written, folder: RunFolder, call: Call, tmp_path: Path):
    (tmp_path / "declared_tracker.py").write_text(
        "from diary_tracker import Diary\nfrom spa_bench.publish.trackers.base import TrackerKind\n"
        "KIND, MISSING = TrackerKind(build=Diary), TrackerKind(build=Diary, package='not_installed_here')\n"
    )
    done = call("log", folder.path, "--to", "declared_tracker:KIND")
    assert done.code == 0, done.err
    assert diary.all("finish")
    done = call("log", folder.path, "--to", "declared_tracker:MISSING")
    assert done.error().endswith("needs the package not_installed_here, which is not installed: pip install not_installed_here")
