"""The scripts of the real model: results are made of the runs that are whole, while others are under way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
SPOKEN = """#!/bin/sh
echo "$@" >> "$LOG"
while [ $# -gt 1 ]; do
    if [ "$1" = --save ]; then echo made > "$2"; fi
    shift
done
"""


def saved(folder: Path, result: Path, tmp_path: Path) -> list[str]:
    """What `saved` asks of spa-bench, a line for each call."""
    program, log = tmp_path / "bin" / "spa-bench", tmp_path / "log"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SPOKEN)
    program.chmod(0o755)
    log.write_text("")
    words = ["sh", "-euc", '. "$1"; saved "$2" "$3"', "-", SCRIPTS / "real-model-settings", folder, result]
    paths = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(words, env={**os.environ, "PATH": paths, "LOG": str(log)}, check=True)
    return log.read_text().splitlines()


def test_a_run_that_is_under_way_is_left_out(tmp_path: Path):
    folder = tmp_path / "my runs"
    for name in ("b-whole", "a-whole", "under-way"):
        (folder / name).mkdir(parents=True)
        (folder / name / ("records.jsonl" if name == "under-way" else "metrics.json")).touch()
    first, second = saved(folder, tmp_path / "result.json", tmp_path)
    assert first == f"leaderboard {folder}/a-whole {folder}/b-whole --save {folder}.json --measured-by spa-bench"
    assert second == f"leaderboard {folder}.json --save {tmp_path}/result.json"


def test_where_no_run_is_whole_nothing_is_made(tmp_path: Path):
    (tmp_path / "runs" / "under-way").mkdir(parents=True)
    assert saved(tmp_path / "runs", tmp_path / "result.json", tmp_path) == []
