"""Studies and grading with two workers, one of which is killed: the bytes of one process, and no process is left behind.

`pytest -m slow tests/executors` runs these.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from drivers import LOCAL, RAY, actors_of, needs_ray, start, workers_of

from processes import descendants

pytestmark = pytest.mark.slow
Of = Callable[[subprocess.Popen[str]], list[int]]
WAYS = [("local", LOCAL, workers_of), pytest.param("ray", RAY, actors_of, marks=needs_ray)]
BYTES = ("spec.json", "records.jsonl", "divergence.jsonl", "adapters.json", "grades.jsonl", "behaviours.jsonl", "metrics.json")


def ended(process: subprocess.Popen[str], seconds: float = 400) -> tuple[int, str]:
    _, said = process.communicate(timeout=seconds)
    return process.returncode, said


def study(folder: Path, *more: object) -> subprocess.Popen[str]:
    """Six runs: of one adapter, and of four on random parts, with three seeds."""
    fixed = ["study", "main", "--samplers", "single,random", "--members", 4, "--seeds", "0,1,2", "--limit", 12]
    settings = ["--set", "lora.steps=6", "--set", "data.share=0.05", "--device", "cpu", "--threads", 1]
    return start(folder / "cache", *fixed, *settings, "--out", folder / "runs", "--write", folder / "page", *more)


def rows(folder: Path) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in (folder / "runs").glob("*/records.jsonl"))


def until(true: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def runs_in(folder: Path) -> dict[str, dict[str, bytes]]:
    made = [file.parent for file in folder.glob("*/spec.json")]
    return {run.name: {name: (run / name).read_bytes() for name in BYTES} for run in made}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, bwrap: str) -> Path:
    """The folder of a study by one process."""
    folder = tmp_path_factory.mktemp("one")
    code, said = ended(study(folder))
    assert code == 0, said
    return folder


@pytest.mark.parametrize(("name", "options", "of"), WAYS, ids=["local", "ray"])
def test_a_study_with_two_workers_one_killed_has_the_bytes_of_one_process(
    name: str, options: tuple[str, ...], of: Of, one: Path, tmp_path: Path
):
    driver = study(tmp_path, *options)
    until(lambda: rows(tmp_path) > 0)
    below = descendants(driver.pid)
    os.kill(of(driver)[0], signal.SIGKILL)
    code, said = ended(driver)
    assert code == 0, said
    assert "another one takes its place" in said
    assert len(found := runs_in(tmp_path / "runs")) == 6
    assert found == runs_in(one / "runs")
    until(lambda: not any(_runs(pid) for pid in below))


@pytest.mark.parametrize("how", ["stopped", "stopped at once", "killed"])
def test_a_study_that_ends_early_leaves_no_worker_and_goes_on(how: str, one: Path, tmp_path: Path):
    driver = study(tmp_path, *LOCAL)
    until(lambda: rows(tmp_path) > 0)
    workers = workers_of(driver)
    driver.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
    if how == "stopped at once":
        time.sleep(0.2)
        driver.send_signal(signal.SIGINT)
    code, said = ended(driver)
    assert code == (-9 if how == "killed" else 130), said
    assert "Traceback" not in said
    until(lambda: not any(_runs(pid) for pid in workers))
    code, said = ended(study(tmp_path))
    assert code == 0, said
    assert runs_in(tmp_path / "runs") == runs_in(one / "runs")


def test_a_stage_leaves_no_worker_also_at_an_error(tmp_path: Path):
    fixed = ["spa", "adapt", "--sampler", "single", "--device", "cpu", "--threads", 1, "--set", "data.share=0.05"]
    for wrong, code in (("lora.learning_rate=1e30", 2), ("lora.steps=2", 0)):
        driver = start(tmp_path / "cache", *fixed, "--set", wrong, *LOCAL)
        until(lambda at=driver: len(workers_of(at)) == 2)
        workers = workers_of(driver)
        assert ended(driver)[0] == code
        until(lambda those=workers: not any(_runs(pid) for pid in those))


@pytest.mark.parametrize(("name", "options", "of"), WAYS, ids=["local", "ray"])
def test_grading_with_two_workers_one_killed_has_the_bytes_of_one_process(
    name: str, options: tuple[str, ...], of: Of, one: Path, tmp_path: Path
):
    shutil.copytree(one / "runs", tmp_path / "runs")
    folders = sorted(file.parent for file in (tmp_path / "runs").glob("*/spec.json"))
    for folder in folders:
        for file in ("grades.jsonl", "behaviours.jsonl", "metrics.json", "judged.json"):
            (folder / file).unlink()
    driver = start(tmp_path / "cache", "grade", *folders, *options, "--workers", 1)
    until(lambda: (folders[0] / "grades.jsonl").exists() or driver.poll() is not None)
    assert of(driver), ended(driver)
    os.kill(of(driver)[0], signal.SIGKILL)
    code, said = ended(driver)
    assert code == 0, said
    assert "another one takes its place" in said
    assert runs_in(tmp_path / "runs") == runs_in(one / "runs")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
