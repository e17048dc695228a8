"""The wheel alone: built, installed in an environment of its own, and used in an empty folder, far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("hatchling")
Ran = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (file,) = out.glob("spa_bench-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel; what it depends on is taken from the environment of the tests.

    A line in a .pth file adds a folder to the path without reading that folder's own .pth files, so the checkout, which is
    installed there, cannot be imported.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(packages),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.fixture
def ran(installed: Path, tmp_path: Path) -> Ran:
    """Runs Python of that environment in an empty folder, without what the tests' environment sets."""
    (tmp_path / "empty").mkdir()
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "SPA_BENCH_DATA", "VIRTUAL_ENV"}}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = kept | {"SPA_BENCH_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        command = [str(installed / "python"), "-m", "spa_bench", *words]
        return subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, timeout=900)

    return run


def test_the_wheel_holds_what_the_package_reads_and_nothing_of_the_checkout(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert all(top == "spa_bench" or top.endswith(".dist-info") for top in tops), tops
    shipped = {p.name for kind in ("baselines", "tasks") for p in (ROOT / kind).glob("*.toml")}
    shipped |= {p.name for p in (ROOT / "templates").iterdir()}
    assert shipped == {Path(n).name for n in names if n.startswith("spa_bench/_cards/")}
    package = ROOT / "harness" / "spa_bench"
    files = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert files == {n.removeprefix("spa_bench/") for n in names if n.startswith("spa_bench/") and "/_cards/" not in n}


@pytest.mark.slow
def test_a_score_a_table_and_a_page_from_the_wheel_in_an_empty_folder(ran: Ran, installed: Path, tmp_path: Path):
    where = subprocess.run(
        [str(installed / "python"), "-I", "-c", "import spa_bench; print(spa_bench.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert str(ROOT) not in where
    problem = {"task_id": "t/0", "prompt": "def one():\n", "canonical_solution": "    return 1\n", "entry_point": "one"}
    problem["test"] = "def check(candidate):\n    assert candidate() == 1\n"
    here = tmp_path / "empty"
    (here / "t.jsonl").write_text(json.dumps(problem) + "\n")
    (here / "t.toml").write_text('description = "one"\nfile = "t.jsonl"\nversion = "1"\n')
    (here / "s.jsonl").write_text(json.dumps({"task_id": "t/0", "completion": "    return 1\n"}) + "\n")
    done = ran("score", "--task", "t.toml", "--samples", "s.jsonl")
    assert done.returncode == 0, done.stderr
    assert "t 1, 1 problem" in done.stdout
    page = ran("report", "runs", "-o", "page")
    assert page.returncode == 0, page.stderr
    assert (here / "page" / "index.html").exists()
    assert "spa-influence" in ran("list", "samplers").stdout


@pytest.mark.slow
def test_a_run_from_the_wheel_in_an_empty_folder(ran: Ran):
    done = ran("run", "--sampler", "base", "--task", "mini-code", "--limit", "3", "--noise-floor", "no")
    assert done.returncode == 0, done.stderr
    assert "mini-code 1, 3 of 120 problems at random by tags" in done.stdout


@pytest.mark.slow
def test_the_headline_command_of_the_wheel_names_what_it_lacks(ran: Ran):
    """HumanEval is not there and nothing can be downloaded: one line, and no file is written."""
    done = ran("run", "--sampler", "spa-influence", "--task", "humaneval", "--model", "embedded")
    assert done.returncode == 2
    assert done.stderr.count("spa-bench: ") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo_of_the_wheel_runs_to_its_end(ran: Ran, tmp_path: Path):
    done = ran("demo", "--limit", "4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "runs" / "demo" / "report" / "index.html").exists()
    assert "The demo took" in done.stdout
