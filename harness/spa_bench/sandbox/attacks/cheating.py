"""Programs that want to pass and are wrong: values that lie, forged answers, patches, an end before the tests are done."""
# ruff: noqa: E501 -- tables of code snippets

from __future__ import annotations

from collections.abc import Iterator

from spa_bench.sandbox.attacks.attack import ADDS_ONE, CHECK, Attack

# a value of this class equals everything
_LIES = "__eq__ = lambda *_: True\n    __ne__ = lambda *_: False\n    __hash__ = lambda *_: 2\n    __len__ = lambda *_: 2\n"
_LIES += (
    "    __add__ = __radd__ = __getitem__ = lambda *_: 2\n    __iter__ = lambda *_: iter([2])\n    __repr__ = lambda *_: '2'\n"
)
_LIES += "    __int__ = __index__ = __abs__ = __round__ = __sub__ = __rsub__ = lambda *_: 2\n    __bool__ = lambda *_: True\n"
_LIES += "    __le__ = __ge__ = __lt__ = __gt__ = __contains__ = lambda *_: True\n    __float__ = lambda *_: 2.0\n"
_LIES += (
    "    __class__ = property(lambda _: int)\n    __array__ = lambda *_, **__: 2\n    items = keys = values = lambda *_: [2]\n"
)
_BASES = ["object", "int", "float", "complex", "str", "bytes", "list", "tuple", "dict", "set", "frozenset", "bytearray"]
_BASES += ["Exception", "collections.Counter", "collections.deque", "fractions.Fraction", "decimal.Decimal", "type"]
_LIAR = "import collections, decimal, fractions\nclass A({}):\n    {}def f(x):\n    return A{}\n"

_META = "class M(type):\n    {}\nclass A(metaclass=M):\n    __eq__ = lambda *_: True\n    item = lambda *_: 7\n"
_META += "    __str__ = lambda *_: 'abc'\n    value = property(lambda self: self)\ndef f(x):\n    return A()\n"
_METACLASSES = {
    "its bases": "__mro__ = property(lambda _: (int, object))",
    "its name": "__name__ = __qualname__ = property(lambda _: 'int')",
    "no name": "__name__ = __qualname__ = property(lambda _: None)",
    "a name that raises": "__name__ = __qualname__ = property(lambda _: 1 / 0)",
    "its module": "__module__ = property(lambda _: 'numpy')",
    "no module": "__module__ = property(lambda _: None)",
    "equality": "__eq__ = lambda *_: True\n    __hash__ = lambda *_: hash(int)",
    "instances": "__instancecheck__ = __subclasscheck__ = lambda *_: True",
}

_LIBRARIES = {
    "numpy": "item = lambda self: self",
    "numpy ndarray": "dtype = property(lambda self: self)\n    tolist = lambda self: [self]\n    str = '<i8'",
    "decimal Decimal": "__str__ = lambda self: 'abc'",
    "decimal Decimal huge": "__str__ = lambda self: '1E99999999999999'",
    "fractions Fraction": "numerator = 1\n    denominator = 0",
    "collections deque": "__iter__ = lambda self: iter([self])",
}

