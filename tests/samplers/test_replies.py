"""Answers out of one reply: the format that is asked for, what is understood besides, and what is not."""

import pytest

from spa_bench.samplers.replies import ParsedAnswer, parse_reply

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
