"""One attack, or one way to end, a test."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spa_bench.errors import SandboxError, UsageError
from spa_bench.sandbox import Limits, Outcome, Program, Sandbox, choose
from spa_bench.types import Verdict

ADDS_ONE = "def f(x):\n    return x + 1\n"
TESTS = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(3) == 4\n"
RIGHT = Program(ADDS_ONE, TESTS, "f")
NO_SANDBOX = "none-i-trust-this-code"
DEFAULT, SHORT = Limits(), Limits(seconds=0.7)


def bwrap_or_skip() -> Sandbox:
    try:
        return choose("bwrap")
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bwrap() -> Sandbox:
    return bwrap_or_skip()


@pytest.fixture(scope="module", params=["bwrap", NO_SANDBOX])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return bwrap_or_skip() if request.param == "bwrap" else choose(NO_SANDBOX)


def outcome(sandbox: Sandbox, source: str, *, limits: Limits = DEFAULT, tests: str = TESTS) -> Outcome:
    """How one program ends."""
    [(index, result)] = sandbox.run([Program(source, tests, "f")], limits=limits)
    assert index == 0
    assert len(result.message) <= 200
    assert result.message.isprintable()
    return result


def verdicts(sandbox: Sandbox, *sources: str, limits: Limits = DEFAULT) -> list[str]:
    """Verdicts of programs that run one after the other in one sandbox."""
    results = dict(sandbox.run([Program(source, TESTS, "f") for source in sources], workers=1, limits=limits))
    return [results[index].verdict for index in range(len(sources))]


def seen(sandbox: Sandbox, expression: str, limits: Limits = DEFAULT) -> str:
    """What the expression is inside; at most 200 characters on one line."""
    result = outcome(sandbox, f"import os, sys\ndef f(x):\n    raise Exception(str({expression}))\n", limits=limits)
    assert result.verdict == "raised"
    return result.message.removeprefix("Exception: ").removeprefix("Exception")


def running(marker: str) -> list[str]:
    """Processes of this machine with the marker on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds within some seconds."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# ways to end


def test_a_right_program_passes(sandbox: Sandbox) -> None:
    assert outcome(sandbox, ADDS_ONE) == Outcome(Verdict.PASSED, "")


def test_a_wrong_program_is_wrong_and_shows_the_assertion(sandbox: Sandbox) -> None:
    found = outcome(sandbox, "def f(x):\n    return 2\n")
    assert found == Outcome(Verdict.WRONG, "AssertionError at: assert candidate(3) == 4")


def test_an_exception_is_raised_and_shown(sandbox: Sandbox) -> None:
    assert outcome(sandbox, "def f(x):\n    return y\n") == Outcome(Verdict.RAISED, "NameError: name 'y' is not defined")


def test_an_assertion_outside_the_tests_is_raised(sandbox: Sandbox) -> None:
    assert outcome(sandbox, ADDS_ONE + "assert f(1) == 3").verdict == "raised"


def test_a_syntax_error_is_raised(sandbox: Sandbox) -> None:
    found = outcome(sandbox, "def f(x:\n")
    assert found.verdict == "raised"
    assert found.message.startswith("SyntaxError: ")


def test_a_missing_entry_point_is_raised(sandbox: Sandbox) -> None:
    assert outcome(sandbox, "def g(x):\n    return x + 1\n") == Outcome(Verdict.RAISED, "f is not defined")


def test_text_that_is_no_unicode_is_raised(bwrap: Sandbox) -> None:
    assert outcome(bwrap, "def f(x):\n    return '\ud800'\n").verdict == "raised"


def test_the_main_block_of_a_program_does_not_run(bwrap: Sandbox) -> None:
    assert outcome(bwrap, ADDS_ONE + "if __name__ == '__main__':\n    raise ValueError\n").verdict == "passed"


def test_annotations_are_evaluated_and_dataclasses_find_their_module(bwrap: Sandbox) -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n    c: 'int'\n"
    assert outcome(bwrap, source + ADDS_ONE + "assert A.__annotations__['b'] is int\n").verdict == "passed"


