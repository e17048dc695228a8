"""The list and the reports of `spa-bench view` in Chromium: they follow runs, and nothing in a run is taken for markup."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, InProcessJudge, mock_run
from spa_bench.publish.view import one
from spa_bench.runs.folder import RunFolder, open_run

HOSTILE = '<img src=x onerror="document.title=1">'
# Pages look for news every three to ten seconds, which a test need not wait for.
SOONER = "{ const real = setTimeout; window.setTimeout = (act, wait, ...more) => real(act, wait < 2500 ? wait : 500, ...more) }"


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one, "_GRACE_SECONDS", 0.0)


@pytest.fixture
def open_tab(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address of a server; at the end no page may have complained, or asked anybody but that server."""
    contexts, said, asked = [], [], []

    def opened(url: str, *, width: int = 1200, scheme: str = "light") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.add_init_script(SOONER)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(url)
        tab.set_default_timeout(30_000)
        origin = url[: url.index("/", 8) + 1]
        tab.origin_of_test, tab.error_of_test = origin, pytest.importorskip("playwright.sync_api").Error
        return tab

    yield opened
    origins = {context.pages[0].origin_of_test for context in contexts}
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((*origins, "data:", "blob:"))] == []


def until(tab: Any, script: str) -> None:
    """Wait until `script` is true there; Playwright's own waiting takes `eval`, which the page's policy forbids."""
    for _ in range(600):
        with contextlib.suppress(tab.error_of_test):  # the page is just being loaded again
            if tab.evaluate(script):
                return
        tab.wait_for_timeout(100)
    raise AssertionError(f"never true: {script}")


def right(request: Any) -> str:
    return RIGHT[request.problem_id]


