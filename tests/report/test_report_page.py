"""The page as text: everything from outside is escaped, nothing is asked for, and numbers stand there without scripts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hostile import HOSTILE
from made_up import made_up, open_ended
from report_runs import made_run
from spa_bench.compare.leaderboard import save
from spa_bench.publish.report import ReportData, read, render
from spa_bench.publish.report.charts import as_svg, drawn_names, plane, plane_data, plane_sets, within
from spa_bench.publish.report.escape import data_block, foldable, visible
from spa_bench.publish.report.page import plane_picture
from spa_bench.publish.report.table import differences, table_of
from spa_bench.types import Grade, Verdict


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of every script."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._in: dict[str, str | None] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._in is not None:
            self.scripts.append((self._in, data))

    def handle_endtag(self, tag: str) -> None:
        self._in = None


@pytest.fixture
def two(tmp_path: Path) -> ReportData:
    made_run(tmp_path, name="single")
    made_run(tmp_path, name="spa", members=2, seed=1)
    return read([tmp_path])


def test_the_same_data_give_the_same_bytes(two: ReportData):
    assert render(two) == render(two)


def test_every_script_that_runs_is_named_by_its_hash(two: ReportData):
    page = Parsed(render(two, script="console.assert(true)"))
    [policy] = [a["content"] or "" for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    texts = [text for attributes, text in page.scripts if "type" not in attributes]
    [vega] = [text for attributes, text in page.scripts if attributes.get("id") == "vega"]
    texts.append(gzip.decompress(base64.b64decode(vega)).decode())
    for text in texts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert policy.count("sha256-") == len(texts) == 9


def test_nothing_is_loaded_from_anywhere(two: ReportData):
    for tag, attributes in Parsed(render(two)).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            place = attributes.get(name)
            assert place is None or place.startswith(("data:", "#")), (tag, name, place)


def test_the_numbers_stand_in_the_page_without_scripts(two: ReportData):
    page = render(two)
    for row in two.sections[0].rows:
        value = row.estimate("pass@1").value
        assert value is not None
        assert f">{value:.3f} <small>[" in page or f"<b>{value:.3f}</b> <small>[" in page


def test_every_metric_of_a_result_is_a_column(tmp_path: Path):
    made_run(tmp_path, name="spa", members=2)
    row = read([tmp_path]).sections[0].rows[0]
    columns = {c.name for c in table_of([row]).columns}
    assert {n for n in ("pass@1[member=0]", "pass@1[member=1]", "average_kl[i<j]", "pass@1") if n not in columns} == set()
    assert "average_kl" not in columns  # the short name of a column that is there


def test_columns_of_multiple_choice_are_shown_where_the_task_has_them(tmp_path: Path):
    result = made_up("a", quality=0.5, spread=0.5)
    chance = {"value": 0.25, "low": 0.2, "high": 0.3, "problems": 200, "reason": ""}
    result["metrics"] |= {"agreement[choices]": chance, "any_of_n[chance]": chance, "kl[choices,i!=j]": chance}
    result["metrics"] |= {"own[mmlu,acc]": {**chance, "low": None, "high": None, "reason": "by lm-eval"}}
    [row] = read([save(result, tmp_path)]).sections[0].rows
    shown = [c.name for c in table_of([row]).columns if c.shown]
    assert [n for n in ("agreement[choices]", "any_of_n[chance]", "kl[choices,i!=j]", "own[mmlu,acc]") if n not in shown] == []


def test_metrics_that_depend_on_n_are_compared_at_equal_n(tmp_path: Path):
    for n in (4, 8):
        save(made_up(f"n{n}", quality=0.5, spread=0.5, n=n), tmp_path)
    data = read([tmp_path])
    table = table_of(data.sections[0].rows)
    assert (table.size, table.unequal) == (4, True)
    eight = next(row for row in table.rows if row.label == "n8")
    place = [c.name for c in table.columns].index("vendi[ngram,q=1]")
    cell = table.cells[table.rows.index(eight)][place]
    assert cell.estimate == eight.estimate("vendi[ngram,q=1]", 4) != eight.estimate("vendi[ngram,q=1]")
    assert "metrics that depend on n are at n = 4" in render(data, interactive=False)


def test_in_what_rows_differ_is_said(tmp_path: Path):
    made_run(tmp_path, name="a", model="one")
    made_run(tmp_path, name="b", model="two", n=4)
    data = read([tmp_path])
    found = differences(data.sections[0].rows)
    assert {name: sorted(values) for name, values in found.items()} == {"model": ["one (h)", "two (h)"], "n": ["2", "4"]}
    page = " ".join(render(data, interactive=False).split())
    assert re.search(r"t 1, 3 problems, 2 rows\. Rows differ in model \(.*?\), n \(.; .\)\. ?</p>", page)


def test_what_is_not_kept_at_the_smaller_n_has_a_reason(tmp_path: Path):
    result = made_up("a", quality=0.5, spread=0.5, n=8)
    result["metrics"]["self_bleu"] = {"value": 0.5, "low": 0.4, "high": 0.6, "problems": 200, "reason": ""}
    [row] = read([save(result, tmp_path)]).sections[0].rows
    assert row.compared("self_bleu", 8)[0].value == 0.5
    assert "it depends on n, and is not kept at n = 4" in row.compared("self_bleu", 4)[0].reason


def test_fronts_join_what_nobody_beats(tmp_path: Path):
    for name, quality, spread, temperature in (("cold", 0.8, 0.2, 0.0), ("warm", 0.6, 0.6, 0.5), ("other", 0.4, 0.4, 0.0)):
        result = made_up(name, quality=quality, spread=spread, temperature=temperature)
        save(result, tmp_path)
    data = plane_data(table_of(read([tmp_path]).sections[0].rows))
    assert set(data["sweep"]) == {"cold", "warm", "other"}
    sets = plane_sets(data, "pass@1", "diversity_score[exact]")
    points = {p["sampler"]: (p["x"], p["y"]) for p in sets["points"]}
    for front in ("front of all", "front of the temperatures"):
        assert [(f["x"], f["y"]) for f in sets["fronts"] if f["front"] == front] == [points["cold"], points["warm"]]
    for point in sets["points"]:
        assert point["x_low"] < point["x"] < point["x_high"]
        assert point["y_low"] < point["y"] < point["y_high"]


def test_names_and_texts_cannot_become_markup(tmp_path: Path):
    found = [_run_of_each(tmp_path / kind, texts) for kind, texts in (("bad", HOSTILE), ("good", HARMLESS))]
    pages = [render(data, title=texts[0]) for data, texts in zip(found, (HOSTILE, HARMLESS), strict=True)]
    bad, good = map(Parsed, pages)
    tags = [[tag for tag, _ in page.tags if tag != "wbr"] for page in (bad, good)]  # names may be broken behind signs
    assert tags[0] == tags[1]
    assert not [name for _, attributes in bad.tags for name in attributes if name.startswith("on")]
    pages[0].encode("utf-8")  # no half characters are left
    assert not {"\u202e", "\u2028", "\0", "\u200b"} & set(pages[0])


HARMLESS = [f"text {i}" for i in range(len(HOSTILE))]


def _run_of_each(folder: Path, texts: Sequence[str]) -> ReportData:
    """A run named after each text, which is also its model, problem, prompt, answers and message."""
    for seed, text in enumerate(texts):
        made_run(
            folder,
            name=text,
            model=text or "m",
            seed=seed,
            problems=[f"{number} {t}" for number, t in enumerate(texts)],
            text=lambda key: texts[int(key.problem.split()[0])],
            grade=lambda key, text=text: Grade(
                **key._asdict(), verdict=Verdict.WRONG, message=text, call=text, suite=text, mark=text
            ),
        )
    return read([folder], ask=lambda folder: {f"{number} {t}": t for number, t in enumerate(texts)})


def test_one_temperature_alone_has_no_front(tmp_path: Path):
    save(made_up("cold", quality=0.8, spread=0.2, temperature=0.0), tmp_path)
    table = table_of(read([tmp_path]).sections[0].rows)
    assert plane_data(table)["sweep"] == []
    assert "front of the temperatures" not in json.dumps(plane(["cold"], x="a", y="b", sweep=False))
    assert "front of the temperatures" in json.dumps(plane(["cold"], x="a", y="b", sweep=True))


def test_axes_have_no_numbers_that_a_rate_cannot_be():
    def labels(most: float | None) -> list[str]:
        found = json.dumps(plane(["a"], x="a", y="b", labels_x=within(most), labels_y=within(1.0)))
        return re.findall(r'"labelExpr": "([^"]*)"', found)

    bounded = "datum.value < -5e-4 || datum.value > 1.0005 ? '' : datum.label"
    assert set(labels(1.0)) == {bounded}
    assert set(labels(None)) == {bounded, "datum.value < -5e-4 ? '' : datum.label"}  # such as Vendi scores


def test_the_axis_of_a_quality_above_1_has_its_numbers(tmp_path: Path):
    pytest.importorskip("altair")
    rows = read([save(open_ended("a", 8, 2), tmp_path)]).sections[0].rows
    spec = plane_picture(plane_data(table_of(rows)), "quality[judged]", "distinct_k[class]")
    assert spec is not None
    numbers = re.findall(r">([0-9.]+)</text>", as_svg(spec))
    assert any(7 < float(number) < 9 for number in numbers)


def test_a_long_name_can_be_broken_behind_its_signs():
    assert foldable("a-b[temperature=0.5,steps=40]") == "a-b[<wbr>temperature=<wbr>0.5,<wbr>steps=<wbr>40]"
    assert foldable("<b>:\u202ex") == "&lt;b&gt;:<wbr>\\u202ex"


def test_names_in_charts_are_short_and_all_different():
    names = drawn_names([*HOSTILE, "plain", "y" * 60, "y" * 61])
    assert names["plain"] == "plain"
    assert len(set(names.values())) == len(HOSTILE) + 3
    assert max(map(len, names.values())) < 60
    assert all(name.encode() and visible(name) == name for name in names.values())


def test_what_hides_or_turns_text_is_shown_as_its_code():
    assert visible("a\u202eb\0c\ud800\u2028") == "a\\u202eb\\u0000c\\ud800\\u2028"
    assert visible("tab\tand\nline é 漢 🎲") == "tab\tand\nline é 漢 🎲"


def test_a_block_of_data_holds_no_markup():
    value: Any = {"x": "</script><!--<script>&\u2028\ud800"}
    block = data_block(value)
    assert not set("<>&") & set(block)
    assert block.isascii()
    assert json.loads(block) == value


def test_what_could_not_be_read_stands_on_the_page(tmp_path: Path):
    made_run(tmp_path, drawn=3)
    page = render(read([tmp_path]))
    assert "is not finished: 3 of 6 samples are there" in page
    assert "No run of this task is finished, so there is no table yet." in page


def test_result_files_alone_say_that_there_are_no_answers(tmp_path: Path):
    page = render(read([save(made_up("a", quality=0.5, spread=0.5), tmp_path)]))
    assert "Only result files were given: they hold no answers." in page


def test_a_metric_without_a_value_says_why(two: ReportData):
    page = render(two, interactive=False)
    reason = next(r for r in two.sections[0].rows if r.label == "single").metrics["average_kl[i<j]"].reason
    assert re.search(f'title="{re.escape(reason)}"><span class="none">', page)


def test_a_page_without_charts_is_small(two: ReportData):
    assert len(render(two, interactive=False)) < len(render(two)) / 3
