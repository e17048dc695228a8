"""Behaviours of records: each gets one, equal programs run once, and reference solutions behave as themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import InProcessJudge
from spa_bench.cards.task import TaskCard, load_task_card
from spa_bench.grading import Behaved, Calls, Check, Grader, Outcome, Program
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks.code import CodeTask
from spa_bench.types import Behaviour, CallSuite, Problem, Record

CARD = TaskCard(name="t", description="", version="1", max_new_tokens=9, stop=("\ndef ",), seconds=2.0)
RIGHT, WRONG = "    return x + 1", "    return x"
TESTS = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 3\n"
PROBLEMS = [Problem(id=i, prompt=f"def f(x):\n    # {i}\n", reference=RIGHT, tests=TESTS, entry_point="f") for i in ("a", "b")]
TASK = CodeTask(CARD, PROBLEMS, "here")


class Keeps:
    """A judge that keeps what it is given and says that all behave the same."""

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        raise NotImplementedError

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        self.programs = list(programs)
        for index in reversed(range(len(programs))):
            yield index, Behaved(f"{index:016x}", True, index, 16)


def record(problem: str, draw: int, graded: str, *, failure: str = "") -> Record:
    return Record(
        problem=problem, member=0, draw=draw, raw=graded, graded=graded, finish="stop", tokens=1, seed=0, failure=failure
    )


def test_every_record_gets_the_behaviour_of_its_own_program():
    judge = Keeps()
    records = [record("a", 0, RIGHT), record("b", 0, RIGHT), record("a", 1, WRONG), record("a", 2, RIGHT)]
    found = {b.key: b for b in TASK.behave(records, judge)}
    assert found == {
        r.key: Behaviour(**r.key._asdict(), digest=f"{index:016x}", ran=True, right=index, probes=16)
        for r, index in zip(records, (0, 1, 2, 0), strict=True)
    }
    assert [(p.problem, p.source) for p in judge.programs] == [
        ("a", PROBLEMS[0].prompt + RIGHT),
        ("b", PROBLEMS[1].prompt + RIGHT),
        ("a", PROBLEMS[0].prompt + WRONG),
    ]


def test_an_answer_without_text_is_not_run_and_its_behaviour_not_known():
    judge = Keeps()
    records = [record("a", 0, ""), record("a", 1, " \n"), record("a", 2, RIGHT, failure="the prompt does not fit")]
    assert list(TASK.behave(records, judge)) == [
        Behaviour(problem="a", member=0, draw=draw, digest="", ran=False, right=0, probes=0) for draw in range(3)
    ]
    assert judge.programs == []


def test_programs_go_to_the_judge_with_the_tests_of_grading():
    suite = CallSuite(name="base", inputs=lambda: [[1]])
    judge = Keeps()
    task = CodeTask(CARD, [replace(PROBLEMS[0], suites=(suite,)), PROBLEMS[1]], "here")
    list(task.behave([record("a", 0, WRONG), record("b", 0, WRONG)], judge))
    assert [p.tests for p in judge.programs] == [
        Calls((suite,), PROBLEMS[0].prompt + RIGHT),
        Check(TESTS, PROBLEMS[1].prompt + RIGHT),
    ]
    assert [(p.entry_point, p.seconds) for p in judge.programs] == [("f", 2.0)] * 2


RECORDS = [
    record("a", 0, RIGHT),
    record("a", 1, "    return 1 + x"),
    record("a", 2, WRONG),
    record("a", 3, "    return y"),
    record("a", 4, ""),
    record("b", 0, "    if x > 1:\n        return 0\n    return x + 1"),
]


def said(judge: InProcessJudge | Grader) -> list[tuple[bool, int, int, bool]]:
    found = sorted(TASK.behave(RECORDS, judge), key=lambda b: b.key)
    return [(b.ran, b.right, b.probes, b.digest == found[0].digest) for b in found]


def test_the_double_says_what_the_grader_says(bwrap: str, tmp_path: Path):
    expected = [(True, 2, 2, True)] * 2 + [(True, 0, 2, False), (False, 0, 2, False), (False, 0, 0, False), (True, 1, 2, False)]
    assert said(Grader(sandbox=choose(bwrap), cache=tmp_path, workers=1)) == expected
    assert said(InProcessJudge()) == expected


def references_behave(task: CodeTask, grader: Grader) -> dict[str, Behaviour]:
    """Behaviours of canonical solutions; each equals that of the same program in another text."""
    records = []
    for p in task.problems:
        for draw, end in enumerate(("", "\n# again\n")):
            records.append(
                Record(
                    problem=p.id,
                    member=0,
                    draw=draw,
                    raw="",
                    graded=p.prompt + p.reference + end,
                    finish="stop",
                    tokens=1,
                    seed=0,
                    whole=True,
                )
            )
    found = {b.key: b for b in task.behave(records, grader)}
    assert len(found) == 2 * len(task.problems)
    for p in task.problems:
        assert found[p.id, 0, 0].digest == found[p.id, 0, 1].digest, p.id
        assert found[p.id, 0, 0].right == found[p.id, 0, 0].probes, p.id
    return {p.id: found[p.id, 0, 0] for p in task.problems}


def test_all_canonical_solutions_of_mini_code_behave_as_the_reference(bwrap: str, tmp_path: Path):
    task = load_task(load_task_card("mini-code"))
    assert isinstance(task, CodeTask)
    found = references_behave(task, Grader(sandbox=choose(bwrap), cache=tmp_path, workers=2, packages=task.packages))
    assert all(b.ran and b.probes and len(b.digest) == 16 for b in found.values())


@pytest.mark.parametrize(
    "name", ["humaneval", *(pytest.param(name, marks=pytest.mark.slow) for name in ("humaneval-plus", "mbpp-plus"))]
)
def test_all_canonical_solutions_behave_as_the_reference(
    name: str, data: Path, bwrap: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    if name == "mbpp-plus":
        pytest.importorskip("evalplus")
    task = load_task(load_task_card(name))
    assert isinstance(task, CodeTask)
    found = references_behave(task, Grader(sandbox=choose(bwrap), cache=tmp_path, workers=2, packages=task.packages))
    assert [p for p, b in found.items() if not b.ran or not b.digest] == []
