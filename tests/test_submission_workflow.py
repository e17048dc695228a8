"""The workflows for results of strangers: what reads their files cannot write, what writes takes text alone; each step runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from doubles import Call
from made_up import made_up
from spa_bench.compare.leaderboard import find_results, marked, save, save_all
from spa_bench.compare.leaderboard.results import _framed

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
FLOWS = {name: ROOT / ".github" / "workflows" / f"{name}.yml" for name in ("submit", "submit-comment")}
CHECK, COMMENT = ROOT / "scripts" / "submission-check", ROOT / "scripts" / "submission-comment"
RESULT = "mini-code--spa-random--7f4c5882"
HOSTILE = "@all <img src=x> [l](https://x.test) | `rm` ![p](https://x.test/p.png) #1\n::set-output name=x::y"


def flow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FLOWS[name].read_text())
    return content


def steps(name: str) -> list[dict[str, Any]]:
    [job] = flow(name)["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def step(flow_name: str, name: str) -> dict[str, Any]:
    return next(s for s in steps(flow_name) if s.get("name") == name)


# rights ----------------------------------------------------------------------------------------------------------------


def test_what_reads_the_files_of_strangers_can_write_nothing():
    content = flow("submit")
    assert set(content[True]) == {"pull_request"}  # YAML reads `on` as true; pull_request_target would have a token that writes
    assert content["permissions"] == {"contents": "read"}
    assert "secrets." not in FLOWS["submit"].read_text()
    checkouts = [s["with"] for s in steps("submit") if s.get("uses", "").startswith("actions/checkout@")]
    assert all(with_["persist-credentials"] is False for with_ in checkouts)
    judge, entry = checkouts
    assert judge["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert "ref" not in entry  # the merge commit, of which git alone is read
    for script in (s["run"] for s in steps("submit") if "run" in s):
        assert not re.search(r"entry/", script), "nothing of the pull request is run or installed"


def test_what_writes_the_comment_runs_the_default_branch_and_takes_an_artifact():
    content = flow("submit-comment")
    assert content[True] == {"workflow_run": {"workflows": [flow("submit")["name"]], "types": ["completed"]}}
    assert content["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    [checkout] = [s["with"] for s in steps("submit-comment") if s.get("uses", "").startswith("actions/checkout@")]
    assert checkout == {"persist-credentials": False, "ref": "${{ github.event.repository.default_branch }}"}
    assert " pip " not in FLOWS["submit-comment"].read_text()
    assert "head_branch" not in FLOWS["submit-comment"].read_text()  # a stranger names it


@pytest.mark.parametrize("name", FLOWS)
def test_no_expression_is_pasted_into_a_script_and_actions_are_pinned(name: str):
    scripts = [s["run"] for s in steps(name) if "run" in s]
    assert scripts
    assert not [script for script in scripts if "${{" in script]
    uses = [s["uses"] for s in steps(name) if "uses" in s]
    assert uses
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", use) for use in uses)
    known = {"GITHUB_OUTPUT", "RUNNER_TEMP", "RUNNER_ENVIRONMENT"}
    for s in (s for s in steps(name) if "run" in s):
        assert set(re.findall(r"\$\{?([A-Z_]+)", s["run"])) <= {*s.get("env", {}), *known}


# the check -------------------------------------------------------------------------------------------------------------


class PullRequest:
    """A clone in which HEAD is the merge of a pull request, and a judge beside it, as submit.yml checks them out."""

    def __init__(self, folder: Path):
        if shutil.which("git") is None or shutil.which("bash") is None:
            pytest.skip("git or bash is missing")
        self.folder, self.entry = folder, folder / "entry"
        (self.entry / "leaderboards" / "results").mkdir(parents=True)
        self._git("init", "-q")
        self._git("commit", "-q", "--allow-empty", "-m", "base")
        judge = folder / "judge"
        (judge / "scripts").mkdir(parents=True)
        (judge / "leaderboards" / "results").mkdir(parents=True)
        shutil.copy(CHECK, judge / "scripts")
        self.board = judge / "leaderboards" / "results"
        shim = folder / "bin" / "spa-bench"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/bash\nexec "{sys.executable}" -m spa_bench "$@"\n')
        shim.chmod(0o755)
        (shim.parent / "python").symlink_to(sys.executable)

    def _git(self, *words: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x.test", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(self.entry), *who, *words], check=True, capture_output=True)

    def add(self, *files: Path, name: str = "") -> None:
        for file in files:
            shutil.copy(file, self.entry / "leaderboards" / "results" / (name or file.name), follow_symlinks=False)

    def check(self, *, ours: bool = False) -> tuple[int, dict[str, Any], str]:
        """(the code, what was found, the log) of the step Check."""
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", "entry")
        wanted = step("submit", "Check")
        env = {"NUMBER": "7", "OURS": str(ours).lower()}
        assert set(wanted["env"]) == set(env)
        runner = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "harness"), "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder), "GITHUB_OUTPUT": str(self.folder / "output"),
            "RUNNER_TEMP": str(self.folder / "temp dir"),
            "SPA_BENCH_CACHE": os.environ.get("SPA_BENCH_CACHE", str(self.folder / "cache")),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", wanted["run"]],
            env={**runner, **env}, cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        [line] = (self.folder / "output").read_text().splitlines()
        (self.folder / "output").unlink()
        left = self.folder / "temp dir" / "submission"
        assert (left / "number").read_text() == "7\n"
        return int(line.removeprefix("code=")), json.loads((left / "found.json").read_text()), done.stdout


@pytest.fixture
def pull(tmp_path: Path) -> PullRequest:
    return PullRequest(tmp_path / "pull")


@pytest.fixture
def sent(tmp_path: Path, call: Call) -> list[Path]:
    """The golden result with its samples, as a sender saves them."""
    done = call(
        "leaderboard", GOLDEN / "runs", "--save", tmp_path / "sent", "--samples", "--measured-by", HOSTILE.split("\n")[0]
    )
    assert done.code == 0, done.err
    return sorted((tmp_path / "sent").iterdir())


def test_an_honest_result_passes_with_its_row(bwrap: str, pull: PullRequest, sent: list[Path]):
    pull.add(*sent)
    code, found, log = pull.check()
    assert (code, found["faults"], found["errors"]) == (0, [], [])
    [entry] = found["files"].values()
    assert "graded again" in entry["notes"][1]
    assert entry["rows"][0]["metrics"]["pass@1"]["value"] == 0.75
    begin, *_, end = log.splitlines()
    assert end == f"::{begin.removeprefix('::stop-commands::')}::"  # in between nothing is a command to the runner
    page = commented(pull.folder / "temp dir" / "submission" / "found.json")
    assert "**Results: no fault was found** (1 files" in page
    assert "| `spa-random` | `mini-code 1, 6 of 120 problems, the first ones` | `embedded` |" in page
    assert "0.750 <sub>[0.142, 1.000]</sub>" in page


def test_a_file_without_samples_passes_from_the_repository_itself_alone(pull: PullRequest, sent: list[Path]):
    pull.add(*[path for path in sent if path.suffix == ".json"])
    code, found, _ = pull.check()
    assert code == 1
    assert any("its samples are missing" in fault for fault in found["faults"])
    assert str(pull.folder) not in json.dumps(found)
    assert pull.check(ours=True)[0] == 0


def test_a_forged_number_is_found(bwrap: str, pull: PullRequest, sent: list[Path]):
    [path] = [path for path in sent if path.suffix == ".json"]
    [result] = find_results([path])
    result["metrics"]["self_bleu"] |= {"value": 0.011, "low": 0.01, "high": 0.012}
    path.write_bytes(_framed(result))
    pull.add(*sent)
    code, found, _ = pull.check()
    assert code == 1
    assert any("self_bleu is 0.011, and the samples give" in fault for fault in found["faults"])


def test_links_odd_names_and_folders_are_faults_and_never_read(pull: PullRequest, sent: list[Path], tmp_path: Path):
    [path] = [path for path in sent if path.suffix == ".json"]
    link = tmp_path / "linked.json"
    link.symlink_to("/etc/passwd")
    pull.add(link)
    pull.add(path, name="$(touch evil).json")
    (pull.entry / "leaderboards" / "results" / "deep").mkdir()
    pull.add(path, name="deep/x.json")
    pull.add(next(p for p in sent if p.suffix != ".json"), name="alone.samples.tar.gz")
    code, found, _ = pull.check()
    assert code == 1
    said = "\n".join(found["faults"])
    assert "leaderboards/results/linked.json is no plain file" in said
    assert "leaderboards/results/$(touch evil).json is no name of a result file" in said
    assert "leaderboards/results/deep/x.json is no name of a result file" in said
    assert "leaderboards/results/alone.json is not there, though its samples are" in said
    assert found["files"] == {}
    assert not list(pull.folder.rglob("evil"))


@pytest.mark.slow
def test_a_result_that_is_there_with_other_numbers_makes_no_leaderboard(pull: PullRequest, tmp_path: Path):
    [one] = marked([made_up("wide", quality=0.6, spread=0.9)], "us")
    save_all([one], pull.board / "t.json")
    one["runs"][0]["records"] = "9f" * 16
    pull.add(save(one, tmp_path))
    code, found, _ = pull.check(ours=True)
    assert code == 1
    [fault] = found["faults"]
    assert fault.startswith("with the results that are there it makes no leaderboard: spa-bench: ")
    assert "hold the same wide with other numbers" in fault


@pytest.mark.parametrize(("code", "wanted"), [("0", 0), ("1", 1), ("2", 2), ("", 2)])
def test_the_verdict_is_that_of_the_check(code: str, wanted: int):
    done = subprocess.run(["bash", "-c", step("submit", "Verdict")["run"]], env={"CODE": code}, capture_output=True)
    assert done.returncode == wanted


# the comment -----------------------------------------------------------------------------------------------------------


def commented(found: Path) -> str:
    done = subprocess.run([sys.executable, str(COMMENT), str(found), "https://run.test/1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def outside_of_code(page: str) -> str:
    """A page without what stands in code spans."""
    return re.sub(r"`[^`\n]*`", "", page)


def test_texts_of_strangers_stay_texts(tmp_path: Path):
    row = {
        "label": HOSTILE, "title": HOSTILE, "model": HOSTILE, "measured_by": HOSTILE, "n": HOSTILE, "seeds": [1, 2],
        "metrics": {HOSTILE: {"value": 0.5, "low": HOSTILE, "high": 1}, "pass@1": {"value": HOSTILE}},
    }  # fmt: skip
    content = {"faults": [HOSTILE] * 30, "errors": [HOSTILE], "files": {HOSTILE: {"rows": [row], "notes": [HOSTILE]}}}
    (tmp_path / "found.json").write_text(json.dumps(content))
    page = commented(tmp_path / "found.json")
    bare = outside_of_code(page)
    for text in ("@all", "<img", "x.test)", "rm", "![", "#1", "::set-output"):
        assert text not in bare, text
    [head, _, line] = [x for x in page.splitlines() if x.startswith("| ")]
    assert head.count("|") == line.count("|") == 9
    assert "| 0.500 |" in line
    assert "- and 10 more" in page
    assert page.startswith(
        "<!-- spa-bench submit -->\n**Results: it could not all be checked** (1 files, [the run](https://run.test/1))."
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"faults": 1, "files": [2], "errors": {}}',
        '{"files": {"a": 1, "b": {"rows": [1, {"metrics": 2}]}}}',
    ],
)
def test_whatever_the_artifact_holds_there_is_a_comment(content: str, tmp_path: Path):
    (tmp_path / "found.json").write_text(content)
    assert commented(tmp_path / "found.json").startswith("<!-- spa-bench submit -->")


GH = """#!/bin/bash
printf '%s\\n' "$*" >>"$LOG"
case "$*" in
  *pulls/*) echo "$ACTUAL" ;;
  *--paginate*) echo "$KNOWN" ;;
esac
"""


@pytest.mark.parametrize(
    ("number", "actual", "known", "code", "written"),
    [
        ("7", "abc", "", 0, "--method POST repos/o/r/issues/7/comments"),
        ("7", "abc", "55", 0, "--method PATCH repos/o/r/issues/comments/55"),
        ("7", "def", "", 0, ""),  # the number of somebody else's pull request
        ("7/../8", "abc", "", 1, ""),
        ("$(touch evil)", "abc", "", 1, ""),
        ("", "abc", "", 1, ""),
    ],
)
def test_a_comment_goes_only_to_the_pull_request_that_the_run_was_of(
    number: str, actual: str, known: str, code: int, written: str, tmp_path: Path
):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "number").write_text(f"{number}\n")
    (tmp_path / "submission" / "found.json").write_text('{"faults": [], "errors": [], "files": {}}')
    env = {"GH_TOKEN": "t", "REPOSITORY": "o/r", "HEAD_SHA": "abc", "RUN_URL": "https://run.test/1"}
    wanted = step("submit-comment", "Comment")
    assert set(wanted["env"]) == set(env)
    own = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path), "LOG": str(tmp_path / "log")}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", wanted["run"]],
        env={**env, **own, "ACTUAL": actual, "KNOWN": known}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    calls = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert ("--method" in calls) == bool(written)
    assert written in calls
    assert not (ROOT / "evil").exists()
