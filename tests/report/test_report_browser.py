"""The page in a browser: it works, from a file, with the keyboard, on a phone, and with hostile texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hostile import HOSTILE
from report.conftest import Open, Opened
from report_runs import made_run, mostly_right
from spa_bench.publish.report import ReportData, read, render
from spa_bench.types import Grade, Key

PROMPT = "What is {}?"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Three samplers on ten problems, one of four members with multiple choice."""
    folder = tmp_path_factory.mktemp("runs")
    names = [f"t/{i}" for i in range(10)]
    made_run(folder, name="alpha", problems=names, n=4)
    made_run(folder, name="beta", problems=names, n=30, seed=1, temperature=0.5)
    made_run(folder, name="gamma", problems=names, n=4, members=4, seed=2, choices=3)
    return read([folder], ask=lambda _: {n: PROMPT.format(n) for n in names})


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


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every hostile text as sampler, model, problem, prompt, answer and message, and one run after another."""
    folder = tmp_path_factory.mktemp("hostile")

    def judged(key: Key) -> Grade:
        return Grade(
            **key._asdict(),
            verdict=mostly_right(key).verdict,
            message=HOSTILE[_place(key.problem)],
            call="call " + HOSTILE[_place(key.problem)],
        )

    names = [f"{i} {text[:200]}" for i, text in enumerate(HOSTILE)]
    for seed, text in enumerate(HOSTILE[:11]):
        made_run(
            folder, name=text, model=text, task=HOSTILE[0], problems=names, seed=seed, n=2, grade=judged,
            members=2 if seed == 1 else 1, text=lambda key: HOSTILE[(_place(key.problem) + key.draw) % len(HOSTILE)],
        )  # fmt: skip
    path = folder / "index.html"
    data = read([folder], ask=lambda _: dict(zip(names, HOSTILE, strict=True)))
    path.write_text(render(data, title=HOSTILE[2]), encoding="utf-8")
    return path


def _place(problem: str) -> int:
    return int(problem.split()[0])


def test_it_loads_and_the_chart_is_drawn(open_page: Open, page: Path):
    opened = open_page(page)
    assert opened.tab.locator(".plane .vega svg").count() == 1
    assert opened.tab.locator(".plane .chart img").count() == 0
    assert opened.text("h1") == "spa-bench report"
    assert len(opened.asked) == 1
    assert opened.tab.evaluate("document.documentElement.lang") == "en"


def test_axes_can_be_chosen(open_page: Open, page: Path):
    opened = open_page(page)
    opened.tab.select_option("select.diversity", "vendi[ngram,q=1]")
    opened.tab.locator(".plane .vega svg", has_text="Vendi").wait_for()


def test_axes_of_rates_end_at_one(open_page: Open, page: Path):
    opened = open_page(page)
    opened.tab.select_option("select.quality", "pass@K")
    found = opened.tab.locator(".plane .vega svg .role-axis-label text").all_text_contents()
    numbers = _numbers([text for text in found if text])
    assert len(numbers) > 3
    assert max(numbers) <= 1


def test_columns_sort_by_mouse_and_by_keyboard(open_page: Open, plain: Path):
    opened = open_page(plain)
    head = opened.tab.locator(".metrics thead th").nth(1)
    assert head.get_attribute("aria-sort") is None
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    down = _numbers(opened.column(1))
    assert down == sorted(down, reverse=True)
    head.locator("button").focus()
    opened.tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert _numbers(opened.column(1)) == sorted(down)
    opened.tab.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    opened.tab.locator(".metrics thead th").first.locator("button").click()
    assert opened.column(0) == ["alpha", "beta", "gamma"]
    assert opened.tab.locator(".metrics thead th[aria-sort]").count() == 1


def _numbers(cells: Sequence[str]) -> list[float]:
    return [float(cell.split()[0]) for cell in cells]


def test_what_has_no_value_stays_at_the_end(open_page: Open, plain: Path):
    opened = open_page(plain)
    heads = opened.tab.locator(".metrics thead th").all_inner_texts()
    place = heads.index("average KL")
    for _ in range(2):
        opened.tab.locator(".metrics thead th").nth(place).locator("button").click()
        assert opened.column(0)[0] == "gamma"


def test_rows_are_filtered_and_columns_chosen(open_page: Open, plain: Path):
    opened = open_page(plain)
    opened.tab.fill("input.rows", "GAM")
    assert opened.column(0) == ["gamma"]
    assert opened.text(".metrics .found") == "1 of 3 rows"
    opened.tab.fill("input.rows", "")
    assert len(opened.column(0)) == 3
    member = opened.tab.locator(".metrics thead th", has_text="pass@1[member=2]")
    assert not member.is_visible()
    opened.tab.click("details.columns summary")
    opened.tab.fill("input.find", "member=2")
    opened.tab.check("fieldset label:not([hidden]) input")
    assert member.is_visible()
    opened.tab.click("button.first")
    assert not member.is_visible()


def test_a_sampler_in_detail_has_its_matrix_as_map_and_as_numbers(open_page: Open, page: Path):
    opened = open_page(page)
    opened.tab.locator(".metrics tbody a", has_text="gamma").click()
    detail = opened.tab.locator("details.sampler[open]")
    detail.wait_for()  # an address is followed after the click; more than one is refused here
    detail.locator(".matrix .vega svg").wait_for()
    assert detail.locator(".matrix [data-kind=kl] td").count() == 16
    detail.locator("select.kind").select_option("tv")
    assert detail.locator(".matrix [data-kind=tv]").is_visible()
    assert not detail.locator(".matrix [data-kind=kl]").is_visible()
    assert "the adapters are not made yet" in detail.inner_text()


def test_every_problem_can_be_reached_by_keys(open_page: Open, plain: Path):
    opened = open_page(plain)
    seen = []
    for place in range(10):
        opened.tab.wait_for_selector(f'#browser[data-problem="{place}"]')
        seen.append(opened.text("#problem-title"))
        assert opened.text("#question") == PROMPT.format(seen[-1])
        opened.tab.keyboard.press("ArrowRight")
    assert seen == [f"t/{i}" for i in range(10)]
    opened.tab.keyboard.press("ArrowLeft")
    opened.tab.wait_for_selector('#browser[data-problem="8"]')


def test_a_problem_is_found_by_its_name_and_shared_by_its_address(open_page: Open, plain: Path, data: ReportData):
    opened = open_page(plain)
    opened.tab.fill("#find", "t/7")
    opened.tab.press("#find", "Enter")
    opened.tab.wait_for_selector('#browser[data-problem="7"]')
    _runs(opened, "#runs-all")
    address = opened.tab.evaluate("location.hash")
    assert address == "#/problem/t%40t-1/t%2F7?runs=" + ",".join(run.hash[:12] for run in data.runs)
    again = open_page(plain, place=address)
    assert again.text("#problem-title") == "t/7"
    assert again.text("#which-count") == "3 of 3"


def test_an_address_of_a_problem_that_is_not_there_says_so(open_page: Open, plain: Path):
    opened = open_page(plain, place="#/problem/t%40t-1/nowhere")
    opened.tab.locator("#problem-said", has_text="There is no problem nowhere here.").wait_for()


def _runs(opened: Opened, button: str) -> None:
    opened.tab.evaluate("document.getElementById('which').open = true")
    opened.tab.click(button)


def test_answers_stand_side_by_side_with_what_differs(open_page: Open, plain: Path):
    opened = open_page(plain)
    _runs(opened, "#runs-seed")
    assert opened.text("#which-count") == "3 of 3"
    assert opened.text("#problem-said").startswith("38 answers, ")
    assert opened.tab.locator(".column").count() == 3
    assert opened.tab.locator(".answer").count() == 4 + 8 + 4  # the first eight of each
    opened.tab.uncheck("#columns")
    assert opened.tab.locator(".column").count() == 0
    assert opened.tab.locator(".answer").count() == 24
    opened.tab.click("#more")
    assert opened.tab.locator(".answer").count() == 38
    assert not opened.tab.locator("#more").is_visible()
    assert opened.tab.locator(".answer ins").count() > 0
    first = opened.tab.locator(".answer").first
    assert "the others are compared with this one" in first.inner_text()
    opened.tab.locator(".answer button", has_text="compare with this").first.click()
    assert "the others are compared with this one" not in first.inner_text()
    opened.tab.select_option("#by", "")
    assert opened.tab.locator(".answer ins, .answer del").count() == 0


def test_answers_are_told_by_verdict_member_and_draw_and_equal_ones_joined(open_page: Open, plain: Path):
    opened = open_page(plain, place="#/problem/t%40t-1/t%2F1?runs=2")
    opened.tab.wait_for_selector('#browser[data-problem="1"]')
    texts = opened.tab.locator(".answer").all_inner_texts()
    assert ["gamma, seed 2 · member 3 · draw 0" in t for t in texts] == [False, False, False, True]
    assert any("✗ wrong" in t and "first failing call: ([0, 2])" in t for t in texts)
    assert opened.tab.locator("#options td").count() == 12
    opened.tab.select_option("#verdict", "passed")
    assert all("✓ passed" in t for t in opened.tab.locator(".answer").all_inner_texts())
    opened.tab.goto(plain.as_uri() + "#/problem/t%40t-1/t%2F1?runs=1")
    opened.tab.locator(".answer", has_text="beta, seed 1").first.wait_for()
    opened.tab.select_option("#verdict", "")
    opened.tab.check("#together")
    assert opened.tab.locator(".answer summary").first.inner_text().endswith("equal answers")
    assert opened.tab.locator(".answer").count() < 24
    opened.tab.check("#raw")
    assert "# more" in opened.tab.locator(".answer").first.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_switch(open_page: Open, plain: Path, scheme: str):
    opened = open_page(plain, scheme=scheme)
    ground = "getComputedStyle(document.body).backgroundColor"
    system = opened.tab.evaluate(ground)
    assert (system == "rgb(20, 23, 28)") == (scheme == "dark")
    opened.tab.click("#theme")
    assert opened.tab.evaluate(ground) != system
    assert opened.tab.get_attribute("#theme", "aria-pressed") == str(scheme == "light").lower()


CONTRAST = """() => {
  const light = (c) => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (c !== "rgba(0, 0, 0, 0)" && c !== "transparent") return c; } return "rgb(255, 255, 255)"; };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility() || e.closest("svg, script, option, :disabled")) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${e.tagName}.${e.className}: ${(a + 0.05) / (b + 0.05)}`);
  }
  return [...new Set(low)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page: Open, plain: Path, scheme: str):
    opened = open_page(plain, scheme=scheme)
    opened.tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert opened.tab.evaluate(CONTRAST) == []


def test_it_fits_a_phone(open_page: Open, page: Path):
    opened = open_page(page, width=375)
    opened.tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 375


def test_what_has_the_focus_is_seen_and_controls_have_names(open_page: Open, plain: Path):
    opened = open_page(plain)
    opened.tab.keyboard.press("Tab")
    assert opened.tab.evaluate("document.activeElement.textContent") == "Skip to content"
    opened.tab.keyboard.press("Tab")
    assert opened.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    nameless = """[...document.querySelectorAll('button, input, select')].filter(e => !e.textContent.trim() && !e.labels?.length
        && !e.getAttribute('aria-label')).length"""
    assert opened.tab.evaluate(nameless) == 0


def test_without_scripts_the_table_the_picture_and_the_details_are_there(open_page: Open, plain: Path):
    opened = open_page(plain, script=False)
    assert opened.tab.locator(".metrics tbody tr").count() == 3
    assert opened.tab.locator(".plane img").is_visible()
    assert opened.tab.locator("details.sampler").count() == 3
    assert not opened.tab.locator("#browser").is_visible()
    assert "JavaScript must be on" in opened.text("#samples")


def test_where_the_chart_fails_the_picture_stays_and_the_rest_works(open_page: Open, page: Path, tmp_path: Path):
    broken = tmp_path / "index.html"
    text = page.read_text(encoding="utf-8")
    start = text.index('id="vega">') + len('id="vega">')
    broken.write_text(text[:start] + "AAAA" + text[text.index("</script>", start) :], encoding="utf-8")
    opened = open_page(broken)
    assert opened.tab.locator(".plane img").is_visible()
    assert "The chart cannot be drawn here" in opened.text(".chart-said")
    opened.tab.locator(".metrics thead th").nth(1).locator("button").click()
    assert opened.tab.locator(".answer").count() == 4


def test_hostile_texts_stay_texts(open_page: Open, hostile: Path):
    opened = open_page(hostile)
    _runs(opened, "#runs-all")
    opened.tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for place, text in enumerate(HOSTILE):
        opened.tab.wait_for_selector(f'#browser[data-problem="{place}"]')
        assert "window.hacked" not in text or "window.hacked" in opened.text("#question")
        assert opened.tab.locator(".answer").count() > 0
        assert opened.tab.locator("#browser img, #browser script, #browser svg, #browser iframe, #browser b > *").count() == 0
        assert opened.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if place + 1 < len(HOSTILE):
            opened.tab.click("#next")
    assert opened.tab.evaluate("window.hacked") is None
    assert opened.tab.locator("base, iframe").count() == 0


def test_hostile_names_in_the_chart_stay_names(open_page: Open, hostile: Path):
    opened = open_page(hostile)
    point = opened.tab.locator(".plane .vega svg .mark-symbol path").first
    point.hover(force=True)
    opened.tab.wait_for_selector("#vg-tooltip-element.visible")
    assert opened.tab.locator("#vg-tooltip-element img, #vg-tooltip-element script, #vg-tooltip-element svg").count() == 0
    assert opened.tab.evaluate("window.hacked") is None


def test_points_have_their_names_and_the_picture_takes_the_width_of_the_page(open_page: Open, page: Path):
    opened = open_page(page, width=1600)
    names = opened.tab.locator(".plane .vega svg .mark-text.role-mark text").all_text_contents()
    assert {"alpha", "beta", "gamma"} <= set(names)
    assert opened.tab.evaluate("document.querySelector('.plane .vega svg').clientWidth") > 1500
    assert opened.tab.input_value("select.diversity") == "effective_diversity[ast,correct]"
