"""Programs that take too much, do not end, or leave something to the next program."""
# ruff: noqa: E501 -- tables of code snippets

from __future__ import annotations

from collections.abc import Iterator

from spa_bench.sandbox.attacks.attack import ADDS_ONE, CHECK, Attack

_BRIEF = 0.05  # for those that sleep: they end after 4 * seconds + 1

_SWALLOW = """
import signal
for number in range(1, 65):
    try: signal.signal(number, lambda *_: None)
    except (OSError, ValueError): pass
def f(x):
    while True:
        try:
            while True: pass
        except BaseException: pass
"""

_THREADS = "import hashlib, threading\ndef work():\n    while True: hashlib.sha256(bytes(1 << 20))\n"

_FORGES_PROGRESS = """
import struct, sys
def f(x):
    frame = sys._getframe()
    while 'shared' not in frame.f_locals: frame = frame.f_back
    struct.pack_into('<QdQQ', frame.f_locals['shared'], 0, {})
    while True: pass
"""

_TIMES = {
    "an endless loop": "def f(x):\n    while True: pass\n",
    "a loop that swallows signals and exceptions": _SWALLOW,
    "a loop that blocks signals": "import signal\nsignal.pthread_sigmask(0, range(1, 65))\ndef f(x):\n    while True: pass\n",
    "switching alarms off": "import signal\nsignal.alarm(0)\nsignal.setitimer(0, 0)\nsignal.setitimer(2, 0)\ndef f(x):\n    while True: pass\n",
    "counting without end in C": "import itertools, collections\ndef f(x):\n    collections.deque(itertools.count(), 0)\n",
    "a product without end": "import itertools\ndef f(x):\n    return sum(1 for _ in itertools.product(range(99), repeat=9))\n",
    "the power of large integers": "def f(x):\n    return 3 ** (10 ** 8) % 7\n",
    "a regular expression that backtracks": "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 64 + 'b')\n",
    "threads together": _THREADS + "def f(x):\n    for _ in range(4): threading.Thread(target=work).start()\n    work()\n",
    "a forged progress": _FORGES_PROGRESS.format("1, 1e300, 0, 1"),
    "a forged progress without end": _FORGES_PROGRESS.format("2**63, float('nan'), 2**64 - 1, 0"),
}
_TIMES_OF_CODE = {
    "an endless loop under tests that are code": "def f(x):\n    while True: pass\n",
    "a loop that ignores signals": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, 1)\n    except OSError: pass\nwhile True: pass\n",
}
_SLEEPS = {
    "sleep": "import time\ndef f(x):\n    time.sleep(99)\n",
    "naps": "import time\ndef f(x):\n    while True: time.sleep(0.05)\n",
    "a deadlock": "import threading\ndef f(x):\n    lock = threading.Lock()\n    with lock, lock: pass\n",
    "a program that stops itself": "import os\ndef f(x):\n    os.kill(os.getpid(), 19)\n",
}

_BRIM = """
kept = None
def f(x):
    global kept
    for size in (1 << 20, 1 << 14, 1 << 10, *range(512, 0, -16)):
        try:
            while True: kept = kept, bytes(size)
        except MemoryError: pass
    raise MemoryError
"""

_MEMORY = {
    "one block": "def f(x):\n    return bytes(1 << 30)\n",
    "many blocks": "def f(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 22))\n",
    "many blocks at import": "kept = []\nwhile True: kept.append(bytearray(1 << 22))\n",
    "memory filled to the brim": _BRIM,
}
# the interpreter itself may lie under /tmp
_LOOK = """
import os, sys
def f(x):
    own = {path.split('/')[2] for path in (sys.prefix, sys.base_prefix) if path.startswith('/tmp/')}
    assert not set(os.listdir('/tmp')) - own and os.getcwd() == '/tmp'
    open('fresh', 'wb').write(bytes(6 << 20))  # there is room
    os.remove('fresh')
    return x + 1
"""

_LEAVES = {
    "a file": "open('a', 'w').write('x')",
    "folders": "os.makedirs('a/b/c')\n    open('a/b/c/d', 'w')",
    "a hidden file": "open('.a', 'w')",
    "a name that is no unicode": "open(b'\\xff\\n', 'w')",
    "a link to itself": "os.symlink('/tmp', 'a')",
    "a link to nothing": "os.symlink('/nowhere', 'a')",
    "a full disk": "try:\n        for n in range(99): open(str(n), 'wb').write(bytes(1 << 20))\n    except OSError: pass",
    "many files": "[os.close(os.open(str(n), 64)) for n in range(3000)]",
    "a folder without rights": "os.mkdir('a', 0)",
    "a semaphore": "import ctypes\n    assert ctypes.CDLL(None).sem_open(b'/a', 64, 0o600, 1) and os.path.exists('/tmp/sem.a')",
    "deep folders": "for _ in range(1500):\n        os.mkdir('d')\n        os.chdir('d')",
    "an open file": "globals()['kept'] = open('a', 'wb', buffering=0)\n    kept.write(bytes(1 << 20))\n    os.remove('a')",
    "another mask": "os.umask(0o777)\n    os.mkdir('a')",
    "a thread that writes": "__import__('threading').Thread(target=lambda: [open(str(n), 'w') for n in range(10**9)], daemon=True).start()",
}

