"""What the options of workers mean, and what of them is refused before anything starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from doubles import Call
from spa_bench.cli.options import Machine
from spa_bench.errors import UsageError
from spa_bench.executors import options
from spa_bench.executors.options import ExecutorOptions, begin
from spa_bench.models.hf.device import visible_gpus


def silent(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_without_options_this_process_holds_the_model():
    assert Machine().options().executor == ExecutorOptions()
    assert Machine().options().executor.alone
    assert Machine(num_workers=1).options().executor.alone
    assert not Machine(num_workers=2).options().executor.alone
    assert not Machine(executor="ray").options().executor.alone
    assert Machine(devices="cuda:0, cuda:2").options().executor.devices == ("cuda:0", "cuda:2")


def test_workers_on_the_cpu_share_its_cores_unless_threads_are_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(options.os, "sched_getaffinity", lambda _: set(range(8)))
    started = begin(ExecutorOptions(workers=3), "cpu", None, gpus=visible_gpus, tell=silent)
    assert (started.device, started.threads, started.transport.count) == ("cpu", 2, 3)
    assert begin(ExecutorOptions(workers=3), "cpu", 5, gpus=visible_gpus, tell=silent).threads == 5


@pytest.mark.usefixtures("four_gpus")
def test_each_worker_sees_the_gpu_that_is_named_for_it(monkeypatch: pytest.MonkeyPatch):
    def seen(executor: ExecutorOptions, device: str = "auto") -> list[str]:
        return [
            place.environment["CUDA_VISIBLE_DEVICES"]
            for place in options._places(executor, executor.workers or 1, device, visible_gpus)
        ]

    assert seen(ExecutorOptions(workers=3)) == ["0", "1", "2"]
    assert seen(ExecutorOptions(devices=("cuda:3", "cuda:1"))) == ["3", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,GPU-ab,2")
    assert seen(ExecutorOptions(devices=("cuda:0", "cuda:2"))) == ["5", "GPU-ab"]
    assert begin(ExecutorOptions(workers=2), "auto", None, gpus=visible_gpus, tell=silent).device == "cuda"


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("executor", "device", "said"),
    [
        (ExecutorOptions(workers=5), "cuda", "5 workers take a GPU each, and torch sees 4 here"),
        (ExecutorOptions(workers=2), "cuda:1", "--device cuda:1 is one device, and there are 2 workers"),
        (ExecutorOptions(devices=("cuda:1", "cuda:4")), "auto", "device 'cuda:4' was asked for, and torch sees 4"),
        (ExecutorOptions(devices=("cuda", "cuda:1")), "auto", "--devices takes cpu, or cuda:N with commas between; got 'cuda'"),
        (ExecutorOptions(devices=("cpu", "cpu")), "cuda", "--devices cpu,cpu and the device cuda are of two kinds"),
        (ExecutorOptions(devices=("cuda:1",)), "cpu", "--devices cuda:1 and the device cpu are of two kinds"),
        (
            ExecutorOptions(kind="ray"),
            "cuda:1",
            "--device cuda:1 is one device of this machine",
        ),
        (ExecutorOptions(kind="ray", gpus=0.5), "cpu", "--device cpu uses no GPU, and --gpus-per-worker is 0.5"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(executor: ExecutorOptions, device: str, said: str):
    with pytest.raises(UsageError, match="^" + re.escape(said)) as caught:
        begin(executor, device, None, gpus=visible_gpus, tell=silent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Machine(num_workers=0), "--num-workers is 0; it must be at least 1"),
        (Machine(devices="cuda:1,cpu"), "--devices cuda:1,cpu are of several kinds"),
        (Machine(devices=" , "), "--devices takes cpu, or cuda:N with commas between; got ' , '"),
        (Machine(num_workers=3, devices="cuda:1,cuda:2"), "--num-workers is 3 and --devices names 2"),
        (Machine(ray_address="auto"), "--ray-address auto needs --executor ray"),
        (Machine(gpus_per_worker=0.5), "--gpus-per-worker needs --executor ray"),
        (Machine(executor="ray", gpus_per_worker=-1), "--gpus-per-worker is -1; give a number from 0"),
        (Machine(executor="ray", gpus_per_worker=1.5), "--gpus-per-worker is 1.5; Ray shares out parts of one GPU"),
        (Machine(executor="ray", devices="cuda:0"), "--devices names devices of this machine"),
    ],
)
def test_options_that_do_not_fit_are_refused_whether_workers_are_needed_or_not(given: Machine, said: str):
    with pytest.raises(UsageError, match="^" + re.escape(said)) as caught:
        given.options()
    assert "\n" not in str(caught.value)


WRONG = ("--num-workers", 0), ("--ray-address", "auto"), ("--num-workers", 1, "--gpus-per-worker", 0.5)


def test_every_command_refuses_them_also_where_nothing_is_left_to_do(call: Call, three: Path, tmp_path: Path, bwrap: str):
    run = ["run", "--engine", "mock", "--sampler", "base", "--task", three, "--n", 1, "--sandbox", bwrap]
    run += ["--out", tmp_path / "runs"]
    assert call(*run).code == 0
    [done] = (tmp_path / "runs").iterdir()
    spa = ("spa", "partition", "--sampler", "spa-random")
    for command in (run, ["study", "main", "--out", tmp_path / "study"], spa, ["rerun", done], ["grade", done]):
        for words in WRONG:
            if "--gpus-per-worker" not in words or command[0] != "grade":  # whose workers hold no model
                assert call(*command, *words).code == 2, (command, words)


def test_an_engine_elsewhere_and_workers_are_refused_also_where_nothing_is_left_to_do(
    call: Call, three: Path, tmp_path: Path, bwrap: str
):
    run = ["run", "--engine", "mock", "--sampler", "base", "--task", three, "--n", 1, "--sandbox", bwrap]
    run += ["--out", tmp_path / "runs"]
    assert call(*run).code == 0
    for command in (run, ["study", "main", "--engine", "mock", "--table-only", "--out", tmp_path / "runs"]):
        said = call(*command, "--num-workers", 2).error()
        assert said == "workers each hold a model of engine hf, and --engine names mock; leave one of them out"


class _NoGpus:
    """A transport to a cluster without GPUs."""

    def __init__(self, *_: object):
        self.gpus, self.closed = 0.0, 0

    def close(self) -> None:
        self.closed += 1


def test_a_gpu_that_a_cluster_lacks_is_not_replaced_by_its_processors(monkeypatch: pytest.MonkeyPatch):
    transport = _NoGpus()
    monkeypatch.setattr(options, "RayTransport", lambda *_: transport)
    with pytest.raises(UsageError, match=r"^--device cuda was asked for, and workers of Ray get no GPUs here"):
        begin(ExecutorOptions(kind="ray", workers=2), "cuda", None, gpus=visible_gpus, tell=silent)
    assert transport.closed == 1
    assert begin(ExecutorOptions(kind="ray", workers=2), "auto", None, gpus=visible_gpus, tell=silent).device == "cpu"


def test_a_gpu_that_is_not_there_is_an_error_of_the_command(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    arguments = [
        "--sampler",
        "base",
        "--task",
        "mini-code",
        "--devices",
        "cuda:0,cuda:1",
        "--out",
        tmp_path,
        "--until",
        "generate",
    ]
    done = call("run", *arguments)
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith("device 'cuda:0' was asked for, and torch sees 0 CUDA devices here; name others")
