"""`spa-bench report`: files in a folder, a line for all that is missing, pictures, the site of leaderboards."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from doubles import Call
from made_up import estimated_anew, hashed_anew, made_up
from report_runs import made_run
from spa_bench.compare.leaderboard import save
from spa_bench.publish.report import read
from spa_bench.publish.report.write import pictures

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ROOT / "leaderboards"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, quality, spread in (("cold", 0.8, 0.2), ("warm", 0.6, 0.6)):
        save(made_up(name, quality=quality, spread=spread), tmp_path / "results")
    return tmp_path / "results"


def test_a_page_and_its_pictures_are_written_and_named(call: Call, tmp_path: Path):
    made_run(tmp_path / "runs")
    done = call("report", tmp_path / "runs", "-o", tmp_path / "out", "--title", "Mine", "--problems", "none")
    assert done.code == 0
    names = ["index.html", "quality-diversity.svg", "quality-diversity.png"]
    assert done.out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert "<title>Mine</title>" in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / names[1]).read_text().startswith("<svg")
    assert (tmp_path / "out" / names[2]).read_bytes().startswith(b"\x89PNG")
    assert done.err == ""


def test_what_is_missing_is_said_a_line_each_and_the_rest_is_shown(call: Call, tmp_path: Path):
    made_run(tmp_path / "runs")
    folder = made_run(tmp_path / "runs", seed=1, drawn=3)
    done = call("report", tmp_path / "runs", tmp_path / "nowhere", "-o", tmp_path / "out", "--problems", "none")
    assert done.code == 0
    assert done.err.splitlines() == [
        f"{tmp_path / 'nowhere'} is not there; give a run folder, a result file, or a folder of either",
        f"{folder.path} is not finished: 3 of 6 samples are there",
    ]


def test_nothing_to_show_is_an_error(call: Call, tmp_path: Path):
    assert "is not there; give a run folder" in call("report", tmp_path / "nowhere", "-o", tmp_path / "out").error()
    assert not (tmp_path / "out").exists()


def test_an_axis_that_is_none_is_refused(call: Call, results: Path, tmp_path: Path):
    said = call("report", results, "-o", tmp_path / "out", "--diversity", "diversity_score").error()
    assert said.startswith("--diversity is 'diversity_score', which the picture cannot have; did you mean 'diversity_score[")


def test_a_folder_that_cannot_be_written_is_an_error(call: Call, results: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    assert "is no folder" in call("report", results, "-o", tmp_path / "file").error()
    assert "cannot write" in call("report", results, "-o", tmp_path / "file" / "below").error()


def test_other_pages_go_with_a_site(call: Call, results: Path, tmp_path: Path):
    assert "--also goes with --site" in call("report", results, "-o", tmp_path / "o", "--also", BOARDS / "mini-code.md").error()
    missing = call("report", results, "-o", tmp_path / "o", "--site", "--also", tmp_path / "nowhere.md").error()
    assert missing == f"--also names {tmp_path / 'nowhere.md'}, which is no Markdown file and no folder with some"


def test_the_same_results_give_the_same_pictures(results: Path):
    first, second = (pictures(read([results]), "pass@1", "vendi[ngram,q=1]") for _ in range(2))
    assert first == second
    assert "Vendi" in first["quality-diversity.svg"].decode()


class Links(HTMLParser):
    """Where a page leads, and the places in it."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.places: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value and not value.startswith("data:"):
                self.found.append(value)
            if name == "id" and value:
                self.places.add(value)


def test_all_links_of_a_site_are_relative_and_lead_somewhere(call: Call, results: Path, tmp_path: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.svg").write_text("<svg/>")
    text = "# About\n\n![x](a.svg) <script>alert(1)</script> 1 <sub>[0, 2]</sub>\n\n|a|\n|-|\n|b|\n"
    (tmp_path / "notes" / "a.md").write_text(text)
    out = tmp_path / "site"
    done = call("report", results, "--site", "--also", tmp_path / "notes", "-o", out)
    assert [str(Path(line).relative_to(out)) for line in done.out.splitlines()] == [
        "index.html",
        "t.html",
        "t.svg",
        "t.png",
        "pages/a.html",
    ]
    for page in out.rglob("*.html"):
        links = Links(page.read_text())
        for link in links.found:
            place, _, anchor = link.partition("#")
            target = (page.parent / place) if place else page
            assert not re.match("[a-z]+:|/", link)
            assert target.exists(), link
            assert not anchor or anchor in Links(target.read_text()).places, link
    about = (out / "pages" / "a.html").read_text()
    assert "&lt;script&gt;alert(1)" in about
    assert "1 <small>[0, 2]</small>" in about
    assert "<td>b</td>" in about


def test_pages_say_what_sets_rows_apart_and_what_a_first_page_leaves_out(call: Call, tmp_path: Path):
    few, whole = made_up("few", quality=1e-5, spread=0.5, n=2), made_up("whole", quality=1e-5, spread=0.5, seed=1)
    few["spec"]["model"]["name"] = few["model"] = "another"
    part = made_up("part", quality=0.5, spread=0.5)
    part["problems"], part["spec"]["limit"] = part["problems"][:50], 50
    for table in (part["runs"][0]["values"], *part["runs"][0]["values_at"].values()):
        table |= {name: values[:50] for name, values in table.items()}
    for result in (few, whole, part):
        save(estimated_anew(hashed_anew(result)), tmp_path / "results")
    out = tmp_path / "site"
    assert call("report", tmp_path / "results", "--site", "-o", out).code == 0
    first, page = ((out / name).read_text() for name in ("index.html", "t.html"))
    for text in (first, page):
        shown = text[: text.rindex("</table>")]
        heads = [re.sub("<[^>]*>", "", head) for head in re.findall(r"<th scope=\"col\".*?</th>", shown)]
        assert {"n", "k", "model"} <= set(heads)
        assert "<strong>No signal</strong>: the interval of every sampler" in text
        assert "Samplers have different n here: metrics that depend on n are at n = 2" in text
    assert len(re.findall("1 more row on other problems of this task is on", first)) == 1


def test_the_site_that_is_kept_is_that_of_the_results_that_are_kept(call: Call, tmp_path: Path):
    command = next(line for line in (ROOT / "scripts" / "site").read_text().splitlines() if line.startswith("spa-bench report"))
    words = [str(ROOT / w) if w.startswith("leaderboards") else w for w in command.split()[1:]]
    words[words.index("-o") + 1] = str(tmp_path / "leaderboards")
    (tmp_path / "leaderboards").mkdir()
    done = call(*words)
    assert done.code == 0, done.err
    for line in done.out.splitlines():
        name = Path(line).relative_to(tmp_path / "leaderboards")
        if name.suffix == ".html" and name.parent.name != "pages":
            kept = (BOARDS / name).read_text(encoding="utf-8")
            assert _numbers(kept) == _numbers(Path(line).read_text(encoding="utf-8")), f"{name} is old; run scripts/site"


def _numbers(page: str) -> list[str]:
    """What tables hold: pictures and scripts may differ with the packages that make them."""
    return re.findall(r'data-value="([^"]*)"', page)
