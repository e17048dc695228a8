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
        (ExecutorOptions(workers=0), "auto", "--num-workers is 0; it must be at least 1"),
        (ExecutorOptions(workers=5), "cuda", "5 workers take a GPU each, and torch sees 4 here"),
        (ExecutorOptions(workers=2), "cuda:1", "--device cuda:1 is one device, and there are 2 workers"),
        (ExecutorOptions(devices=("cuda:1", "cuda:4")), "auto", "device 'cuda:4' was asked for, and torch sees 4"),
        (ExecutorOptions(devices=("cuda", "cuda:1")), "auto", "--devices takes cpu, or cuda:N with commas between; got 'cuda'"),
        (ExecutorOptions(devices=("cuda:1", "cpu")), "auto", "--devices cuda:1,cpu are of several kinds"),
        (ExecutorOptions(workers=3, devices=("cuda:1", "cuda:2")), "auto", "--num-workers is 3 and --devices names 2"),
        (ExecutorOptions(address="auto"), "auto", "--ray-address auto needs --executor ray"),
        (ExecutorOptions(gpus=0.5), "auto", "--gpus-per-worker needs --executor ray"),
        (ExecutorOptions(kind="ray", gpus=-1), "auto", "--gpus-per-worker is -1; give a number from 0"),
        (ExecutorOptions(kind="ray", devices=("cuda:0",)), "auto", "--devices names devices of this machine"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(executor: ExecutorOptions, device: str, said: str):
    with pytest.raises(UsageError, match="^" + re.escape(said)) as caught:
        begin(executor, device, None, gpus=visible_gpus, tell=silent)
    assert "\n" not in str(caught.value)


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
