"""docs/how-to/python.md: every block runs in its order, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import spa_bench as sb
from doubles import SANDBOX
from notebook import Notebook
from spa_bench.sandbox import choose

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_runs_block_after_block_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for place in ("parts", "perform"):
        monkeypatch.setattr(f"spa_bench.runs.{place}.choose", lambda *_: choose(SANDBOX))
    notebook = Notebook()
    assert len(BLOCKS) > 10
    for source, said in BLOCKS:
        assert notebook.run(source) == said, source
    assert {path.name for path in tmp_path.glob("*.*")} == {"plane.html", "plane.pdf", "members.pdf"}


def test_the_page_names_every_public_name_and_no_other():
    table = PAGE.partition("## Every public name")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(name for name in sb.__all__ if name != "__version__")
