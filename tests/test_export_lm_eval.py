"""lm-eval itself on exported samples: it finds them, and its verdicts and its sample log are ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, WRONG, Lines
from export_runs import follow, record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.publish.export import export
from spa_bench.publish.export.lm_eval import request_hash
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import read_samples
from spa_bench.runs.job import load_task
from spa_bench.tasks.base import Task
from spa_bench.tasks.code import CodeTask

OTHERS = ["    import os\n    os._exit(0)", "    1 +", ""]
GENERATIONS = "generations/starcoder2-15b-instruct/evalplus-starcoder2-15b-instruct-v0.1-humaneval.jsonl"
ENDLESS = "    while True: pass"
# lm-eval's own evaluate, without a look at its thousands of tasks, which takes its command most of its time
EVALUATE = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
name = sys.argv[1]
found = simple_evaluate(
    model="dummy", tasks=[name], task_manager=TaskManager(include_path="task", include_defaults=False),
    use_cache="cache/samples", confirm_run_unsafe_code=True, bootstrap_iters=0, gen_kwargs=sys.argv[2] or None,
)
print(json.dumps([found["results"][name], found["samples"][name]]))
"""


@pytest.fixture(scope="module", autouse=True)
def _lm_eval() -> None:
    if find_spec("lm_eval") is None:  # importing it takes seconds
        pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'")


def evaluate(folder: Path, name: str, gen_kwargs: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", EVALUATE, name, gen_kwargs], cwd=folder, env={**os.environ, **offline, **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def graded(tmp_path: Path, three: Path, sandbox: str) -> tuple[RunFolder, Task]:
    """Six answers to each of three problems, of two members: two right, one wrong, three of other kinds; the first failed."""
    task = load_task(load_task_card(str(three), {"seconds": 1.0}))
    records = []
    for p in task.problems:
        texts = [RIGHT[p.id], WRONG, RIGHT[p.id], *OTHERS[:2], ENDLESS if p.id == "three/last" else OTHERS[2]]
        records += [record(p.id, i % 2, i // 2, text) for i, text in enumerate(texts)]
    records[0] = record("three/add", 0, 0, "", failure="no answer")
    run = stored(tmp_path / "runs", task, records, n=6, sandbox=sandbox)
    grade(run, task, Lines(), sandbox=None, workers=2)  # type: ignore[arg-type]
    return run, task


def passed(run: RunFolder, task: Task) -> list[list[int]]:
    """Our verdicts, 0 or 1, by problem, member and draw."""
    grades = run.grades()
    keys = [sorted(k for k in grades if k.problem == p.id) for p in task.problems]
    return [[int(grades[k].verdict == "passed") for k in mine] for mine in keys if mine]


def test_the_hash_of_a_request_is_lm_eval_s():
    arguments: dict[str, Any] = {"until": ["\ndef ", "é\u2028"], "max_gen_toks": 12, "do_sample": False}
    script = (
        "import json, sys; from lm_eval.api.model import hash_args; "
        "print(hash_args('generate_until', tuple(json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", script, json.dumps(["a prompt\nwith é", arguments])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == request_hash("a prompt\nwith é", arguments)
    assert request_hash("a prompt", arguments) != request_hash("a prompt", {**arguments, "max_gen_toks": 13})


@pytest.mark.slow
def test_lm_eval_says_of_each_sample_what_we_say(three: Path, bwrap: str, tmp_path: Path):
    run, task = graded(tmp_path, three, bwrap)
    export(run, task, to="lm-eval", out=tmp_path / "out")
    done = evaluate(tmp_path / "out", "spa_bench_three", HF_ALLOW_CODE_EVAL="1")
    assert done.returncode == 0, done.stderr[-2000:]
    results, samples = json.loads(done.stdout.splitlines()[-1])
    assert [row["passed"] for row in samples] == passed(run, task)
    assert sorted(map(sum, passed(run, task))) == [1, 2, 2]
    assert results["pass@1,none"] == pytest.approx(5 / 18)
    assert results["passed,none"] == pytest.approx(5 / 18)
    assert results["any,none"] == 1.0


@pytest.mark.slow
def test_lm_eval_stops_where_running_is_not_allowed_and_where_the_cache_is_not_found(three: Path, tmp_path: Path):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record(p.id, 0, 0, RIGHT[p.id]) for p in task.problems], n=1)
    export(run, task, to="lm-eval", out=tmp_path / "out")
    refused = evaluate(tmp_path / "out", "spa_bench_three")
    assert refused.returncode != 0
    assert "without a sandbox; set HF_ALLOW_CODE_EVAL=1 to allow it" in refused.stderr
    missed = evaluate(tmp_path / "out", "spa_bench_three", "max_gen_toks=13", HF_ALLOW_CODE_EVAL="1")
    assert missed.returncode != 0
    assert "three/add: the answer is not from the cache" in missed.stderr


@pytest.mark.slow
def test_the_command_of_the_readme_writes_the_log_that_we_wrote(three: Path, bwrap: str, tmp_path: Path):
    run, task = graded(tmp_path, three, bwrap)
    out = tmp_path / "out"
    export(run, task, to="lm-eval", out=out)
    printed = follow(out / "README.md", {"HOME": str(tmp_path)})
    [theirs], [ours] = out.glob("results/*/samples_*.jsonl"), out.glob("logged/*/samples_*.jsonl")
    assert [list(json.loads(line).items()) for line in theirs.read_text().splitlines()] == [
        list(json.loads(line).items()) for line in ours.read_text().splitlines()
    ]
    assert "Cached requests: 3, Requests remaining: 0" in printed
    assert re.search(r"pass@1\|↑ +\|0\.2778\|", printed)
    export(run, task, to="lm-eval", out=out)  # over what lm-eval left there
    assert theirs.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("humaneval", None), ("humaneval-plus", 20), ("mbpp-plus", 20)])
def test_lm_eval_agrees_with_us_on_real_data(
    name: str, limit: int | None, data: Path, bwrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Canonical solutions, programs that do nothing and, for HumanEval, a model's answers."""
    pytest.importorskip("evalplus")
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    task = load_task(load_task_card(name))
    assert isinstance(task, CodeTask)
    records = [record(p.id, 0, d, text) for p in task.problems[:limit] for d, text in enumerate([p.reference, "    pass"])]
    if name != "mbpp-plus":
        samples = read_samples(data / GENERATIONS, task, cut=False)
        records += [record(r.problem, 1, 0, r.graded, whole=r.whole) for r in samples[:limit]]
    run = stored(tmp_path / "runs", task, records, limit=limit, sandbox=bwrap)
    grade(run, task, Lines(), sandbox=None, workers=2)  # type: ignore[arg-type]
    export(run, task, to="lm-eval", out=tmp_path / "out")
    override = {"HUMANEVAL_OVERRIDE_PATH": str(data / "humanevalplus" / "HumanEvalPlus.jsonl.gz")}
    override |= {"MBPP_OVERRIDE_PATH": str(data / "mbppplus" / "MbppPlus.jsonl.gz")}
    environment = {"HF_ALLOW_CODE_EVAL": "1", "XDG_CACHE_HOME": str(tmp_path / "xdg"), **override}
    done = evaluate(tmp_path / "out", f"spa_bench_{name}", **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    _, samples = json.loads(done.stdout.splitlines()[-1])
    ours = passed(run, task)
    assert {row["doc"]["task_id"]: row["passed"] for row in samples} == {
        p.id: mine for p, mine in zip(task.problems, ours, strict=False)
    }
    assert [sum(column) for column in zip(*ours, strict=True)][:2] == [len(ours), 0]
