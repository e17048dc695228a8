# ruff: noqa: E501 -- tables of code snippets
"""Device nodes and files that programs share with the host: used, and not changed; what is honest and needs odd system calls."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from attack_cases import cases
from spa_bench.grading import Outcome
from spa_bench.sandbox import Limits, Sandbox, choose
from spa_bench.sandbox.attacks import attempt
from spa_bench.sandbox.bwrap import Bwrap

attack = pytest.mark.attack
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n"
DEVICE = "/dev/full"  # nobody needs it: were an attack to succeed, it would do no harm
NODES = ("full", "null", "random", "urandom", "zero")


# changes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("change devices"))
def test_these_are_denied(found: Outcome) -> None:
    assert found.verdict == "raised"
    assert found.message.startswith(("PermissionError", "FileNotFoundError: [Errno 2] No such file or directory: '/dev/full'"))


@pytest.mark.parametrize("name", NODES)
def test_for_root_the_device_nodes_are_mounted_read_only_and_work(name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user does not own them")
    try:
        sandbox = choose("bwrap")
    except Exception as error:
        pytest.skip(str(error))
    command = sandbox.command(Limits(), ())
    python = command[command.index(os.path.realpath(sys.executable))]
    # without the filters: this layer holds alone
    tries = "import os, stat\nfor change in (lambda p: os.chmod(p, stat.S_IMODE(os.stat(p).st_mode)), os.utime, lambda p: os.chown(p, -1, -1)):\n"
    tries += f"    try: change('/dev/{name}')\n    except OSError as error: print(error.errno)\nopen('/dev/{name}', 'r+b', 0).read(1)\n"
    before = os.stat(f"/dev/{name}")
    done = subprocess.run([*command[: command.index(python)], python, "-c", tries], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["30", "30", "30"], done.stderr
    assert done.returncode == 0
    assert os.stat(f"/dev/{name}") == before


def test_the_nodes_of_the_host_stay_as_they_are(jail: Sandbox, grades: Callable[..., list[Outcome]]) -> None:
    before = {name: os.stat(f"/dev/{name}") for name in NODES}
    modes = [attempt(f"os.chmod('/dev/full', {mode})") for mode in (0o666, 0o600)]
    grades(jail, *modes, attempt("os.utime('/dev/full', (7, 7))"))
    assert {name: os.stat(f"/dev/{name}") for name in NODES} == before


@attack("import os\ndef f(x):\n    return sorted(os.listdir('/dev'))\n", only="bwrap")
def test_there_are_no_other_devices_under_bwrap(found: Outcome) -> None:
    assert found.message == "returned ['full', 'null', 'random', 'shm', 'urandom', 'zero'], expected 2"


def test_root_without_the_right_to_mount_has_a_sandbox_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        choose("bwrap")
    except Exception as error:
        pytest.skip(str(error))
    monkeypatch.setattr("spa_bench.sandbox.bwrap._before", lambda: [["/bin/false"], []])
    assert Bwrap().command(Limits(), ())[0].endswith("bwrap")


# honest programs -------------------------------------------------------------------------------------------------------

WORKS = {
    "the null device": "open(os.devnull, 'w').write('x'); assert open(os.devnull).read() == ''",
    "random numbers": "assert len(open('/dev/urandom', 'rb').read(8)) == 8 and os.urandom(8)",
    "a thread of asyncio": "async def g(): return await asyncio.to_thread(lambda: x)\n    assert asyncio.run(g()) == x",
    "a call from another thread": (
        "async def g():\n        loop, done = asyncio.get_running_loop(), asyncio.Event()\n"
        "        threading.Timer(0.01, lambda: loop.call_soon_threadsafe(done.set)).start()\n        await done.wait()\n    asyncio.run(g())"
    ),
    "a pair of sockets": "a, b = socket.socketpair(); a.sendall(b'xyz'); assert b.recv(3) == b'xyz'",
    "time zones": "from zoneinfo import ZoneInfo; ZoneInfo('Europe/Berlin')",
}  # fmt: skip


@pytest.mark.parametrize((), [pytest.param(marks=attack(attempt(text)), id=name) for name, text in WORKS.items()])
def test_these_work(found: Outcome, request: pytest.FixtureRequest) -> None:
    if "time zones" in request.node.name and not os.path.exists("/usr/share/zoneinfo"):
        pytest.skip("this machine has no time zones")
    assert found.verdict == "passed", found.message


@attack(attempt(WORKS["a thread of asyncio"]), check=CHECK)
def test_a_thread_of_asyncio_works_under_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict == "passed", found.message


WORKS_WHERE_FILES_CAN_BE_WRITTEN = {
    "a pool of threads": "from multiprocessing.dummy import Pool\n    with Pool(2) as pool: assert pool.map(abs, [-x]) == [x]",
    "a lock of multiprocessing": "from multiprocessing import Lock\n    with Lock(): pass\n    assert not os.listdir('/dev/shm')",
    "a data base in a file": (
        "import sqlite3\n    base = sqlite3.connect('data')\n    base.execute('create table t (a)'); base.execute('insert into t values (1)'); base.commit()\n"
        "    assert sqlite3.connect('data').execute('select a from t').fetchall() == [(1,)]; os.remove('data')"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    (),
    [
        pytest.param(marks=attack(attempt(text), only="bwrap"), id=name)
        for name, text in WORKS_WHERE_FILES_CAN_BE_WRITTEN.items()
    ],
)
def test_these_work_where_files_can_be_written(found: Outcome) -> None:
    assert found.verdict == "passed", found.message


SPOILED = "import builtins\nbuiltins.map = builtins.isinstance = builtins.list = None\ndef f(x):\n    return x + 1\n"


@attack(SPOILED)
def test_builtins_that_a_program_replaced_are_its_own(found: Outcome) -> None:
    assert found.verdict == "passed", found.message


@attack(SPOILED, check="def check(candidate):\n    assert candidate(1) == 2\n    assert list(map(candidate, [3])) == [4]\n")
def test_builtins_that_a_program_replaced_are_its_own_under_tests_that_are_code(found: Outcome) -> None:
    assert found.verdict == "passed", found.message
