"""The folders in which files are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from spa_bench.support.home import can_write, home, private_folder, private_folder_name

ELSEWHERE = "set SPA_BENCH_CACHE to another folder"
"""What a user can do where our own cache cannot be written."""


def user_cache() -> Path:
    """XDG_CACHE_HOME, or .cache in the user's home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache")


def own_cache() -> Path:
    """SPA_BENCH_CACHE, or spa-bench in the user's cache folder; in the user's private folder where it cannot be made there."""
    if given := os.environ.get("SPA_BENCH_CACHE"):
        return Path(given)
    folder = user_cache() / "spa-bench"
    return folder if folder.exists() or can_write(folder) else private_folder() / "cache"


def settle() -> str:
    """Give other libraries of this process a home folder where there is none. What the user must know of it; "" for nothing."""
    if "HOME" not in os.environ:
        os.environ["HOME"] = str(home())
    folder = own_cache()
    if os.environ.get("SPA_BENCH_CACHE") or private_folder_name() not in folder.parts:
        return ""
    return f"the home folder cannot be written, so the cache is {folder}; set SPA_BENCH_CACHE to keep it elsewhere"


def stage_cache() -> Path:
    """The folder of the stages (scores, parts, adapters) in our own cache."""
    return own_cache() / "stages"


def model_cache() -> Path:
    """The folder of models that were made of files or packages, in our own cache."""
    return own_cache() / "models"
