"""Tests that are code, and what they need that does not reach a program in another process: refused, never judged wrongly.

Each case has a right program, which must pass in one process and be refused or pass in two, and a wrong one, which must pass
nowhere.
"""

from __future__ import annotations

import textwrap

import pytest

from spa_bench.grading import Check, Outcome, Program
from spa_bench.types import Verdict

PROGRAMS: dict[str, Program] = {}
CASES: dict[str, bool] = {}  # name -> whether two processes can judge it


def case(name: str, right: str, wrong: str, tests: str, *, crosses: bool = False, helpers: str = "") -> None:
    """Register a case; `tests` is the body of check(candidate), with imports in front where it has a line `---`."""
    before, _, body = textwrap.dedent(tests).rpartition("---\n")
    text = f"{before}def check(candidate):\n{textwrap.indent(body.strip(), '    ')}\n"
    for kind, source in (("right", right), ("wrong", wrong)):
        for where, together in (("two", False), ("one", True)):
            tested = Check(text, textwrap.dedent(helpers), together)
            PROGRAMS[f"{name}, {kind}, {where}"] = Program(
                source=textwrap.dedent(source), entry_point="f", tests=tested, problem="a/1", seconds=2.0
            )
    CASES[name] = crosses


SAME, COPY = "def f(x):\n    return x\n", "def f(x):\n    return list(x)\n"
case("identity of an argument", SAME, COPY, "x = [1]\nassert candidate(x) is x")
case("identity of a copy", COPY, SAME, "x = [1]\nassert candidate(x) is not x")
case("identity by id", COPY, SAME, "x = [1]\nassert id(candidate(x)) != id(x)")
case("identity of a text", SAME, "def f(x):\n    return 7\n", "x = 'a b c' * 3\nassert candidate(x) is x")
case(
    "a result that is changed is no argument",
    COPY,
    SAME,
    "x = [1]\ny = candidate(x)\ny.append(2)\nassert x == [1]",
    crosses=True,
)
case(
    "rows that are one list",
    "def f(n):\n    return [[0] * n for _ in range(n)]\n",
    "def f(n):\n    return [[0] * n] * n\n",
    "rows = candidate(2)\nrows[0][0] = 1\nassert rows[1][0] == 0",
    crosses=True,
)
case(
    "a default that is changed",
    "def f(x, to=None):\n    return [*(to or []), x]\n",
    "def f(x, to=[]):\n    to.append(x)\n    return to\n",
    "first = candidate(1)\nsecond = candidate(2)\nassert first == [1] and second[-1] == 2",
    crosses=True,
)
case(
    "two arguments that are one list",
    "def f(a, b):\n    a.append(1)\n    return len(b)\n",
    "def f(a, b):\n    a.append(1)\n    return len(b) - 1\n",
    "x = []\nassert candidate(x, x) == 1",
)
case(
    "an exception of the library",
    "import statistics\ndef f(xs):\n    return statistics.mean(xs)\n",
    "def f(xs):\n    raise ValueError\n",
    "from statistics import StatisticsError\n---\ntry:\n    candidate([])\n    assert 0\nexcept StatisticsError:\n    pass",
    crosses=True,
)
case(
    "the place of an error in JSON",
    "import json\ndef f(text):\n    return json.loads(text)\n",
    "import json\ndef f(text):\n    raise json.JSONDecodeError('no', text, 0)\n",
    "import json\n---\ntry:\n    candidate('[1,')\n    assert 0\nexcept json.JSONDecodeError as e:\n"
    "    assert (e.pos, e.doc) == (3, '[1,')",
    crosses=True,
)
case(
    "the number of an error of the system",
    "def f(p):\n    return open(p).read()\n",
    "def f(p):\n    raise FileNotFoundError(p)\n",
    "try:\n    candidate('/no')\n    assert 0\nexcept OSError as e:\n    assert (e.errno, e.filename) == (2, '/no')",
    crosses=True,
)
case(
    "an argument of an exception that is a tuple",
    "def f(d):\n    return d[1, 2]\n",
    "def f(d):\n    raise KeyError('(1, 2)')\n",
    "try:\n    candidate({})\n    assert 0\nexcept KeyError as e:\n    assert e.args == ((1, 2),)",
    crosses=True,
)
case(
    "the cause of an exception",
    "def f(x):\n    try:\n        return int(x)\n    except ValueError as e:\n        raise TypeError('no') from e\n",
    "def f(x):\n    raise TypeError('no')\n",
    "try:\n    candidate('a')\n    assert 0\nexcept TypeError as e:\n    assert isinstance(e.__cause__, ValueError)",
    crosses=True,
)
OWN = "class Neg(ValueError):\n    pass\n"
case(
    "an exception of the prompt",
    OWN + "def f(x):\n    raise Neg('no')\n",
    OWN + "def f(x):\n    raise ValueError('no')\n",
    "try:\n    candidate(1)\n    assert 0\nexcept Neg:\n    pass",
    helpers=OWN + "def f(x):\n    raise Neg('no')\n",
)
case(
    "an exception that holds an object",
    OWN + "def f(x):\n    raise ValueError(Neg)\n",
    "def f(x):\n    raise ValueError(7)\n",
    "try:\n    candidate(1)\n    assert 0\nexcept ValueError as e:\n    assert isinstance(e.args[0], type)",
)
case(
    "the code of an exit",
    "import sys\ndef f(x):\n    sys.exit(2)\n",
    "import sys\ndef f(x):\n    sys.exit(3)\n",
    "try:\n    candidate(1)\n    assert 0\nexcept SystemExit as e:\n    assert e.code == 2",
    crosses=True,
)
case(
    "printed output",
    "def f(x):\n    print(x)\n",
    "def f(x):\n    print(x + 1)\n",
    "import io\nfrom contextlib import redirect_stdout as to\n---\nout = io.StringIO()\nwith to(out):\n    candidate(1)\n"
    "assert out.getvalue() == '1\\n'",
)
case(
    "what a program warns of",
    "import warnings\ndef f(x):\n    warnings.warn('old')\n",
    "def f(x):\n    pass\n",
    "import warnings\n---\nwith warnings.catch_warnings(record=True) as said:\n    warnings.simplefilter('always')\n"
    "    candidate(1)\nassert len(said) == 1",
)
case(
    "standard input",
    "def f():\n    return input()\n",
    "def f():\n    return ''\n",
    "import io, sys\n---\nsys.stdin = io.StringIO('a\\n')\nassert candidate() == 'a'",
)
case(
    "a seed",
    "import random\ndef f(n):\n    return random.randint(0, n)\n",
    "import random\ndef f(n):\n    return random.randint(0, n) + 1\n",
    "import random\n---\nrandom.seed(4)\na = candidate(10 ** 9)\nrandom.seed(4)\nassert a == random.randint(0, 10 ** 9)",
)
case(
    "a seed of numpy",
    "import numpy as np\ndef f():\n    return float(np.random.rand())\n",
    "import numpy as np\ndef f():\n    return float(np.random.rand()) + 1\n",
    "import numpy as np\n---\nnp.random.seed(4)\na = candidate()\nnp.random.seed(4)\nassert a == np.random.rand()",
)
case(
    "the signature",
    "def f(a, b=2):\n    pass\n",
    "def f(*args):\n    pass\n",
    "import inspect\n---\nassert list(inspect.signature(candidate).parameters) == ['a', 'b']",
)
case("the docstring", "def f():\n    'Do it.'\n", "def f():\n    pass\n", "assert candidate.__doc__ == 'Do it.'")
case("annotations", "def f(x: int):\n    pass\n", "def f(x):\n    pass\n", "assert candidate.__annotations__ == {'x': int}")
case(
    "the environment",
    "import os\ndef f():\n    return os.environ.get('MODE')\n",
    "def f():\n    return None\n",
    "import os\n---\nos.environ['MODE'] = 'a'\nassert candidate() == 'a'",
)
NOW = "import time\ndef f():\n    return time.time()\n"
case(
    "a patch",
    NOW,
    NOW.replace("return ", "return 1 + "),
    "from unittest import mock\n---\nwith mock.patch('time.time', return_value=7):\n    assert candidate() == 7",
)
case(
    "a patch by hand",
    NOW,
    NOW.replace("return ", "return 1 + "),
    "import time\n---\ntime.time = lambda: 7\nassert candidate() == 7",
)
case(
    "the precision of decimals",
    "from decimal import Decimal\ndef f():\n    return str(1 / Decimal(3))\n",
    "def f():\n    return '0.33333'\n",
    "import decimal\n---\ndecimal.getcontext().prec = 4\nassert candidate() == '0.3333'",
)
case(
    "the order of an OrderedDict",
    "from collections import OrderedDict as O\ndef f(xs):\n    return O((x, 1) for x in xs)\n",
    "from collections import OrderedDict as O\ndef f(xs):\n    return O((x, 1) for x in sorted(xs))\n",
    "from collections import OrderedDict as O\n---\nassert candidate([2, 1]) == O([(2, 1), (1, 1)])",
    crosses=True,
)
LISTS = "class L(list):\n    pass\ndef f():\n    return {}\n"
case("a subclass of list", LISTS.format("L([1])"), LISTS.format("[1]"), "assert type(candidate()) is not list")
case(
    "a subclass of dict",
    LISTS.replace("list", "dict").format("L(a=1)"),
    LISTS.format("{}"),
    "assert len(candidate()) == 1 and type(candidate()).__name__ == 'L'",
)
case(
    "the type of a number of numpy",
    "import numpy as np\ndef f():\n    return np.bool_(True)\n",
    "def f():\n    return True\n",
    "assert candidate() is not True",
    crosses=True,
)


