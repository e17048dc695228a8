"""Commands of spa-bench with workers, as processes, and the workers below them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from processes import called, children, descendants

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray here: pip install 'spa-bench[ray]'")
LOCAL = ("--num-workers", "2")
RAY = ("--executor", "ray", "--num-workers", "2")
QUIET = {  # without a mode Ray leaves a token in the user's home; other tests may fill the machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_memory_monitor_refresh_ms": "0",
}


def start(cache: Path, *arguments: object) -> subprocess.Popen[str]:
    """`spa-bench` with `arguments`, with its own cache."""
    return subprocess.Popen(
        [sys.executable, "-m", "spa_bench", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SPA_BENCH_CACHE": str(cache), **QUIET},
        text=True,
    )


def workers_of(driver: subprocess.Popen[str]) -> list[int]:
    """The local workers of a driver."""
    return called(b"spa_bench.executors.worker", children(driver.pid))


def actors_of(driver: subprocess.Popen[str]) -> list[int]:
    """The actors below a driver that started Ray by itself."""
    return called(b"ray::Actor", descendants(driver.pid))
