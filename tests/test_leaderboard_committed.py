"""The results that are kept in the repository are complete, consistent, and give the same page each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_bench.compare.leaderboard import build_rows, check, find_results, markdown

RESULTS = sorted((Path(__file__).resolve().parents[1] / "leaderboards" / "results").glob("*.json"))


def test_there_are_results_of_all_samplers_in_one_file():
    [path] = [p for p in RESULTS if p.name == "mini-code.json"]
    results = find_results([path])
    assert len({result["sampler"] for result in results}) >= 14
    assert {len(result["runs"]) for result in results} == {5}  # what the gate needs of a baseline


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_kept_result_is_complete_and_consistent(path: Path):
    assert check(path) == []


def test_the_page_does_not_depend_on_when_it_is_made():
    [path] = [p for p in RESULTS if p.name == "mmlu.json"]
    pages = [markdown(build_rows(find_results([path])), reference="spa-influence", command="x") for _ in range(2)]
    assert pages[0] == pages[1]
    assert "## mmlu 2" in pages[0]
