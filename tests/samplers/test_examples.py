"""Examples are read from prompts, and those of the benchmarks agree with the reference solutions."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from spa_bench.cards.task import load_task_card
from spa_bench.runs.job import load_task
from spa_bench.samplers.asking.examples import examples_in

DOCTEST = '''def other(x):
    return x


def f(a, b=2):
    """Add.

    >>> f(1)
    3
    >>> f([1, 2], {"k": (1,)})
    [1, 2]
    >>> other(1)
    1
    >>> f(int("3"))
    5
    """
'''


def test_doctests_of_the_function_that_the_prompt_begins():
    found = examples_in(DOCTEST)
    assert found.entry_point == "f"
    assert found.calls == (((1,), 3), (([1, 2], {"k": (1,)}), [1, 2]))
    assert found.sources[0] == ">>> f(1)\n3"


@pytest.mark.parametrize(
    "line",
    [
        "f(1) == 3", "assert f(1) == 3", "f(1) -> 3", "f(1) ➞ 3.", "f (1) => 3", "f(1) returns 3", "f(1) # => 3", "f(1) # 3",
        "f(1) = 3", "f(1)=3", "- f(1) == 3", "* `f(1)` returns `3`", "+ f(1) gives 3", "2. f(1) -> 3", "• `f(1)` -> 3",
        "`f(1) == 3`", "``f(1)`` is ``3``.", "For example, f(1) should return 3.", "Example: f(1) = 3", "e.g. `f(1)` equals 3",
        "for instance: f(1) should be 3", "Example 1: f(1) should equal 3",
        'assert f(1) == 3, "msg"', "assert (f(1) == 3), f'{1} is wrong'", ">>> assert f(1) == 3, 'msg'",
        "assert f(1)==3 # right", "assert f(1) is 3", ">>> f(1) == 3",
    ],
)  # fmt: skip
def test_lines_with_a_result(line: str):
    found = examples_in(f'def f(x):\n    """Text.\n    {line}\n    """\n')
    assert found.calls == (((1,), 3),)


@pytest.mark.parametrize(
    "line",
    ["f(1) == y", "f(x) == 3", "assert set(f(1)) == {3}", "f(1)", "f(k=1) == 3", "g(1) == 3", "the call f(1) == 3", "f(1 == 3",
     "f(1) -> 2, 3", "f(1) == 3, 'msg'", "assert f(1) != 3", "assert f(1)", "assert f(1) == 3 or f(2) == 4",
     "assert f(1) == 2 == 2", "assert f(1) == 3, f(2) ==", "assertion: f(1) == 3", "For example, f(1) should return 2 and f(2)",
     "f(1) >= 3", "f(1) is the one", "For f(1) == 3", "- f(1) - 3", "`f(1)", "f(1) returned 3", "* `f(1)` returns `2` or `3`"],
)  # fmt: skip
def test_lines_that_are_no_example(line: str):
    found = examples_in(f'def f(x):\n    """Text.\n    {line}\n    """\n')
    assert (found.calls, found.entry_point) == ((), "")


def test_a_tuple_is_read_as_it_is_written_and_a_message_is_no_part_of_it():
    prompt = 'def f(x):\n    """\n    assert f(1) == (2, "msg"), "msg"\n    f(2) -> (3,)\n    """\n'
    assert examples_in(prompt).calls == (((1,), (2, "msg")), ((2,), (3,)))


def test_what_stands_below_decides_where_python_was_typed():
    prompt = (
        'def f(x):\n    """\n    >>> f(1) == 2\n    False\n    >>> f(2) == 3\n    True\n    >>> f(3)  # 7\n    4\n    """\n'
    )
    assert examples_in(prompt).calls == (((2,), 3), ((3,), 4))


def test_equations_are_no_examples():
    prompt = 'def f(x):\n    """\n    f(1) = 3\n    f(n) = f(n - 1) + 1\n    f(2) == 4\n    """\n'
    assert examples_in(prompt).calls == (((2,), 4),)


def test_every_line_of_an_example_stands_in_the_prompt():
    for line in ("* `f(1)` returns `3`", "For example, f(1) should return 3.", 'assert f(1) == 3, "msg"'):
        assert examples_in(f"  {line}\n").sources == (line,)


def test_without_a_function_the_one_that_is_called_most_counts():
    found = examples_in('"""\nWrite a function.\nassert g(1) == 2\nassert g(2) == 3\nassert h(1) == 9\n"""\n')
    assert (found.entry_point, found.calls) == ("g", (((1,), 2), ((2,), 3)))


def test_calls_with_two_results_do_not_count_and_equal_ones_count_once():
    found = examples_in('"""\nassert g(1) == 2\nassert g(1) == 3\nassert g(2) == 3\nassert g(2) == 3\n"""\n')
    assert found.calls == (((2,), 3),)


def test_the_reference_knows_the_examples_alone():
    space: dict[str, object] = {}
    exec(examples_in(DOCTEST).reference, space)
    f = space["f"]
    assert callable(f)
    assert f(1) == 3
    assert f([1, 2], {"k": (1,)}) == [1, 2]
    with pytest.raises(LookupError):
        f(2)


# HumanEval's own docstrings are wrong in three examples: the median of HumanEval/47, and two orders of HumanEval/116
WRONG = {"humaneval-plus": {"HumanEval/47": 1, "HumanEval/116": 2}, "mbpp-plus": {}}
LEAST = {"humaneval-plus": (125, 350), "mbpp-plus": (356, 356)}


@pytest.mark.parametrize("name", sorted(WRONG))
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_examples_of_benchmarks_agree_with_their_references(name: str, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    task = load_task(load_task_card(name))
    problems = count = 0
    wrong: dict[str, int] = {}
    for problem in task.problems:
        found = examples_in(problem.prompt)
        problems, count = problems + bool(found.calls), count + len(found.calls)
        if found.calls:
            assert found.entry_point == problem.entry_point
            space: dict[str, object] = {}
            exec(problem.prompt + problem.reference if name == "humaneval-plus" else problem.reference, space)
            f = space[problem.entry_point]
            assert callable(f)
            off = sum(f(*copy.deepcopy(arguments)) != result for arguments, result in found.calls)
            wrong |= {problem.id: off} if off else {}
    assert wrong == WRONG[name]
    assert problems >= LEAST[name][0]
    assert count >= LEAST[name][1]
