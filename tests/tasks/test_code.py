import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import InProcessJudge
from spa_bench.cards.task import TaskCard
from spa_bench.errors import DataError
from spa_bench.grading import Calls, Check, Outcome, Program
from spa_bench.tasks.code import CodeTask, build, problems_from_file, read_problems
from spa_bench.types import CallSuite, Completion, Key, Problem, Record, Verdict

CARD = TaskCard(name="t", description="", version="1", max_new_tokens=9, stop=("\ndef ", "\nprint("), seconds=2.0, memory_mb=99)
TESTS = "def check(candidate):\n    assert candidate(1) == 2\n"
PROBLEMS = [Problem(id=i, prompt=f"def f(x):\n    # {i}\n", reference="", tests=TESTS, entry_point="f") for i in ("a", "b")]
TASK = CodeTask(CARD, PROBLEMS, "here")
RIGHT, WRONG = "    return x + 1", "    return x"
ROW = {"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c):\n    pass\n"}


class Keeps:
    """A judge that only keeps what it is given."""

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        self.programs = list(programs)
        return iter(())


def record(problem: str, draw: int, graded: str, *, finish: str = "stop", whole: bool = False) -> Record:
    failure = "the prompt does not fit" if finish == "skipped" else ""
    return Record(
        problem=problem,
        member=0,
        draw=draw,
        raw=graded,
        graded=graded,
        finish=finish,
        tokens=1,
        seed=0,
        whole=whole,
        failure=failure,
    )


def score(*records: Record) -> tuple[dict[Key, tuple[Verdict, str]], InProcessJudge]:
    judge = InProcessJudge()
    grades = list(TASK.score(records, judge))
    assert len(grades) == len(records)
    return {g.key: (g.verdict, g.message) for g in grades}, judge


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (RIGHT + "\n\ndef g():\n    pass", RIGHT),
        (RIGHT + "\nprint(f(1))\ndef g(): pass", RIGHT),
        (RIGHT + "\n  \n", RIGHT),
        (RIGHT, RIGHT),
        ("def ", "def"),  # a stop string begins with a new line
        ("\ndef f", ""),
        ("", ""),
    ],
)
def test_an_answer_is_cut_before_its_first_stop_string_and_stripped_at_the_end(text: str, cut: str):
    assert TASK.cut(text) == cut
    made = TASK.record(Completion(key=Key("a", 1, 2), text=text, tokens=7, finish="length", seed=42))
    assert made == Record(problem="a", member=1, draw=2, raw=text, graded=cut, finish="length", tokens=7, seed=42)


def test_indentation_in_front_is_kept():
    assert TASK.cut("    x = 1\n    y = 2") == "    x = 1\n    y = 2"


def test_a_program_is_the_prompt_and_the_answer_unless_it_is_whole():
    assert TASK.program(record("b", 0, RIGHT)) == "def f(x):\n    # b\n    return x + 1"
    assert TASK.program(record("b", 0, "f = len", whole=True)) == "f = len"


def test_every_record_gets_its_own_verdict():
    found, _ = score(record("a", 0, RIGHT), record("a", 1, WRONG), record("b", 0, "    return y"), record("b", 1, RIGHT))
    assert [v for _, (v, _) in sorted(found.items())] == [Verdict.PASSED, Verdict.WRONG, Verdict.RAISED, Verdict.PASSED]


def test_an_answer_without_text_is_refused_and_not_run():
    found, judge = score(record("a", 0, ""), record("a", 1, " \n\t"), record("a", 2, RIGHT, finish="skipped"))
    assert [v for v, _ in found.values()] == [Verdict.REFUSED] * 3
    assert found["a", 0, 0][1] == found["a", 0, 1][1] == "the answer is empty"
    assert found["a", 0, 2][1] == "the prompt does not fit"
    assert judge.programs == []


def test_equal_programs_of_a_problem_run_once_and_all_get_the_verdict():
    found, judge = score(*(record("a", i, RIGHT) for i in range(5)), record("a", 5, WRONG), record("b", 0, RIGHT))
    assert len(judge.programs) == 3
    assert all(found["a", 0, i][0] == Verdict.PASSED for i in range(5))


def test_a_program_carries_the_tests_and_the_entry_point_of_its_problem():
    _, judge = score(record("a", 0, RIGHT))
    [program] = judge.programs
    assert (program.tests, program.entry_point) == (Check(TESTS, PROBLEMS[0].prompt), "f")


def test_the_limits_are_the_cards():
    _, judge = score(record("a", 0, RIGHT))
    assert judge.programs[0].seconds == 2.0
    assert TASK.limits.memory_mb == 99
    assert TASK.packages == ("numpy",)


def test_tests_that_are_data_take_the_place_of_those_that_are_code():
    suite = CallSuite(name="base", inputs=lambda: [[1]])
    task = CodeTask(CARD, [replace(PROBLEMS[0], reference=RIGHT, suites=(suite,))], "here")
    judge = Keeps()
    list(task.score([record("a", 0, WRONG)], judge))
    assert judge.programs[0].tests == Calls((suite,), PROBLEMS[0].prompt + RIGHT)


