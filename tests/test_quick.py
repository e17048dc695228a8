"""tests/quick.txt: its tests start no process and load no model, and one that tries fails. This file is among its files."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quick import FILES, guard

ROOT = Path(__file__).resolve().parents[1]
WAYS: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run([sys.executable, "--version"], check=True),
    "os.fork": lambda: os.fork(),
    "os.posix_spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "--version"], {}),
    "os.system": lambda: os.system("true"),
    **{
        method: lambda method=method: multiprocessing.get_context(method).Process(target=print).start()  # type: ignore[misc]
        for method in ("fork", "spawn", "forkserver")
    },
}


def test_the_files_are_there_in_their_order_and_once():
    assert [name for name in FILES if not (ROOT / name).is_file()] == []
    assert list(FILES) == sorted(set(FILES))
    assert str(Path(__file__).relative_to(ROOT)) in FILES


@pytest.mark.parametrize("way", WAYS)
def test_a_test_here_that_starts_a_process_fails(way: str):
    with pytest.raises(pytest.fail.Exception, match=r"a file in tests/quick\.txt starts no process: "):
        WAYS[way]()


def test_other_files_are_free():
    before = os.fork
    with guard("tests/test_quick_models.py::test"):
        assert os.fork is before
    with guard("tests/test_quick.py::test"):
        assert os.fork is not before
    assert os.fork is before
