"""Ways to end, in time or not: one a test. A program whose attack succeeds would pass."""

import pytest

from attack_cases import cases
from spa_bench.grading import Outcome
from spa_bench.sandbox.attacks import ADDS_ONE, CHECK
from spa_bench.types import Verdict

attack = pytest.mark.attack


@attack(ADDS_ONE)
def test_a_right_program_passes(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.PASSED)


@attack(ADDS_ONE, check=CHECK)
def test_a_right_program_passes_tests_that_are_code(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.PASSED)


@attack("def f(x):\n    return 2\n")
def test_a_wrong_program_is_wrong_and_shows_the_first_call_that_failed(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.WRONG, message="returned 2, expected 4", call="3", suite="base")


@attack("def f(x):\n    return 2\n", check=CHECK)
def test_a_wrong_program_shows_the_assertion(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.WRONG, message="AssertionError at: assert candidate(3) == 4", call="3")


@attack("def f(x):\n    return y\n")
def test_an_exception_is_raised_and_shown(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.RAISED, message="NameError: name 'y' is not defined", call="1", suite="base")


@attack(ADDS_ONE + "assert f(1) == 3")
def test_an_assertion_outside_the_tests_is_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("def f(x:\n")
def test_a_syntax_error_is_raised(found: Outcome) -> None:
    assert found.verdict == "raised"
    assert found.message.startswith("SyntaxError: ")


@attack("def g(x):\n    return x + 1\n")
def test_a_missing_entry_point_is_raised(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.RAISED, message="f is not defined", suite="base")


@attack("def f(x):\n    return '\ud800'\n")
def test_a_program_that_is_no_unicode_is_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("\0")
def test_a_program_with_a_null_byte_is_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("f = " + "(" * 90 + ")" * 90 + "\nf = " + "-" * 100_000 + "1\n")
def test_a_program_that_breaks_the_parser_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("raised", "memory", "crashed")


@attack(ADDS_ONE + "if __name__ == '__main__':\n    raise ValueError\n")
def test_the_main_block_of_a_program_does_not_run(found: Outcome) -> None:
    assert found.verdict == "passed"


@attack("from dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n" + ADDS_ONE + "A(1)\n")
def test_dataclasses_find_their_module(found: Outcome) -> None:
    assert found.verdict == "passed"


@attack("def f(x):\n    return input()\n")
def test_input_ends_at_once(found: Outcome) -> None:
    assert found.message == "EOFError: EOF when reading a line"


@attack("def f(x):\n    raise ValueError('a\\n\\x1b[31mb' * 10_000_000)\n", seconds=2)
def test_a_message_is_one_short_line(found: Outcome) -> None:
    assert found.message.startswith("ValueError: a [31mba [31mb")


@attack("class E(Exception):\n    def __str__(self):\n        exit()\ndef f(x):\n    raise E\n")
def test_an_exception_that_cannot_be_printed_is_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f(x):\n    raise E\n")
def test_an_exception_that_takes_for_ever_to_print_times_out(found: Outcome) -> None:
    assert found.verdict == "timeout"


@attack("def f(x):\n    raise BaseExceptionGroup('a', [KeyboardInterrupt()])\n")
def test_an_exception_that_is_no_ordinary_one_is_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("# " + "x" * 3_000_000 + "\n" + ADDS_ONE)
def test_a_program_longer_than_a_pipe_is_run(found: Outcome) -> None:
    assert found.verdict == "passed"


# leaving before the end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("pass by leaving early"))
def test_leaving_before_the_tests_are_done_does_not_pass(found: Outcome) -> None:
    assert found.verdict == "crashed"