def test_where_the_card_allows_it_tests_may_run_in_one_process():
    judge = InProcessJudge()
    list(CodeTask(replace(CARD, one_process=True), PROBLEMS, "here").score([record("a", 0, RIGHT)], judge))
    assert judge.programs[0].tests == Check(TESTS, PROBLEMS[0].prompt, one_process=True)


def test_prompts_carry_length_and_stops_of_the_card():
    [first] = TASK.prompts(1)
    assert (first.problem_id, first.text, first.max_new_tokens, first.stop) == ("a", PROBLEMS[0].prompt, 9, CARD.stop)
    assert len(TASK.prompts(None)) == 2


def test_the_description_hashes_what_is_asked_and_tested_and_not_where_it_lay():
    described = TASK.describe()
    assert described["problems_n"] == 2
    assert CodeTask(CARD, PROBLEMS, "elsewhere").describe() == described
    for other in (
        [PROBLEMS[1], PROBLEMS[0]],
        PROBLEMS[:1],
        [PROBLEMS[0], Problem(id="b", prompt="other", reference="", tests=TESTS, entry_point="f")],
        [PROBLEMS[0], Problem(id="b", prompt=PROBLEMS[1].prompt, reference="", tests="other", entry_point="f")],
    ):
        assert CodeTask(CARD, other, "here").describe()["problems_hash"] != described["problems_hash"]


# problems from files -------------------------------------------------------------------------------------------------


def lines(tmp_path: Path, *rows: object, name: str = "p.jsonl") -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_problems_are_read_in_order_plain_or_compressed(tmp_path: Path, name: str):
    second = {**ROW, "task_id": "b", "canonical_solution": "    pass\n", "tags": ["x"], "more": 1}
    path = lines(tmp_path, ROW, "", second, name=name)
    first, other = read_problems(path)
    assert first == Problem(id="a", prompt="def f():\n", reference="", tests=ROW["test"], entry_point="f")
    assert (other.id, other.reference, other.tags) == ("b", "    pass\n", ("x",))


def test_a_compressed_file_may_be_called_otherwise(tmp_path: Path):
    path = lines(tmp_path, ROW, name="p.jsonl.gz").rename(tmp_path / "p.jsonl")
    assert [p.id for p in read_problems(path)] == ["a"]


def test_a_task_built_from_a_card_says_where_its_problems_were(tmp_path: Path):
    path = lines(tmp_path, ROW)
    card = TaskCard(name="t", description="", file=str(path))
    assert build(card).found == str(path)
    assert [p.id for p in problems_from_file(card)[0]] == ["a"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], r"p\.jsonl, line 1 is not valid JSON"),
        ([ROW, "", "nonsense"], r"p\.jsonl, line 3 is not valid JSON"),
        ([{k: v for k, v in ROW.items() if k != "test"}], r"line 1 lacks the text 'test'"),
        ([{**ROW, "prompt": None}], r"line 1 lacks the text 'prompt'"),
        ([[]], r"line 1 is \[\]; each line is one problem"),
        ([{**ROW, "entry_point": 3}], r"line 1 has 'entry_point' = 3; it must be a text"),
        ([{**ROW, "canonical_solution": [1]}], r"line 1: 'canonical_solution' is no text"),
        ([{**ROW, "tags": "easy"}], r"line 1: 'tags' is no list of texts"),
        ([{**ROW, "tags": ["easy", 2]}], r"line 1: 'tags' is no list of texts"),
        ([ROW, ROW], r"line 2 repeats the task id 'a'"),
        ([""], r"p\.jsonl holds no problems"),
    ],
)
def test_a_bad_row_is_an_error_that_names_its_line(tmp_path: Path, rows: list[object], message: str):
    with pytest.raises(DataError, match=message):
        read_problems(lines(tmp_path, *rows))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot read the problems in .*nowhere\.jsonl"):
        read_problems(tmp_path / "nowhere.jsonl")
    (tmp_path / "p.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"cannot read the problems in .*p\.jsonl\.gz"):
        read_problems(tmp_path / "p.jsonl.gz")


def test_a_damaged_gzip_file_is_named(tmp_path: Path):
    good = bytearray(lines(tmp_path, *({**ROW, "task_id": str(i)} for i in range(50)), name="p.jsonl.gz").read_bytes())
    good[40:60] = bytes(20)
    (tmp_path / "p.jsonl.gz").write_bytes(good)
    with pytest.raises(DataError, match=r"cannot read the problems in .*p\.jsonl\.gz"):
        read_problems(tmp_path / "p.jsonl.gz")


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path):
    row = json.dumps({**ROW, "prompt": "def f():\n    # \u2028\n"}, ensure_ascii=False)
    [problem] = read_problems(lines(tmp_path, row))
    assert "\u2028" in problem.prompt


def test_a_whole_program_is_neither_cut_nor_put_behind_its_prompt():
    text = "def helper(): pass\n\ndef f(x): return x + 1\n\n"
    task = CodeTask(replace(CARD, sanitiser="stop"), TASK.problems, "memory")
    whole, part = (
        task.record(Completion(key=Key("a", 0, 0), text=text, tokens=1, finish="stop", seed=0, whole=w)) for w in (True, False)
    )
    assert (whole.whole, TASK.program(whole)) == (True, text.rstrip())
    assert (part.whole, part.graded) == (False, "def helper(): pass")
