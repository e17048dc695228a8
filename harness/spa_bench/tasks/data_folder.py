"""The folder of benchmark data that a user names in SPA_BENCH_DATA."""

from __future__ import annotations

import os
from pathlib import Path

from spa_bench.errors import DataError


def data_folder() -> Path | None:
    """The folder that SPA_BENCH_DATA names; None where it is not set. Raises DataError when it names no folder."""
    named = os.environ.get("SPA_BENCH_DATA")
    if named and not Path(named).is_dir():
        raise DataError(f"SPA_BENCH_DATA is {named!r}, which is no folder")
    return Path(named) if named else None
