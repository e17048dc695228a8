"""The tutorials: each runs from its first cell to its last, and prints what the page shows."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "docs"))
pytest.importorskip("jupytext", reason="needs jupytext: pip install 'spa-bench[docs]'")
pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install nbclient ipykernel")
import jupytext  # noqa: E402
import tutorials  # noqa: E402

PAGES = tutorials.pages()


def test_there_are_five():
    assert [page.stem for page in PAGES] == ["a-gate-in-ci", "the-paper-again", "your-model", "your-sampler", "your-samples"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_is_a_notebook_whose_cells_the_page_shows(page: Path):
    cells = [c for c in jupytext.reads(page.read_text(encoding="utf-8"), fmt="md").cells if c.cell_type == "code"]
    assert len(cells) == len(tutorials.shown(page)) > 2
    assert "\n```text\n```" not in page.read_text(encoding="utf-8"), "run python scripts/docs/tutorials.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_and_prints_what_the_page_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "harness"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")  # as the pages were made: what another test's packages left here does not count
    (tmp_path / "work").mkdir()
    for got, wanted in zip(tutorials.ran(page, tmp_path / "work"), tutorials.shown(page), strict=True):
        if wanted is not None:
            assert tutorials.shape(got) == tutorials.shape(wanted)


def test_the_shape_of_an_output_keeps_words_and_drops_numbers():
    one = "| base | **0.50** <sub>[0.1, 0.9]</sub> |\n|---|---|\nruns/x-0a1b2c3d4e"
    other = "| base   | 0.61 <sub>[0.2, 0.9]</sub>   |\n|--------|-----|\nruns/x-99887766aa"
    assert tutorials.shape(one) == tutorials.shape(other)
    assert tutorials.shape(one) != tutorials.shape(one.replace("base", "single"))


def test_outputs_go_into_the_blocks_that_show_them(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\none\n```\n\n```text\nold\n```\n\n```python\ntwo\n```\n\nwords\n\n```bash\nthree\n```\n\n```text\n```\n"
    )
    tutorials.write(page, ["new \n", "unseen\n", "last\n"])
    assert re.findall(r"```text\n(.*?)```", page.read_text(), re.DOTALL) == ["new\n", "last\n"]
