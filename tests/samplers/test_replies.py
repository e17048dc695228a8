"""Answers out of one reply: the format that is asked for, what is understood besides, and what is not."""

import pytest

from spa_bench.samplers.replies import ParsedAnswer, parse_reply, programs_in

ONE, TWO = "def f(x):\n    return x + x\n", "def f(x):\n    return 2 * x\n"


def texts(reply: str) -> list[str]:
    return [answer.text for answer in parse_reply(reply)]


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}```\n"


@pytest.mark.parametrize(
    "reply",
    [
        f"### Answer 1\n{fenced(ONE)}\n### Answer 2\n{fenced(TWO)}",
        f"Sure!\n\n**Solution 1: adding**\nThis adds.\n{fenced(ONE)}\n**Solution 2**\n{fenced(TWO, '')}Both work.",
        f"1. Adding\n{fenced(ONE, 'py')}\n2. Doubling\n{fenced(TWO)}",
        fenced(ONE) + "or\n" + fenced(TWO),
        f"~~~python\n{ONE}~~~\n\n````\n{TWO}````\n",
        f"Approach #1\n{ONE}Approach #2\n{TWO}",
        fenced(f"# Answer 1\n{ONE}# Answer 2\n{TWO}"),
        f"### Answer 1\r\n{fenced(ONE)}### Answer 2\r\n{fenced(TWO)}",
    ],
    ids=["as asked", "bold", "numbers", "fences alone", "other fences", "lines alone", "one block", "carriage returns"],
)
def test_two_answers_are_found(reply: str):
    assert texts(reply) == [ONE, TWO]


def test_an_example_below_an_answer_is_not_an_answer():
    assert texts(f"### Answer 1\n{fenced(ONE)}Use it:\n1. so\n{fenced('f(2)' + chr(10))}### Answer 2\n{fenced(TWO)}") == [
        ONE,
        TWO,
    ]


def test_an_answer_may_hold_fences_of_the_other_kind_and_numbered_comments():
    code = 'def f(x):\n    """~~~\n    1. Double it.\n    """\n    return 2 * x\n'
    assert texts(f"### Answer 1\n{fenced(code)}") == [code]


def test_numbered_lines_keep_their_text_where_there_is_no_block():
    assert texts("1. Paris\n2) Rome, the\neternal city\n") == ["Paris\n", "Rome, the\neternal city\n"]


@pytest.mark.parametrize("reply", ["", "I cannot do that.", ONE, "### Answer 1\n\n### Answer 2\n", "```python\n```"])
def test_a_reply_without_marks_or_with_empty_answers_holds_none(reply: str):
    assert parse_reply(reply) == []


def test_a_block_that_the_reply_ends_in_is_not_whole():
    cut = f"### Answer 1\n{fenced(ONE)}### Answer 2\n```python\ndef f("
    assert parse_reply(cut, finished=False) == [ParsedAnswer(ONE, True), ParsedAnswer("def f(", False)]


def test_the_last_answer_without_a_block_is_whole_only_if_the_reply_is_finished():
    for finished in (True, False):
        assert [a.whole for a in parse_reply("Answer 1\nx\nAnswer 2\ny", finished=finished)] == [True, finished]


USE = fenced("print(f(1))\n")
SHELL = fenced("pip install numpy\n", "bash")


@pytest.mark.parametrize(
    "reply",
    [
        f"### Answer 1\n{SHELL}{fenced(ONE)}\n### Answer 2\n{fenced(TWO)}",
        f"### Method 1\n{fenced(ONE)}{USE}\n### Method 2\n{fenced(TWO)}{USE}",
        f"Way 1 adds:\n{fenced(ONE)}{USE}\nWay 2 doubles:\n{fenced(TWO)}{USE}",
        f"The function is:\n{fenced('def f(x):' + chr(10))}\n### Answer 1\n{fenced(ONE)}\n### Answer 2\n{fenced(TWO)}",
        f"My plan:\n1. add\n2. double\n\n{fenced(ONE)}\nand\n{fenced(TWO)}",
        f"{fenced(ONE)}\nand\n{fenced(TWO)}\n1. The first adds.\n2. The second doubles.",
        f"{fenced(ONE)}\n### Answer 2\n{fenced(TWO)}",
    ],
    ids=["shell", "methods", "ways", "the task again", "a plan above", "an explanation below", "first without a line"],
)
def test_what_stands_beside_answers_is_none_of_them_and_hides_none(reply: str):
    assert texts(reply) == [ONE, TWO]


def test_the_lines_of_a_block_within_a_list_lose_the_indent_of_its_fence():
    assert texts("1. Add:\n   ```python\n   def f(x):\n       return x\n   ```\n") == ["def f(x):\n    return x\n"]


def test_comments_that_part_one_program_do_not_part_answers():
    helper = "# Approach 1: a helper\ndef g(x):\n    return x\n# Approach 2: the function\ndef f(x):\n    return g(x)\n"
    assert texts(fenced(helper)) == [helper]


@pytest.mark.parametrize(
    ("reply", "programs"),
    [
        ("1. Using the method `sum` - this is efficient.\n2. Using a loop.", []),
        ("I can't do that:\n1. It is unclear.\n2. It is unsafe.", []),
        (fenced(ONE) + USE + fenced("f(2)\n", ""), [ONE]),
        (fenced(ONE) + fenced("All of these give the same.\n", ""), [ONE]),
        (fenced("    return 2 * x\n") + fenced("    return x + x\n"), ["    return 2 * x\n", "    return x + x\n"]),
        (fenced(ONE) + fenced("f = lambda x: x\n"), [ONE, "f = lambda x: x\n"]),
        ("### Answer 1\n I have written 4 ways to do it.", []),
        (fenced(ONE) + fenced("    return x +\n"), [ONE, "    return x +\n"]),
        (fenced(ONE) + fenced("return x +\n"), [ONE, "return x +\n"]),  # broken, yet an answer
        (USE, ["print(f(1))\n"]),
    ],
)
def test_prose_is_no_program_and_a_call_beside_one_is_an_example(reply: str, programs: list[str]):
    assert [answer.text for answer in programs_in(parse_reply(reply))] == programs
