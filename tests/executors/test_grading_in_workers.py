"""Programs graded in workers: the outcomes of one process, also when a worker is killed, and what of a machine is refused."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from doubles import Call, Done
from processes import called, children
from spa_bench.cards.task import load_task_card
from spa_bench.errors import SandboxError
from spa_bench.executors.local import LocalTransport, WorkerPlace
from spa_bench.executors.options import ExecutorOptions
from spa_bench.executors.pool import Pool
from spa_bench.grading import Calls, Check, Grader, Program
from spa_bench.runs import judging
from spa_bench.runs.job import load_task
from spa_bench.runs.judging import Bench, Graders, own_graders, program_shards, spread_judge
from spa_bench.sandbox import choose
from spa_bench.tasks.base import Judge, Task
from spa_bench.types import CallSuite, Verdict

Workers = Callable[..., Graders]
ADD = "def f(x):\n    return x + 1\n"
SUITE = CallSuite(name="base", inputs=lambda: [[1], [3]])
CHECK = Check("def check(candidate):\n    assert candidate(1) == 2\n", ADD)
KINDS = (
    "def f(x):\n    return 'wrong {}'\n",
    "def f(x):\n    return x + 1  # {}\n",
    "import os\ndef f(x):\n    os._exit({})\n",
    "import os, signal\ndef f(x):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return {}\n",  # workers ignore this signal
)
BYTES = ("grades.jsonl", "behaviours.jsonl", "metrics.json")


def programs(count: int = 16) -> list[Program]:
    """Programs with tests that are data and with tests that are code, of eight problems."""
    return [
        Program(
            source=KINDS[i % 4].format(i),
            entry_point="f",
            tests=Calls((SUITE,), ADD) if i % 8 < 4 else CHECK,
            problem=f"set/{i % 8}",
            seconds=1.0,
        )
        for i in range(count)
    ]


@pytest.fixture
def task(three: Path) -> Task:
    return load_task(load_task_card(str(three)))


@pytest.fixture
def workers() -> Iterator[Workers]:
    pools = []

    def started(count: int = 2, programs: int = 1, **environment: str) -> Graders:
        pools.append(Pool(LocalTransport([WorkerPlace("cpu", environment)] * count), Bench))
        return Graders(pools[-1], programs)

    yield started
    for pool in pools:
        pool.close()


def found(judge: Judge, todo: Sequence[Program]) -> tuple[list[object], list[object]]:
    """Outcomes and behaviours in the order of `todo`, each of which is there once."""
    both = []
    for pairs in (list(judge.run(todo)), list(judge.behaviours(todo))):
        assert sorted(place for place, _ in pairs) == list(range(len(todo)))
        both.append([one for _, one in sorted(pairs, key=lambda pair: cast(int, pair[0]))])
    return both[0], both[1]


def test_outcomes_and_behaviours_are_those_of_one_process(
    workers: Workers, task: Task, bwrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judging, "_PROGRAMS", (3, 3))  # so that shards cut problems
    alone = Grader(sandbox=choose(bwrap), cache=tmp_path, workers=1, limits=task.limits, packages=task.packages)
    wanted = found(alone, programs())
    with spread_judge(task, bwrap, "default", workers()) as judge:
        assert found(judge, programs()) == wanted
    verdicts = [cast(judging.Outcome, one).verdict for one in wanted[0][:4]]
    assert verdicts == [Verdict.WRONG, Verdict.PASSED, Verdict.CRASHED, Verdict.CRASHED]
    assert {cast(judging.Behaved, one).probes for one in wanted[1]} == {1, 2}


@pytest.mark.slow
def test_references_that_fail_are_named_once_before_programs_are_graded(
    workers: Workers, task: Task, bwrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judging, "_PROGRAMS", (2, 2))
    bad = Check("def check(candidate):\n    assert candidate(1) == 3\n", ADD)
    own = Calls((SUITE,), "class P:\n    pass\ndef f(x):\n    return P()\n")
    todo = [replace(one, tests={"set/2": own, "set/5": bad}.get(one.problem, one.tests)) for one in programs()]
    alone, spread = list[str](), list[str]()
    grader = Grader(sandbox=choose(bwrap), cache=tmp_path, workers=1, limits=task.limits, packages=task.packages)
    list(replace(grader, tell=alone.append).run(todo))
    with spread_judge(task, bwrap, "default", workers(), spread.append) as judge:
        outcomes = judge.run(todo)
        first = next(outcomes)
        assert len(spread) == 1
        assert len([first, *outcomes]) == len(todo)
    assert spread == alone
    assert "of 2 of 8 problems do not pass their own tests" in spread[0]
    assert "set/2 (on test input 0 it returns <__spa_bench__.P>, " in spread[0]
    assert "set/5 (wrong: AssertionError at: assert candidate(1) == 3)" in spread[0]


def test_a_killed_worker_costs_its_shard_which_another_does(
    workers: Workers, task: Task, bwrap: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judging, "_PROGRAMS", (2, 2))
    with spread_judge(task, bwrap, "default", workers()) as judge:
        outcomes = judge.run(programs())
        seen = dict([next(outcomes)])
        os.kill(_workers()[0], signal.SIGKILL)
        rest = list(outcomes)
        seen |= dict(rest)
    assert len(rest) == 15
    assert [seen[i].verdict for i in range(4)] == [Verdict.WRONG, Verdict.PASSED, Verdict.CRASHED, Verdict.CRASHED]


def _workers() -> list[int]:
    return called(b"spa_bench.executors.worker", children())


def test_a_machine_without_the_sandbox_is_one_line(workers: Workers, task: Task, tmp_path: Path):
    graders = workers(1, PATH=str(tmp_path))
    with (
        pytest.raises(SandboxError, match=rf"^on {platform.node()}, where a worker grades: .*bwrap is not installed"),
        spread_judge(task, "bwrap", "default", graders) as judge,
    ):
        list(judge.run(programs(2)))


def test_a_worker_of_another_python_is_refused(monkeypatch: pytest.MonkeyPatch):
    setting = judging._GradingSetting(
        sandbox="none-i-trust-this-code",
        grading=judging.Grading.DEFAULT,
        limits=judging.Limits(),
        packages=(),
        programs=1,
        software=judging._software(()) | {"python": "3.2.1"},
    )
    with pytest.raises(SandboxError, match=r"has python 3\.\d+\.\d+ and the driver 3\.2\.1, so verdicts may differ"):
        judging._begin(Bench(), name="a", setting=setting)
    lacking = replace(setting, packages=("numpy",), software={"numpy": "9.9"})
    with pytest.raises(SandboxError, match=r"has numpy .* and the driver 9\.9, so verdicts may differ"):
        judging._begin(Bench(), name="a", setting=lacking)
    at = Bench()
    judging._begin(at, name="a", setting=replace(setting, software=judging._software(())))
    assert isinstance(cast(tuple[object, ...], at.kept["a"])[0], Grader)
    judging._end(at, name="a")
    assert at.kept == {}


def test_programs_of_a_problem_are_beside_each_other_and_each_worker_gets_some():
    todo = [replace(one, problem=f"p/{i % 5}") for i, one in enumerate(programs(400))]
    shards = program_shards(todo, 2)
    assert sorted(place for shard in shards for place in shard) == list(range(400))
    assert [len(shard) for shard in shards] == [50] * 8
    assert all(len({todo[place].problem for place in shard}) <= 2 for shard in shards)
    assert [len(shard) for shard in program_shards(todo[:20], 8)] == [16, 4]


def test_workers_that_only_grade_start_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    before = _workers()
    with own_graders(ExecutorOptions(), 3, print) as alone:
        assert alone is None
    with own_graders(ExecutorOptions(workers=2), 3, print) as start:
        assert start is not None
        assert _workers() == before
        assert start() is start()
        assert start().programs == 3
        assert len(_workers()) == 2
    assert _workers() == before


@pytest.mark.slow
def test_the_commands_that_grade_give_the_bytes_of_one_process(call: Call, three: Path, bwrap: str, tmp_path: Path):
    def done(*words: object) -> Done:
        ended = call(*words)
        assert ended.code == 0, ended.err
        return ended

    def run(name: str, *more: object) -> Path:
        engine = ["--engine", "mock", "--sampler", "temperature", "--task", three, "--n", 4, "--sandbox", bwrap]
        done("run", *engine, "--out", tmp_path / name, *more)
        [path] = (tmp_path / name).iterdir()
        return path

    alone, spread = run("alone"), run("spread", "--until", "generate")
    done("grade", spread, "--num-workers", 2, "--workers", 1)
    assert [(spread / name).read_bytes() for name in BYTES] == [(alone / name).read_bytes() for name in BYTES]
    samples = tmp_path / "samples.jsonl"
    samples.write_text('{"task_id": "three/add", "completion": "    return a + b\\n"}\n')
    made = []
    for name, more in (("one", []), ("two", ["--num-workers", 2])):
        done("score", "--task", three, "--samples", samples, "--partial", "--out", tmp_path / name, *more)
        [path] = (tmp_path / name).iterdir()
        made.append([(path / file).read_bytes() for file in BYTES])
    assert made[0] == made[1]


def test_score_in_workers_says_which_references_fail(call: Call, three: Path, bwrap: str, tmp_path: Path):
    data = three.with_suffix(".jsonl")
    data.write_text(data.read_text().replace("return a + b\\n", "return a - b\\n", 2))
    samples = tmp_path / "samples.jsonl"
    samples.write_text('{"task_id": "three/add", "completion": "    return a + b\\n"}\n')
    ended = call(
        "score", "--task", three, "--samples", samples, "--partial", "--sandbox", bwrap, "--out", tmp_path, "--num-workers", 2
    )
    assert ended.code == 0
    assert "the reference solutions of 1 of 1 problems do not pass their own tests" in ended.err
    assert "three/add (wrong: AssertionError at: assert candidate(1, 2) == 3)" in ended.err