@pytest.fixture
def growing(tmp_path: Path, three: Path) -> tuple[RunFolder, list[bytes]]:
    """A run that has three of its six samples, held by this process, and the lines of the others."""
    mock_run(tmp_path / "whole", three, right, graded=False)
    [log] = (tmp_path / "whole").glob("*/records.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    (tmp_path / "runs").mkdir()
    path = log.parent.rename(tmp_path / "runs" / log.parent.name)
    (path / "records.jsonl").write_bytes(b"".join(lines[:3]))
    return open_run(path), lines[3:]


def grow(folder: RunFolder, lines: list[bytes]) -> None:
    with (folder.path / "records.jsonl").open("ab") as stream:
        stream.writelines(lines)


def test_the_list_follows_a_run_that_grows(
    growing: tuple[RunFolder, list[bytes]], serve: Callable[[Path], Any], open_tab: Callable[..., Any], three: Path,
    sandbox: InProcessJudge,
):  # fmt: skip
    folder, rest = growing
    with folder.locked():
        tab = open_tab(serve(folder.path.parent).url)
        tab.wait_for_selector("text=1 of 3 problems")
        assert "generation" in tab.inner_text("#rows")
        assert tab.title() == "(1) spa-bench view"
        tab.focus("#rows a")
        tab.evaluate("window.mine = 1")
        grow(folder, rest[:1])
        tab.wait_for_selector("text=2 of 3 problems")
        grow(folder, rest[1:])
        tab.wait_for_selector("#rows >> text=grading")
    mock_run(folder.path.parent, three, right)  # the same command resumes
    tab.wait_for_selector("#rows >> text=finished", timeout=30_000)
    assert tab.evaluate("window.mine") == 1  # without a reload
    assert tab.evaluate("document.activeElement.textContent") == folder.path.name
    assert "1.00" in tab.inner_text("#rows")


def test_an_empty_folder_says_how_to_make_a_run_and_shows_it_when_it_begins(
    growing: tuple[RunFolder, list[bytes]], tmp_path: Path, serve: Callable[[Path], Any], open_tab: Callable[..., Any]
):
    (tmp_path / "empty").mkdir()
    tab = open_tab(serve(tmp_path / "empty").url)
    tab.wait_for_selector("text=No run is here yet")
    assert f"--out {tmp_path / 'empty'}" in tab.inner_text("#empty")
    growing[0].path.rename(tmp_path / "empty" / "new")
    tab.wait_for_selector("#rows a:has-text('new')")
    assert tab.is_hidden("#empty")


def test_hostile_names_are_shown_and_do_nothing(
    growing: tuple[RunFolder, list[bytes]], serve: Callable[[Path], Any], open_tab: Callable[..., Any]
):
    folder, _ = growing
    root = folder.path.parent
    spec = {**folder.spec, "sampler": {**folder.spec["sampler"], "name": HOSTILE}}
    folder.path.rename(root / HOSTILE)
    (root / HOSTILE / "spec.json").write_text(json.dumps(spec))
    os.mkdir(os.fsencode(root) + b"/\xff")
    (root / os.fsdecode(b"\xff") / "spec.json").write_text("{")
    tab = open_tab(serve(root).url)
    tab.wait_for_selector("#rows tr:nth-child(2)")
    assert tab.evaluate("document.querySelectorAll('#rows img').length") == 0
    assert tab.inner_text("#rows").count(HOSTILE) == 2
    assert tab.title() == "spa-bench view"


def test_the_list_is_used_by_keyboard_sorted_and_filtered(
    tmp_path: Path, three: Path, sandbox: InProcessJudge, serve: Callable[[Path], Any], open_tab: Callable[..., Any]
):
    for name, seed in (("beta", 3), ("alpha", 20), ("gamma", 1)):
        mock_run(tmp_path / "runs", three, right, seed=seed, name=name)
    tab = open_tab(serve(tmp_path / "runs").url)
    tab.wait_for_selector("#rows tr:nth-child(3)")

    def seeds() -> list[str]:
        return [text.split("-s")[1].split("-")[0] for text in tab.locator("#rows td.run a").all_inner_texts()]

    tab.focus("th[data-key=seed] button")
    tab.keyboard.press("Enter")
    assert seeds() == ["1", "3", "20"]
    assert tab.get_attribute("th[data-key=seed]", "aria-sort") == "ascending"
    tab.keyboard.press("Space")
    assert seeds() == ["20", "3", "1"]
    tab.fill("#find", "beta")
    assert seeds() == ["3"]
    tab.check("#all")
    tab.fill("#find", "")
    assert tab.inner_text("#open") == "Open 1 chosen"
    tab.focus("#rows tr:first-child input")
    tab.keyboard.press("Space")
    assert tab.inner_text("#open") == "Open 2 chosen"
    tab.select_option("#state", "stopped")
    assert seeds() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_list_fits_a_phone(
    tmp_path: Path,
    three: Path,
    sandbox: InProcessJudge,
    serve: Callable[[Path], Any],
    open_tab: Callable[..., Any],
    scheme: str,
):
    mock_run(tmp_path / "runs", three, right)
    tab = open_tab(serve(tmp_path / "runs").url, width=375, scheme=scheme)
    tab.wait_for_selector("#rows tr")
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    tab.click("#theme")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def list_of(folder: RunFolder, serve: Callable[[Path], Any], open_tab: Callable[..., Any]) -> Any:
    """A tab with the list of runs that `folder` is in; its report has been made once."""
    pytest.importorskip("altair", reason="no altair here: pip install 'spa-bench[report]'")
    asker = serve(folder.path.parent)
    [row] = asker.rows().values()
    asker.get(f"/report?run={row['id']}")  # the first one loads packages; a page that took long is renewed less often
    tab = open_tab(asker.url)
    tab.set_default_timeout(60_000)
    return tab


def test_a_report_follows_its_runs_and_keeps_the_place(
    growing: tuple[RunFolder, list[bytes]], serve: Callable[[Path], Any], open_tab: Callable[..., Any]
):
    folder, rest = growing
    tab = list_of(folder, serve, open_tab)
    with folder.locked():
        tab.click("#rows a")
        tab.wait_for_selector("#follow >> text=generation, 1 of 3 problems")
        tab.select_option("#by", "lines")
        tab.select_option("#problem", index=1)
        until(tab, "location.hash.startsWith('#/problem/')")
        until(tab, "document.querySelectorAll('#cards .answer').length === 1")
        tab.evaluate("document.activeElement.blur()")
        tab.wait_for_timeout(500)  # the page goes to the answers by itself
        tab.evaluate("scrollTo(0, 50)")
        place, height = tab.evaluate("location.hash"), tab.evaluate("scrollY")
        tab.evaluate("window.mine = 1")
        grow(folder, rest)
        until(tab, "window.mine !== 1")  # it has come again
        until(tab, "document.querySelectorAll('#cards .answer').length === 2")
        assert tab.evaluate("location.hash") == place
        until(tab, "document.getElementById('by').value === 'lines'")  # put back once the answers are there
        tab.wait_for_timeout(2500)
        assert abs(tab.evaluate("scrollY") - height) < 3
    tab.uncheck("#following")
    tab.click("text=All runs")
    tab.wait_for_selector("#rows a")


@pytest.mark.slow
def test_a_reader_who_does_not_follow_is_told_and_asked(
    growing: tuple[RunFolder, list[bytes]], serve: Callable[[Path], Any], open_tab: Callable[..., Any]
):
    folder, rest = growing
    tab = list_of(folder, serve, open_tab)
    tab.click("#rows a")
    tab.uncheck("#following")
    tab.evaluate("window.mine = 1")
    grow(folder, rest)
    tab.wait_for_selector("text=Show what is new")
    assert tab.evaluate("window.mine") == 1
    tab.click("text=Show what is new")
    until(tab, "window.mine !== 1")
    assert not tab.is_checked("#following")
