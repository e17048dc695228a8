"""Reading replies: the answer behind a marker, and the items of a list."""

from __future__ import annotations

import pytest

from spa_bench.samplers.asking.reading import answer_in, items_in, without_thoughts

BLOCK = "```python\nx = 1\n```"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("red", "red"),
        ("I think.\n\n### Answer\nred\n", "red"),
        ("**Answer:** red", "red"),
        ("Answer: pink\nNo.\nFinal answer: red", "red"),
        ("### Answer\n\nred\nand blue", "red\nand blue"),
        ("red\n### Answer\n", "red\n### Answer"),  # nothing behind it
        ("The answer is red.", "The answer is red."),
        ("```\nAnswer: pink\n```\nAnswer: red", "red"),
        ("<think>\nAnswer: pink\n</think>\n\nred", "red"),
        ("<think>\nAnswer: pink", ""),
    ],
)
def test_a_text_is_what_stands_behind_the_last_marker(reply: str, answer: str):
    assert answer_in(reply, program=False) == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("x = 1", "x = 1"),
        (f"So:\n{BLOCK}\nThat is all.", "x = 1\n"),
        (f"```python\ny = 2\n```\n### Answer\n{BLOCK}", "x = 1\n"),
        (f"{BLOCK}\nUse it so:\n```python\nprint(x)\n```", f"{BLOCK}\nUse it so:\n```python\nprint(x)\n```"),
        ("```python\n# Answer: 3\nx = 1", "# Answer: 3\nx = 1"),
    ],
)
def test_a_program_is_its_only_block_or_left_to_the_task(reply: str, answer: str):
    assert answer_in(reply, program=True) == answer


def test_thoughts_are_left_out():
    assert without_thoughts("a </think> b") == " b"
    assert without_thoughts("a <think> b") == "a <think> b"
    assert without_thoughts(" <think> b") == ""


@pytest.mark.parametrize(
    "reply",
    [
        "1. Sort it.\n2. Count it.",
        "1) **Sort it.**\n2) Count\n   it.\n",
        "Here are two:\n\n- Sort it.\n* Count it.\n",
        "1. Sort\n   it.\n2. Count it.",
        "## Observation 1:\nSort it.\n\n## Observation 2:\nCount it.",
        "**Observation 1:** Sort it.\n\n**Observation 2:** Count it.",
        'Sure:\n```json\n["Sort it.", "Count it."]\n```',
        "```python\n[\n    'Sort it.',\n    'Count it.',\n]\n```",
        "Ideas:\nSort it.\nCount it.",
        "<think>\n1. No.\n</think>\n1. Sort it.\n2. Count it.\n3. Sort it.\n",
    ],
)
def test_the_items_of_a_list_are_read_in_many_forms(reply: str):
    assert items_in(reply, 5) == ["Sort it.", "Count it."]
    assert items_in(reply, 1) == ["Sort it."]


def test_bullets_below_a_number_belong_to_its_item():
    assert items_in("1. Sort:\n   - up\n   - down\n2. Count", 5) == ["Sort: - up - down", "Count"]


def test_a_sentence_is_no_list_unless_one_item_is_wanted():
    assert items_in("I cannot do that.", 3) == []
    assert items_in("Sort it.", 1) == ["Sort it."]
    assert items_in(" \n", 1) == []


def test_a_program_is_no_list():
    assert items_in("def f(x):\n    return x\nassert f(1)", 3) == []


def test_a_list_within_an_item_is_no_list():
    assert items_in('1. for ["a", "b"] it is 2\n2. else 0', 3) == ['for ["a", "b"] it is 2', "else 0"]
