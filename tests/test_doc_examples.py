"""The examples of docs/how-to/add-a-*.md: a sampler, tasks and a metric from outside, on the import path and installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX, Call, mock_run
from installed import install_project
from spa_bench.cards.source import source_hash
from spa_bench.cards.task import load_task_card
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import task_of
from spa_bench.runs.verify import verify

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PACKAGE = EXAMPLES / "package"
PAGES = {name: (DOCS / "how-to" / f"add-a-{name}.md").read_text() for name in ("sampler", "task", "metric")}


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples on the import path; their modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in {path.stem for path in EXAMPLES.glob("*.py")}:
            del sys.modules[name]


# the pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "file"),
    [
        ("task", "examples/two-lists.toml"),
        ("task", "examples/powers.py"),
        ("task", "examples/questions.py"),
        ("task", "examples/questions.toml"),
        ("task", "examples/days.toml"),
        ("task", "examples/lm_eval/days.yaml"),
        ("metric", "examples/longest_line.py"),
        ("sampler", "../baselines/min-p.toml"),
    ],
)
def test_a_page_shows_its_example_whole(page: str, file: str):
    language = {".py": "python", ".toml": "toml", ".yaml": "yaml"}[Path(file).suffix]
    assert f"```{language}\n{(DOCS / file).read_text()}```" in PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_the_entry_points_of_the_package(page: str):
    [_, *parts] = (PACKAGE / "pyproject.toml").read_text().split(f'[project.entry-points."spa_bench.{page}s"]\n')
    table = parts[0].split("\n\n")[0].rstrip()
    assert f'```toml\n[project.entry-points."spa_bench.{page}s"]\n{table}\n```' in PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str):
    for part in PAGES[page].split("](")[1:]:
        target = part.split(")")[0].split("#")[0]
        assert (DOCS / "how-to" / target).exists(), target


# on the import path --------------------------------------------------------------------------------------------------


def test_a_sampler_a_task_and_a_metric_on_the_import_path_run_and_are_verified(
    on_path: None, call: Call, tiny_folder: Path, tmp_path: Path
):
    sampler, task, metric = EXAMPLES / "warm-up.toml", EXAMPLES / "questions.toml", "longest_line:METRIC"
    common = ["--model", tiny_folder, "--device", "cpu", "--threads", 1, "--sandbox", SANDBOX, "--out", tmp_path / "runs"]
    done = call("run", "--sampler", sampler, "--task", task, "--metric", metric, "--n", 2, "--limit", 2, "--json", *common)
    assert done.code == 0, done.err
    [row] = json.loads(done.out)
    assert row["metrics"]["longest_line"]["problems"] == 2
    [folder] = (tmp_path / "runs").iterdir()
    spec = json.loads((folder / "spec.json").read_text())
    found = {key: spec["code"].get(key) for key in ("sampler", "task", "packages")}
    assert found == {"sampler": source_hash("warm_up:KIND"), "task": source_hash("questions:KIND"), "packages": None}
    assert (spec["task"]["kind"], spec["task"]["options"]) == ("questions:KIND", {"case": False})
    assert call("verify", folder).out == f"{folder}: whole\n"
    again = call("rerun", folder, "--sandbox", SANDBOX)
    assert (again.code, again.out.splitlines()[0]) == (0, "spec: the same"), again.err


def test_the_questions_are_judged_by_the_words(on_path: None, tmp_path: Path):
    said = {"questions/capital": " PARIS.\nQuestion", "questions/legs": " eight", "questions/first": " a"}
    folder = mock_run(tmp_path / "runs", EXAMPLES / "questions.toml", lambda r: said[r.problem_id], n=1)
    passed = {g.problem: g.verdict == "passed" for g in folder.grades().values()}
    assert passed == {"questions/capital": True, "questions/legs": False, "questions/first": True}
    assert verify(folder, task_of(folder)) == []
    strict = load_task(load_task_card(str(EXAMPLES / "questions.toml"), {"options.case": True}))
    assert [str(g.verdict) for g in strict.score(list(folder.records().values()), None)] == ["wrong"] * 3  # type: ignore[arg-type]


def test_the_powers_pass_with_their_own_solutions(on_path: None, sandbox: Any, tmp_path: Path):
    solutions = {p.id: p.reference for p in load_task(load_task_card(str(EXAMPLES / "powers.toml"))).problems}
    answers = {0: "    return x * x\n", 1: None}
    folder = mock_run(tmp_path / "runs", EXAMPLES / "powers.toml", lambda r: answers[r.draw] or solutions[r.problem_id])
    right = {(g.problem, g.draw) for g in folder.grades().values() if g.verdict == "passed"}
    assert right == {("powers/2", 0), ("powers/2", 1), ("powers/3", 1), ("powers/4", 1)}


# installed -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import contextlib, glob, io, json, sys
from spa_bench.cli.main import main
found = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([found for word in command for found in (sorted(glob.glob(word)) if "*" in word else [word])])
        except SystemExit as end:
            code = end.code
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with the package's metadata as an installer leaves it, and `runs` that a process with the package made."""
    place = tmp_path_factory.mktemp("installed")
    install_project(place / "site", PACKAGE)
    return place