@attack("import sys\nclass A:\n    def __del__(self): sys.exit()\ndef f(x):\n    A()\n    return 0\n")
def test_an_exit_that_python_ignores_changes_nothing(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack("import atexit, os\natexit.register(os._exit, 0)\ndef f(x):\n    return 0\n")
def test_what_is_left_for_the_exit_of_python_does_not_run(found: Outcome) -> None:
    assert found.verdict == "wrong"


@attack("import os, threading\ndef f(x):\n    threading.Thread(target=os._exit, args=(0,)).start()\n    while True: pass\n")
def test_leaving_in_a_thread_is_a_crash(found: Outcome) -> None:
    assert found.verdict == "crashed"


@attack("import sys, threading\nthreading.Thread(target=sys.exit).start()\n" + ADDS_ONE)
def test_a_thread_that_ends_itself_is_no_crash(found: Outcome) -> None:
    assert found.verdict == "passed"


@attack("import os\nos._exit = lambda _: None\ndef f(x):\n    raise OSError\n")
def test_replacing_os_exit_does_not_bring_the_program_into_the_zygote(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("import ctypes\ndef f(x):\n    ctypes.string_at(0)\n")
def test_a_segmentation_fault_says_so(found: Outcome) -> None:
    assert found.message == "killed by signal 11 (Segmentation fault) before its tests were done"


# time ------------------------------------------------------------------------------------------------------------------


@attack("def f(x):\n    while True: pass\n")
def test_a_program_that_times_out_shows_the_call(found: Outcome) -> None:
    assert (found.verdict, found.call) == ("timeout", "1")


@pytest.mark.parametrize((), cases("run without end"))
def test_this_times_out(found: Outcome) -> None:
    assert found.verdict == "timeout"


@attack("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9, 9))\n" + ADDS_ONE)
def test_the_limit_of_cpu_time_cannot_be_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


# what a program looks like that gets a twentieth of a processor: at this limit one that sleeps is ended after 2.2 s
STARVED = """
import time
def f(x):
    end = time.monotonic() + 2.8
    while time.monotonic() < end:
        slice = time.process_time() + 0.003
        while time.process_time() < slice: pass
        time.sleep(0.055)
    return x + 1
"""


@pytest.mark.slow  # it makes the machine busy, and a machine that is busy already has no room for it
@attack(STARVED, seconds=0.3)
def test_a_right_program_that_waits_for_a_busy_processor_passes(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.PASSED)


# memory ----------------------------------------------------------------------------------------------------------------


@attack("def f(x):\n    return bytes(1 << 30)\n")
def test_too_much_memory_in_one_block_is_memory(found: Outcome) -> None:
    assert found == Outcome(verdict=Verdict.MEMORY, message="MemoryError", call="1", suite="base")


@pytest.mark.parametrize((), cases("take all memory"))
def test_too_much_is_memory(found: Outcome) -> None:
    assert found.verdict == "memory"


@attack("import mmap\ndef f(x):\n    return [mmap.mmap(-1, 1 << 26) for _ in range(99)]\n")
def test_mapped_memory_is_limited(found: Outcome) -> None:
    assert found.verdict == "raised"
    assert "Cannot allocate memory" in found.message


@attack("import mmap\ndef f(x):\n    return [mmap.mmap(-1, 1 << 26, flags=2) for _ in range(99)]\n")
def test_private_mapped_memory_is_limited(found: Outcome) -> None:
    assert "Cannot allocate memory" in found.message


@attack("import os\nos.memfd_create('a')\n" + ADDS_ONE)
def test_a_file_in_memory_is_denied(found: Outcome) -> None:
    assert "Operation not permitted" in found.message


SHARES = "import os\nfor n in range(9): os.write(os.open(f'/dev/shm/ATTACK{n}', 65), bytes(1 << 20))\n"


@attack(SHARES + ADDS_ONE, only="landlock")
def test_the_folder_of_shared_memory_cannot_be_written(found: Outcome) -> None:
    assert "Permission denied" in found.message


@attack(SHARES + "raise SystemExit\n", only="bwrap")
def test_the_folder_of_shared_memory_is_that_of_the_program(found: Outcome) -> None:
    assert "No space left" in found.message


@attack("from multiprocessing.shared_memory import SharedMemory\nSharedMemory('ATTACK', True, 1 << 20)\n" + ADDS_ONE)
def test_shared_memory_of_posix_is_out_of_reach(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n" + ADDS_ONE)
def test_the_limit_of_memory_cannot_be_raised(found: Outcome) -> None:
    assert found.verdict == "raised"


@attack("def f(x):\n    return f(x)\n")
def test_deep_recursion_is_raised(found: Outcome) -> None:
    assert found.message.startswith("RecursionError")


RECURSE = "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\n"


@attack(RECURSE + "def f(x):\n    return repr(A())\n")
def test_deep_recursion_without_a_limit_does_not_pass_or_hang(found: Outcome) -> None:
    assert found.verdict in ("crashed", "memory", "timeout")


MANY_THREADS = """
import threading, time
threading.stack_size(1 << 15)
count = 0
def f(x):
    global count
    try:
        while count < 2000:
            threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
            count += 1
    except RuntimeError:
        return x + 1
"""


@attack(MANY_THREADS, seconds=2)
def test_many_threads_with_tiny_stacks_are_limited(found: Outcome) -> None:
    assert found.verdict == "passed"  # it was stopped


# output ----------------------------------------------------------------------------------------------------------------

FLOOD = "import sys\nfor _ in range(100):\n    print('x' * 100_000)\n    print('y' * 100_000, file=sys.stderr)\n"


@attack(FLOOD + ADDS_ONE)
def test_a_flood_of_output_is_dropped(found: Outcome) -> None:
    assert found.verdict == "passed"


@attack("import os\nwhile True: os.write(3, b'x' * 60_000)\n")
def test_a_flood_into_the_answer_is_cut(found: Outcome) -> None:
    assert found.verdict in ("crashed", "wrong")


EVERYWHERE = "import os\nfor _ in range(99):\n    for number in range(64):\n        try: os.write(number, {})\n"


@attack(EVERYWHERE.format("b'x' * 60_000") + "        except OSError: pass\n" + ADDS_ONE)
def test_a_flood_into_every_descriptor_does_not_pass(found: Outcome) -> None:
    assert found.verdict in ("crashed", "wrong")


@attack("import os\nos.closerange(0, 64)\n" + ADDS_ONE)
def test_closing_every_descriptor_does_not_pass(found: Outcome) -> None:
    assert found.verdict == "crashed"


@attack("import os\nos.closerange(0, 64)\n" + ADDS_ONE, check=CHECK)
def test_closing_the_descriptors_of_the_judge_does_not_pass(found: Outcome) -> None:
    assert found.verdict == "crashed"


@attack(
    "import os\nos.close(5)\n" + ADDS_ONE, check="def check(candidate):\n    try: candidate(1)\n    except Exception: pass\n"
)
def test_closing_the_requests_is_no_exception_that_tests_can_swallow(found: Outcome) -> None:
    assert found.verdict == "crashed"


@attack("import fcntl, os\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_NONBLOCK)\ndef f(x):\n    return 'x' * 9_000_000\n")
def test_an_answer_that_no_longer_waits_does_not_pass_or_hang(found: Outcome) -> None:
    assert found.verdict in ("crashed", "wrong")
