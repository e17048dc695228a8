"""Result files as strangers send them for a leaderboard, with anything in them and checksums that fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from mutate import as_json, changed, damaged
from prop import Bench, fuzzed

from made_up import hashed_anew, made_up
from spa_bench.compare.leaderboard.results import _framed

GOOD = made_up("wide", quality=0.4, spread=0.6)
COMMANDS = (
    ("leaderboard", "{it}", "--submit"), ("leaderboard", "{it}"), ("leaderboard", "{it}", "{other}", "--reference", "wide"),
    ("leaderboard", "{it}", "--format", "latex"), ("leaderboard", "{it}", "--save", "{out}/saved"), ("compare",
    "{it}", "{other}"),
    ("check", "{it}", "--against", "{other}"), ("power", "--pilot", "{it}", "{other}"), ("report", "{it}", "-o", "{out}/page"),
    ("report", "{folder}", "--site", "-o", "{out}/site"),
)  # fmt: skip


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "other.json"
    path.write_bytes(_framed(made_up("narrow", quality=0.5, spread=0.3, seed=1)))
    return path


def _use(bench: Bench, tmp_path: Path, other: Path, content: bytes, command: tuple[str, ...]) -> None:
    folder = tmp_path / "sent"
    folder.mkdir(exist_ok=True)
    (folder / "it.json").write_bytes(content)
    bench.call(*(word.format(it=folder / "it.json", other=other, out=tmp_path / "out", folder=folder) for word in command))


@fuzzed(data=st.data(), hashed=st.booleans(), command=st.sampled_from(COMMANDS))
def test_odd_values(data: st.DataObject, hashed: bool, command: tuple[str, ...], bench: Bench, tmp_path: Path, other: Path):
    result: Any = data.draw(changed(copy.deepcopy(GOOD)))
    if hashed:
        try:
            hashed_anew(result)
        except Exception:  # the change left nothing to hash
            hashed = False
    content = _framed(result) if isinstance(result, dict) and "sum" not in result else as_json(result)
    _use(bench, tmp_path, other, content, command)


@fuzzed(data=st.data(), command=st.sampled_from(COMMANDS))
def test_damaged_files(data: st.DataObject, command: tuple[str, ...], bench: Bench, tmp_path: Path, other: Path):
    _use(bench, tmp_path, other, data.draw(damaged(_framed(GOOD))), command)
