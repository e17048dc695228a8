"""The fixture of fuzz tests: a bench whose commands may write into two folders of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from prop import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Commands that may write into tmp_path/out, the cache and temporary files, and start in an empty folder beside them."""
    for name in ("out", "here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return Bench(tmp_path / "out", tmp_path / "cache", tmp_path / "temporary")
