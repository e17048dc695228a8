"""Reaching for the host: files, environment, network, processes, the kernel. What succeeds would pass."""

import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attack_cases import cases
from spa_bench.grading import Outcome
from spa_bench.sandbox import Sandbox, choose
from spa_bench.sandbox.attacks import all_attacks, attempt
from spa_bench.sandbox.attacks.host import call
from spa_bench.sandbox.attacks.victim import make_victim, untouched

attack = pytest.mark.attack
NO_SANDBOX = "none-i-trust-this-code"
DENIED = ("PermissionError", "FileNotFoundError", "OSError: [Errno 30] Read-only file system")


# files -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("change files"))
def test_nothing_of_the_host_can_be_changed_by(found: Outcome, victim: Path) -> None:
    assert found.verdict == "raised"
    assert found.message.startswith(DENIED) or "not supported" in found.message
    assert untouched(victim)
    places = ("/", "/usr", "/dev", "/dev/shm", "/etc", "/var/tmp", "/tmp", Path.home(), sys.prefix, Path.cwd())
    assert not [place for place in places if os.path.lexists(f"{place}/ATTACK")]


@attack(attempt("open('ATTACK', 'w')"), only="landlock")
def test_under_landlock_the_working_folder_cannot_be_written(found: Outcome) -> None:
    assert found.message.startswith("PermissionError")


@attack(attempt("open('/tmp/ATTACK', 'w')"), only="landlock")
def test_under_landlock_the_folder_for_temporary_files_cannot_be_written(found: Outcome) -> None:
    assert found.message.startswith("PermissionError")


@attack(attempt("open('ATTACK', 'w').write('x'); assert open('/tmp/ATTACK').read() == 'x'"), only="bwrap")
def test_under_bwrap_a_program_may_write_to_its_own_folder(found: Outcome) -> None:
    assert found.verdict == "passed"
    assert not os.path.exists("/tmp/ATTACK")


@pytest.mark.parametrize((), cases("read files"))
def test_these_of_the_host_cannot_be_read(found: Outcome) -> None:
    assert found.verdict == "raised"
    assert found.message.startswith((*DENIED, "NotADirectoryError", "AssertionError"))


DRAINS = """
import os, threading
try: source = os.open('/proc/self/fd/3', os.O_RDONLY)
except OSError: source = -1
def drain():
    while source >= 0: os.read(source, 1 << 16)
for _ in range(4): threading.Thread(target=drain, daemon=True).start()
def f(x):
    while True: os.write(3, bytes(999))
"""


@attack(DRAINS)
def test_draining_its_own_answers_does_not_hang_the_grader(found: Outcome) -> None:
    assert found.verdict in ("timeout", "crashed")
    assert "stopped answering" not in found.message


# environment -----------------------------------------------------------------------------------------------------------


@attack("import os\ndef f(x):\n    return dict(os.environ)\n")
def test_the_environment_is_empty(found: Outcome) -> None:
    assert found.message == "returned {}, expected 2"


ENVIRON = """
import ctypes
pointer = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
def f(x):
    return list(iter(iter(pointer).__next__, None)) if pointer else []
"""


@attack(ENVIRON)
def test_the_environment_of_the_c_library_is_empty(found: Outcome) -> None:
    assert found.message == "returned [], expected 2"


@attack("import os, sys\ndef f(x):\n    return [sys.argv, os.getcwd() in ('/', '/tmp'), sys.flags.isolated]\n")
def test_the_command_line_is_empty(found: Outcome) -> None:
    assert found.message == "returned [[''], True, 0], expected 2"


@attack(
    "import os, socket\ndef f(x):\n    return [os.getuid(), os.getgid(), socket.gethostname(), os.getppid()]\n", only="bwrap"
)
def test_under_bwrap_names_of_user_host_and_parent_are_not_real(found: Outcome) -> None:
    assert found.message == "returned [65534, 65534, 'sandbox', 1], expected 2"


@attack("import ctypes\ndef f(x):\n    return [ctypes.CDLL(None).prctl(3), ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)]\n")
def test_settings_of_the_process_cannot_even_be_asked_for(found: Outcome) -> None:
    assert found.message == "returned [-1, -1], expected 2"


# network ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("use the network"))
def test_the_network_is_out_of_reach_by(found: Outcome) -> None:
    assert found.verdict == "raised"
    assert found.message.startswith(("PermissionError", "URLError", "gaierror", "herror", "OSError"))


def test_a_server_on_this_machine_sees_only_the_program_without_a_sandbox(
    jail: Sandbox, grades: Callable[..., list[Outcome]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        program = attempt(f"socket.create_connection({server.getsockname()!r}, timeout=1)")
        assert grades(choose(NO_SANDBOX), program)[0].verdict == "passed"  # the attack works where nothing stops it
        server.accept()[0].close()
        assert grades(jail, program)[0].verdict == "raised"
        while True:  # both tests of the suite connected
            try:
                server.accept()[0].close()
            except TimeoutError:
                break
            except OSError:
                pytest.fail("the server broke")


# processes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("start processes"))
def test_no_process_can_be_made_or_become_another_by(found: Outcome) -> None:
    assert found.verdict == "raised"
    kinds = ("PermissionError", "OSError", "BrokenProcessPool", "AssertionError: <class 'Perm", "FileNotFoundError")
    assert found.message.startswith(kinds)  # FileNotFoundError: there are no terminals in /dev


@pytest.mark.parametrize((), cases("start processes without end"))
def test_these_time_out(found: Outcome) -> None:
    assert found.verdict == "timeout"


@pytest.mark.parametrize((), cases("reach other processes"))
def test_no_signal_or_limit_reaches(found: Outcome) -> None:
    assert found.verdict == "raised"
    assert found.message.startswith(("PermissionError", "ProcessLookupError", "OSError: [Errno 38]"))


# system calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize((), cases("call the kernel"))
def test_the_kernel_denies(found: Outcome) -> None:
    assert found.verdict == "wrong"
    assert found.message in [f"returned [-1, {number}], expected 2" for number in (1, 25, 38)]


MACHINE_CODE = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('{}'))
def f(x):
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 has a second way to call the kernel")
@attack(MACHINE_CODE.format("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret
def test_system_calls_of_32_bits_end_the_program(found: Outcome) -> None:
    assert found.message.startswith("killed by signal 31")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 has a second table of calls")
@attack(call(0x40000000 | 39))
def test_system_calls_of_x32_end_the_program(found: Outcome) -> None:
    assert found.message.startswith("killed by signal 31")


def test_without_a_sandbox_these_attacks_work(grades: Callable[..., list[Outcome]], tmp_path: Path) -> None:
    victim = make_victim(tmp_path / "victim")
    names = ("open", "a file")
    sources = [a.source.replace("VICTIM", str(victim)) for a in all_attacks() if a.goal.endswith("files") and a.name in names]
    assert [outcome.verdict for outcome in grades(choose(NO_SANDBOX), *sources)] == ["passed", "passed"]
    assert (victim / "ATTACK").exists()
    assert not untouched(victim)
