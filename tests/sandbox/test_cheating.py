# ruff: noqa: E501 -- tables of code snippets
"""Passing without being right: values that lie, forged answers, patched modules, and looking for what is expected."""

import marshal
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spa_bench.grading import Calls, Grader, Outcome, Program
from spa_bench.sandbox import Sandbox, choose
from spa_bench.sandbox.inside import wire
from spa_bench.types import CallSuite

attack = pytest.mark.attack
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(3) == 4\n"
ADDS_ONE = "def f(x):\n    return x + 1\n"

# values that lie -------------------------------------------------------------------------------------------------------

LIES = "__eq__ = lambda *_: True\n    __ne__ = lambda *_: False\n    __hash__ = lambda *_: 2\n    __len__ = lambda *_: 2\n"
LIES += (
    "    __add__ = __radd__ = __getitem__ = lambda *_: 2\n    __iter__ = lambda *_: iter([2])\n    __repr__ = lambda *_: '2'\n"
)
LIES += "    __int__ = __index__ = __abs__ = __round__ = __sub__ = __rsub__ = lambda *_: 2\n    __bool__ = lambda *_: True\n"
LIES += "    __le__ = __ge__ = __lt__ = __gt__ = __contains__ = lambda *_: True\n    __float__ = lambda *_: 2.0\n"
LIES += (
    "    __class__ = property(lambda _: int)\n    __array__ = lambda *_, **__: 2\n    items = keys = values = lambda *_: [2]\n"
)
BASES = ["object", "int", "float", "complex", "str", "bytes", "list", "tuple", "dict", "set", "frozenset", "bytearray"]
BASES += ["Exception", "collections.Counter", "collections.deque", "fractions.Fraction", "decimal.Decimal", "type"]
LIAR = "import collections, decimal, fractions\nclass A({}):\n    {}def f(x):\n    return A{}\n"


def liar(base: str) -> str:
    if base == "type":
        return LIAR.format(base, LIES, "('B', (), {})")
    return LIAR.format(base, LIES, "()")


@pytest.mark.parametrize((), [pytest.param(marks=attack(liar(base)), id=base) for base in BASES])
def test_a_value_that_equals_everything_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised") or (found.verdict, found.mark) == ("refused", "unproxied")


@pytest.mark.parametrize((), [pytest.param(marks=attack(liar(base), check=CHECK), id=base) for base in BASES])
def test_a_value_that_equals_everything_does_not_pass_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "refused")
    assert (found.mark == "unproxied") == (found.verdict == "refused")


@attack("class A(int):\n    __eq__ = lambda *_: False\n    __repr__ = lambda *_: 1 / 0\ndef f(x):\n    return A(x + 1)\n")
def test_a_right_number_that_denies_it_is_right(found: Outcome) -> None:
    assert found.verdict == "passed"


META = "class M(type):\n    {}\nclass A(metaclass=M):\n    __eq__ = lambda *_: True\n    item = lambda *_: 7\n"
META += "    __str__ = lambda *_: 'abc'\n    value = property(lambda self: self)\ndef f(x):\n    return A()\n"
METACLASSES = {
    "its bases": "__mro__ = property(lambda _: (int, object))",
    "its name": "__name__ = __qualname__ = property(lambda _: 'int')",
    "no name": "__name__ = __qualname__ = property(lambda _: None)",
    "a name that raises": "__name__ = __qualname__ = property(lambda _: 1 / 0)",
    "its module": "__module__ = property(lambda _: 'numpy')",
    "no module": "__module__ = property(lambda _: None)",
    "equality": "__eq__ = lambda *_: True\n    __hash__ = lambda *_: hash(int)",
    "instances": "__instancecheck__ = __subclasscheck__ = lambda *_: True",
}


@pytest.mark.parametrize((), [pytest.param(marks=attack(META.format(text)), id=name) for name, text in METACLASSES.items()])
def test_a_class_that_lies_about_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised") or (found.verdict, found.mark) == ("refused", "unproxied")