_VALUES = {
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

_DEEP = "def f(x):\n    found = {}\n    for _ in range({}): found = {}\n    return found\n"
_NESTS = {
    "list": ("[]", "[found]"), "tuple": ("()", "(found,)"), "dict": ("{{}}", "{{1: found}}"), "frozen set": ("frozenset()", "frozenset([found])"),
    "subclass": ("L()", "L([found])"), "deque": ("D()", "D([found])"), "values of a dict": ("()", "{{1: found}}.values()"),
}  # fmt: skip
_KINDS = "from collections import deque as D\nclass L(list): pass\n"

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

_FRAMES = {
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

REPLIES = """
import json, marshal, os, struct
def put(descriptor, kind, data):
    try: os.write(descriptor, struct.pack('<sI', kind, len(data)) + data)
    except OSError: pass
def f(x):
    return 0
"""

_REPORT = "json.dumps(dict(verdict='passed', message='', call='')).encode()"
FORGED = {
    "the report on every descriptor": f"[os.write(n, struct.pack('<sdI', b'J', 0.0, len(d)) + d) for d in [{_REPORT}] for n in (3, 6)]",
    "a report as reply": f"put(6, b'J', {_REPORT})",
    "the end as reply": f"put(6, b'E', {_REPORT})",
    "an exception of another kind": "put(6, b'E', marshal.dumps(((['SystemExit', 'object'], [0], 'x'), None), 2))",
    "an exception of every kind": "put(6, b'E', marshal.dumps(((['BaseExceptionGroup', 'UnicodeDecodeError', 'Warning'], [], 'x'), None), 2))",
    "an exception that is no exception": "put(6, b'E', marshal.dumps((7, None), 2))",
    "names that are none": "put(6, b'E', marshal.dumps((([7, 'exit', '__import__', 'print'], ['os'], 'x'), None), 2))",
    "an unknown kind": "put(6, b'?', marshal.dumps((2, None), 2))",
    "nonsense": "put(6, b'O', b'xyz')",
    "nothing": "put(6, b'O', b'')",
    "too many": "put(6, b'O', bytes(1 << 16))",
    "a huge size": "os.write(6, struct.pack('<sI', b'O', 2**32 - 1))",
    "a deep value": "put(6, b'O', b'(\\2\\0\\0\\0' + b'[\\1\\0\\0\\0' * 590 + b'NN')",
    "changes of nothing": "put(6, b'O', marshal.dumps((2, (1, 2, 3)), 2))",
    "changes of arguments that cannot be": "put(6, b'O', marshal.dumps((2, ([{}], 7)), 2))",
    "an opaque value": "put(6, b'O', marshal.dumps(((StopIteration, 'opaque', 'x', None), None), 2))",
    "a decimal": "put(6, b'O', marshal.dumps(((StopIteration, 'decimal', 'x', 'abc'), None), 2))",
    "keys that cannot be": "put(6, b'O', marshal.dumps(((StopIteration, 'dict_keys', 'x', [[1]]), None), 2))",
    "requests to itself": "put(5, b'C', marshal.dumps(([1], {}), 2))",
}

_PATCHES = {
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

_WAYS = ["sys.exit()", "os._exit(0)", "raise SystemExit", "os.abort()", "os.kill(os.getpid(), 9)"]
_WAYS += ["os.kill(os.getpid(), 35)", "ctypes.string_at(0)", "ctypes.CDLL(None).exit(0)"]
_PLACES = {"import": "{}\n" + ADDS_ONE, "call": "def f(x):\n    {}\n"}
_PLACES["del"] = "class A:\n    def __del__(self): {}\ndef f(x):\n    a = A()\n    del a\n    return 0\n"


def attacks() -> Iterator[Attack]:
    """All of them."""
    for name, check in (("", ""), (" under tests that are code", CHECK)):
        for base in _BASES:
            yield Attack(goal="pass by values that lie" + name, name=base, source=_liar(base), check=check)
    for name, text in _METACLASSES.items():
        yield Attack(goal="pass by classes that lie", name=name, source=_META.format(text))
    for name, body in _LIBRARIES.items():
        yield Attack(goal="pass as a class of a library", name=name, source=_posing(name, body))
    for name, text in _VALUES.items():
        yield Attack(goal="pass by odd values", name=name, source=f"def f(x):\n    return {text}\n", seconds=1)
    for name, (innermost, around) in _NESTS.items():
        for depth in (150, 195, 50_000):
            source = _KINDS + _DEEP.format(innermost, depth, around)
            yield Attack(goal="pass by deep values", name=f"{name} {depth}", source=source)
    yield from _forgeries()
    for name, check in (("", ""), (" under tests that are code", CHECK)):
        for patched, text in _PATCHES.items():
            source = f"{text}\ndef f(x):\n    return 0\n"
            yield Attack(goal="pass by patches" + name, name=patched, source=source, check=check)
    for way in _WAYS:
        for place, text in _PLACES.items():
            if place == "del" and way in ("sys.exit()", "raise SystemExit", "ctypes.CDLL(None).exit(0)"):
                continue  # Python ignores these there
            for kind, check in (("calls", ""), ("check", CHECK)):
                source = "import ctypes, os, sys\n" + text.format(way)
                yield Attack(goal="pass by leaving early", name=f"{kind} {place} {way}", source=source, check=check)


def _forgeries() -> Iterator[Attack]:
    """Answers that the harness would have written."""
    for name, text in _FRAMES.items():
        yield Attack(goal="pass by forged answers", name=name, source=f"{FORGE}{text}\nos._exit(0)\n{ADDS_ONE}", seconds=0.5)
    for name, text in FORGED.items():
        yield Attack(goal="pass by forged answers under tests that are code", name=name, source=REPLIES + text, check=CHECK)


def _liar(base: str) -> str:
    return _LIAR.format(base, _LIES, "('B', (), {})" if base == "type" else "()")


def _posing(name: str, body: str) -> str:
    module, _, kind = name.partition(" ")
    kind = kind.split(" ")[0] or "generic"
    return f"class A:\n    {body}\nA.__module__, A.__name__, A.__qualname__ = {module!r}, {kind!r}, {kind!r}\ndef f(x):\n    return A()\n"
