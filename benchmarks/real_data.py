"""Where the real data of benchmarks lies."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder(*needed: str) -> Path:
    """SPA_BENCH_DATA, or the folder beside the project; ends the program unless it is there with the folders `needed`."""
    folder = Path(os.environ.get("SPA_BENCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data").resolve()
    if not folder.is_dir() or not all((folder / name).is_dir() for name in needed):
        wanted = f" to a folder with {', '.join(f'{name}/' for name in needed)}" if needed else ""
        raise SystemExit(f"no benchmark data in {folder}; set SPA_BENCH_DATA{wanted}")
    return folder
