"""Memory that is free on a device."""

from __future__ import annotations

from pathlib import Path

import torch

_GROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`.

    On a CPU, what Linux says is available, or what the control group leaves of its limit; 4 GiB on a system that says neither.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [n for n in (_available(), _left_in_group()) if n is not None]
    return min(found, default=4 << 30)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _left_in_group() -> int | None:
    try:
        used = int((_GROUP / "memory.current").read_text(encoding="utf-8"))
        stat = (_GROUP / "memory.stat").read_text(encoding="utf-8").split()
        cache = int(stat[stat.index("inactive_file") + 1])  # of files, which gives way
        return int((_GROUP / "memory.max").read_text(encoding="utf-8")) - used + cache
    except (OSError, ValueError):  # no control groups, or "max"
        return None
