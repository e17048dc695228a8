"""Answers and names of any text never become markup in a page, cells of a table or commands of a terminal."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import strategies as st
from mutate import texts
from prop import Bench, fuzzed

from hostile import HOSTILE
from report_runs import made_run

TEXTS = st.one_of(st.sampled_from(HOSTILE), texts())
NAMES = st.one_of(
    st.sampled_from([
        "<script>alert(1)</script>", "a|b", "| --- |", "[x](javascript:alert(1))", "`a`", "**b**", "<!--", "&lt;", "a\\|b",
        "${x}",
        "<img src=x onerror=alert(1)>", "]]>", "'\"", "\\end{tabular}", "%", "_a_", "=1+1",
    ]),
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12).filter(
        lambda name: "/" not in name and name.strip(".")
    ),
)  # fmt: skip


class _Markup(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.seen = 0, set[tuple[str, str]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.seen |= {(tag, name) for name, _ in attrs} | {(tag, "")}


def _markup(folder: Path) -> _Markup:
    found = _Markup()
    for page in sorted(folder.rglob("*.html")):
        found.feed(page.read_text())
    return found


@fuzzed(text=TEXTS, name=NAMES)
@pytest.mark.slow
def test_a_page_has_no_markup_of_an_answer_or_a_name(text: str, name: str, bench: Bench, tmp_path: Path):
    pages = []
    for folder, shown, called in (("plain", "    return 1\n", "single"), ("odd", text, name)):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
        shutil.rmtree(tmp_path / "out" / folder, ignore_errors=True)
        run = made_run(tmp_path / folder, name=called, text=lambda key, shown=shown: f"{shown}{key.draw}")
        bench.call("report", run.path, "-o", tmp_path / "out" / folder, codes=(0,))
        pages.append(_markup(tmp_path / "out" / folder))
    plain, odd = pages
    assert odd.scripts == plain.scripts
    assert not {
        one for one in odd.seen - plain.seen if one[1].startswith("on") or one[0] in {"script", "img", "iframe", "base"}
    }


@fuzzed(name=NAMES)
@pytest.mark.slow
def test_a_name_stays_in_its_cell_of_a_table(name: str, bench: Bench, tmp_path: Path):
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    run = made_run(tmp_path / "runs", name=name)
    other = made_run(tmp_path / "runs", name="plain", seed=1)
    said = bench.call("leaderboard", run.path, other.path, codes=(0,)).out
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows[:4]}) == 1, rows[:4]
    assert "<script" not in said
    assert "<img" not in said
