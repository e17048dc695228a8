"""Answers with stated probabilities, read from replies in every format that models use, and from replies in none."""

from __future__ import annotations

import pytest

from spa_bench.samplers.asking.stated import Stated, is_below, stated_in, weights

TWO = [Stated("red", 0.7), Stated("blue", 0.2)]


@pytest.mark.parametrize(
    "reply",
    [
        "<response>\n<text>\nred\n</text>\n<probability>0.7</probability>\n</response>\n"
        "<response><text>blue</text><probability> 20 % </probability></response>",
        "Sure!\n<text>red</text><probability>.7</probability><text>blue</text><probability>2e-1</probability>",
        "<response probability='0.7'>red</response><response probability=\"0.2\">blue</response>",
        "<response><text>red<probability>0.7</probability><response><text>blue<probability>0.2",
        '{"responses": [{"text": "red", "probability": 0.7}, {"text": "blue", "probability": 0.2}]}',
        'Here:\n```json\n[{"response": "red", "prob": "0.7"}, {"response": "blue", "prob": "20%"},]\n```\nDone.',
        '{"text": "red", "probability": 70,}\n{"text": "blue", "probability": 20,}',
        '{"reasoning": "a {b} c", "responses": {"1": {"answer": "red", "P": 0.7}, "2": {"answer": "blue", "p": 0.2}}}',
        '{"responses": [{"text": "red", "probability": 0.7}, {"text": "blue", "probability": 0.2}, {"text": "gre',
        "### Answer 1 (probability: 0.7)\nred\n\n### Answer 2\nProbability: 0.2\nblue\n",
        "**Response 1:** red (0.7)\n**Response 2:** blue (20%)\n",
        '1. "red" (probability: 0.7)\n2. blue – Probability = 0.2\n',
        '<think>\n{"text": "no", "probability": 1}\n</think>\n1. red (0.7)\n2. blue (0.2)',
    ],
)
def test_the_same_answers_are_read_from_every_format(reply: str):
    assert stated_in(reply) == TWO


def test_a_program_keeps_its_lines_and_may_stand_in_a_block():
    code = "```python\ndef f(x):\n    return {'text': x}\n```"
    tags = f"<response>\n<text>\n{code}\n</text>\n<probability>0.5</probability>\n</response>"
    assert stated_in(tags) == [Stated(code, 0.5)]
    json = '{"text": "def f(x):\n    return [1, 2,]", "probability": 0.5}'  # a line break within a text
    assert stated_in(json) == [Stated("def f(x):\n    return [1, 2,]", 0.5)]
    marked = f"### Answer 1 (probability: 0.5)\nThis one is plain.\n{code}\nIt works.\n"
    assert stated_in(marked) == [Stated("def f(x):\n    return {'text': x}\n", 0.5)]
    assert stated_in(f"First:\n{code}\nThen:\n{code}") == [Stated("def f(x):\n    return {'text': x}\n", None)] * 2


@pytest.mark.parametrize(
    "reply", ["", "I cannot do that.", "<think>\nred (0.7)", "{}", "[]", '{"probability": 0.7}', "<response></response>"]
)
def test_a_reply_without_answers_has_none(reply: str):
    assert stated_in(reply) == []


def test_a_bare_program_is_one_answer_where_programs_are_wanted():
    code = "def f(x):\n    return 1. + x\n"
    assert stated_in(code) == []
    assert stated_in(code, program=True) == [Stated(code, None)]
    assert stated_in(code, program=True, finished=False) == [Stated(code, None, whole=False)]
    assert stated_in("I cannot do that.", program=True) == []


def test_where_a_reply_is_cut_its_last_answer_is_not_whole():
    tags = "<response><text>red</text><probability>0.7</probability></response><response><text>bl"
    assert stated_in(tags, finished=False) == [Stated("red", 0.7), Stated("bl", None, whole=False)]
    marked = "### Answer 1 (probability: 0.7)\nred\n### Answer 2 (probability: 0.2)\nbl"
    assert stated_in(marked, finished=False) == [Stated("red", 0.7), Stated("bl", 0.2, whole=False)]


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (["0.5", "30%"], [0.5, 0.3]),
        (["50", "30"], [0.5, 0.3]),
        (["50", "0.5"], [0.5, 0.005]),  # one number above 1: all are percentages
        (["0.5", "500"], [0.5, None]),
        (["-0.5", "0.1"], [None, 0.1]),
        (["high", "0.1"], [None, 0.1]),
        (["nan", "inf"], [None, None]),
        (["1.0", "0"], [1.0, 0.0]),
        (["~0.25", "0.1."], [0.25, 0.1]),
        (["120%", ""], [None, None]),
    ],
)
def test_numbers_are_read_as_probabilities_or_not_at_all(said: list[str], read: list[float | None]):
    reply = "".join(f"<response><text>a{i}</text><probability>{s}</probability></response>" for i, s in enumerate(said))
    assert [s.probability for s in stated_in(reply)] == [None if r is None else pytest.approx(r) for r in read]


def test_weights_are_the_probabilities_divided_by_their_sum():
    assert weights(TWO) == [pytest.approx(7 / 9), pytest.approx(2 / 9)]
    assert weights([Stated("a", 0.25), Stated("b", None), Stated("c", 0.75)]) == [
        pytest.approx(1 / 6),
        pytest.approx(1 / 3),
        pytest.approx(1 / 2),
    ]
    assert weights([Stated("a", None), Stated("b", 0.0)]) == [0.5, 0.5]
    assert weights([Stated("a", 0.0), Stated("b", 0.1)]) == [0.0, 1.0]


def test_the_tail_is_what_is_stated_to_be_below():
    assert [is_below(Stated("a", p), 0.1) for p in (0.05, 0.1, None)] == [True, False, False]
