# ruff: noqa: E501 -- tables of code snippets
"""What is left behind: for the next program, on this machine, and when something is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attack_cases import cases
from spa_bench.errors import SandboxError
from spa_bench.grading import Calls, Check, Grader, Outcome, Program
from spa_bench.sandbox import Limits, Sandbox, choose
from spa_bench.sandbox.attacks import ADDS_ONE
from spa_bench.sandbox.base import interpreter_paths
from spa_bench.sandbox.cgroup import available
from spa_bench.types import CallSuite

attack = pytest.mark.attack
LOOPS = "def f(x):\n    while True: pass\n"
TESTS = Calls((CallSuite(name="base", inputs=lambda: [[1], [3]]),), ADDS_ONE)
Grades = Callable[..., list[Outcome]]
Waits = Callable[[Callable[[], bool]], bool]
Family = Callable[[int], list[int]]

# the next program ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize((), cases("leave files to the next program"))
def test_files_of_one_program_do_not_reach_the_next(found: Outcome, after: Outcome) -> None:
    assert found.verdict in ("passed", "crashed", "raised")  # crashed: it left what cannot be removed
    assert after.verdict == "passed"


@pytest.mark.parametrize((), cases("spoil what the next program finds"))
def test_this_of_one_program_does_not_reach_the_next(found: Outcome, after: Outcome) -> None:
    assert found.verdict in ("passed", "crashed", "wrong", "raised")
    assert after.verdict == "passed"


def test_folders_above_a_mount_are_not_kept(
    cache: Path, tmp_path: Path, grades: Grades, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter may lie under /tmp, where programs write."""
    try:
        sandbox = choose("bwrap")
    except SandboxError as error:
        pytest.skip(str(error))
    if not tmp_path.is_relative_to("/tmp"):
        pytest.skip("the folders of tests are not under /tmp")
    (tmp_path / "mounted").mkdir()
    paths = [*interpreter_paths(), str(tmp_path / "mounted")]
    monkeypatch.setattr("spa_bench.sandbox.bwrap.interpreter_paths", lambda: paths)
    leave = f"import os\nfor path in ({str(tmp_path)!r}, {str(tmp_path.parent)!r}):\n    try: open(path + '/left', 'w')\n    except OSError: pass\n"
    look = f"import os\nassert not os.path.exists({str(tmp_path / 'left')!r}) and not os.path.exists({str(tmp_path.parent / 'left')!r})\n"
    assert [found.verdict for found in grades(sandbox, leave + ADDS_ONE, look + ADDS_ONE)] == ["passed", "passed"]


ENDS = {"a crash": "import os\nos.abort()", "memory": "kept = [bytearray(1 << 22) for _ in range(9999)]"}


@pytest.mark.parametrize((), [pytest.param(marks=attack(ENDS[name], then=ADDS_ONE, seconds=1), id=name) for name in ENDS])
def test_the_next_program_passes_after(found: Outcome, after: Outcome) -> None:
    assert found.verdict in ("crashed", "memory")
    assert after.verdict == "passed"


FILES = {
    "one large file": ("open('a', 'wb').write(bytes(9 << 20))", "File too large"),
    "many large files": ("for n in range(9): open(str(n), 'wb').write(bytes(4 << 20))", "No space left"),
    "a file with holes": ("os.truncate(os.open('a', 66), 1 << 40)", "File too large"),
    "room asked for": ("os.posix_fallocate(os.open('a', 66), 0, 1 << 30)", ""),
}


@pytest.mark.parametrize(
    (),
    [pytest.param(marks=attack(f"import os\n{text}\n{ADDS_ONE}", only="bwrap"), id=name) for name, (text, _) in FILES.items()],
)
def test_the_disk_cannot_be_filled_by(found: Outcome, request: pytest.FixtureRequest) -> None:
    assert found.verdict == "raised"
    assert FILES[request.node.callspec.id.split("-")[-1]][1] in found.message


# this machine ----------------------------------------------------------------------------------------------------------


@attack(
    "import os\nfor path in ('/tmp/ATTACK', 'ATTACK', '/dev/shm/ATTACK', '/var/tmp/ATTACK'):\n    try: open(path, 'w')\n    except OSError: pass\n"
    + ADDS_ONE
)
def test_all_attacks_together_leave_nothing_on_this_machine(
    found: Outcome, jail: Sandbox, batches: Callable[[Sandbox], object]
) -> None:
    batch = batches(jail)
    assert batch.behind == batch.before  # type: ignore[attr-defined]
    assert not [place for place in ("/tmp", ".", "/dev/shm", "/var/tmp", "/") if os.path.lexists(f"{place}/ATTACK")]
    with pytest.raises(ChildProcessError):  # no zombie either
        os.waitpid(-1, os.WNOHANG)


