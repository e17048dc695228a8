"""Answers with stated probabilities in rarer formats, and what stands beside answers without being one."""

from __future__ import annotations

import pytest

from spa_bench.samplers.asking.reading import unfenced
from spa_bench.samplers.asking.stated import Stated, stated_in

TWO = [Stated("red", 0.7), Stated("blue", 0.2)]
F, G = "def f():\n    return '<item>'\n", "def g():\n    return '<item>'\n"
FENCED_F, FENCED_G = f"```python\n{F}```", f"```python\n{G}```"


def tag(text: str, said: str) -> str:
    return f"<response><text>{text}</text><probability>{said}</probability></response>"


@pytest.mark.parametrize(
    "reply",
    [
        # labels, titles and notes beside the answer
        '1. Text: red\n   Probability: 0.7\n2. Text: "blue"\n   Probability: 0.2',
        "**1.**\n**Text:** red\n**Probability:** 0.7\n\n**2.**\n**Text:** blue\n**Probability:** 0.2",
        "### Response 1\n\n**Text:** red\n\n**Probability:** 0.7\n\n### Response 2\n\n**Text:** blue\n\n**Probability:** 0.2",
        "### Answer 1: warm\nred\nProbability: 0.7\n### Answer 2: cold\nblue\nProbability: 0.2",
        "### Answer 1\nred\nProbability: 0.7\n\n### Answer 2\nblue\nProbability: 0.2\n\nBoth are guesses.",
        "### Answer 1 (0.7)\nred\n\n### Answer 2 (0.2)\nblue\n\nNote: the probabilities are rough.",
        "### Answer 1\nred\nProbability: 0.7\n\n---\n\n### Answer 2\nblue\n\n---\n\nProbability: 0.2",
        "Response 1: red (0.7)\nResponse 2: blue (0.2)\n\nBoth are guesses.",
        "1. **red**\n   - Reason: warm\n   - Probability: 0.7\n2. **blue**\n   - Reason: it is cold\n   - Probability: 0.2",
        "- text: red\n  probability: 0.7\n- text: blue\n  probability: 0.2",
        "```yaml\nresponses:\n  - text: red\n    probability: 0.7\n  - text: blue\n    probability: 0.2\n```",
        "```\n1. red (0.7)\n2. blue (0.2)\n```",
        # numbers
        "1. red (p = 0.7)\n2. blue ($p = 0.2$)",
        "1. red (70% probability)\n2. blue (20% likely)",
        "1. red – 70% chance\n2. blue – 20% chance",
        "1. [0.7] red\n2. (20%) blue",
        "1. red（probability: 0.7）\n2. blue（20％）",
        "| Answer | Estimated probability |\n|---|---|\n| red | 70% |\n| blue | 20% |",
        # other languages
        "1. **red** (Wahrscheinlichkeit: 0,7)\n2. blue – Wahrscheinlichkeit: 20 %",
        "### Réponse 1\nred\nProbabilité : 0,7\n\n### Réponse 2\nblue\nProbabilité : 0,2",
        "1. red（概率：0.7）\n2. blue（概率：0.2）",
        # tags
        "<response_1>red<probability>0.7</probability></response_1>\n<response_2>blue<probability>0.2</probability></response_2>",
        "<response><text>red</text><probability type='numeric'>0.7</probability></response>"
        "<response><text>blue</text><numeric_probability>0.2</numeric_probability></response>",
        '<response>{"text": "red", "probability": 0.7}</response><response>{"text": "blue", "probability": 0.2}</response>',
        "<response><text>the answer</text><probability>0.2</probability></response>"
        "<response><text>red</text><probability>0.7</probability></response>"
        "<response><text>blue</text><probability>0.2</probability></response>",
    ],
)
def test_the_same_answers_are_read_from_rarer_formats(reply: str):
    assert stated_in(reply) == TWO


