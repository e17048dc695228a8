"""The hash of an object: equal for equal code and attributes, other where a number may be, and a reason where there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from notebook import Notebook
from spa_bench.cards.fingerprint import fingerprint
from spa_bench.cards.objects import Source

CELL = """
from dataclasses import dataclass
import numpy as np

SCALE = 2
WORDS = {"b": 1, "a": 2}

def helper(x):
    return x * SCALE

@dataclass
class Settings:
    heat: float = 0.5
    names: tuple = ("a", "b")

class Sampler:
    note = "x"

    def __init__(self, heat=1.0):
        self.settings = Settings(heat)
        self.table = np.arange(4)
        self.words = WORDS
        self.itself = self

    @property
    def twice(self):
        return self.settings.heat * 2

    def sample(self, x):
        return [helper(x) for _ in range(3)]

one = Sampler()
"""


def made(cell: str = CELL, name: str = "one") -> Source:
    notebook = Notebook()
    notebook.run(cell)
    return fingerprint(notebook.get(name))


def test_the_same_code_has_the_same_hash_in_another_namespace_and_another_process(tmp_path: Path):
    first = made()
    assert first.why == ""
    assert len(first.hash) == 16
    assert made() == first
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from notebook import Notebook\nfrom spa_bench.cards.fingerprint import fingerprint\n"
        "n = Notebook(); n.run(open(sys.argv[2]).read()); print(fingerprint(n.get('one')).hash)"
    )
    (tmp_path / "cell.py").write_text(CELL)
    command = [sys.executable, "-c", script, str(Path(__file__).resolve().parents[1]), str(tmp_path / "cell.py")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == first.hash


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SCALE = 2", "SCALE = 3"),  # a global that a helper reads
        ("return x * SCALE", "return x + SCALE"),  # a helper
        ("range(3)", "range(4)"),  # a method
        ("heat * 2", "heat * 3"),  # a property
        ('note = "x"', 'note = "y"'),  # an attribute of the class
        ("one = Sampler()", "one = Sampler(2.0)"),  # an attribute of an attribute
        ("np.arange(4)", "np.arange(5)"),
        ("np.arange(4)", "np.arange(4, dtype=np.float32)"),
        ('"a": 2', '"a": 3'),
        ("heat=1.0", "heat=1.5"),  # a default value
    ],
)
def test_whatever_may_change_a_number_changes_the_hash(before: str, after: str):
    changed = CELL.replace(before, after)
    assert changed != CELL
    found = made(changed)
    assert found.hash
    assert found != made()


def test_the_order_of_a_mapping_and_of_a_set_mean_nothing():
    assert made(CELL.replace('{"b": 1, "a": 2}', '{"a": 2, "b": 1}')).hash == made().hash
    sets = [made(f"one = {{{', '.join(map(repr, order))}}}").hash for order in (("a", "b", "c"), ("c", "a", "b"))]
    assert sets[0] == sets[1]


def test_closures_defaults_and_partials_count():
    cell = "def outer(k):\n    def inner(x, y={y}):\n        return x + k\n    return inner\n\none = outer({k})\n"
    hashes = {made(cell.format(k=k, y=y)).hash for k, y in ((1, 1), (1, 2), (2, 1))}
    assert len(hashes) == 3
    partial = "import functools\ndef f(x, k):\n    return x + k\n\none = functools.partial(f, k={k})\n"
    assert made(partial.format(k=1)) != made(partial.format(k=2))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (
            "class A:\n    def __init__(self):\n        self.file = __import__('io').BytesIO()\n\none = A()\n",
            "A.file: what a _io.BytesIO holds",
        ),
        ("lock = __import__('threading').Lock()\ndef one(x):\n    return lock\n", "one reads lock: what a "),
        ("import random\nclass A(random.Random):\n    x = 1\n\none = A(3)\n", "what a random.Random holds"),
        ("import random\nclass A:\n    rng = random.Random(3)\n\none = A()\n", "A.rng: what a random.Random holds"),
        ("one = eval('lambda x: x')", "the source of <lambda> cannot be read"),
    ],
)
def test_what_cannot_be_hashed_says_which_part_and_has_no_hash(cell: str, why: str):
    found = made(cell)
    assert found.hash == ""
    assert why in found.why
    assert found.text.startswith("unhashed: ")


def test_without_state_the_source_alone_counts():
    notebook = Notebook()
    notebook.run(
        "class A:\n    def __init__(self, x):\n        self.x = x\n\none, other = A(1), A(__import__('threading').Lock())\n"
    )
    one, other = (fingerprint(notebook.get(name), state=False) for name in ("one", "other"))
    assert one == other
    assert one.hash
    assert fingerprint(notebook.get("other")).hash == ""


@pytest.mark.parametrize(
    "cell",
    [
        "class A(list):\n    y = 1\n\none = A([{x}])\n",
        "class A(dict):\n    y = {x}\n\none = A(k=1)\n",
        "class A(dict):\n    pass\n\none = A(k={x})\n",
        "class A(set):\n    def f(self):\n        return {x}\n\none = A([1])\n",
        "from typing import NamedTuple\nclass A(NamedTuple):\n    a: int = 1\n\none = A({x})\n",
        "from enum import Enum\nclass A(Enum):\n    C1 = 1\n    C2 = 2\n\none = A.C{x}\n",
        "class A:\n    __slots__ = ('x',)\n    def __init__(self, x):\n        self.x = x\n\none = A({x})\n",
        "import re\none = re.compile('a{x}')\n",
        "import re\none = re.compile('a' * 300 + '{x}')\n",
        "import re\none = re.compile('a', (2, 8)[{x} - 1])\n",
        "from collections import defaultdict\none = defaultdict((int, list)[{x} - 1])\n",
        "from pathlib import Path\none = Path('a{x}')\n",
        "def wrap(f):\n    def inner(x):\n        return f(x)\n    return inner\n\n@wrap\ndef one(x):\n    return {x}\n",
        "import functools\n@functools.lru_cache\ndef one(x):\n    return {x}\n",
        "class A:\n    @staticmethod\n    def f():\n        return {x}\n\none = A()\n",
    ],
)
def test_classes_that_hold_values_in_their_own_way_are_told_apart(cell: str):
    first, second = (made(cell.replace("{x}", str(x))) for x in (1, 2))
    assert first.why == second.why == ""
    assert first != second
    assert made(cell.replace("{x}", "1")) == first


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Modules of a test's own folder are not there for the next test."""
    yield
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "body",
    [
        "import own_helpers\ndef one(x):\n    return own_helpers.f(x)\n",
        "def one(x):\n    import own_helpers\n    return own_helpers.f(x)\n",
        "def one(x):\n    from own_helpers import f\n    return f(x)\n",
        "import own_parts\ndef one(x):\n    return own_parts.inner.f(x)\n",
        "class A:\n    def f(self, x):\n        import own_helpers\n        return own_helpers.f(x)\n\none = A()\n",
    ],
)
@pytest.mark.parametrize("file", ["own_helpers.py", "own_lower.py"])
def test_a_module_of_ones_own_counts_with_what_it_imports(
    body: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts").mkdir()
    (tmp_path / "own_parts" / "__init__.py").write_text("from own_parts import inner\n")
    (tmp_path / "own_parts" / "inner.py").write_text("from own_helpers import f\n")
    (tmp_path / "own_helpers.py").write_text("import math\nfrom own_lower import LEAST\ndef f(x):\n    return LEAST\n")
    (tmp_path / "own_lower.py").write_text("LEAST = 1\n")
    first = made(body)
    assert first.hash
    assert made(body) == first
    (tmp_path / file).write_text((tmp_path / file).read_text() + "LEAST = 2\n")
    assert made(body).hash not in {"", first.hash}


def test_packages_count_by_name():
    assert made("import math\ndef one(x):\n    return math.sqrt(x)\n").hash
    assert fingerprint(np.mean) == fingerprint(np.mean)
    assert fingerprint(np.mean) != fingerprint(np.median)
