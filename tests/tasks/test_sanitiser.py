"""The default sanitiser: the program of an answer as it was written, whatever it comes in."""
# ruff: noqa: E501, each program in a line

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from spa_bench.cards.task import TaskCard
from spa_bench.tasks import answer_text
from spa_bench.tasks.code import CodeTask, as_cut
from spa_bench.tasks.program_parts import Part
from spa_bench.tasks.sanitiser import program
from spa_bench.types import Completion, Key, Problem

STOPS = ("<|endoftext|>", "\nif __name__", "\nprint(", "\n```\n")
RIGHT = "def f(n):\n    return n + 1\n"
PROMPT = 'def f(n):\n    """Return n + 1."""\n'


def run(source: str) -> tuple[dict[str, Any], str]:
    """(the names of a program without input, what it printed)."""
    names: dict[str, Any] = {"__name__": __name__, "input": None}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source, "answer", "exec"), names)
    return names, out.getvalue()


def holds(source: str) -> bool:
    """Whether f adds one, and nothing is printed."""
    names, printed = run(source)
    return [names["f"](i) for i in (1, 2, 3, 10)] == [2, 3, 4, 11] and not printed


# replies: what is needed stays ------------------------------------------------------------------------------------------

WHOLE = {
    "import tried": "try:\n    from math import no_such as add\nexcept ImportError:\n    add = lambda a, b: a + b\n\ndef f(n):\n    return add(n, 1)\n",
    "branches": "import sys\nif sys.version_info > (3,):\n    def one():\n        return 1\nelse:\n    def one():\n        return 2\ndef f(n):\n    return n + one()\n",
    "table filled by a call": "T = []\ndef fill():\n    for i in range(100):\n        T.append(i + 1)\nfill()\ndef f(n):\n    return T[n]\n",
    "table filled by a loop": "T = {}\nfor i in range(100):\n    T[i] = i + 1\ndef f(n):\n    return T[n]\n",
    "table changed in place": "import heapq\nH = [3, 1]\nheapq.heapify(H)\ndef f(n):\n    return n + H[0]\n",
    "table filled by a comprehension": "T = []\n[T.append(i + 1) for i in range(20)]\ndef f(n):\n    return T[n]\n",
    "global set by a call": "X = 0\ndef init():\n    global X\n    X = 1\ninit()\ndef f(n):\n    return n + X\n",
    "added to": "X = 0\nX += 1\ndef f(n):\n    return n + X\n",
    "two at once": "A, B = 1, 0\ndef f(n):\n    return n + A + B\n",
    "annotated": "X: int = 1\ndef f(n):\n    return n + X\n",
    "registered": "OPS = {}\ndef op(name):\n    def wrap(g):\n        OPS[name] = g\n        return g\n    return wrap\n@op('a')\ndef _a(n):\n    return n + 1\ndef f(n):\n    return OPS['a'](n)\n",
    "dispatched": "from functools import singledispatch\n@singledispatch\ndef f(n):\n    raise TypeError\n@f.register\ndef _(n: int):\n    return n + 1\n",
    "bound twice": "def f(n):\n    return n\n_old = f\ndef f(n):\n    return _old(n) + 1\n",
    "wrapped": "import functools\ndef f(n):\n    return n + 1\nf = functools.lru_cache(None)(f)\n",
    "bound in a branch": "def f(n):\n    return n + 1\nif False:\n    f = None\n",
    "attribute": "def f(n):\n    return n + f.one\nf.one = 1\n",
    "lambda": "import functools\nf = functools.cache(lambda n: n + 1)\n",
    "alias": "def solve(n):\n    return n + 1\nf = solve\n",
    "object": "class F:\n    def __call__(self, n):\n        return n + 1\nf = F()\n",
    "decorator of its own": "def deco(g):\n    def w(*a):\n        return g(*a) + 1\n    return w\n@deco\ndef f(n):\n    return n\n",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass S:\n    a: int = 1\ndef f(n):\n    return n + S().a\n",
    "subclass": "class A:\n    pass\nclass B(A):\n    one = 1\ndef f(n):\n    return n + A.__subclasses__()[0].one\n",
    "generator": "def g():\n    yield 1\ndef f(n):\n    return n + next(g())\n",
    "returns nothing": "def g(a):\n    a.append(1)\ndef f(n):\n    a = [n]\n    g(a)\n    return sum(a)\n",
    "recursion limit": "import sys\nsys.setrecursionlimit(5000)\ndef f(n):\n    return n + (sys.getrecursionlimit() == 5000)\n",
    "precision by a name": "import decimal\nctx = decimal.getcontext()\nctx.prec = 50\ndef f(n):\n    return n + (decimal.getcontext().prec == 50)\n",
    "precision": "from decimal import getcontext\ngetcontext().prec = 50\ndef f(n):\n    return n + (getcontext().prec == 50)\n",
    "name at will": "def g(n):\n    return n + 1\ndef f(n):\n    return eval('g')(n)\n",
    "globals": "def g(n):\n    return n + 1\ndef f(n):\n    return globals()['g'](n)\n",
    "star": "from math import *\ndef f(n):\n    return n + int(floor(1.5))\n",
    "default": "X = 1\ndef f(n, x=X):\n    return n + x\n",
    "in a class": "X = 1\nclass C:\n    y = X\ndef f(n):\n    return n + C.y\n",
    "deleted": "tmp = 1\nX = tmp\ndel tmp\ndef f(n):\n    return n + X\n",
    "while": "X = 0\nwhile X < 1:\n    X += 1\ndef f(n):\n    return n + X\n",
    "comment at the margin": "def f(n):\n    a = n\n# middle\n    return a + 1\n",
    "string with a program": "X = '''\ndef f(n):\n    return 0\n'''\ndef f(n):\n    return n + bool(X)\n",
    "tabs in strings": "def f(n):\n    return n + len('\t')\n",
    "fence in a string": "def f(n):\n    s = '''\n```\n'''\n    return n + s.count('```')\n",
    "print in a string": "def f(n):\n    s = '''\nprint(1)\n'''\n    return n + s.count('print')\n",
    "row of a table": "T = [[], []]\nfor i, row in enumerate(T):\n    row.append(1)\ndef f(n):\n    return n + T[i][0]\n",
    "row in a comprehension": "T = {'a': []}\n[row.append(1) for row in T.values()]\ndef f(n):\n    return n + T['a'][0]\n",
    "another name": "T = []\nA = T\nA.append(1)\ndef f(n):\n    return n + T[0]\n",
    "another name of a part": "T = {}\nL = T.setdefault('a', [])\nL.append(1)\ndef f(n):\n    return n + T['a'][0]\n",
    "another name of a class": "class C:\n    T = []\nA = C\nA.T.append(1)\ndef f(n):\n    return n + C.T[0]\n",
    "name of a method": "T = []\npush = T.append\nfor i in range(20):\n    push(i + 1)\ndef f(n):\n    return T[n]\n",
    "method handed on": "T = []\nlist(map(T.append, range(1, 20)))\ndef f(n):\n    return T[n]\n",
    "handed by keyword": "T = []\ndef fill(t):\n    t.append(1)\nfill(t=T)\ndef f(n):\n    return n + T[0]\n",
    "handed in a list": "T = []\ndef fill(ts):\n    ts[0].append(1)\nfill(*[[T]])\ndef f(n):\n    return n + T[0]\n",
    "a part handed": "T = [[]]\ndef fill(t):\n    t.append(1)\nfill(T[0])\ndef f(n):\n    return n + T[0][0]\n",
    "linked nodes": "class N:\n    def __init__(self, v):\n        self.v, self.next = v, None\nroot = N(0)\ncur = root\nfor i in range(1, 20):\n    cur.next = N(i)\n    cur = cur.next\ndef f(n):\n    c = root\n    for _ in range(n + 1):\n        c = c.next\n    return c.v\n",
    "name set at will": "for name, v in [('one', 1)]:\n    globals()[name] = v\ndef f(n):\n    return n + one\n",
    "name set by exec": "exec('one = 1')\ndef f(n):\n    return n + one\n",
    "other letters": "def f(n):\n    α = n\n    return α + 1\n",
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_program_comes_out_as_it_was_written(name: str):
    wanted = WHOLE[name].rstrip()
    for answer in (WHOLE[name], f"{WHOLE[name]}```\nText.", f"Sure (it's easy:\n\n```python\n{WHOLE[name]}```\nDon't worry."):
        text, whole = program("", answer, "f", STOPS)
        assert (text, whole) == (wanted if name != "bound twice" else text, True)
        names, _ = run(text)
        assert [names["f"](i) for i in (1, 2, 10)] == [2, 3, 11]


DRIVEN = {
    "prints": RIGHT + "print(f(1))\n",
    "input": RIGHT + "\nn = int(input())\nprint(f(n))\n",
    "input for a global": "one = 1\ndef f(n):\n    return n + one\none = int(input())\nprint(f(2))\n",
    "comprehension": RIGHT + "[print(f(i)) for i in range(3)]\n",
    "magics": "!pip install numpy\n%matplotlib inline\n" + RIGHT + "%timeit f(3)\nprint f(3)\n",
    "main": RIGHT + "\ndef main():\n    print(f(int(input())))\n\nif __name__ == '__main__':\n    main()\n",
    "main called": RIGHT + "\ndef main():\n    n = int(input())\n    print(f(n))\n\nmain()\n",
    "loop": RIGHT + "\nfor i in range(int(input())):\n    print(f(i))\n",
    "asserts": RIGHT + "\ntests = [(1, 3)]\nfor a, b in tests:\n    assert f(a) == b, (a, b)\nprint('ok')\n",
    "checks": RIGHT + "\ndef check(g):\n    assert g(1) == 3\ncheck(f)\n",
    "standard input": "import sys\ndata = sys.stdin.read().split()\n" + RIGHT + "sys.stdout.write(str(f(int(data[0]))))\n",
    "thread": "import threading\n" + RIGHT + "def main():\n    print(f(int(input())))\nthreading.Thread(target=main).start()\n",
    "unittest": "import unittest\n" + RIGHT + "class T(unittest.TestCase):\n    pass\nunittest.main()\n",
    "exit": "import sys\n" + RIGHT + "sys.exit(0)\n",
    "picture": "import no_such_plotter as plt\n" + RIGHT + "plt.plot([f(1)])\nplt.show()\n",
    "file read": RIGHT
    + "import csv, os\nplace = os.path.join('a', 'no_such.csv')\nwith open(place) as file:\n    rows = csv.reader(file)\n    head = next(rows)\n    found = []\n    for row in rows:\n        found.append(row)\n",
    "one line": "a = 1; print(a)\ndef f(n): return n + a\n",
    "table shown": "T = [1, 2]\ndef f(n):\n    return n + T[0]\nfor t in T:\n    print(f(t))\nfor t, e in zip(T, [2, 3]):\n    print(t, f(t), e)\n",
    "arguments": "import argparse\n"
    + RIGHT
    + "p = argparse.ArgumentParser()\np.add_argument('n', type=int)\nargs = p.parse_args()\nprint(f(args.n))\n",
    "exec of an example": RIGHT + 'exec("print(f(1))")\n',
    "broken end": RIGHT + "\ndef test():\n    print(f(",
    "example that imports it": f"```python\n{RIGHT}```\nUse it:\n```python\nfrom solution import f\nassert f(3) == 5\n```\n",
}


@pytest.mark.parametrize("name", DRIVEN)
def test_what_only_drives_a_program_is_dropped(name: str):
    assert holds(program("", DRIVEN[name], "f", STOPS)[0])


BETTER = "def h(n):\n    return n + 1\ndef f(n):\n    return h(n)\n"
CHATS = {
    "one line behind prose": "Sure, here's the answer:\n\ndef f(n): return n + 1\n\nThis adds (of course) one.\nIt's fast.\n",
    "prose without fences": "It's simple (see:\n\ndef f(n):\n    '''Add.\n\nText at margin (isn't code.\n    '''\n    return n + 1\n\nDon't.\n",
    "brackets and prose": "The answer, (see below):\nT = [\n1,\n2,\n]\ndef f(n):\n    return n + T[0]\nDone (really.\n",
    "quotes and prose": "Use ''' or \"\"\" to quote.\n\ndef f(n):\n    \"\"\"Doc.\"\"\"\n    return n + 1\nUse ''' here.",
    "indented fence": "1. First:\n\n   ```python\n   def f(n):\n       return n + 1\n   ```\n2. Then:\n\n   ```bash\n   python x.py\n   ```\n",
    "indent alone": "Answer:\n\n    def f(n):\n        return n + 1\n\nDone.",
    "tildes": f"~~~python\n{RIGHT}~~~\nText.",
    "four backticks": '````\ndef f(n):\n    """\n```\nf(1)\n```\n"""\n    return n + 1\n````\nText.',
    "blanks": f"```python   \n{RIGHT}```   \nText",
    "carriage returns": f"Sure:\r\n```python\r\n{RIGHT}```\r\nDone.\r\n".replace("\n", "\r\n").replace("\r\r", "\r"),
    "no line end": f"```python\n{RIGHT}```",
    "a fence in the last line": f"```python\n{RIGHT.rstrip()}```\n",
    "byte order mark": "\ufeff" + RIGHT,
    "words behind the language": f'```python title="a.py"\n{RIGHT}```',
    "output in a fence": f"```python\n{RIGHT}```\nOutput:\n```\n4\n```\n",
    "shell in a fence": f"```bash\nf = 1\n```\n```python\n{RIGHT}```\n```text\nf = 2\n```",
    "two blocks": "```python\ndef one():\n    return 1\n```\nand\n```python\ndef f(n):\n    return n + one()\n```\n",
    "two versions": f"# first\ndef f(n):\n    return n\n\n# better\n{RIGHT}",
    "two versions with helpers": f"```python\n{BETTER.replace('n + 1', '7')}```\nBetter:\n```python\n{BETTER}```\n",
    "import from the future": f"```python\nimport os\n```\n```python\nfrom __future__ import annotations\n{RIGHT}```\n",
    "token that ends": RIGHT.rstrip() + "<|eot_id|>",
    "token that ends a turn": RIGHT.rstrip() + "<|im_end|>\n<|im_start|>user\nMore (text.",
    "token in a string": "END = '</s>'\ndef f(n):\n    return n + len(END) - 3\n",
    "draft": f"<think>\n```python\ndef f(n):\n    return n\n```\nWrong.\n</think>\n```python\n{RIGHT}```\n",
    "draft begun by the template": f"def f(n):\n    return 0\nWrong.\n</think>\n{RIGHT}",
    "two drafts": f"<think>a</think>\n<think>\ndef f(n): return 9\n</think>\n{RIGHT}",
}  # fmt: skip


@pytest.mark.parametrize("name", CHATS)
def test_chat_around_a_program_is_dropped(name: str):
    text, whole = program("", CHATS[name], "f", STOPS)
    assert whole
    assert holds(text)


def test_a_draft_that_does_not_end_is_no_answer():
    assert program("", f"<think>\n```python\n{RIGHT}```\nor", "f", STOPS) == ("", True)


def test_an_answer_without_the_entry_point_is_left_as_the_stop_strings_leave_it():
    assert program("", "def g(n):\n    return n\n```\nText", "f", ()) == ("def g(n):\n    return n", True)
    assert program(PROMPT, "    ???\nprint(1)", "f", STOPS) == ("    ???", False)
    assert program(PROMPT, "# nothing", "f", STOPS) == ("# nothing", False)


# completions ------------------------------------------------------------------------------------------------------------

COMPLETIONS = {
    "plain": "    return n + 1\n",
    "prompt again": PROMPT + "    return n + 1\n",
    "whole function": RIGHT,
    "tabs": "\tm = n\n\treturn m + 1\n",
    "helper behind a stop string": "    return g(n)\n\n\ndef g(n):\n    return n + 1\n",
    "stop string in a string": "    s = '''\nprint(1)'''\n    return n + s.count('print')\n",
    "first indent lost": "m = n\n    return m + 1\n",
    "decorated within": "    from functools import cache\n    @cache\n    def g(k):\n        return k + 1\n    return g(n)\n",
    "fence behind": "    return n + 1\n```\nIt's done.",
    "fenced whole": f"```python\n{RIGHT}```\n",
    "prose behind": "    return n + 1\nThis returns (of course) n + 1.",
    "token that ends": "    return n + 1</s>",
    "broken behind": "    return n + 1\n\ndef test():\n    print(f(",
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_completion_goes_on_from_its_prompt(name: str):
    text, whole = program(PROMPT, COMPLETIONS[name], "f", (*STOPS, "\ndef "))
    assert not whole
    assert holds(PROMPT + text)


def test_the_prompt_stays_whole_and_what_follows_a_stop_string_does_not_count():
    prompt = f"import math\ndef helper(n):\n    return n\n\n{PROMPT}"
    text, whole = program(prompt, "    return n + 1\n\ndef f(n):\n    return 0\n", "f", ("\ndef ",))
    assert (text, whole) == ("    return n + 1", False)


def test_a_completion_with_a_broken_end_still_goes_on_from_its_prompt():
    prompt = f"\n\nimport math\n\n\nX = 1\n\n{PROMPT}"
    assert program(prompt, "    return n + 1\n\n\ndef g(:\n", "f", ()) == ("    return n + 1", False)
    assert program(prompt, "    return n + 1\n    else (\n", "f", ()) == ("    return n + 1", False)


def test_the_entry_point_is_found_in_every_spelling_that_python_takes_for_the_same():
    source = "def to_µm(x):\n    return 1000 * x"
    for name in ("to_\u00b5m", "to_\u03bcm"):
        assert program("", f"{source}\nprint(to_\u03bcm(1))", name, ()) == (source, True)
    problem = Problem(id="n/0", prompt="", reference="", tests="", entry_point="to_\u00b5m")
    task = CodeTask(TaskCard(name="t", description=""), [problem], "here")
    assert task._tested("n/0", source).entry_point == "to_\u03bcm"


# its cost ---------------------------------------------------------------------------------------------------------------

LINES = [
    "So f(n) gives (as we said) what's asked; don't worry.\n", "The (quick \"brown\" fox: [jumps] over 'a lazy) dog print( x = 3\n",
    "f(\n", "(a\n", "x = [\n", ":(\n", '"""\n', "@a\n", "else\n", "    x\n", "print(f(1))\n", "x.y(z)\n", "def g(n):\n    return f(n)\n",
    "```\n", "```python\n", "<think>\n", "'\n", "{\n}\n", "return 1\n",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_the_characters_parsed_are_linear_in_the_length_of_an_answer(line: str, monkeypatch: pytest.MonkeyPatch):
    parsed: list[int] = []
    real = answer_text._parsed

    def counted(text: str) -> Any:
        parsed.append(len(text))
        return real(text)

    monkeypatch.setattr(answer_text, "_parsed", counted)
    for lines in (500, 2000):
        answer = line * lines + f"```python\n{RIGHT}```\n"
        parsed.clear()
        program("", answer, "f", STOPS)
        assert sum(parsed) <= 120 * len(answer)


@pytest.mark.parametrize(
    "lines",
    [
        "x = x + 1\n",
        "g(g)\n",
        "def g{0}(n):\n    T.append(g{1}(n))\ng{0}(1)\n",
        "def f(n):\n    return n\nf = h(f)\n",
        "y{0} = y{1}\n",
    ],
)
def test_the_search_for_what_is_needed_is_linear_in_the_statements(lines: str, monkeypatch: pytest.MonkeyPatch):
    steps: list[Part] = []
    reads = Part.reads
    assert reads.fget is not None
    real = reads.fget

    def counted(part: Part) -> frozenset[str]:
        steps.append(part)
        names: frozenset[str] = real(part)
        return names

    monkeypatch.setattr(Part, "reads", property(counted))
    for times in (200, 800):
        source = "T = []\ny0 = g0 = h = x = 0\n" + "".join(lines.format(i + 1, i) for i in range(times)) + RIGHT
        steps.clear()
        program("", f"{source}T = y{times} = x\n", "f", STOPS)
        assert len(steps) <= 8 * source.count("\n")


@pytest.mark.slow
def test_thousands_of_lines_of_prose_hide_no_program():
    for line in LINES[:2]:
        assert program("", line * 4000 + f"```python\n{RIGHT}```\n" + line * 4000, "f", STOPS) == (RIGHT.rstrip(), True)


# the sanitiser "stop" ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fence", ["```", "~~~", "````", "```` ", "```  "])
@pytest.mark.parametrize("end", ["", "\n", "\n\nIt is fast.", "\r\nDone."])
@pytest.mark.parametrize("begin", ["", "```python\n"])
def test_a_closing_fence_is_no_part_of_an_answer(begin: str, fence: str, end: str):
    for line_end in ("\n", "\r\n"):
        body = f"def f(n):{line_end}    return n + 1{line_end}"
        text, whole = as_cut()("", f"{begin}{body}{fence}{end}", "f", ("\n```\n",))
        assert whole
        assert re.sub("\r", "", text) == RIGHT.rstrip()
        assert as_cut()(PROMPT, f"    return n + 1{line_end}{fence}{end}", "f", ())[0].rstrip("\r") == "    return n + 1"


@pytest.mark.parametrize("end", ["``` This adds one.", "```.", "```</s>", "```<|im_end|>\n", "```python\n"])
def test_a_fence_behind_code_closes_whatever_follows_it_on_its_line(end: str):
    assert as_cut()(PROMPT, f"    return n + 1\n{end}", "f", ()) == ("    return n + 1", False)
    assert as_cut()("", f"{RIGHT}{end}", "f", ()) == (RIGHT.rstrip(), True)


def test_a_fence_behind_prose_opens_and_its_indent_is_no_part_of_the_code():
    for begin in (" Here is a\nclass of\n", "  ", ""):
        indent = begin if begin.isspace() else ""
        body = "".join(f"{indent}{line}\n" for line in RIGHT.splitlines())
        assert as_cut()("", f"{begin}```python\n{body}{indent}```\nText", "f", ()) == (RIGHT.rstrip(), True)


@pytest.mark.parametrize("prose", ["@Bob here it is:", "import the module first, then", "class of the function:"])
def test_prose_that_begins_as_code_might_is_no_code_before_a_fence(prose: str):
    assert answer_text.before_fence(f"{prose}\n```python\ndef f(x):\n    return x\n```") == "def f(x):\n    return x"


@pytest.mark.parametrize("code", ["import os, sys", "import numpy as np", "from a import (", "@cache", "@a.b(1)"])
def test_code_before_a_fence_is_kept(code: str):
    assert answer_text.before_fence(f"{code}\n```python\nf(1)\n```") == code


def test_a_closing_fence_may_stand_in_the_last_line():
    assert as_cut()("", "def f(n):\n    return n + 1```\nText", "f", ()) == (RIGHT.rstrip(), True)


def test_a_fence_in_a_string_does_not_end_an_answer():
    source = "def f(n):\n    s = '''\n```\n'''\n    return n + s.count('```')"
    assert as_cut()("", f"{source}\n```\nText", "f", ()) == (source, True)


def test_records_of_every_sanitiser_end_at_stop_strings(tmp_path: Path):
    problem = Problem(id="f", prompt=PROMPT, reference="", tests="", entry_point="f")
    for name in ("program", "stop"):
        card = TaskCard(name="t", description="", sanitiser=name, stop=("\n#",))
        made = Completion(key=Key("f", 0, 0), text="    return n + 1\n# end", tokens=1, finish="stop", seed=0)
        record = CodeTask(card, [problem], "here").record(made)
        assert (record.graded, record.whole) == ("    return n + 1", False)
