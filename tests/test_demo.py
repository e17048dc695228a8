"""The demo: rows as they come, everything in one folder, and no folder of anybody else's is emptied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from doubles import RIGHT, SANDBOX, Call, InProcessJudge, mock_run
from spa_bench.errors import StoreError, UsageError
from spa_bench.publish import demo
from spa_bench.publish.demo import SAMPLERS, folder_of_demo, make_demo
from spa_bench.publish.series import Board, Listeners, make_series
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.options import RunOptions


def test_it_prints_a_row_a_sampler_the_leaderboard_and_where_the_page_is(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo, "SAMPLERS", ("base", "base"))
    before, out = os.environ["SPA_BENCH_CACHE"], tmp_path / "demo"
    done = call("demo", "--out", out, "--limit", 2, "--sandbox", SANDBOX)
    assert done.code == 0, done.err
    said = done.out
    assert said.count("\nThe leaderboard: ") == 1
    assert done.err.count("base on mini-code") == 2
    rows, _, board = said.partition("\n\n")
    assert [line.split()[0] for line in rows.splitlines() if not line.startswith("-")] == ["sampler", "base", "base"]
    assert (out / "leaderboard.md").read_text().strip() in board
    assert f"The page, for any browser: {(out / 'report' / 'index.html').as_uri()}" in said
    assert (out / "report" / "index.html").is_file()
    assert said.splitlines()[-1].startswith("The demo took ")
    assert os.environ["SPA_BENCH_CACHE"] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]


def test_its_parts_are_told_as_they_are_made_and_given_back_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told: list[Sequence[RunFolder] | Board] = []
    made = make_demo(
        tmp_path, samplers=("base",), limit=1, sandbox=SANDBOX, listeners=Listeners(ran=told.append, board=told.append)
    )
    assert told == [list(made.folders), made.board]
    assert [folder.path.parent for folder in made.folders] == [tmp_path]
    assert made.board.path.read_text() == made.board.text + "\n"
    assert (made.page.missing, made.page.path.is_file()) == ("", True)
    assert capsys.readouterr().out == ""


def test_a_page_that_cannot_be_made_is_a_line_with_the_reason(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_page(*_: object) -> None:
        raise UsageError("no altair")

    monkeypatch.setattr(demo, "SAMPLERS", ("base",))
    monkeypatch.setattr("spa_bench.publish.series.write_report", no_page)
    done = call("demo", "--out", tmp_path / "demo", "--limit", 1, "--sandbox", SANDBOX)
    assert done.code == 0, done.err
    assert f"No page of it: no altair; then: spa-bench report {tmp_path / 'demo'} -o " in done.out


def test_one_that_ended_is_made_anew_and_one_that_was_stopped_is_resumed(tmp_path: Path):
    out = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        _stopped_demo(out)
    with folder_of_demo(out):
        assert (out / "run" / "half").is_file()
    with folder_of_demo(out):
        assert not (out / "run").exists()


@pytest.mark.parametrize(("limit", "sandbox"), [(0, SANDBOX), (-1, SANDBOX), (None, "jail")])
def test_one_that_ended_is_kept_where_an_option_is_refused(tmp_path: Path, limit: int | None, sandbox: str):
    out = tmp_path / "demo"
    with folder_of_demo(out):
        (out / "leaderboard.md").write_text("dear")
    with pytest.raises(UsageError, match=r"at least 1|unknown sandbox"):
        make_demo(out, limit=limit, sandbox=sandbox)
    assert (out / "leaderboard.md").read_text() == "dear"


def _stopped_demo(out: Path) -> None:
    with folder_of_demo(out):
        (out / "run").mkdir()
        (out / "run" / "half").write_text("")
        raise KeyboardInterrupt


def test_two_at_once_do_not_share_a_folder(tmp_path: Path):
    with (
        folder_of_demo(tmp_path / "demo"),
        pytest.raises(StoreError, match=r"works on .*use another --out"),
        folder_of_demo(tmp_path / "demo"),
    ):
        pass


def test_a_run_of_a_stopped_demo_with_other_options_is_in_no_table(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: InProcessJudge
):
    out = tmp_path / "demo"

    def run(n: int) -> RunFolder:
        return mock_run(out, three, lambda request: RIGHT[request.problem_id], n=n)

    (run(2).path / "metrics.json").unlink()  # it was stopped
    monkeypatch.setattr("spa_bench.publish.series.perform.run", lambda *_: [run(3)])
    made = make_series(["base"], "three", RunOptions(out=out), reference=None, title="demo")
    assert f"spa-bench leaderboard {made.folders[0].path}" in made.board.text
    assert (made.page.missing, made.page.path.is_file()) == ("", True)


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("dear")
    link = tmp_path / "link"
    link.symlink_to(mine)
    for out in (mine, link, mine / "thesis.tex"):
        with pytest.raises(UsageError, match=r"was not made by a demo and would be emptied; remove it, or use another --out"):
            make_demo(out)
    assert (mine / "thesis.tex").read_text() == "dear"
    assert list(mine.iterdir()) == [mine / "thesis.tex"]


def test_what_trains_least_comes_first():
    assert SAMPLERS[0] == "single"
    assert SAMPLERS[-1] == "spa-influence"
    assert len(SAMPLERS) == 6
