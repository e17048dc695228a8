"""Answers with stated probabilities, read from replies in every format that models use, and from replies in none."""

from __future__ import annotations

import pytest

from spa_bench.samplers.asking.reading import unfenced
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
        # tags
        "<reasoning>There could be <response> tags.</reasoning>"
        "<response><text>red</text><probability>0.7</probability></response>"
        "<response><reasoning>or <item></reasoning><text>blue</text><probability>0.2</probability></response>",
        "<reasoning>\nred, or\n<response> is it\n<response>\n<text>red</text><probability>0.7</probability></response>"
        "<response><text>blue</text><probability>0.2</probability></response>",
        "<response><answer>red</answer><probability>0.7</probability></response>\n"
        "<response><answer>blue</answer><probability>0.2</probability></response>",
        "<response>red</response>\n<probability>0.7</probability>\n<response>blue</response>\n<probability>0.2</probability>",
        "<probability>0.7</probability><response>red</response>\n<probability>0.2</probability><response>blue</response>",
        "<response>\nred\nProbability: 0.7\n</response>\n<response>\nblue (probability: 0.2)\n</response>",
        "<response>\n<text>\nred\n**Probability:** 70 %\n</text>\n</response>"
        "<response><text>blue</text> Probability 0.2</response>",
        "<text>red</text>\nProbability: 0.7\n<text>blue</text>\nProbability: 0.2",
        "<answer><response><text>red</text><probability>0.7</probability></response>"
        "<response><text>blue</text><probability>0.2</probability></response></answer>",
        "<responses><text>red</text><probability>0.7</probability><text>blue</text><probability>0.2</probability></responses>",
        "<response><text><![CDATA[red]]></text><probability>0.7</probability></response>"
        "<response><![CDATA[blue]]><probability>0.2</probability></response>",
        "<response><text>red <probability>0.7</probability></text></response>"
        "<response><probability>0.2</probability>blue</response>",
        "I use `<response>` tags:\n<response 1><text>red</text><probability>7/10</probability></response 1>"
        "<response 2><text>blue</text><probability>1 in 5</probability></response 2>",
        "```xml\n<response>\n<text>red</text>\n<probability>0.7</probability>\n</response>\n<response>\n<text>blue</text>\n"
        "<probability>0.2</probability>\n</response>\n```",
        # JSON
        '[{"text": """red""", "probability": 0.7}, {"text": """blue""", "probability": 0.2}]',
        "[{'text': 'red', 'probability': 0.7}, {text: \"blue\", probability: 1/5}]",
        '{"red": 0.7, "blue": "20%"}',
        '[{"id": 1, "colour": "red", "probability": 0.7}, {"id": 2, "colour": "blue", "probability": 0.2}]',
        '{"responses": {"red": 0.7, "blue": 0.2}}',
        'Here they are:\n[{"red": 0.7}, {"blue": 0.2}]',
        '[["red", 0.7], ["blue", 0.2]]',
        '{"answers": ["red", "blue"], "probabilities": [0.7, 0.2]}',
        # lists and tables
        "- red: 0.7\n- blue: 0.2",
        "Two colours:\n\n* **red**: 70 %\n* **blue** – 20%",
        "red: 0.7\nblue: 0,2",
        "1. red - 0.7\n2. blue, 0.2",
        "1. red\n   Probability: 0.7\n2. blue\n   Probability: 0.2",
        "- red (0.7)\n- blue (1/5)",
        "- **red**\n  - Probability: 0.7\n- **blue**\n  - Probability: 0.2",
        "**Answer:** red\n**Probability:** 0.7\n\n**Answer:** blue\n**Probability:** 0.2",
        "Two of them:\nred\nProbability: 0.7\n\nblue\nProbability: 0.2\n\nThat is all.",
        "1. red, with a probability of 0.7.\n2. blue, with a probability of 0.2.",
        "| red | 0.7 |\n| blue | 0.2 |",
        "| # | Colour | Probability |\n|---|:---|---:|\n| 1 | **red** | 0.7 |\n| 2 | blue | 20 % |\n",
        "| Answer | Why | Prob. |\n|---|---|---|\n| red | warm | 0.7 |\n| blue | cold | 0.2 |\n",
        "### Answer 1 (probability: 0.7): red\n### Answer 2\nblue\n**Probability:** 0.2 (rare)",
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


F, G = "def f():\n    return '<item>'\n", "def g():\n    return '<item>'\n"
FENCED_F, FENCED_G = f"```python\n{F}```", f"```python\n{G}```"


@pytest.mark.parametrize(
    "reply",
    [
        f"{FENCED_F}\nProbability: 0.7\n\n{FENCED_G}\nProbability: 0.2",
        f"{FENCED_F}\nThis one is plain.\n**Probability:** 0.7\n\n{FENCED_G}\n**Probability:** 0.2\n\nBoth work.",
        f"Both have a probability of 0.1 at least:\n\nA loop\n{FENCED_F}\nProbability: 70%\n{FENCED_G}\n(probability 0.2)",
        f"**A loop** (probability: 0.7)\n{FENCED_F}\n**No loop** (probability: 0.2)\n{FENCED_G}\nBoth work.",
        f"### A loop (0.7)\n{FENCED_F}\n### No loop (0.2)\n{FENCED_G}",
        f"1. A loop (0.7)\n{FENCED_F}\n2. No loop (0.2)\n{FENCED_G}",
        f"1.\n{FENCED_F}\nProbability: 0.7\n\n2.\n{FENCED_G}\nProbability: 0.2",
        f"1. {FENCED_F}\nProbability: 0.7\n\n2. {FENCED_G}\nProbability: 0.2",
        f"<response><text>{FENCED_F}</text><probability>0.7</probability></response>\n"
        f"<response><text>{FENCED_G}</text><probability>0.2</probability></response>",
        f"{FENCED_F} (0.7)\n{FENCED_G} (0.2)",
        f"1. It loops.\n2. It ends.\n{FENCED_F}\nProbability: 0.7\n{FENCED_G}\nProbability: 0.2",
        f"### Approach 1\n{FENCED_F}\nProbability: 0.7\n### Approach 2\n{FENCED_G}\nProbability: 0.2",
        f"{FENCED_F}\nProbability: 0.7\n{FENCED_G}\nProbability: 0.2\n\nUse it so:\n```\nf(1)\n```",
        f'[{{"text": """{F}""", "probability": 0.7}}, {{"text": """{G}""", "probability": 0.2}}]',
    ],
)
def test_programs_are_read_with_what_stands_beside_their_blocks(reply: str):
    found = stated_in(reply, program=True)
    assert [(unfenced(one.text).strip(), one.probability) for one in found] == [(F.strip(), 0.7), (G.strip(), 0.2)]


def test_where_probabilities_may_belong_to_either_block_there_is_none():
    reply = f"Probability: 0.7\n{FENCED_F}\nProbability: 0.2\n{FENCED_G}\nProbability: 0.1"
    assert stated_in(reply, program=True) == [Stated(F, None), Stated(G, None)]


def test_a_comment_beside_a_program_may_state_its_probability():
    reply = f"```python\n# Probability: 0.7\n{F}```\n```python\n{G}# Probability: 0.2\n```"
    assert [one.probability for one in stated_in(reply, program=True)] == [0.7, 0.2]


def tag(text: str, said: str = "0.5") -> str:
    return f"<response><text>{text}</text><probability>{said}</probability></response>"


@pytest.mark.parametrize(
    "program",
    [
        "def f():\n    return '<item>'",
        "def f():\n    return '<response>a</response>'",
        "def f():\n    return '<text>a</text>'",
        "def f():\n    return '<text x=\"1\">a</text>'",
        "def f():\n    return '&lt;'",
        "def f(a, lt):\n    return a & lt",
    ],
)
def test_tags_and_entities_of_a_program_are_a_part_of_it(program: str):
    for written in (program, f"```python\n{program}\n```"):
        assert stated_in(tag(written) + tag("x = 1"), program=True) == [Stated(written, 0.5), Stated("x = 1", 0.5)]
    assert stated_in(tag(f"<![CDATA[{program} # </text>]]>"), program=True) == [Stated(f"{program} # </text>", 0.5)]
    block = f"```python\n{program}\n```"
    assert stated_in(f"<response>\n{block}\n<probability>0.5</probability>\n</response>", program=True) == [Stated(block, 0.5)]


@pytest.mark.parametrize(
    ("written", "program"),
    [
        ("def f(a):\n    return a &lt; 1", "def f(a):\n    return a < 1"),
        (
            "def f(a):\n    if a &gt; 1 &amp; 2:\n        return &quot;a&quot;",
            'def f(a):\n    if a > 1 & 2:\n        return "a"',
        ),
        ("```python\nif a &lt;= 1:\n    pass\n```", "```python\nif a <= 1:\n    pass\n```"),
    ],
)
def test_entities_without_which_a_program_is_none_are_characters(written: str, program: str):
    assert stated_in(tag(written), program=True) == [Stated(program, 0.5)]


def test_a_block_that_is_not_closed_within_its_tag_hides_no_other_answer():
    reply = f"<response>\n<text>\n```python\n{F}</text>\n</response>\n" + tag(f"\n{FENCED_G}\n")
    assert stated_in(reply, program=True) == [Stated(f"```python\n{F.strip()}", None), Stated(FENCED_G, 0.5)]


@pytest.mark.parametrize(
    "program",
    [
        "def f():\n    # Solution 1: sort\n    return 1",
        "import re\n# Option 1\nx = 1\n\n\ndef f():\n    return 1",
        'def f(x):\n    """Do it.\n\n    1. Double it (0.5).\n    2. Return it (0.5).\n    Answer 1: x\n    """\n    return x',
        'shares = {"a": 0.4, "b": 0.6}\n\n\ndef f():\n    return shares',
        "def f():\n    return '<item>'",
    ],
)
def test_what_looks_like_answers_within_a_bare_program_is_a_part_of_it(program: str):
    assert stated_in(program, program=True) == [Stated(program, None)]


def test_programs_below_comments_are_answers_where_each_is_one():
    found = stated_in(f"# Answer 1\n{F}\n# Answer 2\n{G}", program=True)
    assert [one.text.strip() for one in found] == [F.strip(), G.strip()]


@pytest.mark.parametrize(
    "reply",
    [
        "<reasoning>\n1. a loop (probability 0.5)\n2. recursion (probability 0.3)\nNow",
        "<reasoning>\nThe form is\n<response>\n<text>a</text>\n<probability>0.2</probability>\n</response>\nso",
        "<thinking>\n### Answer 1\nred",
    ],
)
def test_reasoning_in_which_a_reply_ended_states_no_answer(reply: str):
    assert stated_in(reply, finished=False) == []
    assert stated_in(reply, program=True, finished=False) == []


@pytest.mark.parametrize("reply", ["1. I cannot do that.\n2. Ask for another.", "1. a loop (0.5)\n2. recursion (0.3)"])
def test_prose_on_numbered_lines_is_no_program(reply: str):
    assert stated_in(reply, program=True) == []
    assert len(stated_in(reply)) == 2


@pytest.mark.parametrize(
    ("reply", "texts"),
    [
        ('["red","blue"]', ["red", "blue"]),
        ('```json\n["red", "blue"]\n```', ["red", "blue"]),
        ('{"responses": ["red", "blue"]}', ["red", "blue"]),
        ('["red", "blue", "gre', ["red", "blue"]),
        ('{"1": "red", "2": "blue"}', ["red", "blue"]),
        ('[{"name": "Sirius", "where": "far", "probability": 0.4}]', []),  # which of both?
        ("I cannot say.\nProbability: 0.4", []),
        ("[Sirius](there) is one.", []),
        ('See ["red"] for it.', []),
        ('{"red": 1, "blue": 2}', []),  # neither shares nor percentages
        ("- The answer is: 1", []),
        ("- see (2)\n- see (3)", []),
        ("| # | Star | Why | Probability |\n|---|---|---|---|\n| 1 | Sirius | x | 0.4 |", []),  # which column?
    ],
)
def test_what_states_no_probabilities_is_read_where_it_is_unambiguous(reply: str, texts: list[str]):
    assert stated_in(reply, finished=False) == [Stated(text, None) for text in texts]


def test_json_that_breaks_off_before_its_first_answer_is_none():
    for reply in ('```json\n{"responses": [{"text": "the de', '{"text": "a", "probability": 0.'):
        assert stated_in(reply, finished=False) == []
    assert stated_in('```json\n{"colour": "red"}\n```') == [Stated('{"colour": "red"}\n', None)]  # an answer that is JSON


def test_lines_of_a_text_in_json_are_joined():
    assert stated_in('{"text": ["line 1", "line 2"], "probability": 0.4}') == [Stated("line 1\nline 2", 0.4)]


def test_a_number_in_which_the_reply_ended_is_no_probability():
    assert stated_in(tag("red") + "<response><text>blue</text><probability>0.0", finished=False)[1].probability is None
    assert stated_in("### Answer 1\nred\nProbability: 0.", finished=False)[0].probability is None
    assert stated_in("1. red (0.7)\n2. bl", finished=False) == [Stated("red", 0.7), Stated("bl", None, whole=False)]


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
        (["1/4", "0,25"], [0.25, 0.25]),
        (["< 0.05", "&lt; 0.05"], [0.05, 0.05]),
        (["0.04 (rare)", "25 %"], [0.04, 0.25]),
        (["0.2 (20%)", "high (0.8)"], [0.2, 0.8]),
        (["1 in 4", "7 percent"], [0.25, 0.07]),
        (["0.1-0.2", "0.5 or 0.6"], [None, None]),
        (["1,000", "0,125"], [None, 0.125]),
        (["3/0", "as GPT-4"], [None, None]),
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
