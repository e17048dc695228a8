"""The grader that is copied beside an exported lm-eval task: what passes, what does not, and when it refuses to run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from spa_bench.publish.export import grader

PROMPT = 'def twice(x):\n    """Twice x."""\n'
RIGHT = "    return 2 * x\n"
TESTS = "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(-1) == -2\n"


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


def doc(count: int = 1, **changes: Any) -> dict[str, Any]:
    row = {
        "task_id": "t/0", "prompt": PROMPT, "entry_point": "twice", "tests": TESTS, "reference": PROMPT + RIGHT,
        "seconds": 1.0, "memory_mb": 512, "evalplus": "", "suites": [], "members": list(range(count)), "draws": [0] * count,
        "whole": [False] * count,
    }  # fmt: skip
    return {**row, **changes}


def test_each_answer_has_its_own_verdict_and_the_problem_its_shares():
    found = grader.score(doc(4), [[RIGHT, "    return x\n", RIGHT, ""]])
    assert found == {"pass@1": 0.5, "any": 1.0, "passed": [1, 0, 1, 0]}
    assert grader.score(doc(1), [["    return x\n"]]) == {"pass@1": 0.0, "any": 0.0, "passed": [0]}


@pytest.mark.parametrize(
    "answer",
    [
        "    import os\n    os._exit(0)\n",
        "    raise SystemExit\n",
        "    return (\n",
        "    return y\n",
        "    print('passed')\n    return 0\n",
        "    import sys\n    sys.stdout.flush()\n    sys.__stdout__.write('1' * 32)\n    return 0\n",
        "    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n",
        "    return [0] * 10**9\n",
        " \n",
    ],
)
def test_an_answer_that_does_not_do_its_tests_does_not_pass(answer: str):
    assert grader.score(doc(), [[answer]])["passed"] == [0]


@pytest.mark.parametrize("answer", ["    while True: pass\n", "    import time\n    time.sleep(1e6)\n"])
def test_an_answer_that_never_ends_is_ended(answer: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grader, "_PATIENCE", 0.5)
    began = time.monotonic()
    assert not grader.passes(doc(seconds=0.5), PROMPT + answer)
    assert time.monotonic() - began < 30


def test_time_and_memory_are_limited_by_the_row():
    slow = PROMPT + "    import time\n    while time.process_time() < 1.5: pass\n    return 2 * x\n"
    large = PROMPT + "    bytearray(300 << 20)\n    return 2 * x\n"
    assert grader.passes(doc(seconds=10.0), slow)
    assert not grader.passes(doc(seconds=1.0), slow)
    assert grader.passes(doc(memory_mb=1024), large)
    assert not grader.passes(doc(memory_mb=256), large)


def test_what_an_answer_started_is_ended_with_it(tmp_path: Path):
    flag = tmp_path / "late"
    late = f"import time; time.sleep(1); open({str(flag)!r}, 'w')"
    start = f"    import subprocess, sys\n    subprocess.Popen([sys.executable, '-c', {late!r}])\n"
    assert grader.passes(doc(memory_mb=2048), PROMPT + start + RIGHT)
    time.sleep(2)
    assert not flag.exists()


def test_a_whole_program_is_run_without_the_prompt():
    answers = ["twice = lambda x: 2 * x\n", "twice = lambda x: 2 * x\n"]
    assert grader.score(doc(2, whole=[True, False]), [answers])["passed"] == [1, 1]
    assert grader.score(doc(2, whole=[True, False]), [[RIGHT.lstrip(), RIGHT]])["passed"] == [0, 1]


def test_tests_may_use_names_of_the_reference():
    tests = "def check(candidate):\n    assert candidate(3) == helper(3)\n"
    reference = "def helper(x):\n    return 2 * x\n" + PROMPT + RIGHT
    assert grader.passes(doc(tests=tests, reference=reference), "twice = lambda x: 2 * x")
    assert not grader.passes(doc(tests=tests, reference="not a program"), "twice = lambda x: 2 * x")


def test_an_answer_that_is_not_from_the_cache_is_an_error():
    for results in (["lol"], [["one", "answer too many"]]):
        with pytest.raises(RuntimeError, match=r"t/0: the answer is not from the cache; call lm_eval as README\.md says"):
            grader.score(doc(), results)


@pytest.mark.parametrize("value", [None, "", "0", "true"])
def test_nothing_runs_until_it_is_allowed(value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL")
    if value is not None:
        monkeypatch.setenv("HF_ALLOW_CODE_EVAL", value)
    flag = tmp_path / "executed"
    with pytest.raises(RuntimeError, match="without a sandbox; set HF_ALLOW_CODE_EVAL=1 to allow it"):
        grader.score(doc(), [[f"    open({str(flag)!r}, 'w')\n"]])
    assert not flag.exists()


def test_the_share_is_over_samples_and_not_over_problems():
    assert grader.share([[1, 1, 0], [0]]) == 0.5


def test_it_needs_nothing_of_spa_bench(tmp_path: Path):
    (tmp_path / "grader.py").write_bytes(Path(grader.__file__).read_bytes())
    script = "import grader, sys; print(sorted(m for m in sys.modules if m.startswith('spa_bench')))"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# tests that are evalplus' --------------------------------------------------------------------------------------------


@pytest.fixture
def evalplus_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("evalplus")
    problem = {
        "task_id": "t/0", "prompt": PROMPT, "entry_point": "twice", "canonical_solution": RIGHT, "atol": 0,
        "base_input": [[1]], "plus_input": [[2], [5]],
    }  # fmt: skip
    module = importlib.import_module("evalplus.data")
    monkeypatch.setattr(module, "get_human_eval_plus", lambda: {"t/0": problem})
    monkeypatch.setattr(grader, "_EVALPLUS", {})


@pytest.mark.usefixtures("evalplus_problem")
def test_evalplus_decides_where_the_tests_are_its_own():
    answers = [RIGHT, "    return 2 * x if x < 5 else 0", "    return 0", ""]
    both = doc(4, evalplus="humaneval", suites=["base", "plus"])
    assert grader.score(both, [answers])["passed"] == [1, 0, 0, 0]
    assert grader.score({**both, "suites": ["base"]}, [answers])["passed"] == [1, 1, 0, 0]


@pytest.mark.usefixtures("evalplus_problem")
@pytest.mark.parametrize("changes", [{"prompt": "another"}, {"task_id": "t/1"}])
def test_other_data_of_evalplus_than_was_sampled_is_an_error(changes: dict[str, str]):
    row = doc(evalplus="humaneval", suites=["base"], **changes)
    with pytest.raises(RuntimeError, match="evalplus' data here has not the problem"):
        grader.score(row, [[RIGHT]])
