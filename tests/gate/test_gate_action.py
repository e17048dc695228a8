"""The composite action: every input reaches its script through the environment, and its scripts do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from made_up import estimated_anew
from simulated import simulated
from spa_bench.compare.leaderboard import save_all

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / ".github" / "actions" / "spa-bench" / "action.yml"
WORKFLOW = ROOT / ".github" / "workflows" / "gate.yml"
DEFAULTS = {"ALPHA": "0.05", "TOLERANCE": "", "METRICS": "", "MODEL": "", "ARGS": "", "SEEDS": "0", "TASK": "mini-code"}


def action() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    return content


def step(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in action()["runs"]["steps"] if s.get("name") == name)
    return found


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=["action", "workflow"])
def test_no_expression_is_pasted_into_a_script(path: Path):
    content = yaml.safe_load(path.read_text())
    steps = content["runs"]["steps"] if "runs" in content else content["jobs"]["gate"]["steps"]
    scripts = [s["run"] for s in steps if "run" in s]
    assert scripts
    assert not [script for script in scripts if "${{" in script]


def test_every_input_is_described_and_used_and_nothing_else_is():
    content = action()
    used = set(re.findall(r"\$\{\{[^}]*?inputs\.([\w-]+)", ACTION.read_text()))
    assert used == set(content["inputs"])
    assert all(value["description"] for value in content["inputs"].values())
    assert {name for name, value in content["inputs"].items() if value.get("required")} == {"samplers", "baseline"}


def test_every_variable_of_a_script_comes_from_its_environment_or_the_runner():
    known = {"GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP", "RUNNER_ENVIRONMENT"}
    for s in action()["runs"]["steps"]:
        if "run" in s:
            assert set(re.findall(r"\$\{?([A-Z_]+)", s["run"])) <= {*s.get("env", {}), *known}
            assert all(name in s["run"] for name in s.get("env", {})), s["name"]


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=["action", "workflow"])
def test_actions_of_others_are_pinned_by_version(path: Path):
    uses = re.findall(r"uses: (\S+)", path.read_text())
    assert uses
    assert all(u.startswith("./") or re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", u) for u in uses)


def test_the_workflow_can_only_read_and_gives_the_action_inputs_that_it_has():
    content = yaml.safe_load(WORKFLOW.read_text())
    assert content["permissions"] == {"contents": "read"}
    assert set(content[True]) == {"pull_request", "workflow_dispatch"}  # YAML reads `on` as true
    [given] = [s["with"] for s in content["jobs"]["gate"]["steps"] if s.get("uses", "").startswith("./")]
    assert set(given) <= set(action()["inputs"])
    assert {"samplers", "baseline"} <= set(given)


class Runner:
    """What a runner gives a step: files for its output, and `spa-bench` on the path."""

    def __init__(self, folder: Path, command: str):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        shim = folder / "bin" / "spa-bench"
        shim.write_text(f"#!/bin/bash\n{command}\n")
        shim.chmod(0o755)
        self.output, self.summary = folder / "output", folder / "summary"

    def run(self, name: str, **env: str) -> subprocess.CompletedProcess[str]:
        bash = shutil.which("bash")
        if bash is None:
            pytest.skip("no bash here")
        runner = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "harness"),
            "OMP_NUM_THREADS": "1",
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "RUNNER_TEMP": str(self.folder / "temp with space"),
        }
        wanted = set(step(name).get("env", {}))
        given = {key: value for key, value in {**DEFAULTS, **env}.items() if key in wanted}
        assert set(given) == wanted, wanted - set(given)
        script = step(name)["run"]
        return subprocess.run(
            [bash, "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            env={**runner, **given}, cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip


def test_run_gives_each_sampler_its_options_and_executes_nothing_that_an_input_says(tmp_path: Path):
    runner = Runner(tmp_path / "r", 'printf "<%s>" "$@"; echo')
    done = runner.run(
        "Run",
        SAMPLERS="one, two\n$(touch${IFS}evil)",
        SEEDS="0,1",
        OUT="my runs",
        MODEL="a; touch evil",
        ARGS="--limit 4\n--threads 1 *",
    )
    assert done.returncode == 0, done.stderr
    rest = "<--task=mini-code><--seeds=0,1><--out=my runs><--limit><4><--threads><1><*><--model=a; touch evil>"
    assert done.stdout.splitlines() == [
        f"<run><--sampler=one>{rest}",
        f"<run><--sampler=two>{rest}",
        f"<run><--sampler=$(touch${{IFS}}evil)>{rest}",
    ]
    assert not (runner.folder / "evil").exists()


def test_run_without_a_sampler_is_an_error_and_a_failed_run_fails_the_step(tmp_path: Path):
    assert Runner(tmp_path / "a", "true").run("Run", SAMPLERS=" , ", OUT="o").returncode == 2
    assert Runner(tmp_path / "b", "exit 2").run("Run", SAMPLERS="one two", OUT="o").returncode == 2


@pytest.mark.parametrize(
    ("kl", "verdict", "first"), [(1.0, "green", "**GREEN**"), (0.2, "red", "**RED**"), (None, "error", "**ERROR**")]
)
def test_check_writes_summary_rows_and_verdict(kl: float | None, verdict: str, first: str, tmp_path: Path):
    runner = Runner(tmp_path / "r", f'exec "{sys.executable}" -m spa_bench "$@"')
    [baseline] = save_all([estimated_anew(simulated("s", range(5)))], tmp_path / "base" / "t.json")
    if kl is not None:
        save_all([estimated_anew(simulated("s", [7], code="new", kl=kl))], runner.folder / "my runs" / "t.json")
    done = runner.run("Check", OUT="my runs", BASELINE=str(baseline), TOLERANCE="5%", METRICS="average_kl,pass@1")
    assert done.returncode == 0, done.stderr
    summary = runner.summary.read_text()
    assert summary.startswith(first)
    begin, *said, end = done.stdout.splitlines()
    token = begin.removeprefix("::stop-commands::")
    assert re.fullmatch(r"\w{32}", token)
    assert end == f"::{token}::"  # in between nothing is a command to the runner
    assert "\n".join(said).endswith(summary.rstrip("\n"))
    outputs = dict(line.split("=", 1) for line in runner.output.read_text().splitlines())
    assert outputs["verdict"] == verdict
    assert set(outputs) == {*action()["outputs"], "folder"}
    assert Path(outputs["summary"]).read_text() == summary
    assert (Path(outputs["rows"]).read_text() != "") == (verdict != "error")


def test_a_check_that_cannot_start_is_an_error_and_not_red(tmp_path: Path):
    """Python ends in 1, the exit code of red, where a package that it imports is broken."""
    runner = Runner(tmp_path / "r", 'echo "ModuleNotFoundError: no cyclopts" >&2; exit 1')
    assert runner.run("Check", OUT="runs", BASELINE="b.json").returncode == 0
    assert runner.output.read_text().startswith("verdict=error\n")
    assert "no cyclopts" in runner.summary.read_text()


@pytest.mark.parametrize(
    ("verdict", "fail", "code"),
    [("green", "true", 0), ("red", "true", 1), ("red", "false", 0), ("error", "false", 2), ("", "true", 2)],
)
def test_the_verdict_decides_whether_the_job_fails(verdict: str, fail: str, code: int, tmp_path: Path):
    assert Runner(tmp_path / "r", "true").run("Verdict", VERDICT=verdict, FAIL=fail).returncode == code


def test_install_takes_the_actions_own_revision_unless_told_otherwise(tmp_path: Path):
    runner = Runner(tmp_path / "r", "true")
    for name in ("python", "bwrap"):
        shim = runner.folder / "bin" / name
        shim.write_text('#!/bin/bash\nprintf "<%s>" "$@"; echo\n')
        shim.chmod(0o755)
    own = runner.run("Install", SOURCE="", TORCH_INDEX="https://index").stdout.splitlines()
    assert re.fullmatch(r"<-m><pip><install><--quiet><torch==\S+><--index-url><https://index><--extra-index-url>.*", own[0])
    assert own[1].startswith("<-m><pip><install><--quiet><-c><")
    assert own[1].endswith("/../../..>")
    other = runner.run("Install", SOURCE="spa-bench[evalplus] @ git+https://x", TORCH_INDEX="").stdout.splitlines()
    assert other == ["<-m><pip><install><--quiet><spa-bench[evalplus] @ git+https://x>"]