def commands(place: Path, *lines: Sequence[object]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, all in one fresh process in which the package is installed."""
    path = os.pathsep.join([str(ROOT / "harness"), str(place / "site"), str(PACKAGE)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "SPA_BENCH_CACHE": str(place / "cache")}
    texts = json.dumps([[str(word) for word in line] for line in lines])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, texts], capture_output=True, text=True, cwd=place, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [tuple(found) for found in json.loads(done.stdout)]


def test_what_is_installed_is_listed_with_its_package(installed: Path):
    names = {"samplers": ["calm", "two-heats"], "tasks": ["more-lists", "riddles", "sums"], "metrics": ["longest_word"]}
    for (what, wanted), (code, out, err) in zip(names.items(), commands(installed, *(["list", w] for w in names)), strict=True):
        assert (code, err) == (0, ""), what
        lines = [line for line in out.splitlines() if line.endswith("  spa-examples 1.0")]
        assert [line.split()[0] for line in lines] == wanted
        assert "cannot be used" not in out
        assert out.splitlines()[0].rstrip().endswith("from")
        assert PAGES[what[:-1]].count(wanted[0])


@pytest.mark.slow
def test_what_is_installed_runs_by_its_plain_names_and_says_so_in_the_spec(installed: Path, call: Call, tiny_folder: Path):
    common = ["--model", tiny_folder, "--device", "cpu", "--threads", 1, "--sandbox", SANDBOX, "--n", 2, "--json"]
    out, listed = installed / "runs", []
    for sampler, task, more in (
        ("two-heats", "sums", ["--metric", "longest_word", "--set", "options.hot=2", "--set", "task.options.problems=3"]),
        ("calm", "more-lists", []),
        ("base", "riddles", ["--set", "task.max_new_tokens=8"]),
    ):
        listed.append(["run", "--sampler", sampler, "--task", task, "--out", out / task, *common, *more])
    samples = installed / "own.jsonl"
    samples.write_text(
        "".join(json.dumps({"task_id": f"riddles/{i}", "completion": f" a {i}"}) + "\n" for i in ("clock", "towel"))
    )
    listed.append(["score", "--task", "riddles", "--samples", samples, "--sandbox", SANDBOX, "--out", out / "own", "--json"])
    listed.append(["verify", out / "*" / "*"])
    listed.append(["rerun", out / "sums" / "*", "--sandbox", SANDBOX, "--out", installed / "reruns"])
    runs = commands(installed, *listed)
    assert [code for code, *_ in runs] == [0] * 6, [err for *_, err in runs]
    [row] = json.loads(runs[0][1])
    assert row["metrics"]["longest_word"]["problems"] == 3
    assert json.loads(runs[3][1])[0]["metrics"]["pass@1"]["value"] == 1.0
    [sums], [lists], [riddles], [own] = ([*(out / t).iterdir()] for t in ("sums", "more-lists", "riddles", "own"))
    specs = [json.loads((folder / "spec.json").read_text()) for folder in (sums, lists, riddles, own)]
    package = "spa-examples 1.0"
    assert [s["code"].get("packages") for s in specs] == [
        {"sampler": package, "task": package, "metric longest_word": package},
        None,  # cards alone: the spec has all that they say
        {"task": package},
        {"task": package},
    ]
    assert [len(specs[0]["code"][key]) for key in ("sampler", "task")] == [16, 16]
    assert specs[0]["sampler"]["options"] == {"hot": 2.0}
    assert (specs[0]["task"]["options"]["problems"], specs[0]["task"]["problems_n"]) == (3, 3)
    assert specs[1]["sampler"]["decoding"]["temperature"] == 0.3
    assert runs[4][1].splitlines() == [f"{folder}: whole" for folder in (lists, own, riddles, sums)]
    assert runs[5][1].startswith("spec: the same")
    # without the package
    gone = f"{sums} was made with the {{}} of {package}, which is not installed; install it"
    assert call("verify", sums).error() == gone.format("task 'sums'")
    assert call("rerun", sums).error() == gone.format("sampler 'two-heats'")
    assert call("verify", lists).code == 0


def test_yaml_of_ones_own_is_a_task_by_a_card_or_by_its_name_alone(
    call: Call, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'spa-bench[lm-eval]'")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    options = ["--sampler", "base", "--model", tiny_folder, "--threads", 1, "--device", "cpu", "--n", 1]
    by_card = ["--task", EXAMPLES / "days.toml", "--out", tmp_path / "card"]
    by_name = [
        "--task",
        "lm-eval:example_days",
        "--set",
        f"task.options.include={EXAMPLES / 'lm_eval'}",
        "--out",
        tmp_path / "name",
    ]
    rows = []
    for task in (by_card, by_name):
        done = call("run", *options, "--set", "decoding.temperature=0", *task, "--json")
        assert done.code == 0, done.err
        rows.append(json.loads(done.out)[0]["metrics"])
    assert rows[0]["own[example_days,acc,none]"]["value"] == rows[0]["pass@1"]["value"] == rows[1]["pass@1"]["value"]
    [path] = (tmp_path / "card").iterdir()
    assert call("verify", path).out == f"{path}: whole\n"
    assert str(EXAMPLES) not in (path / "spec.json").read_text()
    assert call("rerun", path).code == 0