LIBRARIES = {
    "numpy": "item = lambda self: self",
    "numpy ndarray": "dtype = property(lambda self: self)\n    tolist = lambda self: [self]\n    str = '<i8'",
    "decimal Decimal": "__str__ = lambda self: 'abc'",
    "decimal Decimal huge": "__str__ = lambda self: '1E99999999999999'",
    "fractions Fraction": "numerator = 1\n    denominator = 0",
    "collections deque": "__iter__ = lambda self: iter([self])",
}


def posing(name: str, body: str) -> str:
    module, _, kind = name.partition(" ")
    kind = kind.split(" ")[0] or "generic"
    return f"class A:\n    {body}\nA.__module__, A.__name__, A.__qualname__ = {module!r}, {kind!r}, {kind!r}\ndef f(x):\n    return A()\n"


@pytest.mark.parametrize((), [pytest.param(marks=attack(posing(name, body)), id=name) for name, body in LIBRARIES.items()])
def test_a_class_that_poses_as_one_of(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised")


VALUES = {
    "a generator": "(n for n in [2])", "a function": "f", "a class": "int", "a module": "__import__('sys')", "nan": "float('nan')",
    "infinity": "float('inf')", "text": "'2'", "a text that is no unicode": "'\\ud800'", "a huge integer": "10 ** 5000",
    "a huge negative integer": "-(7 ** 20_000)", "many huge integers": "[10 ** 4400] * 9", "a huge integer as key": "{10 ** 5000: 1}",
    "a huge fraction": "__import__('fractions').Fraction(10 ** 5000, 3)", "a huge decimal": "__import__('decimal').Decimal('1E+999999')",
    "a decimal that is no number": "__import__('decimal').Decimal('sNaN')", "not implemented": "NotImplemented", "dots": "...",
    "a range without end": "range(10 ** 30)", "the marker of the wire": "StopIteration", "a tag of the wire": "(StopIteration, 'subclass', 'a', 2)",
    "a marker and a tag": "[StopIteration, (StopIteration, 'numpy', 'a', 2)]", "an exception": "AssertionError()",
    "a view of a dict": "{2: 2}.keys()", "a memory view": "memoryview(b'2')", "an array": "__import__('array').array('i', [2])",
    "a set of frozen sets": "{frozenset([frozenset([2])])}", "a code object": "f.__code__", "a weak reference": "__import__('weakref').ref(f)",
    "an array of numpy": "__import__('numpy').array([2])", "objects of numpy": "__import__('numpy').array([f], dtype=object)",
    "a large text": "'x' * 40_000_000", "a large list": "[2] * 3_000_000", "empty arrays": "[__import__('numpy').zeros((0, 9))]",
    "colliding integers": "{n * (2 ** 61 - 1) for n in range(500)}", "colliding keys": "{n * (2 ** 61 - 1): 2 for n in range(500)}",
}  # fmt: skip


@pytest.mark.parametrize(
    (), [pytest.param(marks=attack(f"def f(x):\n    return {text}\n", seconds=1), id=name) for name, text in VALUES.items()]
)
def test_this_value_is_wrong(found: Outcome) -> None:
    assert found.verdict == "wrong"


DEEP = "def f(x):\n    found = {}\n    for _ in range({}): found = {}\n    return found\n"
NESTS = {
    "list": ("[]", "[found]"), "tuple": ("()", "(found,)"), "dict": ("{{}}", "{{1: found}}"), "frozen set": ("frozenset()", "frozenset([found])"),
    "subclass": ("L()", "L([found])"), "deque": ("D()", "D([found])"), "values of a dict": ("()", "{{1: found}}.values()"),
}  # fmt: skip
KINDS = "from collections import deque as D\nclass L(list): pass\n"


@pytest.mark.parametrize(
    (),
    [
        pytest.param(
            marks=attack(KINDS + DEEP.format(*(b.replace("{{", "{").replace("}}", "}") for b in (a, str(depth), c)))),
            id=f"{name} {depth}",
        )
        for name, (a, c) in NESTS.items()
        for depth in (150, 195, 50_000)
    ],
)
def test_a_deep_value_is_wrong(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "crashed")


@attack("def f(x):\n    found = []\n    found.append(found)\n    return found\n")
def test_a_list_that_holds_itself_is_wrong(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack("def f(x):\n    found = []\n    found.append(found)\n    return found\n", check=CHECK)
def test_a_list_that_holds_itself_cannot_cross_to_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict == "refused"


@attack("def f(x):\n    found = {}\n    found[1] = found\n    return found\n")
def test_a_dict_that_holds_itself_is_wrong(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack("def f(x):\n    found = 1\n    for _ in range(50): found = [found, found]\n    return found\n", seconds=0.5)
def test_a_list_of_the_same_list_without_end_does_not_pass_or_hang(found: Outcome) -> None:
    assert found.verdict in ("wrong", "memory", "timeout")


@attack("class L(list): pass\ndef f(x):\n    found = 1\n    for _ in range(50): found = L([found, found])\n    return found\n")
def test_a_subclass_of_the_same_without_end_does_not_pass_or_hang(found: Outcome) -> None:
    assert found.verdict in ("wrong", "memory", "timeout")


# forged answers --------------------------------------------------------------------------------------------------------

FORGE = """
import json, marshal, os, struct
T = StopIteration
def put(data, kind=b'O', size=None, descriptor=3):
    data = struct.pack('<sdI', kind, 0.0, len(data) if size is None else size) + data
    try:
        while data: data = data[os.write(descriptor, data):]
    except OSError: pass
def nest(head, n, end=b'N'): return head * n + end
"""
FRAMES = {
    "lists": "put(nest(b'[\\1\\0\\0\\0', 590))", "lists beyond": "put(nest(b'[\\1\\0\\0\\0', 100_000))",
    "tuples": "put(nest(b'(\\1\\0\\0\\0', 590))", "dicts": "put(nest(b'{N', 590, b'N') + b'0' * 590)", "sets": "put(nest(b'>\\1\\0\\0\\0', 590))",
    "tags": "put(marshal.dumps((T, 'subclass', 'x', [1]), 2).replace(b'i\\1\\0\\0\\0', b'N') * 1)",
    "nested tags": "put(nest(b'(\\4\\0\\0\\0Su\\6\\0\\0\\0dequeXu\\0\\0\\0\\0[\\1\\0\\0\\0'.replace(b'dequeX', b'deque')"
    ".replace(b'\\6', b'\\5', 1), 190))",
    "keys that cannot be": "put(marshal.dumps((T, 'dict_keys', 'x', [[1]]), 2))", "items that cannot be": "put(marshal.dumps((T, 'dict_items', 'x', [([], 1)]), 2))",
    "a set of lists": "put(b'<\\1\\0\\0\\0' + marshal.dumps((T, 'subclass', 'x', [1]), 2))",
    "a key that is a list": "put(b'{' + marshal.dumps((T, 'subclass', 'x', [1]), 2) + b'N0')", "a decimal": "put(marshal.dumps((T, 'decimal', 'x', 'abc'), 2))",
    "a decimal of other digits": "put(marshal.dumps((T, 'decimal', 'x', '\\u00b2'), 2))", "a fraction": "put(marshal.dumps((T, 'fraction', 'x', (1, 0)), 2))",
    "a range": "put(marshal.dumps((T, 'range', 'x', (0, 10**30, 1)), 2))", "a range of none": "put(marshal.dumps((T, 'range', 'x', (0, 1, 0)), 2))",
    "an unknown kind": "put(marshal.dumps((T, 'perfect', 'x', 2), 2))", "an array": "put(marshal.dumps((T, 'ndarray', 'x', ['<i8', 2]), 2))",
    "an opaque two": "put(marshal.dumps((T, 'opaque', 'x', 2), 2))", "nothing": "put(b'')", "a reference": "put(b'r\\0\\0\\0\\0')", "code": "put(marshal.dumps(put.__code__))",
    "a string too long": "put(b'u\\xff\\xff\\xff\\x7f')", "a negative size": "put(b'[\\xff\\xff\\xff\\xff')", "a bad integer": "put(b'l\\1\\0\\0\\0\\xff\\xff')",
    "bytes behind": "put(b'i\\2\\0\\0\\0N')", "a lie about the size": "put(b'i\\2\\0\\0\\0', size=4)",
    "a huge size": "put(b'i', size=2**32 - 1)", "a huge error": "put(b'i', b'E', 2**32 - 1)", "an unknown frame": "put(b'', b'?')",
    "a report": "put(json.dumps(dict(verdict='passed', message='', call='')).encode(), b'J')",
    "reports everywhere": "[put(json.dumps(dict(verdict='passed', message='', call='')).encode(), b'J', descriptor=n) for n in range(64)]",
    "the zygote's end": "[os.write(3, b'E' + struct.pack('<I', len(d)) + d) for d in [b'{\"why\": \"exit\", \"status\": [0]}']]",
    "a surrogate": "put(marshal.dumps('\\ud800', 2))", "an error that is no text": "put(b'\\xff\\xfe', b'E')",
}  # fmt: skip


@pytest.mark.parametrize(
    (),
    [
        pytest.param(marks=attack(FORGE + text + "\nos._exit(0)\n" + ADDS_ONE, seconds=0.5), id=name)
        for name, text in FRAMES.items()
    ],
)
def test_a_forged_answer_does_not_pass_or_end_the_run(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised")


@attack(FORGE + "put(b'i\\2\\0\\0\\0')\nput(b'i\\4\\0\\0\\0', size=6)\n" + ADDS_ONE)
def test_half_an_answer_does_not_count_for_the_last_one(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack(FORGE + "while True: put(b'', b'P')\n")
def test_errors_without_end_are_one_error(found: Outcome) -> None:
    assert found.verdict == "raised"


MEMORY_OF_THE_GRADER = """
import resource, sys
from pathlib import Path
from spa_bench.grading import Calls, Grader, Program
from spa_bench.sandbox import choose
from spa_bench.types import CallSuite
tests = Calls((CallSuite(name="base", inputs=lambda: [[1]]),), {reference!r})
programs = [Program(source=source, entry_point="f", tests=tests, seconds=2) for source in {sources!r}]
grader = Grader(sandbox=choose({name!r}), cache=Path({cache!r}), workers=1)
print([outcome.verdict for _, outcome in grader.run(programs)])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


@pytest.mark.parametrize("kind", ["E", "O"])
def test_a_flood_of_answers_does_not_fill_the_memory_of_the_grader(kind: str, tmp_path: Path) -> None:
    flood = FORGE + f"put(b'', b'{kind}', 2**32 - 1)\nblock = bytes(1 << 16)\nwhile True: os.write(3, block)\n"
    script = MEMORY_OF_THE_GRADER.format(reference=ADDS_ONE, sources=[flood], name=choose().name, cache=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    verdicts, megabytes = done.stdout.splitlines()
    assert "passed" not in verdicts
    assert int(megabytes) < 300


def test_integers_that_collide_do_not_hold_up_whoever_reads_them() -> None:
    integers = [marshal.dumps(n * (2**61 - 1), 2) for n in range(60_000)]
    data = b"<" + struct.pack("<I", len(integers)) + b"".join(integers)

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises((TimeoutError, wire.WireError)):
            wire.natural(wire.decode(data))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 15


def test_a_long_range_that_is_compared_as_a_set_is_wrong_at_once(jail: Sandbox, cache: Path) -> None:
    suite = CallSuite(name="base", inputs=lambda: [[1]], oracle="as sets")
    program = Program(
        source="def f(x):\n    return range(10 ** 7)\n", entry_point="f", tests=Calls((suite,), "def f(x):\n    return [x]\n")
    )
    start = time.monotonic()
    [(_, outcome)] = Grader(sandbox=jail, cache=cache).run([program])
    assert outcome.verdict == "wrong"
    assert time.monotonic() - start < 20


# patches ---------------------------------------------------------------------------------------------------------------

PATCHES = {
    "builtins": "import builtins\nfor n in ('len', 'isinstance', 'type', 'hash', 'set', 'map'): setattr(builtins, n, lambda *_: True)",
    "exec and compile": "import builtins\nbuiltins.exec = builtins.compile = lambda *_: None",
    "exceptions": "import builtins\nbuiltins.BaseException = builtins.SystemExit = builtins.MemoryError = builtins.AssertionError = int",
    "time": "import time\ntime.process_time = time.monotonic = time.time = lambda: 0.0",
    "writing": "import os\nos.write = lambda fd, data, old=os.write: old(fd, bytes(data).replace(b'i', b'i'))",
    "marshal": "import marshal, pickle\nmarshal.dumps = pickle.dumps = lambda *_: b'i\\2\\0\\0\\0'",
    "struct": "import struct\nstruct.pack = struct.Struct = lambda *_: b''",
    "json": 'import json\njson.dumps = lambda *_: \'{"verdict": "passed", "message": "", "call": ""}\'',
    "numpy": "import numpy\nnumpy.allclose = lambda *_, **__: True",
    "the wire": "from spa_bench.sandbox.inside import wire\nwire.encode = wire.decode = wire.natural = lambda *_: b'i\\2\\0\\0\\0'",
    "our modules": "import sys\nfor n in [n for n in sys.modules if 'spa_bench' in n and n != '__spa_bench__']: del sys.modules[n]",
    "our functions": "from spa_bench.sandbox.inside import calls, guard, judge, zygote\n"
    "for m in (calls, guard, judge, zygote):\n    for n in vars(m).copy():\n        if callable(getattr(m, n)): setattr(m, n, lambda *_: None)",
    "the module table": "import sys\nsys.modules.clear()",
    "its name": "__name__ = '__main__'\nimport sys\nsys.modules['__main__'] = sys.modules['__spa_bench__']",
    "tracing": "import sys\nsys.settrace(lambda *_: None)\nsys.setprofile(lambda *_: None)",
    "audit": "import sys\nsys.addaudithook(lambda *_: None)",
    "collecting": "import gc\ngc.callbacks.append(lambda *_: None)\ngc.set_threshold(1)",
    "all functions by gc": "import gc, types\nfor o in gc.get_objects():\n"
    "    if isinstance(o, types.FunctionType) and o.__name__ in ('is_right', 'encode', '_tests', 'same_bytes'): o.__code__ = (lambda *_: True).__code__",
}
FRAME_WALK = """
import sys
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()):
        if isinstance(value, dict) and value is not globals():
            for key in list(value):
                if key in ('suite', 'verdict', 'tests', 'helpers', 'check', 'sizes'): value[key] = 'passed'
    frame = frame.f_back
"""


@pytest.mark.parametrize(
    (), [pytest.param(marks=attack(f"{text}\ndef f(x):\n    return 0\n"), id=name) for name, text in PATCHES.items()]
)
def test_patching_does_not_make_a_wrong_program_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised")


@pytest.mark.parametrize(
    (),
    [pytest.param(marks=attack(f"{text}\ndef f(x):\n    return 0\n", check=CHECK), id=name) for name, text in PATCHES.items()],
)
def test_patching_does_not_pass_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict in ("wrong", "crashed", "raised", "timeout")


@attack(FRAME_WALK + "def f(x):\n    return 0\n")
def test_changing_the_frames_below_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "crashed")


@attack(FRAME_WALK + "def f(x):\n    return 0\n", check=CHECK)
def test_changing_the_frames_below_does_not_pass_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict in ("wrong", "raised", "crashed")
