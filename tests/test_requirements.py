"""requirements.lock: the tested set with hashes, and nothing that names a place."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)


def pins(text: str) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def test_the_lock_holds_the_tested_set_but_torch():
    tested = pins((ROOT / "constraints.txt").read_text())
    assert "torch" in tested
    del tested["torch"]
    locked = pins(LOCK)
    del locked["setuptools"]  # which pip's own list leaves out, and torch asks for
    assert locked == tested


def test_every_package_of_the_lock_has_hashes():
    entries = [
        entry
        for entry in re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.M)
        if "==" in entry.splitlines()[0] and not entry.startswith("#")
    ]
    assert len(entries) == len(pins(LOCK))
    assert [entry.split()[0] for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)] == []


def test_the_lock_names_no_place():
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]
    assert [line for line in lines if "://" in line or "find-links" in line or "index" in line.split("=")[0]] == []
