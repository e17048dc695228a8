"""Facts about the device."""

from __future__ import annotations

import torch


def peak_gpu_memory_mb() -> int:
    """The most memory that this process has had on the GPU so far, in MiB; 0 without one."""
    return int(torch.cuda.max_memory_allocated()) >> 20 if torch.cuda.is_available() else 0


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()
