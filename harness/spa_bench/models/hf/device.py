"""Facts about the device."""

from __future__ import annotations

import torch


def peak_gpu_memory_mb() -> int:
    """The most memory that this process has had on a GPU so far, in MiB; 0 without one."""
    return max((int(torch.cuda.max_memory_allocated(n)) >> 20 for n in range(torch.cuda.device_count())), default=0)


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()