def test_input_ends_at_once(sandbox: Sandbox) -> None:
    assert outcome(sandbox, "def f(x):\n    return input()\n").message == "EOFError: EOF when reading a line"


def test_a_message_is_one_short_line(sandbox: Sandbox) -> None:
    found = outcome(sandbox, "def f(x):\n    raise ValueError('a\\n\\x1b[31mb' * 10_000_000)\n")
    assert found.message.startswith("ValueError: a [31mba [31mb")


def test_an_exception_that_cannot_be_printed_is_raised(bwrap: Sandbox) -> None:
    source = "class E(Exception):\n    def __str__(self):\n        exit()\ndef f(x):\n    raise E\n"
    assert outcome(bwrap, source).verdict == "raised"


# time and memory


def test_an_endless_loop_times_out(sandbox: Sandbox) -> None:
    start = time.monotonic()
    assert outcome(sandbox, "def f(x):\n    while True: pass\n", limits=SHORT).verdict == "timeout"
    assert time.monotonic() - start < 4


def test_a_loop_that_swallows_every_exception_times_out(sandbox: Sandbox) -> None:
    source = """
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
    assert outcome(sandbox, source, limits=SHORT).verdict == "timeout"


def test_an_endless_loop_in_c_times_out(bwrap: Sandbox) -> None:
    source = "import itertools, collections\ndef f(x):\n    collections.deque(itertools.count(), 0)\n"
    assert outcome(bwrap, source, limits=SHORT).verdict == "timeout"


def test_sleep_times_out(bwrap: Sandbox) -> None:
    assert outcome(bwrap, "import time\ntime.sleep(99)\n", limits=SHORT).verdict == "timeout"


def test_cpu_time_of_threads_together_is_limited(bwrap: Sandbox) -> None:
    source = "import hashlib, threading\ndef work():\n    while True: hashlib.sha256(bytes(1 << 20))\n"
    source += "def f(x):\n    for _ in range(4): threading.Thread(target=work).start()\n    work()\n"
    assert outcome(bwrap, source, limits=SHORT).verdict == "timeout"


def test_too_much_memory_at_once_is_memory(sandbox: Sandbox) -> None:
    assert outcome(sandbox, "def f(x):\n    return bytes(1 << 30)\n") == Outcome(Verdict.MEMORY, "MemoryError")


def test_memory_filled_to_the_brim_is_memory(sandbox: Sandbox) -> None:
    source = """
kept = None
def f(x):
    global kept
    for size in (1 << 20, 1 << 14, 1 << 10, *range(512, 0, -16)):
        try:
            while True: kept = kept, bytes(size)
        except MemoryError: pass
    for n in range(20, 0, -1):
        try:
            while True: kept = (kept,) * n
        except MemoryError: pass
    raise MemoryError
