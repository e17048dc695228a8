"""Which workers hold a model: the options of the command line, checked, and what starts workers by them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from spa_bench.errors import UsageError
from spa_bench.executors.base import Transport
from spa_bench.executors.local import LocalTransport, WorkerPlace
from spa_bench.executors.ray import RayOptions, RayTransport


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """Which workers there are. As it is, this process does everything. Raises UsageError for options that do not fit."""

    kind: Literal["local", "ray"] = "local"
    workers: int | None = None  # None: one for each of `devices`, else one
    devices: tuple[str, ...] = ()  # of local workers, one each: cuda:N or cpu
    address: str | None = None  # of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; None: Ray on this machine alone
    gpus: float | None = None  # of each Ray worker; None: 1 where the cluster has GPUs and the device is not cpu

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--num-workers is {self.workers}; it must be at least 1")
        if self.kind == "ray" and self.devices:
            raise UsageError(
                "--devices names devices of this machine, and Ray places its workers itself: use --gpus-per-worker"
            )
        if self.kind == "local" and self.address is not None:
            raise UsageError(f"--ray-address {self.address} needs --executor ray")
        if self.kind == "local" and self.gpus is not None:
            raise UsageError("--gpus-per-worker needs --executor ray; --devices says which GPUs local workers use")
        if self.gpus is not None and not 0 <= self.gpus <= 64:
            raise UsageError(f"--gpus-per-worker is {self.gpus:g}; give a number from 0, such as 0.5 or 1")
        if self.gpus is not None and self.gpus > 1 and not float(self.gpus).is_integer():
            raise UsageError(
                f"--gpus-per-worker is {self.gpus:g}; Ray shares out parts of one GPU, and above 1 whole ones alone"
            )
        if self.workers and self.devices and self.workers != len(self.devices):
            raise UsageError(
                f"--num-workers is {self.workers} and --devices names {len(self.devices)}: each worker has one device; leave "
                "out --num-workers"
            )
        if len({name.partition(":")[0] for name in self.devices}) > 1:
            raise UsageError(
                f"--devices {','.join(self.devices)} are of several kinds, which give other numbers; name one kind"
            )

    @property
    def alone(self) -> bool:
        """Whether there are no workers: this process does everything."""
        return self.kind == "local" and not self.devices and self.workers in (None, 1)


@dataclass(frozen=True)
class Started:
    """Workers that can be started, and how each loads a model."""

    transport: Transport
    device: str  # in the words of HFOptions
    threads: int  # of a worker: the cores that are its own


def begin(
    options: ExecutorOptions,
    device: str,
    threads: int | None,
    *,
    gpus: Callable[[], Sequence[str]],
    tell: Callable[[str], None],
) -> Started:
    """What starts the workers for a model on `device` with this number of `threads`. Raises UsageError for what cannot be had.

    `gpus` gives the names of this machine's GPUs for CUDA_VISIBLE_DEVICES; it is called where they matter.
    """
    _check_device(options, device)
    count = options.workers or len(options.devices) or 1
    cores = len(os.sched_getaffinity(0))
    if options.kind == "ray":
        mine = threads or (max(1, cores // count) if options.address is None else 1)
        wanted = RayOptions(
            address=options.address, workers=count, cpus=float(mine), gpus=0.0 if device == "cpu" else options.gpus
        )
        transport = RayTransport(wanted, tell)
        if device.startswith("cuda") and not transport.gpus:
            transport.close()
            raise UsageError(
                f"--device {device} was asked for, and workers of Ray get no GPUs here: the cluster has none, or "
                "--gpus-per-worker is 0"
            )
        return Started(transport, "cuda" if transport.gpus else "cpu", mine)
    places = _places(options, count, device, gpus)
    on_gpus = places[0].environment.get("CUDA_VISIBLE_DEVICES") is not None
    return Started(LocalTransport(places), "cuda" if on_gpus else "cpu", threads or max(1, cores // count))


def _check_device(options: ExecutorOptions, device: str) -> None:
    """Raises UsageError where the device of the model and the options of its workers do not fit."""
    kind = device.partition(":")[0]
    if options.devices and kind not in ("auto", options.devices[0].partition(":")[0]):
        raise UsageError(f"--devices {','.join(options.devices)} and the device {device} are of two kinds; name one kind")
    if options.kind == "ray" and ":" in device:
        raise UsageError(
            f"--device {device} is one device of this machine, and Ray places its workers itself: use --device cuda"
        )
    if device == "cpu" and options.gpus:
        raise UsageError(f"--device cpu uses no GPU, and --gpus-per-worker is {options.gpus:g}; leave one of them out")


def _places(options: ExecutorOptions, count: int, device: str, gpus: Callable[[], Sequence[str]]) -> list[WorkerPlace]:
    """The device of each local worker; a worker sees one GPU alone, as cuda:0."""
    names = options.devices or _devices(count, device, gpus)
    if names[0] == "cpu":
        return [WorkerPlace("cpu", {})] * len(names)
    seen = gpus()
    places = []
    for name in names:
        kind, _, number = name.partition(":")
        if kind != "cuda" or not number.isdigit():
            raise UsageError(f"--devices takes cpu, or cuda:N with commas between; got {name!r}")
        if int(number) >= len(seen):
            raise UsageError(f"device {name!r} was asked for, and torch sees {len(seen)} CUDA devices here; name others")
        places.append(WorkerPlace(name, {"CUDA_VISIBLE_DEVICES": seen[int(number)]}))
    return places


def _devices(count: int, device: str, gpus: Callable[[], Sequence[str]]) -> list[str]:
    """The devices of `count` workers where the command names none."""
    seen = [] if device == "cpu" else gpus()
    if device == "cpu" or (device == "auto" and not seen):
        return ["cpu"] * count
    if ":" in device:
        raise UsageError(f"--device {device} is one device, and there are {count} workers: name theirs with --devices")
    if count > len(seen):
        raise UsageError(f"{count} workers take a GPU each, and torch sees {len(seen)} here: give fewer, or --device cpu")
    return [f"cuda:{i}" for i in range(count)]
