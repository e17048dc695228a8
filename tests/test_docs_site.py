"""The documentation's site: it builds without a warning, its links lead somewhere, and nothing comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "docs"))
import links  # noqa: E402
import npm  # noqa: E402

pytest.importorskip("material", reason="needs mkdocs-material: pip install 'spa-bench[docs]'")
pytest.importorskip("mkdocstrings", reason="needs mkdocstrings: pip install 'spa-bench[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it. `strict` in mkdocs.yml makes each warning an error."""
    place = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(place)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "harness")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def test_every_page_is_in_the_site_and_its_navigation(site: Path):
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).is_file(), name
        assert f'href="{name}"' in start or name == "index.html", name


@pytest.mark.slow
def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path):
    assert list(links.faults(site)) == []


def test_tutorials_can_be_downloaded_as_notebooks(site: Path):
    text = (site / "tutorials" / "your-model.ipynb").read_text(encoding="utf-8")
    assert "%%bash" in text
    assert "spa-bench doctor" in text


def test_a_link_to_a_file_of_the_repository_leads_to_its_copy(site: Path):
    copy = (site / "repository/harness/spa_bench/metrics/intervals.py.html").read_text(encoding="utf-8")
    assert "Wilson" in copy
    assert (site / "repository/leaderboards/pages/mini-code.html").is_file()


def test_diagrams_are_drawn_here_or_stay_text(site: Path):
    """Without Mermaid the theme would fetch it, so then no page may ask for it."""
    page = (site / "explanation" / "architecture.html").read_text(encoding="utf-8")
    asked = 'class="mermaid"' in page
    assert asked == (site / "assets" / "mermaid.min.js").is_file() == npm.MERMAID.place.exists()
    assert asked == ("assets/mermaid.min.js" in page)
    assert "flowchart BT" in re.sub(r"<[^>]+>", "", page)


def test_no_page_asks_for_a_font_or_a_counter(site: Path):
    for page in site.rglob("*.html"):
        if "repository/leaderboards" not in page.as_posix():
            text = page.read_text(encoding="utf-8")
            assert "fonts.googleapis" not in text
            assert "google-analytics" not in text


BAD = """<html><head><script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//fonts.example/a.css">
<style>body { background: url(https://far.example/b.png) }</style></head><body id="here">
<img src="absent.png"><a href="https://example.org/">out</a>
<a href="#here">fine</a><a href="#away">bad</a><a href="gone.html">bad</a>
<img src="data:image/png;base64,AAAA"></body></html>"""


def test_each_kind_of_fault_is_found(tmp_path: Path):
    (tmp_path / "a.html").write_text(BAD)
    (tmp_path / "a.css").write_text("@import 'https://far.example/c.css'; p { background: url(gone.png) }")
    assert sorted(links.faults(tmp_path)) == [
        "a.css: loads gone.png, which is not there",
        "a.css: loads https://far.example/c.css from elsewhere",
        "a.html: a link leads to #away, and that page has no such anchor",
        "a.html: a link leads to gone.html, which is not there",
        "a.html: loads //fonts.example/a.css from elsewhere",
        "a.html: loads absent.png, which is not there",
        "a.html: loads https://cdn.example/x.js from elsewhere",
        "a.html: loads https://far.example/b.png from elsewhere",
    ]


def test_a_folder_without_pages_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert links.main(tmp_path) == 2
    assert "has no pages; make docs builds them" in capsys.readouterr().err


def test_where_npm_is_absent_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(npm, "KEPT", tmp_path / "kept")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = list(npm.lacking())
    assert len(said) == len(npm.SCRIPTS)
    assert said[0].startswith("npm is not installed, so there is no mermaid@")


def test_a_package_with_another_hash_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "npm"
    program.write_text('#!/bin/sh\nfor last; do :; done\necho other >"$last/mermaid.tgz"\n')
    program.chmod(0o755)
    monkeypatch.setattr(npm, "KEPT", tmp_path / "kept")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(OSError, match="is expected: not used"):
        npm.fetch(npm.MERMAID)
    assert not npm.MERMAID.place.exists()


def test_the_search_works_in_a_page_that_is_opened_as_a_file(site: Path):
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = {")
    page = (site / "reference" / "cards.html").read_text(encoding="utf-8")
    assert ("assets/iframe-worker.js" in page) == npm.WORKER.place.exists()
