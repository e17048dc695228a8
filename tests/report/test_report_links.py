"""What leads from one part of the page to another, or out of it: points, addresses, columns of samplers, CSV files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from report.conftest import Open, Opened
from report_runs import made_run
from spa_bench.publish.report import ReportData, read, render
from spa_bench.publish.report.partition import Partition

NAMES = [f"t/{i}" for i in range(3)]
WORDS = [{"word": word, "z": 2.0} for word in ("list", "<b>sum</b>", "sort", "max", "min", "sixth")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Two samplers, one of them with two seeds and two members whose parts are known, and one whose name is a formula."""
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder, name="alpha", problems=NAMES, n=4)
    for seed in (1, 2):
        made_run(folder, name="beta", problems=NAMES, n=4, members=2, seed=seed)
    made_run(folder, name="=1+1", problems=NAMES, n=6, temperature=0.5)
    found = read([folder])
    parts = [{"part": k, "size": 5 + k, "words": WORDS[k:], "defining": [{"prompt": "a", "completion": "b"}]} for k in range(2)]
    known = Partition(method="made up", examples=11, sizes=(5, 6), parts=parts)
    runs = tuple(dataclasses.replace(r, partition=known) if r.sampler == "beta" else r for r in found.runs)
    return dataclasses.replace(found, runs=runs)