"""
    assert outcome(sandbox, source, limits=Limits(memory_mb=96)).verdict == "memory"


def test_memory_of_all_processes_together_is_limited(bwrap: Sandbox) -> None:
    source = "import os, time\ndef f(x):\n    for _ in range(8):\n        if not os.fork(): break\n"
    source += "    kept = bytearray(b'x') * (80 << 20)\n    time.sleep(99)\n"
    assert outcome(bwrap, source, limits=Limits(memory_mb=200)).verdict == "memory"


def test_deep_recursion_is_raised(bwrap: Sandbox) -> None:
    assert outcome(bwrap, "def f(x):\n    return f(x)\n").message.startswith("RecursionError")


def test_deep_recursion_without_a_limit_does_not_pass_or_hang(sandbox: Sandbox) -> None:
    source = "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\n"
    found = outcome(sandbox, source + "def f(x):\n    return repr(A())\n", limits=SHORT)
    assert found.verdict in ("crashed", "memory", "timeout")


# leaving before the end


@pytest.mark.parametrize("way", ["sys.exit()", "os._exit(0)", "raise SystemExit", "os.kill(os.getpid(), 35)", "os.abort()"])
@pytest.mark.parametrize("place", ["{}\n" + ADDS_ONE, "def f(x):\n    {}\n"], ids=["import", "call"])
def test_leaving_before_the_assertions_does_not_pass(bwrap: Sandbox, way: str, place: str) -> None:
    assert outcome(bwrap, "import os, sys\n" + place.format(way)).verdict == "crashed"


def test_a_segmentation_fault_is_a_crash(sandbox: Sandbox) -> None:
    found = outcome(sandbox, "import ctypes\ndef f(x):\n    ctypes.string_at(0)\n")
    assert found == Outcome(Verdict.CRASHED, "killed by signal 11 (Segmentation fault) before its tests were done")


def test_exec_of_another_program_does_not_pass(bwrap: Sandbox) -> None:
    source = "import os, sys\nos.execv(sys.executable, ['python', '-c', 'pass'])\n"
    assert outcome(bwrap, source).verdict == "crashed"


def test_a_report_without_the_nonce_does_not_pass(sandbox: Sandbox) -> None:
    source = "import os\nfor number in range(3, 64):\n    try: os.write(number, b'0' * 32 + b'passed ')\n"
    assert outcome(sandbox, source + "    except OSError: pass\nos._exit(0)\n").verdict == "crashed"


def test_an_unknown_verdict_behind_the_right_nonce_is_a_crash(bwrap: Sandbox) -> None:
    source = """
import os, sys
def f(x):
    frame = sys._getframe()
    while 'nonce' not in frame.f_locals: frame = frame.f_back
    os.write(frame.f_locals['pipe'], (frame.f_locals['nonce'] + 'perfect ').encode())
"""
    assert outcome(bwrap, source) == Outcome(Verdict.CRASHED, "reported a verdict that does not exist")


def test_closing_the_report_does_not_pass_or_hang(sandbox: Sandbox) -> None:
    assert outcome(sandbox, "import os\nos.closerange(0, 64)\n" + ADDS_ONE).verdict == "crashed"


def test_replacing_exec_and_write_does_not_pass(sandbox: Sandbox) -> None:
    source = """
import builtins, os
def steal(fd, data, write=os.write): return write(fd, data[:32] + b'passed ')
os.write = steal
def check(candidate): pass
builtins.exec = lambda *_: None
def f(x): return 0
"""
    assert outcome(sandbox, source).verdict == "wrong"


def test_replacing_os_exit_does_not_bring_the_program_into_the_runner(bwrap: Sandbox) -> None:
    assert outcome(bwrap, "import os\nos._exit = lambda _: None\ndef f(x):\n    raise OSError\n").verdict == "raised"


# the host


def test_the_network_is_out_of_reach(bwrap: Sandbox) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        source = f"import socket\ndef f(x):\n    socket.create_connection({address!r}, timeout=1)\n    return x + 1\n"
        assert outcome(choose(NO_SANDBOX), source).verdict == "passed"  # the attack works where nothing stops it
        assert "Error" in outcome(bwrap, source).message


def test_files_of_the_host_cannot_be_read(bwrap: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    paths = [str(secret), "/etc/passwd", "/etc/shadow", __file__, str(Path.cwd() / "pyproject.toml"), "/var", "/home"]
    assert seen(bwrap, f"[path for path in {paths} if os.path.exists(path)]") == "[]"


def test_of_the_home_folder_only_the_interpreter_is_there(bwrap: Sandbox) -> None:
    home = Path.home()
    ways = [Path(path).relative_to(home).parts for path in (sys.prefix, sys.base_prefix) if Path(path).is_relative_to(home)]
    found = seen(bwrap, f"os.listdir({str(home)!r}) if os.path.exists({str(home)!r}) else []")
    assert found == str([way[0] for way in ways])


def test_files_of_the_host_cannot_be_written(bwrap: Sandbox) -> None:
    places = ["/", "/usr", "/dev", "/dev/shm", "/runner.py", sys.prefix, sys.base_prefix, str(Path.home())]
    source = f"""
