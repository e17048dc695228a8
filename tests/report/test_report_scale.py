"""A page of full size opens in time and every problem can be reached; a small one in the quick suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import report_page  # noqa: E402

from spa_bench.publish.report import read, render  # noqa: E402


@pytest.mark.parametrize(
    ("runs", "problems", "samples", "most"),
    [(3, 12, 20, 30.0), pytest.param(20, 164, 100, 3.0, marks=pytest.mark.slow)],
    ids=["small", "full"],
)
def test_a_page_opens_in_time_and_every_problem_is_reached(
    chromium: Any, tmp_path: Path, runs: int, problems: int, samples: int, most: float
):
    report_page.make(tmp_path / "runs", runs=runs, problems=problems, samples=samples)
    page = tmp_path / "index.html"
    page.write_text(render(read([tmp_path / "runs"])), encoding="utf-8")
    seen = report_page.opened(chromium, page, times=3, problems=problems)
    assert seen["problems_reached"] == problems
    assert min(seen["ready_all"]) < most
