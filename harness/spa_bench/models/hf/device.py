"""Facts about the device."""

from __future__ import annotations

import os

import torch


def peak_gpu_memory_mb() -> int:
    """The most memory that this process has had on a GPU so far, in MiB; 0 without one."""
    return max((int(torch.cuda.max_memory_allocated(n)) >> 20 for n in range(torch.cuda.device_count())), default=0)


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def visible_gpus() -> list[str]:
    """The names, for CUDA_VISIBLE_DEVICES, of the GPUs that torch sees."""
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return given[:count] if given else [str(i) for i in range(count)]