def cgroups(pids: list[int]) -> list[str]:
    """Control groups that workers with these pids made."""
    return [str(path) for pid in pids for path in Path("/sys/fs/cgroup").rglob(f"spa-bench-{pid}-*")]


def test_while_a_program_runs_it_has_a_control_group_and_afterwards_there_is_none(
    jail: Sandbox, cache: Path, children_of: Family
) -> None:
    if not available():
        pytest.skip("no control groups can be made here")
    outcomes = Grader(sandbox=jail, cache=cache, workers=1).run([Program(source=ADDS_ONE, entry_point="f", tests=TESTS)] * 2)
    next(outcomes)
    workers = children_of(os.getpid())
    assert len(cgroups(workers)) >= 1
    outcomes.close()  # type: ignore[attr-defined]
    assert cgroups(workers) == []


def test_stopping_early_leaves_no_process_no_descriptor_and_no_file(
    jail: Sandbox, cache: Path, temporary: Path, family: Family, comes_true: Waits
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    outcomes = Grader(sandbox=jail, cache=cache, workers=2).run(
        [
            Program(source=ADDS_ONE, entry_point="f", tests=TESTS),
            *[Program(source=LOOPS, entry_point="f", tests=TESTS, seconds=90)] * 2,
        ]
    )
    assert next(outcomes)[1].verdict == "passed"
    assert comes_true(lambda: len(family(os.getpid())) >= 4)
    mine = family(os.getpid())
    outcomes.close()  # type: ignore[attr-defined]
    assert comes_true(lambda: not [pid for pid in mine if os.path.exists(f"/proc/{pid}")])
    assert family(os.getpid()) == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(temporary.iterdir()) == []


HARNESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have told its background jobs to ignore
from pathlib import Path
from spa_bench.grading import Calls, Check, Grader, Program
from spa_bench.sandbox import choose
from spa_bench.types import CallSuite
reference = "def f(x):\\n    return x + 1\\n"
tests = Calls((CallSuite(name="base", inputs=lambda: [[1]]),), reference)
loops = "def f(x):\\n    while True: pass\\n"
programs = [
    Program(source=reference, entry_point="f", tests=tests, seconds=95),
    Program(source=loops, entry_point="f", tests={tests}, seconds=95),
]
grader = Grader(sandbox=choose({name!r}), cache=Path({cache!r}), workers=1)
for _, outcome in grader.run(programs): print(outcome.verdict, flush=True)
"""
KINDS = {"calls": "tests", "check": "Check('def check(candidate): candidate(1)')"}


@pytest.mark.parametrize(("kind", "how"), [("calls", signal.SIGKILL), ("check", signal.SIGTERM), ("calls", signal.SIGINT)])
def test_the_sandbox_ends_with_the_harness(
    jail: Sandbox, tmp_path: Path, kind: str, how: int, family: Family, comes_true: Waits
) -> None:
    script = HARNESS.format(tests=KINDS[kind], name=jail.name, cache=str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, text=True, **pipes) as harness:  # type: ignore[call-overload]
        assert harness.stdout.readline() == "passed\n"
        assert comes_true(lambda: len(family(harness.pid)) >= 3)
        time.sleep(0.1)
        mine = family(harness.pid)
        harness.send_signal(how)
    assert comes_true(lambda: not [pid for pid in mine if _runs(pid)])


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie (whose parent is the first process of this machine)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("level", ["sandbox", "zygote or program"])
def test_a_sandbox_that_is_killed_from_outside_costs_at_most_its_program(
    jail: Sandbox, cache: Path, level: str, children_of: Family, family: Family, comes_true: Waits
) -> None:
    slow = "import time\ndef f(x):\n    time.sleep(0.3)\n    return x + 1\n"
    programs = [Program(source=source, entry_point="f", tests=TESTS, seconds=5) for source in (ADDS_ONE, slow, ADDS_ONE)]
    outcomes = Grader(sandbox=jail, cache=cache, workers=1).run(programs)
    found = dict([next(outcomes)])
    assert comes_true(lambda: len(family(os.getpid())) >= 3)
    [worker] = children_of(os.getpid())
    below = family(worker)
    os.kill(below[0] if level == "sandbox" else below[-1], signal.SIGKILL)
    found |= dict(outcomes)
    assert found[0].verdict == found[2].verdict == "passed"
    assert found[1].verdict in ("passed", "crashed")
    assert family(os.getpid()) == []


@pytest.mark.slow
def test_a_zygote_that_is_stopped_is_given_up(cache: Path, children_of: Family) -> None:
    """The worker waits 4 * seconds + 1, and ten more."""
    sandbox = choose("landlock")  # the child of the worker is the zygote itself
    check = Check("def check(candidate):\n    assert candidate(1) == 2\n")
    sleeps = "import time\ndef f(x):\n    time.sleep(0.5)\n    return x + 1\n"
    outcomes = Grader(sandbox=sandbox, cache=cache, workers=1).run(
        [Program(source=s, entry_point="f", tests=check, seconds=0.2) for s in (ADDS_ONE, sleeps, ADDS_ONE)]
    )
    found = dict([next(outcomes)])
    [worker] = children_of(os.getpid())
    os.kill(children_of(worker)[0], signal.SIGSTOP)
    found |= dict(outcomes)
    assert [found[n].verdict for n in range(3)] == ["passed", "timeout", "passed"]


# many at once ----------------------------------------------------------------------------------------------------------

SOURCES = {"passed": ADDS_ONE, "wrong": "def f(x):\n    return 2\n", "raised": "1 / 0", "crashed": "import os\nos._exit(0)"}
MIXED = [list(SOURCES)[n * 7 % 4] for n in range(40)]


def test_every_program_is_answered_once_by_its_own_outcome(jail: Sandbox, grades: Grades) -> None:
    found = grades(jail, *(SOURCES[name] for name in MIXED), workers=3)
    assert [outcome.verdict for outcome in found] == MIXED


def test_outcomes_do_not_depend_on_order_or_workers(jail: Sandbox, grades: Grades) -> None:
    text = "import random\ndef f(x):\n    raise Exception(random.random(), {{'a', 'b', 'c'}}, {}, hash('a'))\n"
    sources = [text.format(n) for n in range(8)]
    assert grades(jail, *sources, workers=2) == grades(jail, *sources[::-1], workers=1)[::-1]


def test_graders_in_several_threads_do_not_meet(jail: Sandbox, grades: Grades) -> None:
    found: list[list[str]] = []

    def grade() -> None:
        found.append([outcome.verdict for outcome in grades(jail, *(SOURCES[name] for name in MIXED[:12]))])

    threads = [threading.Thread(target=grade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [MIXED[:12]] * 3


def test_graders_in_several_processes_do_not_meet(jail: Sandbox, tmp_path: Path) -> None:
    script = HARNESS.format(tests="tests", name=jail.name, cache=str(tmp_path)).replace("while True: pass", "return 0")
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].split() for process in processes] == [["passed", "wrong"]] * 2


def test_a_lower_limit_of_memory_on_this_machine_is_kept(jail: Sandbox, tmp_path: Path) -> None:
    script = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    script += HARNESS.format(tests="tests", name=jail.name, cache=str(tmp_path)).replace("while True: pass", "return 0")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["passed", "wrong"], done.stderr


# soaking ---------------------------------------------------------------------------------------------------------------


def _soak(cache: Path, samples: int) -> None:
    """Grade so many samples of every kind; memory and descriptors of this process stay as they are."""
    kinds = {ADDS_ONE: "passed", "def f(x):\n    return 0\n": "wrong", "1 / 0": "raised", "import os\nos._exit(0)": "crashed"}
    kinds |= {
        "import os\nos.fork()": "raised",
        "def f(x):\n    return [x] * 10_000\n": "wrong",
        "def f(x):\n    return bytes(1 << 31)\n": "memory",
    }
    check = Check("def check(candidate):\n    assert candidate(1) == 2\n")
    programs = [
        Program(source=list(kinds)[n % 7], entry_point="f", tests=check if n % 5 == 0 else TESTS, seconds=3)
        for n in range(samples)
    ]
    count, sizes, descriptors = 0, [], []
    for index, outcome in Grader(sandbox=choose(), cache=cache, workers=2, limits=Limits(memory_mb=512)).run(programs):
        assert outcome.verdict == kinds[programs[index].source]
        count += 1
        if count % (samples // 10) == samples // 20:
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20)
            descriptors.append(len(os.listdir("/proc/self/fd")))
    assert count == samples
    assert len(set(descriptors)) == 1
    assert sizes[-1] - sizes[1] < 20


@pytest.mark.slow
def test_a_thousand_samples_leave_memory_and_descriptors_as_they_were(cache: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    _soak(cache, 1000)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.slow
def test_twenty_thousand_samples_leave_memory_and_descriptors_as_they_were(cache: Path) -> None:
    _soak(cache, 20_000)
