"""Whole runs with two workers: the bytes of one process, also when a worker or the driver is killed, or a cluster goes away.

`pytest -m slow tests/executors` runs these: each starts several processes that load torch, and those of Ray a cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drivers import LOCAL, QUIET, RAY, actors_of, needs_ray, workers_of

from processes import descendants

pytestmark = pytest.mark.slow
BYTES = ("spec.json", "records.jsonl", "divergence.jsonl", "adapters.json")


class Runs:
    """Runs of one command in several ways, each with its own folder of runs and its own stage cache."""

    def __init__(self, folder: Path):
        self.folder = folder

    def command(self, *more: str, n: int = 8) -> list[str]:
        fixed = ["--sampler", "spa-influence", "--task", "mini-code", "--limit", "24", "--device", "cpu", "--threads", "1"]
        settings = ["lora.steps=3", "lora.together=1", "data.share=0.05", "attribution.curvature=identity"]
        chosen = [word for setting in settings for word in ("--set", setting)]
        start = [sys.executable, "-m", "spa_bench", "run", *fixed, *chosen, "--n", str(n), "--until", "generate"]
        return [*start, *more]

    def start(self, name: str, *more: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "SPA_BENCH_CACHE": str(self.folder / name / "cache"),
            **QUIET,
        }
        return subprocess.Popen(
            self.command("--out", str(self.folder / name / "runs"), *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
        _, said = process.communicate(timeout=seconds)
        return process.returncode, said

    def rows(self, name: str) -> int:
        return sum(len(file.read_bytes().splitlines()) for file in (self.folder / name).glob("runs/*/records.jsonl"))

    def until_rows(self, name: str, rows: int) -> None:
        end = time.monotonic() + 200
        while self.rows(name) < rows:
            assert time.monotonic() < end
            time.sleep(0.05)

    def bytes(self, name: str) -> dict[str, bytes]:
        [run] = (self.folder / name / "runs").iterdir()
        adapters = (self.folder / name / "cache").rglob("adapter_model.safetensors")
        found = {str(file.relative_to(self.folder / name / "cache")): file.read_bytes() for file in adapters}
        return {run.name: b"", **found, **{file: (run / file).read_bytes() for file in BYTES}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The runs; "one" is of one process."""
    runs = Runs(tmp_path_factory.mktemp("runs"))
    code, said = runs.finish(runs.start("one"))
    assert code == 0, said
    return runs


@pytest.mark.parametrize(
    ("name", "options", "of"),
    [("local", LOCAL, workers_of), pytest.param("ray", RAY, actors_of, marks=needs_ray)],
    ids=["local", "ray"],
)
def test_two_workers_one_killed_give_the_bytes_of_one_process(
    name: str, options: tuple[str, ...], of: Callable[[subprocess.Popen[str]], list[int]], runs: Runs
):
    driver = runs.start(name, *options)
    runs.until_rows(name, 8)
    os.kill(of(driver)[0], signal.SIGKILL)
    code, said = runs.finish(driver)
    assert code == 0, said
    assert "another one takes its place" in said
    assert runs.bytes(name) == runs.bytes("one")


def test_the_command_of_a_killed_driver_goes_on(runs: Runs):
    driver = runs.start("killed", *LOCAL)
    runs.until_rows("killed", 8)
    before = runs.rows("killed")
    driver.kill()
    driver.communicate()
    assert before < runs.rows("one")
    code, said = runs.finish(runs.start("killed", *LOCAL))
    assert code == 0, said
    assert "adapters: from the stage cache" in said
    assert runs.bytes("killed") == runs.bytes("one")


def test_ctrl_c_keeps_what_is_done_and_the_command_goes_on_without_workers(runs: Runs):
    driver = runs.start("stopped", *LOCAL)
    runs.until_rows("stopped", 8)
    driver.send_signal(signal.SIGINT)
    code, said = runs.finish(driver)
    assert code == 130, said
    assert "Traceback" not in said
    code, said = runs.finish(runs.start("stopped"))
    assert code == 0, said
    assert runs.bytes("stopped") == runs.bytes("one")


@pytest.fixture
def port() -> int:
    """A port at which nothing listens, as at the next one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            found = int(server.getsockname()[1])
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", found + 1)):
                return found


@pytest.fixture
def head(port: int) -> Iterator[subprocess.Popen[str]]:
    """A Ray cluster of two cores at `port`; killed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets need a short path
    arguments = ["--head", "--block", "--num-cpus", "2", "--port", str(port), "--include-dashboard=false"]
    arguments += ["--temp-dir", str(folder), "--ray-client-server-port", str(port + 1)]
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_memory_monitor_refresh_ms": "0",
    }
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    yield process
    away(process)
    process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def away(head: subprocess.Popen[str]) -> None:
    """Kill a cluster, all its processes at once."""
    for pid in [*descendants(head.pid), head.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    head.wait()


@needs_ray
def test_a_cluster_that_goes_away_is_one_line_and_what_is_done_is_kept(head: subprocess.Popen[str], port: int, runs: Runs):
    driver = runs.start("away", *RAY, "--ray-address", f"127.0.0.1:{port}")
    runs.until_rows("away", 8)
    away(head)
    code, said = runs.finish(driver, 120)
    assert code == 2, said
    lines = [line for line in said.splitlines() if line.startswith("spa-bench:")]
    assert len(lines) == 1
    assert lines[0].startswith(f"spa-bench: the Ray cluster 127.0.0.1:{port} has gone away (")
    assert "Traceback" not in said
    assert 8 <= runs.rows("away") < runs.rows("one")
    code, said = runs.finish(runs.start("away", *LOCAL))
    assert code == 0, said
    assert runs.bytes("away") == runs.bytes("one")


@needs_ray
def test_a_cluster_is_reached_through_the_client_too(head: subprocess.Popen[str], port: int, runs: Runs):
    code, said = runs.finish(runs.start("client", *RAY, "--ray-address", f"ray://127.0.0.1:{port + 1}"))
    assert code == 0, said
    assert runs.bytes("client") == runs.bytes("one")


@needs_ray
def test_no_cluster_at_an_address_is_one_line(port: int, runs: Runs):
    code, said = runs.finish(runs.start("nowhere", *RAY, "--ray-address", f"127.0.0.1:{port}"))
    assert code == 2
    assert said.splitlines()[-1].startswith(f"spa-bench: no cluster of Ray answers at 127.0.0.1:{port} (")
    assert not (runs.folder / "nowhere" / "runs").exists()
