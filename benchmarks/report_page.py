"""How long the page of a large report takes to make and to open, and how large it is.

    python benchmarks/report_page.py [--runs R] [--problems P] [--samples N] [--opened TIMES] [--json]

20 runs of 164 problems with 100 answers each, made up: short programs as models write them, every seventh a repetition. The
page is opened in headless Chromium from a file. Ready: the table sorts and the first problem's answers stand there, from
the start of the navigation, by the page's own clock; charts: drawn as well. Then problems are opened one after the other.
Target: ready within 3 s. There is no peer: lm-eval, evalplus and bigcode's harness make no page, and inspect's view needs its
server.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from report_runs import made_run  # noqa: E402
from spa_bench.publish.report import read, render  # noqa: E402
from spa_bench.types import Key  # noqa: E402

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
NAMES = ("total", "out", "result", "acc", "xs", "values", "seen", "left", "right", "best", "count", "i", "j", "word", "key")
LINES = (
    "    {a} = []", "    {a} = {{}}", "    for {b} in {c}:", "        if {b} not in {a}:", "            {a}.append({b} + {n})",
    "        {a}[{b}] = {a}.get({b}, 0) + {n}", "    {c} = sorted({c}, key=lambda {b}: -{b})", "    return {a}",
    "    while {c} and {n} > len({a}):", "        {b} = {c}.pop()", "    return [{b} for {b} in {a} if {b} != {n}]",
    "    return sum({a}) * {n}",
)  # fmt: skip


def program(key: Key, *, run: int) -> str:
    """Three to twelve lines; one draw in seven is that of an earlier one."""
    rng = random.Random(f"{run}/{key.problem}/{key.draw - key.draw % 7 if key.draw % 7 == 6 else key.draw}")
    lines = rng.choices(LINES, k=rng.randint(3, 12))
    names = [dict(zip("abc", rng.choices(NAMES, k=3), strict=True)) for _ in lines]
    return "\n".join(line.format(**each, n=rng.randint(0, 99)) for line, each in zip(lines, names, strict=True))


def make(folder: Path, *, runs: int, problems: int, samples: int) -> float:
    """Make the runs; seconds."""
    began = time.monotonic()
    for run in range(runs):
        names = [f"HumanEval/{i}" for i in range(problems)]
        made_run(
            folder, name=f"sampler-{run}", seed=run, problems=names, n=samples, task="humaneval", temperature=run / 10,
            text=lambda key, run=run: program(key, run=run),
        )  # fmt: skip
    return time.monotonic() - began


def opened(browser: Any, page: Path, *, times: int, problems: int) -> dict[str, Any]:
    """Open `page` in a fresh profile `times` times; seconds."""
    found: dict[str, list[float]] = {"ready": [], "charts": [], "problem": []}
    reached = 0
    for turn in range(times):
        context = browser.new_context(offline=True)
        tab = context.new_page()
        tab.goto(page.resolve().as_uri(), wait_until="commit", timeout=120_000)
        tab.wait_for_selector("#browser[data-problem] .answer", timeout=120_000)
        found["ready"].append(float(tab.evaluate("spaBench.ready / 1000")))
        tab.wait_for_selector("html[data-charts=done]", timeout=120_000)
        found["charts"].append(float(tab.evaluate("spaBench.drawn / 1000")))
        if turn == 0:
            reached, found["problem"] = _walk(tab, problems)
        context.close()
    return {name: round(statistics.median(values), 3) for name, values in found.items()} | {
        "ready_all": [round(value, 3) for value in found["ready"]],
        "problem_slowest": round(max(found["problem"]), 3),
        "problems_reached": reached,
    }


def _walk(tab: Any, problems: int) -> tuple[int, list[float]]:
    """Go through all problems by the button; (problems that were reached with answers, seconds of each)."""
    seconds, seen = [], set()
    for place in range(problems):
        began = time.monotonic()
        if place:
            tab.click("#next")
        tab.wait_for_selector(f'#browser[data-problem="{place}"] .answer')
        seconds.append(time.monotonic() - began)
        seen.add(tab.inner_text("#problem-title"))
    return len(seen), seconds


def measured(*, runs: int, problems: int, samples: int, times: int) -> dict[str, Any]:
    """All of it, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="report-page-") as temporary:
        folder = Path(temporary)
        making = make(folder / "runs", runs=runs, problems=problems, samples=samples)
        began = time.monotonic()
        data = read([folder / "runs"])
        reading = time.monotonic() - began
        began = time.monotonic()
        page = folder / "index.html"
        page.write_text(render(data), encoding="utf-8")
        rendering = time.monotonic() - began
        sizes = {"answers": runs * problems * samples, "page_mb": round(page.stat().st_size / 1e6, 2)}
        times_ = {"runs_made_s": making, "read_s": reading, "rendered_s": rendering}
        from playwright.sync_api import sync_playwright

        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            seen = opened(browser, page, times=times, problems=problems)
            browser.close()
        return {
            **sizes,
            **{k: round(v, 1) for k, v in times_.items()},
            "opened_s": seen,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--problems", type=int, default=164)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--opened", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    found = measured(runs=a.runs, problems=a.problems, samples=a.samples, times=a.opened)
    if a.json:
        print(json.dumps(found))
        return 0
    seen = found["opened_s"]
    print(f"{a.runs} runs x {a.problems} problems x {a.samples} answers = {found['answers']}: a page of {found['page_mb']} MB")
    print(f"read in {found['read_s']} s, rendered in {found['rendered_s']} s")
    print(f"ready after {seen['ready']} s (median of {a.opened}; target 3), with charts after {seen['charts']} s")
    print(f"a problem opens in {seen['problem']} s (slowest {seen['problem_slowest']})")
    print(f"{seen['problems_reached']} of {a.problems} problems were reached")
    return 0 if seen["ready"] <= 3 and seen["problems_reached"] == a.problems else 1


if __name__ == "__main__":
    sys.exit(main())