import os
def writes(path):
    try:
        open(path + '/x' if os.path.isdir(path) else path, 'a').close()
        return True
    except OSError:
        return False
def f(x):
    raise Exception([path for path in {places} if writes(path)])
"""
    assert outcome(bwrap, source).message == "Exception: []"


def test_settings_of_the_kernel_cannot_be_written(bwrap: Sandbox) -> None:
    source = """
import os
def f(x):
    found = []
    for folder, _, names in os.walk('/proc'):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if os.path.islink(path): continue  # what the program itself has open
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                found.append(path)
            except OSError:
                pass
    raise Exception(found)
"""
    assert outcome(bwrap, source).message == "Exception: []"


def test_the_environment_is_empty(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert seen(sandbox, "dict(os.environ)") == "{}"


def test_the_environment_of_the_host_is_not_in_proc(bwrap: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    source = """
import glob
def f(x):
    text = b''
    for path in glob.glob('/proc/*/environ'):
        try: text += open(path, 'rb').read()
        except OSError: pass
    return x + 1 if b'SECRET' not in text else 0
"""
    assert outcome(bwrap, source).verdict == "passed"


def test_there_are_no_privileges(bwrap: Sandbox) -> None:
    expression = "[line.split()[1] for line in open('/proc/thread-self/status') if line.startswith(('CapEff', 'CapBnd'))]"
    assert seen(bwrap, expression) == str(["0" * 16] * 2)
    assert seen(bwrap, "os.getuid()") == "65534"


def test_other_processes_of_the_host_are_not_seen(bwrap: Sandbox) -> None:
    assert seen(bwrap, "sorted(int(name) for name in os.listdir('/proc') if name.isdigit())[:-1]") == "[1]"


def test_memory_of_the_runner_cannot_be_opened(sandbox: Sandbox) -> None:
    if sandbox.name == NO_SANDBOX and os.getuid() == 0:
        pytest.skip("without a sandbox root may open everything")
    assert "Permission" in outcome(sandbox, "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')\n").message


# what is left behind


def test_a_fork_bomb_is_stopped_and_nothing_is_left(bwrap: Sandbox) -> None:
    bomb = "import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: pass\n"
    count = "import os\ndef f(x):\n    assert len([p for p in os.listdir('/proc') if p.isdigit()]) == 2\n    return x + 1\n"
    first, second = verdicts(bwrap, bomb, count, limits=SHORT)
    assert first in ("crashed", "timeout")
    assert second == "passed"


def test_a_daemon_is_gone_when_the_next_program_starts(bwrap: Sandbox) -> None:
    daemon = "import os, time\ndef f(x):\n    if not os.fork():\n        os.setsid()\n        if not os.fork():\n"
    daemon += "            time.sleep(99)\n        os._exit(0)\n    return x + 1\n"
    count = "import os\ndef f(x):\n    assert len([p for p in os.listdir('/proc') if p.isdigit()]) == 2\n    return x + 1\n"
    assert verdicts(bwrap, daemon, count) == ["passed", "passed"]


def test_a_process_that_holds_the_report_open_does_not_delay_a_crash(sandbox: Sandbox) -> None:
    source = "import os, time\nif os.fork():\n    os._exit(3)\ntime.sleep(99)\n"
    assert outcome(sandbox, source).message == "exited with status 3 before its tests were done"


# the interpreter itself may lie under /tmp; beside it there is only the program's own empty folder
LOOK = """import os, sys
def f(x):
    own = {p.split('/')[2] for p in (sys.prefix, sys.base_prefix) if p.startswith('/tmp/')}
    assert len(set(os.listdir('/tmp')) - own) == 1 and not os.listdir()
    return x + 1