@pytest.fixture(scope="module")
def page(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `data`."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def plain(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without charts that scripts draw: it opens quickly."""
    path = tmp_path_factory.mktemp("plain") / "index.html"
    path.write_text(render(data, interactive=False), encoding="utf-8")
    return path


def _index(page: Path) -> dict[str, Any]:
    found = re.search(r'id="index">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def _group(data: ReportData, sampler: str) -> str:
    return next(run.group for run in data.runs if run.sampler == sampler)


def _rows(opened: Opened, button: str) -> tuple[str, list[list[str]]]:
    """(the name of the file that the button makes, its rows)"""
    with opened.tab.expect_download() as caught:
        opened.tab.click(button)
    text = Path(caught.value.path()).read_text(encoding="utf-8")
    return caught.value.suggested_filename, list(csv.reader(io.StringIO(text)))


# without a browser ---------------------------------------------------------------------------------------------------


def test_every_point_has_the_id_of_a_detail_that_is_on_the_page(page: Path, data: ReportData):
    [plane] = _index(page)["planes"].values()
    assert dict(zip(plane["labels"], plane["open"], strict=True)) == {
        name: f"sampler-{_group(data, name)}" for name in ("=1+1", "alpha", "beta")
    }
    text = page.read_text(encoding="utf-8")
    assert all(text.count(f'id="{name}"') == 1 for name in plane["open"])


def test_runs_have_their_hashes_and_the_words_of_their_parts(page: Path, data: ReportData):
    runs = _index(page)["runs"]
    assert [run["hash"] for run in runs] == [run.hash for run in data.runs]
    assert {run["sampler"]: run["words"] for run in runs} == {
        "=1+1": [],
        "alpha": [],
        "beta": ["list, <b>sum</b>, sort, max, min", "<b>sum</b>, sort, max, min, sixth"],
    }


def test_cells_hold_value_and_interval_as_they_were_computed(page: Path, data: ReportData):
    [[*rows]] = data.sections[0].tables
    estimate = next(row for row in rows if row.label == "alpha").metrics["pass@1"]
    cell = f'data-value="{estimate.value}" data-low="{estimate.low}" data-high="{estimate.high}"'
    assert cell in page.read_text(encoding="utf-8")


# in a browser --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["mouse", "name", "keyboard"])
def test_a_point_opens_its_sampler(open_page: Open, page: Path, data: ReportData, by: str):
    opened = open_page(page)
    point = opened.tab.locator('.plane .mark-symbol path[aria-label="beta: details"]')
    if by == "mouse":
        point.click(force=True)
    elif by == "name":
        opened.tab.locator(".plane .mark-text.role-mark text", has_text="beta").last.click(force=True)
    else:
        point.focus()
        opened.tab.keyboard.press("Enter")
    opened.tab.wait_for_selector(f"#sampler-{_group(data, 'beta')}[open]")
    assert opened.tab.locator("details.sampler[open]").count() == 1
    assert opened.tab.evaluate("document.activeElement.textContent") == "beta"


def test_a_point_opens_its_sampler_with_other_axes_too(open_page: Open, page: Path, data: ReportData):
    opened = open_page(page)
    opened.tab.select_option("select.diversity", "vendi[ngram,q=1]")
    opened.tab.locator(".plane .vega svg", has_text="Vendi").wait_for()
    opened.tab.locator('.plane .mark-symbol path[aria-label="alpha: details"]').click(force=True)
    opened.tab.wait_for_selector(f"#sampler-{_group(data, 'alpha')}[open]")


def test_the_answers_of_a_sampler_have_an_address(open_page: Open, plain: Path, data: ReportData):
    opened = open_page(plain, place=f"#/sampler/{_group(data, 'beta')}")
    opened.tab.wait_for_selector(".column")
    assert opened.tab.locator(".column h4").all_inner_texts() == ["beta, seed 1", "beta, seed 2"]
    assert opened.tab.locator(".column").first.locator("header p").inner_text().startswith("3 of 4 pass")
    opened.tab.evaluate("document.querySelectorAll('details.sampler').forEach(d => { d.open = true; })")
    opened.tab.locator("details.sampler", has_text="alpha").locator("text=Its answers").click()
    opened.tab.wait_for_selector(".column", state="detached")
    assert opened.text(".answer h4") == "alpha, seed 0 · member 0 · draw 0"


def test_the_answers_of_an_unknown_sampler_are_said_to_be_missing(open_page: Open, plain: Path):
    opened = open_page(plain, place="#/sampler/abc")
    opened.tab.locator("#problem-said", has_text="There is no answer of a sampler abc here.").wait_for()


def test_a_link_opens_the_same_answers_on_a_page_of_fewer_runs(open_page: Open, plain: Path, data: ReportData, tmp_path: Path):
    opened = open_page(plain, place=f"#/sampler/{_group(data, 'beta')}")
    opened.tab.wait_for_selector(".column")
    opened.tab.click("#next")
    opened.tab.wait_for_selector('#browser[data-problem="1"]')
    address = str(opened.tab.get_attribute("#address", "href"))
    fewer = tmp_path / "index.html"
    fewer.write_text(
        render(read([run.path for run in data.runs if run.sampler == "beta"]), interactive=False), encoding="utf-8"
    )
    again = open_page(fewer, place=address)
    again.tab.wait_for_selector('#browser[data-problem="1"]')
    assert again.tab.locator(".column h4").all_inner_texts() == ["beta, seed 1", "beta, seed 2"]


def test_addresses_that_number_the_runs_still_open_them(open_page: Open, plain: Path, data: ReportData):
    opened = open_page(plain, place="#/problem/t%40t-1/t%2F2?runs=0,1")
    opened.tab.wait_for_selector('#browser[data-problem="2"]')
    assert opened.tab.locator(".column h4").all_inner_texts() == [run.label for run in data.runs[:2]]


def test_samplers_stand_side_by_side_with_one_seed_each_and_the_words_of_their_parts(open_page: Open, plain: Path):
    opened = open_page(plain)
    opened.tab.click("#beside")
    heads = opened.tab.locator(".column h4").all_inner_texts()
    assert sorted(heads) == ["=1+1, seed 0", "alpha, seed 0", "beta, seed 1"]
    tops = opened.tab.evaluate("[...document.querySelectorAll('.column')].map(c => c.getBoundingClientRect().top)")
    assert len(set(tops)) == 1
    parts = opened.tab.locator(".column", has_text="beta, seed 1").locator(".part").all_inner_texts()
    assert parts[0] == "part 0: list, <b>sum</b>, sort, max, min"
    opened.tab.check("#together")
    assert opened.tab.locator(".column").count() == 3
    assert all(opened.tab.locator(".column").nth(i).locator(".answer").count() for i in range(3))


def test_who_is_quicker_than_the_answers_waits_for_them(open_page: Open, plain: Path):
    opened = open_page(plain)
    opened.tab.reload(wait_until="commit")
    opened.tab.click("#beside")
    assert opened.tab.locator(".column").count() == 3


def test_columns_fit_a_phone(open_page: Open, plain: Path):
    opened = open_page(plain, width=390)
    opened.tab.click("#beside")
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.tab.evaluate("document.getElementById('cards').scrollWidth") > 390


def test_the_table_is_kept_as_csv_as_it_is_shown(open_page: Open, plain: Path, data: ReportData):
    opened = open_page(plain)
    opened.tab.locator(".metrics thead th").first.locator("button").click()
    opened.tab.fill("input.rows", "a")
    name, [head, *rows] = _rows(opened, ".metrics button.csv")
    assert name == "spa-bench-report-metrics.csv"
    assert head[:4] == ["sampler", "pass@1", "pass@1 low", "pass@1 high"]
    assert [row[0] for row in rows] == ["alpha", "beta"]
    [[*samplers]] = data.sections[0].tables
    estimate = next(row for row in samplers if row.label == "alpha").metrics["pass@1"]
    assert [float(cell) for cell in rows[0][1:4]] == [estimate.value, estimate.low, estimate.high]
    assert "vendi[ngram,q=1]" in head
    assert not any("member=" in column for column in head)  # columns that are not shown


def test_a_name_that_is_a_formula_is_a_text_in_the_csv(open_page: Open, plain: Path):
    opened = open_page(plain)
    opened.tab.fill("input.rows", "=1+1")
    _, [_, row] = _rows(opened, ".metrics button.csv")
    assert row[0] == "'=1+1"


def test_parts_and_answers_are_kept_as_csv(open_page: Open, plain: Path, data: ReportData):
    opened = open_page(plain, place=f"#/sampler/{_group(data, 'beta')}")
    opened.tab.wait_for_selector(".column")
    _, [head, *rows] = _rows(opened, "#save")
    assert head[:7] == ["task", "problem", "run", "sampler", "seed", "member", "draw"]
    assert [tuple(row[3:7]) for row in rows] == [("beta", s, m, d) for s in "12" for m in "01" for d in "01"]
    assert {row[2] for row in rows} == {run.hash for run in data.runs if run.sampler == "beta"}
    opened.tab.evaluate("document.querySelectorAll('details.sampler').forEach(d => { d.open = true; })")
    _, [head, first, _] = _rows(opened, '[aria-label="CSV: Parts of beta, seed 1"]')
    assert head == ["part", "pairs", "words that set it apart", "pairs that define it"]
    assert first[:2] == ["0", "5"]
    assert first[3] == "ab"
