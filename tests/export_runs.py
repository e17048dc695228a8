"""Run folders for the tests of exports, and the commands that an export's README.md names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spa_bench.runs.folder import RunFolder, create
from spa_bench.runs.spec import RunSpec
from spa_bench.tasks.base import Task
from spa_bench.types import Record


def stored(
    out: Path, task: Task, records: Sequence[Record], *, n: int | None = None, limit: int | None = None, **spec: Any
) -> RunFolder:
    """A run folder with these records in this order, not graded."""
    settings = {"sandbox": "none-i-trust-this-code", "grading": "default", **spec}
    folder = create(
        out,
        "run",
        RunSpec(
            sampler={"name": "s"},
            task=task.describe(),
            model={"name": "m"},
            data={},
            n=n,
            seed=0,
            limit=limit,
            numerics={},
            **settings,
        ),
    )
    done = folder.records()
    folder.record_log.append([r for r in records if r.key not in done])
    return folder


def record(problem: str, member: int, draw: int, text: str, **changes: Any) -> Record:
    return Record(
        problem=problem, member=member, draw=draw, raw=text, graded=text.rstrip(), finish="stop", tokens=1, seed=0, **changes
    )


def command_of(readme: Path) -> str:
    """The command in an export's README.md: its indented lines."""
    lines = [line for line in readme.read_text().splitlines() if line.startswith("    ")]
    return "\n".join(line[4:] for line in lines)


def follow(readme: Path, environment: Mapping[str, str]) -> str:
    """Run the command of README.md in its folder, as its reader would; what it prints."""
    here = str(Path(sys.executable).parent)
    environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", **environment, "PATH": f"{here}:{os.environ['PATH']}"}
    environment.pop("HF_HUB_OFFLINE", None)  # README.md has to say it
    done = subprocess.run(
        ["bash", "-c", command_of(readme)], cwd=readme.parent, env=environment, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr
