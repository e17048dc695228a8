"""Reading replies: the answer behind a marker, and the items of a list."""

from __future__ import annotations

import pytest

from spa_bench.samplers.asking.fences import is_program
from spa_bench.samplers.asking.reading import answer_in, items_in, unfenced
from spa_bench.support.thoughts import without_thoughts

BLOCK = "```python\nx = 1\n```"
F = "def f():\n    return 1\n"
FENCED = f"```python\n{F}```"
DOCSTRING = 'def f(x):\n    """Double it.\n\n{}\n    """\n    return 2 * x\n\n\ndef g(x):\n    return f(f(x))'


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


@pytest.mark.parametrize(
    "reply",
    [
        f"{FENCED}\n\nAnswer:\nThis function returns 1.",
        f"### Answer\n{FENCED}\n\n**Final Answer:** the code above",
        f"{FENCED}\n**Answer:** `f(1)` gives 1",
        f"# Answer\n{FENCED}",
        f"A draft:\n```\nx\n```\n# Answer\n{FENCED}\nAnswer: it is 1",
        f"### Answer\n{FENCED}\n\nFinal answer: it prints\n```\n1\n```",
        f"def draft():\n    pass\n\n### Answer\n{FENCED}",
        f"Answer:\n{FENCED}\n\n### Answer\n",
    ],
)
def test_a_marker_without_a_program_behind_it_does_not_hide_the_program(reply: str):
    assert answer_in(reply, program=True) == F


@pytest.mark.parametrize(
    "program",
    [
        "def f():\n    x = 1\n    # final answer\n    return x",
        "import re\n\n# Answer\ndef f(x):\n    return re.sub(x)",
        "    x = 1\n    # Answer\n    return x",
        "answer: int = 3\n\n\ndef f():\n    return answer",
        "def f():\n    return answer\n\n\nanswer: int\n\n\ndef g():\n    return 1",
        "class A:\n    x: int\n    answer: int\n\n\ndef f():\n    return A(1, 2)",
        "def f(x):\n    # Option 1: fast\n    return x",
        DOCSTRING.format("    Answer: the number"),
        DOCSTRING.format("answer: the number"),
        DOCSTRING.format("    ```\n    f(1)\n    ```"),
    ],
)
def test_what_looks_like_a_marker_within_a_program_is_a_part_of_it(program: str):
    assert answer_in(program, program=True) == program
    assert answer_in(f"### Answer\n{program}", program=True) == program
    assert answer_in(f"### Answer\n{program}\n\n**Final Answer:** the code above", program=True) == program


def test_a_block_of_what_a_program_prints_is_not_the_program():
    reply = f"{FENCED}\n### Answer\n```\n1\n```"
    assert answer_in(reply, program=True) == reply  # which the sanitiser reads
    assert answer_in("Answer:\n```\n1\n```", program=True) == "1\n"


def test_a_block_beside_a_program_without_fences_is_an_example():
    reply = f"{F}\nUse it so:\n```python\nprint(f())\n```"
    assert answer_in(reply, program=True) == reply
    assert answer_in(f"{F}```\nAnswer: it returns 1", program=True) == F.strip()  # the fence closes the program
    assert answer_in(f"import this\n{FENCED}", program=True) == F


def test_a_lambda_behind_a_marker_is_a_program():
    assert answer_in("It is short.\nAnswer: lambda x: x", program=True) == "lambda x: x"


def test_fences_with_nothing_in_them_are_no_program():
    assert answer_in("```python\n```", program=True) == ""
    assert unfenced("```\n\n") == ""


def test_a_quote_that_never_closes_hides_no_fence():
    assert answer_in(f'def draft():\n    """Do\n\n{FENCED}', program=True) == F


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("from what I see, no", False),
        ("class of problems", False),
        ("import what you need", False),
        ("from . import a", True),
        ("import a.b as c", True),
        ("class A:", True),
        ("class A(B):", True),
        ("async def f(", True),
        ("def f", True),  # cut
        ("@cache", True),
    ],
)
def test_a_program_is_told_from_prose_by_its_lines_at_the_margin(text: str, read: bool):
    assert is_program(f"Well\n{text}\n") == read


def test_thoughts_are_left_out():
    assert without_thoughts("a </think> b") == " b"
    assert without_thoughts("a <think> b") == "a <think> b"
    assert without_thoughts(" <think> b") == ""
    for begin, end in (("<thinking>", "</thinking>"), ("<seed:think>", "</seed:think>"), ("[THINK]", "[/THINK]")):
        assert without_thoughts(f"{begin}1. a{end}\n1. b") == "1. b"
        assert without_thoughts(f"\n{begin}1. a") == ""
    assert without_thoughts("a list of [THINK] and <thinking>") == "a list of [THINK] and <thinking>"


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
        '{"observations": [\n  "Sort it.",\n  "Count it."\n]}',
        '{"task": "Order", "observations": ["Sort it.", "Count it."]}',
        '[{"observation": "Sort it."}, {"observation": "Count it."}]',
        '[{"id": 1, "observation": "Sort it.", "why": "x"}, {"id": 2, "observation": "Count it.", "why": "y"}]',
        '{"observations": {"1": "Sort it.", "2": "Count it."}}',
        '{"observation": "Sort it."}\n{"observation": "Count it."}',
        "[['Sort it.'], ['Count it.']]",
        '["1. Sort it.", "Observation 2: Count it."]',
        '[\n "Sort it.",\n "Count it.",\n "Then co',
        '```json\n{"observations": [\n "Sort it.",\n "Count it.",\n "Th',
        '[{"idea": "Sort it."}, {"idea": "Count it."}, {"id',
        "1. Sort it.\n2. Count it.\n\nThese approaches differ in their speed.",
        "- Sort it.\n- Count it.\n\nLet me know\nwhat you think!",
        "## Observation 1:\n\nSort it.\n\n## Observation 2:\n\nCount it.\n\nBoth help.",
        "Ideas:\n\nSort it.\n\nCount it.",
        "1. Sort it.\n2. ---\n3. 42\n4. Count it.",
        "[1] Sort it.\n[2] Count it.",
        "1.Sort it.\n2.Count it.",
        "Observation: Sort it.\n\n**Observation:** Count it.",
        "a) Sort it.\nb) Count it.",
        "- 1. Sort it.\n- 2. Count it.",
        "**Sort it.**\n\n**Count it.**\n\nThat is all.",
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


def test_lines_of_a_reply_in_no_form_of_a_list_are_no_items():
    refusal = "I am sorry, I cannot do that.\nPlease ask for something else."
    assert items_in(refusal, 3) == []
    assert items_in(refusal, 1) == ["I am sorry, I cannot do that. Please ask for something else."]
    assert items_in('{"observations": [\n "Use a s', 1) == []
    assert items_in('The list ["a", "b"] is long.\nSort it.', 3) == []


def test_the_last_item_has_as_many_paragraphs_as_the_others():
    reply = "## Idea 1: Sort\n\nIt is fast.\n\n## Idea 2: Count\n\nIt is\nfaster.\n\nBoth work."
    assert items_in(reply, 5) == ["Sort It is fast.", "Count It is faster."]
    assert items_in("1. Sort:\n\n   up\n\n2. Count:\n\n   down\n\nBye.", 5) == ["Sort: up", "Count: down"]


def test_bold_words_lose_their_stars_and_powers_keep_them():
    assert items_in("1. **Sort** it: **up**\n2. 2**n is 2 ** n", 5) == ["Sort it: up", "2**n is 2 ** n"]


def test_an_object_of_a_list_is_one_item():
    reply = '[{"name": "Two pointers", "description": "Walk"}, {"name": "Hash", "description": "Store"}]'
    assert items_in(reply, 5) == ["Two pointers: Walk", "Hash: Store"]


@pytest.mark.parametrize(
    ("reply", "items"),
    [
        ("1. Sort.\n2. Count.\n3. Ha", ["Sort.", "Count."]),
        ("1. Sort.\n2. Count.\n3. ", ["Sort.", "Count."]),  # nothing of the third is there
        ("1. Sort.\n2. Count.\n3. Sort.", ["Sort.", "Count."]),  # a double is none of those that are left
        ("1. Sort.\n2. Count.\n3. Hash.\n4. Wa", ["Sort.", "Count.", "Hash."]),
        ("Three ways:\nSort.\nCount.\nHa", ["Sort.", "Count."]),
        ('["Sort.", "Count.", "Ha', ["Sort.", "Count."]),
        ('{"ways": [{"way": "Sort."}, {"way": "Count."}, {"way": "Ha', ["Sort.", "Count."]),
        ("| way |\n|---|\n| Sort. |\n| Count. |\n| Ha", ["Sort.", "Count."]),
        ("<ul><li>Sort.</li><li>Count.</li><li>Ha", ["Sort.", "Count."]),
        ("1. So", ["So"]),
    ],
)
def test_the_item_in_which_a_reply_was_cut_is_left_out_and_no_other(reply: str, items: list[str]):
    assert items_in(reply, 3, finished=False) == items
    assert items_in(reply, 1, finished=False) == items[:1]


def test_a_program_is_no_list():
    assert items_in("def f(x):\n    return x\nassert f(1)", 3) == []


