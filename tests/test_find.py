"""The one search for run folders: how deep it looks, what it leaves out, and that every command uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from doubles import RIGHT, WRONG, Call, mock_run
from spa_bench.compare.leaderboard import find_results
from spa_bench.errors import StoreError
from spa_bench.publish.report.data import read
from spa_bench.publish.view.folder import Runs
from spa_bench.runs.find import DEEP, given_files, run_paths
from spa_bench.types import Request


def good(request: Request) -> str:
    return RIGHT[request.problem_id]


def poor(request: Request) -> str:
    return WRONG


@pytest.fixture
def nested(tmp_path: Path, three: Path, sandbox: object) -> Path:
    """A folder with a run in it, one in a folder of it, and one two folders deeper."""
    root = tmp_path / "runs"
    mock_run(root, three, good, name="top")
    mock_run(root / "study", three, good, name="deeper")
    mock_run(root / "study" / "more", three, poor, name="deepest")
    for place in ("cache", "study/cache", "study/more/cache"):
        shutil.rmtree(root / place, ignore_errors=True)
    return root


def names(paths: list[Path]) -> list[str]:
    return [path.name.split("-s0")[0] for path in paths]


def test_runs_are_found_down_to_the_third_level_and_in_the_order_of_their_places(nested: Path):
    assert names(run_paths(nested)) == ["three-deepest", "three-deeper", "three-top"]
    deep = nested / "1" / "2" / "3" / "4"
    shutil.copytree(run_paths(nested)[2], deep)
    assert DEEP == 3
    assert deep not in run_paths(nested)
    assert deep in run_paths(nested / "1")


def test_a_run_is_itself_and_nothing_in_it_is_searched(nested: Path):
    [_, _, top] = run_paths(nested)
    shutil.copytree(run_paths(nested)[0], top / "copy")
    assert run_paths(top) == [top]
    assert top / "copy" not in run_paths(nested)


def test_hidden_folders_are_left_out_and_links_are_followed_once(nested: Path, tmp_path: Path):
    shutil.move(nested / "study", nested / ".study")
    assert names(run_paths(nested)) == ["three-top"]
    (nested / "link").symlink_to(nested / ".study")
    (nested / "loop").symlink_to(nested)
    assert names(run_paths(nested)) == ["three-deepest", "three-deeper", "three-top"]
    assert names(run_paths(nested, links=False)) == ["three-top"]


def test_result_files_are_those_of_the_folder_itself(nested: Path):
    (nested / "a.json").write_text("{}")
    (nested / "study" / "b.json").write_text("{}")
    assert given_files(nested) == [nested / "a.json"]
    assert given_files(nested / "a.json") == [nested / "a.json"]
    assert given_files(run_paths(nested)[0]) == []


def test_leaderboard_check_report_and_view_look_into_folders_of_folders(nested: Path, call: Call, tmp_path: Path):
    wanted = {"top", "deeper", "deepest"}
    rows = json.loads(call("leaderboard", nested, "--json").out)
    assert {row["sampler"] for row in rows} == wanted
    assert {run.sampler for run in read([nested]).runs} == wanted
    assert len(Runs(nested).look()) == 3
    base = tmp_path / "base.json"
    assert call("leaderboard", nested, "--save", base).code == 0
    assert "GREEN: " in call("check", nested, "--against", base).out


def test_a_copy_of_a_run_counts_once_and_another_run_of_its_seed_does_not(nested: Path):
    [_, _, top] = run_paths(nested)
    copy = Path(shutil.copytree(top, nested / "kept" / top.name))
    assert len(find_results([nested])) == 3
    (copy / "metrics.json").write_bytes((copy / "metrics.json").read_bytes() + b" ")
    with pytest.raises(StoreError, match="seed 0 of top is there twice"):
        find_results([nested])


def test_a_folder_without_runs_is_one_line(tmp_path: Path, call: Call):
    (tmp_path / "empty" / "emptier").mkdir(parents=True)
    for command in (("leaderboard", tmp_path / "empty"), ("report", tmp_path / "empty", "-o", tmp_path / "page")):
        assert call(*command).error() == f"no runs and no results in {tmp_path / 'empty'}"