@pytest.mark.parametrize("name", CASES)
def test_a_right_program_passes_in_one_process_and_is_never_called_wrong_in_two(name: str, graded: dict[str, Outcome]):
    one, two = graded[f"{name}, right, one"], graded[f"{name}, right, two"]
    assert one.verdict is Verdict.PASSED, one
    if CASES[name]:
        assert two == Outcome(verdict=Verdict.PASSED)
    else:
        assert (two.verdict, two.mark) == (Verdict.REFUSED, "unproxied"), two
        assert one.mark == "one process"


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_program_passes_nowhere(name: str, graded: dict[str, Outcome]):
    one, two = graded[f"{name}, wrong, one"], graded[f"{name}, wrong, two"]
    assert one.verdict is not Verdict.PASSED, one
    assert two.verdict is not Verdict.PASSED, two
    assert (two.verdict is Verdict.REFUSED) == (two.mark == "unproxied")


HARMLESS = {
    "sorts in place and returns": (
        "def f(xs):\n    xs.sort()\n    return xs\n",
        "total = 0\nfor xs in ([2, 1], [1]):\n    total += len(xs)\n    assert candidate(list(xs)) == sorted(xs)",
    ),
    "compares with None and types": (
        "def f(x):\n    return None\n",
        "assert candidate(1) is None and type(candidate(1)) is type(None)",
    ),
    "draws the tests' inputs": (
        "def f(x):\n    return -x\n",
        "import random\nx = random.randint(0, 9)\nassert candidate(x) == -x",
    ),
    "keeps results that nobody changes": (
        "seen = {}\ndef f(x):\n    return seen.setdefault(x, [x])\n",
        "assert candidate(1) == candidate(1) == [1]",
    ),
}
for _name, (_source, _tests) in HARMLESS.items():
    PROGRAMS[_name] = Program(
        source=_source,
        entry_point="f",
        tests=Check(f"def check(candidate):\n{textwrap.indent(_tests, '    ')}\n"),
        problem="a/2",
        seconds=2.0,
    )


@pytest.mark.parametrize("name", HARMLESS)
def test_what_shows_in_no_test_refuses_nobody(name: str, graded: dict[str, Outcome]):
    assert graded[name] == Outcome(verdict=Verdict.PASSED)