def test_a_list_within_an_item_is_no_list():
    assert items_in('1. for ["a", "b"] it is 2\n2. else 0', 3) == ['for ["a", "b"] it is 2', "else 0"]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("**Answer: red**", "red"),
        ("### Answer 1\n\nred", "red"),
        ("My answer: red", "red"),
        ("### Antwort\nred", "red"),
        ("### 答案：red", "red"),
        ("### Answer\n```\nred\n```", "red"),
        ("I think.\n<answer>red</answer>", "red"),
        ("### Answer\n\nred\n\n---", "red"),
        ("### Answer\nred\n\n---\n\nblue", "red\n\n---\n\nblue"),
        ("### Answer\n```sh\nls\n```", "```sh\nls\n```"),
        ("### Answer 1\nred\n### Answer 2\nblue", "### Answer 1\nred\n### Answer 2\nblue"),  # which of both?
        ("### Answer\n", ""),
    ],
)
def test_markers_and_wrappings_are_no_part_of_a_text(reply: str, answer: str):
    assert answer_in(reply, program=False) == answer


@pytest.mark.parametrize(
    "reply",
    [
        f"<answer>\n{F}</answer>",
        f"I think.\n\n<code>\n{F}</code>",
        f"<answer>\n{FENCED}\n</answer>\nDone.",
        f"```python\n{F.strip()}```",
        f"{F}```",
        "1. Do it:\n   ```python\n   def f():\n       return 1\n   ```",
    ],
)
def test_tags_and_the_indent_of_fences_are_no_part_of_a_program(reply: str):
    assert answer_in(reply, program=True).strip() == F.strip()


def test_a_tag_within_a_string_of_a_program_is_a_part_of_it():
    body = '    s = """\n<code>a</code>\n"""\n    return s'
    assert answer_in(body, program=True) == body


def test_markers_and_fences_alone_hold_no_answer():
    assert answer_in("### Answer\n\n```python\n```", program=True) == ""


@pytest.mark.parametrize(
    "reply",
    [
        "| # | Observation |\n|---|---|\n| 1 | Sort it. |\n| 2 | Count it. |",
        "Here:\n\n| Observation | Why |\n|---|---|\n| Sort it. | fast |\n| Count it. | slow |",
        "**Easy:**\n1. Sort it.\n\n**Hard:**\n2. Count it.",
        "- [ ] Sort it.\n- [x] Count it.",
        "<observations>\n1. Sort it.\n2. Count it.\n</observations>",
        "<observation>Sort it.</observation>\n<observation>\nCount it.\n</observation>",
        "<ol>\n<li>Sort it.</li>\n<li>Count it.</li>\n</ol>",
        "1️⃣ Sort it.\n2️⃣ Count it.",
        "① Sort it.\n② Count it.",
        "1、Sort it.\n2、Count it.",
        "1 - Sort it.\n2 - Count it.",
        "> 1. Sort it.\n> 2. Count it.",
        "→ Sort it.\n→ Count it.",
        "### Technique 1: Sort it.\n### Technique 2: Count it.",
        "- Observations:\n  1. Sort it.\n  2. Count it.",
        "1. Sort it.\n   2. Count it.",
        "1. Sort it.\n2. Count it.\n---",
        "1. 1. Sort it.\n2. 2. Count it.",
        "I cannot write code, but here are two observations:\n1. Sort it.\n2. Count it.",
        "I apologize for the confusion.\n1. Sort it.\n2. Count it.",
    ],
)
def test_the_items_of_a_list_are_read_in_rarer_forms(reply: str):
    assert items_in(reply, 5) == ["Sort it.", "Count it."]


def test_a_list_within_an_item_is_a_part_of_it():
    inner = "Sort it: 1. up 2. down"
    assert items_in("1. Sort it:\n   1. up\n   2. down\n2. Count", 5) == [inner, "Count"]
    assert items_in("- Sort it:\n  1. up\n  2. down\n- Count", 5) == [inner, "Count"]
    assert items_in("- Sort:\n  - up\n  - down\n- Count", 5) == ["Sort: - up - down", "Count"]


def test_bold_words_that_begin_before_the_mark_lose_all_stars():
    assert items_in("**1. Sorting:** Sort.\n**2) Counting** - Count.", 5) == ["Sorting: Sort.", "Counting - Count."]
    assert items_in("**Idea 1: Sorting**\nSort.\n**Idea 2: Counting**\nCount.", 5) == ["Sorting Sort.", "Counting Count."]


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, I can't help with that. Instead you could:\n\n- ask a teacher\n- read a book",
        "I cannot do this:\nIt is unclear.\nSay more.",
        "The answer is:\nThe answer is:\n\nThe answer is:\n",
        "Unfortunately, I am unable to provide a solution:\n1. It is unclear.\n2. It is unsafe.",
    ],
)
def test_a_list_below_a_refusal_or_of_headings_alone_names_nothing(reply: str):
    assert items_in(reply, 3) == []