"""


def test_a_file_of_one_program_is_not_seen_by_the_next(bwrap: Sandbox) -> None:
    leave = "import os\nfor path in ('/tmp/a', 'b'): open(path, 'w').write('x')\nos.makedirs('/tmp/c/d')\n" + ADDS_ONE
    assert verdicts(bwrap, leave, LOOK) == ["passed", "passed"]


def test_files_that_cannot_be_removed_cost_only_their_program(bwrap: Sandbox) -> None:
    leave = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n" + ADDS_ONE
    assert verdicts(bwrap, leave, LOOK)[1] == "passed"


def test_files_are_limited_one_by_one(sandbox: Sandbox) -> None:
    assert "File too large" in outcome(sandbox, "open('a', 'wb').write(bytes(9 << 20))\n").message


def test_files_are_limited_all_together(bwrap: Sandbox) -> None:
    source = "for i in range(3):\n    open(str(i), 'wb').write(bytes(4 << 20))\n"
    assert "No space left" in outcome(bwrap, source).message


def test_a_flood_of_output_is_dropped(sandbox: Sandbox) -> None:
    source = "import sys\nfor _ in range(200):\n    print('x' * 100_000)\n    print('y' * 100_000, file=sys.stderr)\n"
    assert outcome(sandbox, source + ADDS_ONE).verdict == "passed"


def test_a_flood_into_the_report_is_cut(bwrap: Sandbox) -> None:
    source = "import os\nwhile True:\n    for number in range(3, 64):\n        try: os.write(number, b'x' * 60_000)\n"
    assert outcome(bwrap, source + "        except OSError: pass\n", limits=SHORT).verdict == "crashed"


def test_killing_the_runner_costs_only_the_program_that_does_it(sandbox: Sandbox) -> None:
    kill = "import os\ndef f(x):\n    for number in (2, 15, 9): os.kill(os.getppid(), number)\n    os._exit(1)\n"
    assert verdicts(sandbox, kill, ADDS_ONE, kill, ADDS_ONE) == ["crashed", "passed", "crashed", "passed"]


def test_the_runner_cannot_be_ended_from_inside(bwrap: Sandbox) -> None:
    source = "import os, time\nfor number in (2, 15, 19, 9): os.kill(1, number)\ntime.sleep(0.05)\n"
    assert outcome(bwrap, source + ADDS_ONE).verdict == "passed"


def test_a_stopped_runner_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_bench.sandbox.base._GRACE_SECONDS", 0.3)
    stop = "import os, time\ndef f(x):\n    os.kill(os.getppid(), 19)\n    time.sleep(99)\n"
    assert verdicts(choose(NO_SANDBOX), stop, ADDS_ONE, limits=SHORT) == ["timeout", "passed"]


# many programs


def test_many_programs_are_all_answered_once_and_each_by_its_own_outcome(sandbox: Sandbox) -> None:
    sources = {"passed": ADDS_ONE, "wrong": "def f(x):\n    return 2\n", "raised": "1 / 0", "crashed": "exit()"}
    programs = [Program(list(sources.values())[i * 7 % 4], TESTS, "f") for i in range(60)]
    found = list(sandbox.run(programs, workers=3))
    assert sorted(index for index, _ in found) == list(range(60))
    assert [dict(found)[i].verdict for i in range(60)] == [list(sources)[i * 7 % 4] for i in range(60)]


def test_outcomes_do_not_depend_on_order_or_workers(sandbox: Sandbox) -> None:
    sources = [f"import random\ndef f(x):\n    raise Exception(random.random(), {{'a', 'b', 'c'}}, {i})\n" for i in range(8)]
    programs = [Program(source, TESTS, "f") for source in sources]
    forward = dict(sandbox.run(programs, workers=2))
    backward = dict(sandbox.run(programs[::-1], workers=1))
    assert [forward[i] for i in range(8)] == [backward[7 - i] for i in range(8)]


def test_state_of_one_program_does_not_reach_the_next(sandbox: Sandbox) -> None:
    spoil = "import math, sys, builtins\nmath.pi = 3\nbuiltins.len = None\nsys.setrecursionlimit(50)\n" + ADDS_ONE
    look = "import math\nassert math.pi > 3.1 and len([1]) == 1\n" + ADDS_ONE
    assert verdicts(sandbox, spoil, look) == ["passed", "passed"]


def test_a_program_longer_than_a_pipe_is_run(bwrap: Sandbox) -> None:
    assert outcome(bwrap, "# " + "x" * 3_000_000 + "\n" + ADDS_ONE).verdict == "passed"


def test_no_programs_give_no_outcomes(sandbox: Sandbox) -> None:
    assert list(sandbox.run([])) == []


def test_no_workers_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="workers=0"):
        list(sandbox.run([RIGHT], workers=0))


def test_a_slow_reader_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_bench.sandbox.base._GRACE_SECONDS", 0.0)
    kill = Program("import os\nos.kill(os.getppid(), 9)\n", TESTS, "f")
    long = Program(ADDS_ONE + "#" * 300_000, TESTS, "f")  # a part of it waits for a place in the pipe
    found = []
    for _, result in choose(NO_SANDBOX).run([long, kill, long, long], workers=1, limits=Limits(seconds=1)):
        found.append(result.verdict)
        time.sleep(1.2 if len(found) in (1, 3) else 0)  # the next was handed out: it is late by then
    assert found == ["passed", "crashed", "passed", "passed"]


def test_stopping_early_leaves_no_process_and_no_open_file(sandbox: Sandbox) -> None:
    before = len(os.listdir("/proc/self/fd"))
    limits = Limits(seconds=97.125)
    outcomes = sandbox.run([RIGHT, Program("while True: pass", TESTS, "f")], limits=limits, workers=1)
    assert next(outcomes)[1].verdict == "passed"
    processes = 2 if sandbox.name == NO_SANDBOX else 3  # the runner, the program and bwrap itself
    assert comes_true(lambda: len(running("97.125")) == processes)
    outcomes.close()  # type: ignore[attr-defined]
    assert comes_true(lambda: not running("97.125"))
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):  # no zombie either
        os.waitpid(-1, os.WNOHANG)


def test_the_sandbox_ends_with_the_harness(bwrap: Sandbox) -> None:
    script = "from spa_bench.sandbox import *\nrun = choose().run([Program('while True: pass', '', 'f')], "
    script += "limits=Limits(seconds=96.125))\nnext(run)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as harness:
        assert comes_true(lambda: len(running("96.125")) >= 3)  # the harness is not among them: it has it in its script
        harness.kill()
    assert comes_true(lambda: not running("96.125"))


def test_runs_in_several_threads_do_not_meet(sandbox: Sandbox) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(verdicts(sandbox, ADDS_ONE, "1 / 0"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["passed", "passed", "raised", "raised"]


# choosing


def test_the_default_is_bwrap(bwrap: Sandbox) -> None:
    assert choose().name == bwrap.name == "bwrap"


def test_an_unknown_sandbox_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"unknown sandbox 'bwarp'; did you mean 'bwrap'\?"):
        choose("bwarp")
    with pytest.raises(UsageError, match=r"did you mean 'none-i-trust-this-code'\?"):
        choose("none")
    with pytest.raises(UsageError, match="known are bwrap, none-i-trust-this-code"):
        choose("42")


def test_without_bwrap_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError) as caught:
        choose()
    for part in ("bwrap is not installed", "apt-get install bubblewrap", "--sandbox none-i-trust-this-code"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def fake_bwrap(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = folder / "bwrap"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_bwrap_that_does_not_work_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_bwrap(tmp_path, "echo 'bwrap: No permissions to create new namespace' >&2; exit 1", monkeypatch)
    with pytest.raises(SandboxError, match=r"does not work here \(bwrap: No permissions to create new namespace\)"):
        choose("bwrap")


def test_a_sandbox_that_stops_working_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_bwrap(tmp_path, f"test -e {tmp_path}/tried && echo 'bwrap: no more' >&2; : > {tmp_path}/tried", monkeypatch)
    broken = choose("bwrap")
    with pytest.raises(SandboxError, match="did not start: bwrap: no more"):
        list(broken.run([RIGHT]))
