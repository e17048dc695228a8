"""docs/reference/errors.md is what the tables of mistakes give."""

from __future__ import annotations

from pathlib import Path

import pytest

from error_page import PAGE, page


@pytest.mark.slow
def test_the_page_of_errors_is_what_the_tests_see(tmp_path: Path):
    (tmp_path / "work").mkdir()
    assert page(tmp_path / "work") == PAGE.read_text(), "docs/reference/errors.md is stale: run scripts/errors"


def test_the_page_names_no_place_of_a_machine():
    text = PAGE.read_text()
    for part in ("/tmp", "/home", "/root", "/work", "pytest-", ".venv"):
        assert part not in text
