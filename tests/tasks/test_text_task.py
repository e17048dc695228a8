"""Tasks of one's own: the base class for texts, what a kind must build, and problems from a function."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX, Call, Lines, MockModel, mock_run, sampler_card
from spa_bench.cards.task import TaskCard, load_task_card
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.runs.generate import generate
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.reopen import task_of
from spa_bench.runs.verify import notes, verify
from spa_bench.tasks.text import TextTask
from spa_bench.types import Completion, Key, Problem, Record

PROBLEMS = [Problem(id="q/one", prompt="1 =", reference=" 1", tags=("x",)), Problem(id="q/two", prompt="2 =", reference=" 2")]


class Digits(TextTask):
    """The answer is the first word."""

    def answer(self, problem: Problem, text: str) -> str:
        return text.split()[0]

    def is_right(self, problem: Problem, answer: str) -> bool:
        return answer == problem.reference.strip()


def task(**card: Any) -> Digits:
    return Digits(TaskCard(name="q", description="questions", **{"kind": "mine:build", "stop": ("\n",), **card}), PROBLEMS)


def record(text: str, problem: str = "q/one", **fields: Any) -> Record:
    return dataclasses.replace(
        task().record(Completion(key=Key(problem, 0, 0), text=text, tokens=1, finish="stop", seed=0)), **fields
    )


# the base class ------------------------------------------------------------------------------------------------------


def test_an_answer_is_cut_judged_and_told():
    assert record(" 1 apple \nQuestion").graded == " 1 apple"
    [right, wrong, empty, failed] = task().score(
        [record("1 a"), record("1", "q/two"), record(" \n1"), record("", failure="no memory")], None
    )
    assert [str(g.verdict) for g in (right, wrong, empty, failed)] == ["passed", "wrong", "refused", "refused"]
    assert [g.message for g in (right, wrong, empty, failed)] == ["", "the answer is '1'", "the answer is empty", "no memory"]


def test_answers_behave_alike_where_the_answer_is_the_same():
    rows = list(task().behave([record("1 a"), record("1 b"), record("2 a"), record("")], None))
    assert rows[0].digest == rows[1].digest != rows[2].digest
    assert [len(b.digest) for b in rows] == [16, 16, 16, 0]
    assert [(b.ran, b.right, b.probes) for b in rows] == [(True, 1, 1), (True, 1, 1), (True, 0, 1), (False, 0, 0)]


def test_a_text_task_asks_for_no_options_runs_no_code_and_has_no_other_scores():
    assert task().asked(None) == []
    assert task().own_scores([], [], 1, 1) is None
    assert not task().runs_code
    assert [p.problem_id for p in task().prompts(1)] == ["q/one"]
    assert task().prompts(None)[1].stop == ("\n",)
    assert task(max_new_tokens=3).prompts(1)[0].max_new_tokens == 3


@pytest.mark.parametrize(
    "change", [{"id": "q/x"}, {"prompt": "x"}, {"reference": "x"}, {"tests": "x"}, {"tags": ()}, {"choices": 2}]
)
def test_the_hash_of_the_problems_covers_what_they_are(change: dict[str, Any]):
    other = Digits(task().card, [dataclasses.replace(PROBLEMS[0], **change), PROBLEMS[1]])
    assert other.describe()["problems_hash"] != task().describe()["problems_hash"]
    elsewhere = dataclasses.replace(task().card, description="y", file="z")
    assert Digits(elsewhere, PROBLEMS).describe() == task().describe()


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        (
            "is_right",
            lambda *_: 1 / 0,
            r"task 'q': is_right\(\) of q/one failed: ZeroDivisionError: division by zero \(test_text",
        ),
        ("is_right", lambda *_: 1, r"task 'q': is_right\(\) of q/one gave 1; it must be True or False"),
        ("answer", lambda *_: [][0], r"task 'q': answer\(\) of q/one failed: IndexError: list index out of range"),
        ("answer", lambda *_: None, r"task 'q': answer\(\) of q/one gave None; it must be a text"),
    ],
)
def test_a_method_that_fails_is_one_line(method: str, value: Any, message: str):
    broken = task()
    setattr(broken, method, value)
    with pytest.raises(UsageError, match=message):
        list(broken.score([record("1")], None))


# a kind of one's own -------------------------------------------------------------------------------------------------

HEAD = (
    "from pathlib import Path\nfrom spa_bench.tasks.text import TextTask\nfrom spa_bench.types import Problem\n"
    "class Same(TextTask):\n    def is_right(self, problem, answer):\n        return answer == problem.reference\n"
)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Writes mine.py on the import path and gives the path of a card of its kind."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(build: str, card: str = "kind = 'mine:build'") -> str:
        sys.modules.pop("mine", None)
        (tmp_path / "mine.py").write_text(HEAD + build + "\n")
        (tmp_path / "mine.toml").write_text(f'description = "x"\nversion = "1"\n{card}\n')
        return str(tmp_path / "mine.toml")

    yield written
    sys.modules.pop("mine", None)


GOOD = """def build(card):
    one, two = Problem(id='q/one', prompt='1 =', reference='1'), Problem(id='q/two', prompt='2 =', reference='2')
    return Same(card, [one, two])"""


def test_a_run_of_a_kind_of_ones_own_is_whole_and_notes_another_source(mine: Any, tmp_path: Path):
    card = Path(mine(GOOD))
    folder = mock_run(tmp_path / "runs", card, lambda r: "1")
    assert [g.verdict == "passed" for g in folder.grades().values()] == [True, True, False, False]
    assert folder.read_json("metrics.json")["estimates"]["pass@1"]["value"] == 0.5
    assert verify(folder, task_of(folder)) == []
    assert notes(folder) == []
    (tmp_path / "mine.py").write_text(HEAD + GOOD + "  # other")
    assert any("other code" in note for note in notes(folder))


def test_other_problems_of_a_kind_of_ones_own_are_refused(mine: Any, tmp_path: Path):
    folder = mock_run(tmp_path / "runs", Path(mine(GOOD)), lambda r: "1")
    mine(GOOD.replace("'2'", "'3'"))
    with pytest.raises(UsageError, match="was made with other problems of mine"):
        task_of(folder)


def test_the_file_of_a_kind_of_ones_own_is_found_again_or_said(mine: Any, tmp_path: Path):
    build = "def build(card):\n    return Same(card, [Problem(id='q', prompt='?', reference=Path(card.file).read_text())])"
    card = Path(mine(build, "kind = 'mine:build'\nfile = 'answer.txt'"))
    (tmp_path / "answer.txt").write_text("1")
    folder = mock_run(tmp_path / "runs", card, lambda r: "1")
    assert task_of(folder).problems[0].reference == "1"
    (tmp_path / "answer.txt").rename(tmp_path / "moved.txt")
    assert task_of(folder, tmp_path / "moved.txt").problems[0].reference == "1"
    with pytest.raises(UsageError, match=r"there is no such file; --task-file FILE says where"):
        task_of(folder)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("def build(card):\n    return 3", "task kind 'mine:build' built 3, which has no '"),
        (
            "def build(card):\n    return 1 / 0",
            "task kind 'mine:build' failed: ZeroDivisionError: division by zero (mine.py, line 8)",
        ),
        (
            "def build():\n    pass",
            "task kind 'mine:build' failed: TypeError: build() takes 0 positional arguments but 1 was given",
        ),
        (
            "def build(card):\n    return TextTask(card, [])",
            "task kind 'mine:build' failed: TypeError: Can't instantiate abstract",
        ),
        ("def build(card):\n    return Same(card, [])", "task kind 'mine:build' has no problems"),
        ("def build(card):\n    return Same(card, [3])", "task 'mine': a problem is 3; it must be a spa_bench.types.Problem"),
        (
            "def build(card):\n    return Same(card, [Problem(id='q', prompt='')] * 2)",
            "task kind 'mine:build': the problem id 'q' is empty or there twice; each problem has its own",
        ),
        (
            "def build(card):\n    return Same(card, [Problem(id='', prompt='')])",
            "task kind 'mine:build': the problem id '' is empty",
        ),
        (
            "class Bare(Same):\n    def describe(self):\n        return {'name': 'x'}\n"
            "def build(card):\n    return Bare(card, [Problem(id='q', prompt='')])",
            "task kind 'mine:build': describe() lacks 'kind', by which a run finds its task again",
        ),
        (
            "class Odd(Same):\n    def __init__(self, card):\n        super().__init__(card, [])\n        self.problems = [3]\n"
            "def build(card):\n    return Odd(card)",
            "task kind 'mine:build': a problem is 3; it must be a spa_bench.types.Problem",
        ),
    ],
)
def test_a_kind_that_builds_no_task_is_one_line(build: str, message: str, mine: Any):
    with pytest.raises(SpaBenchError) as error:
        load_task(load_task_card(mine(build)))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_kind_of_ones_own_needs_no_file_and_a_task_of_code_does(mine: Any):
    assert load_task_card(mine(GOOD)).file == ""
    with pytest.raises(SpaBenchError, match=r'problems = "jsonl" needs file'):
        load_task_card(mine(GOOD, "kind = 'code'"))


def test_an_unknown_kind_names_the_closest(mine: Any):
    with pytest.raises(SpaBenchError, match=r"kind is 'cod'; did you mean 'code'\?"):
        load_task_card(mine(GOOD, "kind = 'cod'"))


def test_samples_from_elsewhere_are_scored(mine: Any, call: Call, tmp_path: Path):
    card, samples = mine(GOOD), tmp_path / "s.jsonl"
    samples.write_text("".join(json.dumps({"task_id": i, "completion": "1"}) + "\n" for i in ("q/one", "q/two")))
    done = call("score", "--task", card, "--samples", samples, "--sandbox", SANDBOX, "--out", tmp_path / "runs", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["metrics"]["pass@1"]["value"] == 0.5
    [path] = (tmp_path / "runs").iterdir()
    assert json.loads((path / "spec.json").read_text())["code"]["task"]
    assert call("verify", path).out == f"{path}: whole\n"


def test_a_key_that_plays_a_part_for_code_alone_is_refused(mine: Any):
    with pytest.raises(SpaBenchError, match="sanitiser plays a part for kind 'code' alone; this card has kind 'mine:build'"):
        load_task_card(mine(GOOD), {"sanitiser": "evalplus"})


# problems from a function --------------------------------------------------------------------------------------------

FUNCTION = (
    "TESTS = 'def check(candidate):\\n    assert candidate(1) == 1\\n'\n"
    "GIVEN, TESTED = {'prompt': 'def f(x):\\n', 'reference': '    return x\\n'}, {'tests': TESTS, 'entry_point': 'f'}\n"
    "def problems(card):\n    return [Problem(id='p', **GIVEN, **TESTED)], 'made here'"
)


def test_a_task_of_code_may_have_its_problems_from_a_function(mine: Any, sandbox: Any, tmp_path: Path):
    card = Path(mine(FUNCTION, "problems = 'mine:problems'"))
    folder = mock_run(tmp_path / "runs", card, lambda r: "    return x" if r.draw else "    return 2")
    assert [str(g.verdict) for g in folder.grades().values()] == ["wrong", "passed"]
    assert folder.spec["task"]["problems"] == "mine:problems"
    assert verify(folder, task_of(folder)) == []
    assert folder.spec["code"]["problems"]


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        ("def problems(card):\n    return 3", "problems 'mine:problems' gave 3; it must give a pair: the problems, and"),
        ("def problems(card):\n    return [], 'x'", "problems 'mine:problems' has no problems"),
        (
            "def problems(card):\n    return ['p'], 'x'",
            "problems 'mine:problems': a problem is 'p'; it must be a spa_bench.types",
        ),
        ("def other(card):\n    pass", "'mine:problems' leads to the module 'mine', which has no 'problems'"),
        ("import not_there", "'mine:problems' leads to the module 'mine', which cannot be imported: No module named"),
    ],
)
def test_problems_that_cannot_be_had_are_one_line(problems: str, message: str, mine: Any):
    with pytest.raises(SpaBenchError) as error:
        load_task(load_task_card(mine(problems, "problems = 'mine:problems'")))
    assert str(error.value).startswith(message)


# a sampler of one's own that fails -----------------------------------------------------------------------------------

OWN = "from spa_bench.types import Decoding, Member\nclass S:\n    name, members = 's', (Member('s', None, Decoding()),)\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def build(card, adapters):\n    return 3",
            "sampler kind 'mine:build' built 3, which has no 'name'; docs/how-to/add-a-sampler.md",
        ),
        (
            "def build(card):\n    pass",
            "sampler kind 'mine:build' failed: TypeError: build() takes 1 positional argument but 2",
        ),
        (
            f"{OWN}    def sample(self, *a, **k):\n        raise KeyError('x')\ndef build(card, adapters):\n    return S()",
            "sampler kind 'mine:build' failed: KeyError: 'x' (mine.py, line 11)",
        ),
        (
            f"{OWN}    def sample(self, *a, **k):\n        yield 'text'\ndef build(card, adapters):\n    return S()",
            "sampler kind 'mine:build' gave 'text'; sample() gives spa_bench.types.Completion, one an answer",
        ),
        (
            f"{OWN}    def sample(self, *a, **k):\n        pass\ndef build(card, adapters):\n    return S()",
            "sampler kind 'mine:build' failed: TypeError: 'NoneType' object is not iterable",
        ),
    ],
)
def test_a_sampler_that_fails_is_one_line(source: str, message: str, mine: Any, three: Path, tmp_path: Path):
    mine(source)
    loaded = load_task_card(str(three))
    job = Job(sampler=sampler_card(kind="mine:build"), task=loaded, n=2, seed=0)
    with pytest.raises(UsageError) as error:
        generate(
            job, load_task(loaded), MockModel(lambda r: ""), out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines()
        )  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
