"""The mistakes of tests/test_mistakes.py that are seen when a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_mistakes import GROUPS, LOADING, make_mistake

MISTAKES = [mistake for group in GROUPS.values() for mistake in group if mistake[0] in LOADING]


def test_each_is_in_the_table():
    assert sorted(line for line, *_ in MISTAKES) == sorted(LOADING)


@pytest.mark.parametrize(("line", "named", "ways"), MISTAKES, ids=[line for line, *_ in MISTAKES])
def test_a_mistake_is_one_line_behind_a_model_too(
    line: str,
    named: list[str],
    ways: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    make_mistake(line, named, ways, capsys)