@pytest.mark.parametrize(
    "reply",
    [
        f"### Answer 1 (probability: 0.7)\n```sh\npip install a\n```\n{FENCED_F}\n### Answer 2\n{FENCED_G}\nProbability: 0.2",
        f"```python\n# Response 1 (probability: 0.7)\n{F}\n# Response 2 (probability: 0.2)\n{G.replace('g', 'f')}```",
        f"<response>\n<code>\n{F}</code>\n<probability>0.7</probability>\n</response>\n"
        f"<response>\n<code>\n{G}</code>\n<probability>0.2</probability>\n</response>",
        f"<response>\n<probability>0.7</probability>\n</response>\n{FENCED_F}\n"
        f"<response>\n<probability>0.2</probability>\n</response>\n{FENCED_G}",
        "<response><text># Your code here</text><probability>0.5</probability></response>\n"
        f"<response><text>{FENCED_F}</text><probability>0.7</probability></response>\n"
        f"<response><text>{FENCED_G}</text><probability>0.2</probability></response>",
        "1. One (0.7)\n   ```python\n   def f():\n       return '<item>'\n   ```\n"
        "2. Two (0.2)\n   ```python\n   def g():\n       return '<item>'\n   ```",
    ],
)
def test_programs_are_told_from_what_stands_beside_them(reply: str):
    found = [(unfenced(one.text).strip().replace("def g", "def f"), one.probability) for one in stated_in(reply, program=True)]
    assert found == [(F.strip(), 0.7), (F.strip(), 0.2)]


def test_comments_within_one_program_do_not_part_it():
    program = "# Approach 1: a helper\ndef g(x):\n    return x\n\n# Approach 2: the function\ndef f(x):\n    return g(x)\n"
    assert stated_in(f"```python\n{program}```", program=True) == [Stated(program, None)]


@pytest.mark.parametrize(
    "mention",
    [
        "A <text> is the answer alone. A <probability> is a number from 0 to 1.",
        "Write nothing outside of the <response> tags.",
        "Each within a <response> tag. A <response> has a <text> and a numeric <probability>:",
        "The <text> has no <item> in it",
    ],
)
def test_a_tag_that_prose_mentions_begins_no_answer(mention: str):
    assert stated_in(mention) == []
    tags = tag("red", "0.7") + tag("blue", "0.2")
    assert stated_in(f"{mention}\n\n{tags}") == TWO
    assert stated_in(f"{tags}\n\n{mention}") == TWO


@pytest.mark.parametrize("mark", ["Response {}: ", "**Response {}:** ", "{}. "])
def test_a_text_that_begins_beside_its_mark_keeps_all_lines(mark: str):
    reply = f"{mark.format(1)}Red is warm,\nblue is cold.\nProbability: 0.7\n\n{mark.format(2)}Stars are far.\nProbability: 0.2"
    assert stated_in(reply) == [Stated("Red is warm,\nblue is cold.", 0.7), Stated("Stars are far.", 0.2)]


def test_an_item_whose_last_line_has_its_probability_keeps_the_lines_above():
    assert stated_in("1. Red is warm,\n   blue is cold. (0.7)\n2. Stars (0.2)") == [
        Stated("Red is warm,\nblue is cold.", 0.7),
        Stated("Stars", 0.2),
    ]


def test_a_text_around_the_line_of_its_probability_is_whole():
    reply = "### Answer 1\n**Warm**\nProbability: 0.7\n\nRed.\n\n### Answer 2\n**Cold**\nProbability: 0.2\n\nBlue."
    assert stated_in(reply) == [Stated("**Warm**\n\nRed.", 0.7), Stated("**Cold**\n\nBlue.", 0.2)]
    within = "### Answer 1 (0.7)\nRed.\nConfidence: 0.9\nBlue.\n### Answer 2 (0.2)\nStars."
    assert stated_in(within) == [Stated("Red.\nBlue.", 0.7), Stated("Stars.", 0.2)]


def test_a_number_in_brackets_within_an_item_is_no_probability():
    assert stated_in("1. red\n   see (2)\n   Probability: 0.7\n2. blue (0.2)") == [Stated("red\nsee (2)", 0.7), TWO[1]]


def test_a_year_in_brackets_is_no_probability_and_a_part_of_the_text():
    assert stated_in("1. Alien (1979)\n   Probability: 0.4\n2. Heat (1995) (0.3)") == [
        Stated("Alien (1979)", 0.4),
        Stated("Heat (1995)", 0.3),
    ]


@pytest.mark.parametrize("below", ["0.5, 0.3", "\n1. 0.5\n2. 0.3", "Answer 1: 50%, Answer 2: 30%", "red 0.5, blue 0.3"])
def test_probabilities_below_all_answers_are_no_answers_and_no_part_of_one(below: str):
    found = stated_in(f"1. red\n2. blue\n\n**Probabilities:** {below}")
    assert [(one.text.strip(), one.probability) for one in found] == [("red", None), ("blue", None)]


def test_a_numbered_refusal_states_no_answer():
    assert stated_in("I cannot do this because:\n\n1. It is unclear.\n2. It is unsafe.") == []
    assert [one.text for one in stated_in("Sorry, I cannot rank them, but here are two:\n1. red\n2. blue")] == [
        "red\n",
        "blue\n",
    ]
