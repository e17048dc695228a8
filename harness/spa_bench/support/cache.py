"""The folders in which files are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

ELSEWHERE = "set SPA_BENCH_CACHE to another folder"
"""What a user can do where our own cache cannot be written."""


def user_cache() -> Path:
    """XDG_CACHE_HOME, or .cache in the user's home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def own_cache() -> Path:
    """SPA_BENCH_CACHE, or spa-bench in the user's cache folder."""
    return Path(os.environ.get("SPA_BENCH_CACHE") or user_cache() / "spa-bench")


def stage_cache() -> Path:
    """The folder of the stages (scores, parts, adapters) in our own cache."""
    return own_cache() / "stages"


def model_cache() -> Path:
    """The folder of models that were made of files or packages, in our own cache."""
    return own_cache() / "models"