_SPOILS = {
    "a module": ("import math\nmath.pi = 3", "import math\nassert math.pi > 3.1"),
    "builtins": ("import builtins\nbuiltins.len = None", "assert len([1]) == 1"),
    "sys.modules": ("import sys\nsys.modules.clear()", "import sys, json\nassert len(sys.modules) > 50"),
    "our modules": (
        "from spa_bench.sandbox.inside import wire\nwire.encode = lambda _: b'N'",
        "from spa_bench.sandbox.inside import wire\nassert wire.encode(1) != b'N'",
    ),
    "a global": (
        "import sys\nsys.stolen = 1\nimport builtins\nbuiltins.stolen = 1",
        "import sys, builtins\nassert not hasattr(sys, 'stolen')",
    ),
    "the limit of recursion": ("import sys\nsys.setrecursionlimit(60)", "import sys\nassert sys.getrecursionlimit() > 500"),
    "seeds": ("import random\nrandom.seed(7)\nrandom.random()", "import random\nassert round(random.random(), 6) == 0.844422"),
    "the environment": ("import os\nos.environ['A'] = 'x'\nos.putenv('A', 'x')", "import os\nassert os.getenv('A') is None"),
    "limits": ("import resource\nresource.setrlimit(7, (9, 9))", "import resource\nassert resource.getrlimit(7)[0] > 9"),
    "signals": (
        "import signal\nsignal.signal(10, signal.SIG_IGN)",
        "import signal\nassert signal.getsignal(10) == signal.SIG_DFL",
    ),
    "blocked signals": (
        "import signal\nsignal.pthread_sigmask(0, [10])",
        "import signal\nassert not signal.pthread_sigmask(0, [])",
    ),
    "timers": ("import signal\nsignal.alarm(1)", "import signal\nassert signal.alarm(0) == 0"),
    "the collector": ("import gc\ngc.disable()", "import gc\nassert gc.isenabled()"),
    "contexts of decimals": (
        "import decimal\ndecimal.getcontext().prec = 1",
        "import decimal\nassert decimal.getcontext().prec == 28",
    ),
    "the import path": ("import sys\nsys.path.insert(0, '/tmp')", "import sys\nassert '/tmp' not in sys.path"),
    "import hooks": ("import sys\nsys.meta_path.clear()", "import wave, sys\nassert sys.meta_path"),
    "audit hooks": ("import sys\nsys.addaudithook(lambda *_: 1 / 0)", "import wave"),
    "the locale": (
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
        "import locale\nassert locale.setlocale(locale.LC_ALL)",
    ),
    "memory shared with the zygote": (
        "import sys\nframe = sys._getframe()\nwhile 'shared' not in frame.f_locals: frame = frame.f_back\nframe.f_locals['shared'][9:] = b'x' * (2**18 - 9)",
        "import sys\nframe = sys._getframe()\nwhile 'shared' not in frame.f_locals: frame = frame.f_back\nassert b'x' not in frame.f_locals['shared'][:]",
    ),
    "flags of a descriptor": (
        "import fcntl, os\nfor n in (0, 1, 2): fcntl.fcntl(n, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)",
        "import fcntl, os\nassert not any(fcntl.fcntl(n, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) for n in (0, 1, 2))",
    ),
    "names": ("def g(): pass\nsecret = 1", "assert 'g' not in globals() and 'secret' not in globals()"),
}


def attacks() -> Iterator[Attack]:
    """All of them."""
    for name, source in _TIMES.items():
        yield Attack(goal="run without end", name=name, source=source)
    for name, source in _TIMES_OF_CODE.items():
        yield Attack(goal="run without end", name=name, source=source, check=CHECK)
    for name, source in _SLEEPS.items():
        yield Attack(goal="run without end", name=name, source=source, seconds=_BRIEF)
    sleeps_first = "import time\ntime.sleep(99)\n"
    yield Attack(goal="run without end", name="sleep before the first call", source=sleeps_first, check=CHECK, seconds=_BRIEF)
    for name, source in _MEMORY.items():
        yield Attack(goal="take all memory", name=name, source=source, seconds=9)
    code = "one block under tests that are code"
    yield Attack(goal="take all memory", name=code, source=_MEMORY["one block"], check=CHECK, seconds=9)
    for name, text in _LEAVES.items():
        source = (
            f"import os\ndone = []\ndef f(x):\n    if done: return x + 1\n    done.append(1)\n    {text}\n    return x + 1\n"
        )
        yield Attack(goal="leave files to the next program", name=name, source=source, then=_LOOK, seconds=2, only="bwrap")
    for name, (spoil, look) in _SPOILS.items():
        source, then = f"{spoil}\n{ADDS_ONE}", f"{look}\n{ADDS_ONE}"
        yield Attack(goal="spoil what the next program finds", name=name, source=source, then=then)
