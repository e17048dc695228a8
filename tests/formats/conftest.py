"""What the tests of exports share: two small runs with their task, and the interpreter that has the tools of others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from formats_types import Export, Other

from spa_bench.publish.export import export_runs
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.reopen import task_of
from spa_bench.tasks.base import Task

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "runs"
MADE = ROOT / ".venv-formats"  # has a stamp when it is finished
PYTHON = os.environ.get("SPA_BENCH_FORMATS_PYTHON") or (
    str(MADE / "bin" / "python") if (MADE / ".spa-bench-stamp").exists() else ""
)


@pytest.fixture
def runs(tmp_path: Path) -> list[tuple[RunFolder, Task]]:
    """Two seeds of a sampler of two members, two draws each, on six problems: graded."""
    folders = [open_run(Path(shutil.copytree(one, tmp_path / "runs" / one.name))) for one in sorted(GOLDEN.iterdir())]
    return [(folder, task_of(folder)) for folder in folders]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "out"


@pytest.fixture
def export(out: Path) -> Export:
    """Export runs to `out`; returns the notes."""

    def exported(runs: Sequence[tuple[RunFolder, Task]], to: str, **named: object) -> tuple[str, ...]:
        return export_runs(runs, to=to, out=out, **named)  # type: ignore[arg-type]

    return exported


@pytest.fixture
def other() -> Other:
    """Run Python code, or a module with arguments, with the tools of others; returns what it prints."""
    if not PYTHON or not Path(PYTHON).exists():
        pytest.skip(
            "no interpreter with every-eval-ever and inspect-ai, which pin other versions than ours: `make test-formats` makes "
            "one, or SPA_BENCH_FORMATS_PYTHON names it"
        )

    def called(*arguments: str, cwd: Path, code: int = 0) -> str:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(cwd), "NO_COLOR": "1"}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [PYTHON, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, env=environment, check=False
        )
        assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    return called
