"""Looking in memory for what is expected, for tests, and for what earlier programs left."""

from pathlib import Path

import pytest

from spa_bench.grading import Calls, Check, Grader, Program
from spa_bench.sandbox import Limits, Sandbox
from spa_bench.types import CallSuite

ADDS_ONE = "def f(x):\n    return x + 1\n"

# Reads every page around every address it knows (a write to a pipe fails where a page is not there) and looks for
# markers; its own pattern does not match itself.
SCAN = """
import ctypes, gc, os, re, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_size_t
libc.write.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t]
pattern = re.compile(rb'SECRE[T]-[a-z]+-[0-9]')
source, sink = os.pipe()
MB = 1 << 20
known = {id(o) for o in gc.get_objects()} | {id(m) for m in sys.modules.values()}
known |= {id(None), id(int), id(''), libc.sbrk(0) - 1}
known |= {id(v) for m in list(sys.modules.values()) for v in list(vars(m).values())}
known |= {ctypes.cast(getattr(libc, n), ctypes.c_void_p).value for n in ('write', 'malloc')}
known |= {ctypes.c_size_t.in_dll(libc, '__libc_stack_end').value, ctypes.addressof(ctypes.create_string_buffer(9999))}
chunks, seen, found, pages = [k // MB for k in known], set(), set(), 0
while chunks:
    chunk = chunks.pop()
    if chunk in seen: continue
    seen.add(chunk)
    at, tail, any_page = chunk * MB, b'', False
    while at < (chunk + 1) * MB:
        size = libc.write(sink, at, min(65536, (chunk + 1) * MB - at))
        if size <= 0:
            at, tail = (at // 4096 + 1) * 4096, b''
            continue
        any_page, pages = True, pages + size // 4096
        data = tail + os.read(source, size)
        found.update(pattern.findall(data))
        at, tail = at + size, data[-40:]
    if any_page: chunks += [chunk + d for d in range(-24, 25)]
def f(*_):
    assert pages > 1000, pages
    raise Exception(f"{sorted(name.decode()[7:] for name in found)} of {pages}")
"""
OBJECTS = """
import gc, re, sys, types
pattern = re.compile('SECRE[T]-[a-z]+-[0-9]')
found, seen = set(), set()
def look(value, depth):
    if id(value) in seen or depth > 60: return
    seen.add(id(value))
    if isinstance(value, (str, bytes)):
        found.update(pattern.findall(value if isinstance(value, str) else value.decode('latin-1')))
    for inner in gc.get_referents(value): look(inner, depth + 1)
sys.setrecursionlimit(9999)
for value in [*gc.get_objects(), *sys.modules.values(), *sys._current_frames().values()]: look(value, 0)
frame = sys._getframe()
while frame:
    look(frame.f_locals, 0)
    frame = frame.f_back
def f(*_):
    raise Exception(f"{sorted(name[7:] for name in found)} of {len(seen)}")
"""


@pytest.fixture(scope="module")
def secrets(jail: Sandbox, cache: Path) -> dict[str, str]:
    """What programs found, by name, in a worker that has graded others before. Inputs are no secret: they are the control."""
    keep = "kept = 'SECRET-earlier-4'\ndef f(x):\n    return ['SECRET-output-5' * 2, '-'.join(['SECRET', 'made', '6'])]\n"
    reference = "# SECRET-reference-2\ndef f(x):\n    return '-'.join(['SECRET', 'expected', '3'])\n"
    calls = Calls((CallSuite(name="base", inputs=lambda: [["SECRET-input-1"]]),), reference)
    helpers = f"# {'SECRET-helpers-8'}\n{ADDS_ONE}"
    check = Check(
        "SECRET = 'SECRET-tests-7'\ndef check(candidate):\n    assert candidate(SECRET[:2]) == 'SECRET-wanted-9'\n", helpers
    )
    programs = {
        "passes": Program(source=reference, entry_point="f", tests=calls, seconds=9),
        "keeps": Program(source=keep, entry_point="f", tests=calls, seconds=9),
        "checked": Program(source=keep, entry_point="f", tests=check, seconds=9),
        "scan of calls": Program(source=SCAN, entry_point="f", tests=calls, seconds=9),
        "objects of calls": Program(source=OBJECTS, entry_point="f", tests=calls, seconds=9),
        "scan of check": Program(source=SCAN, entry_point="f", tests=check, seconds=9),
        "objects of check": Program(source=OBJECTS, entry_point="f", tests=check, seconds=9),
    }
    found = dict(Grader(sandbox=jail, cache=cache, workers=1, limits=Limits(memory_mb=512)).run(list(programs.values())))
    return {name: f"{found[index].verdict}: {found[index].message}" for index, name in enumerate(programs)}


def test_what_is_expected_is_not_in_the_memory_of_a_program(secrets: dict[str, str]) -> None:
    assert secrets["passes"] == "passed: "
    assert secrets["scan of calls"].startswith("raised: Exception: ['input-1'] of ")  # the scan finds what is there


def test_what_is_expected_is_in_no_object_that_a_program_can_reach(secrets: dict[str, str]) -> None:
    assert secrets["objects of calls"].startswith("raised: Exception: ['input-1'] of ")


def test_tests_that_are_code_are_not_in_the_memory_of_a_program(secrets: dict[str, str]) -> None:
    assert secrets["keeps"].startswith("wrong")
    assert secrets["checked"].startswith("wrong")
    # the input of another problem's suite is left in memory; no source, test or result is
    assert secrets["scan of check"].startswith("raised: Exception: ['input-1'] of ")


def test_tests_that_are_code_are_in_no_object_that_a_program_can_reach(secrets: dict[str, str]) -> None:
    assert secrets["objects of check"].startswith("raised: Exception: ['input-1'] of ")
