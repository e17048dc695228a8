"""A baseline that the tests of the gate check against."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulated import saved, simulated


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """A file with five seeds each of the samplers `s` and `other` on the task `t`."""
    return saved(tmp_path, "baseline", simulated("s", range(5)), simulated("other", range(5), world=9))
