"""Many programs at once: order, workers, progress, and what happens when something outside the programs breaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processes import children, descendants
from spa_bench.errors import SandboxError, SpaBenchError, UsageError
from spa_bench.grading import Calls, Check, Grader, Outcome, Program, sessions
from spa_bench.grading.channel import SandboxGone, Zygote
from spa_bench.sandbox import Limits
from spa_bench.sandbox.none import NoSandbox
from spa_bench.types import CallSuite, Verdict

Kill = Callable[[Callable[[], list[int]]], list[int]]
Outcomes = Callable[[Grader, Sequence[Program]], list[Outcome]]
ADD = "def f(x):\n    return x + 1\n"
SUITE = CallSuite(name="base", inputs=lambda: [[1], [3]])
BURN = "import time\ndef f(x):\n    end = time.process_time() + {}\n"
BURN += "    while time.process_time() < end:\n        pass\n    return {}\n"
BUSY = BURN.format(0.7, "x + 1")
HARNESS = str(Path(sessions.__file__).parents[2])


def program(source: str = ADD, reference: str = ADD, seconds: float = 1.0) -> Program:
    return Program(source=source, entry_point="f", tests=Calls((SUITE,), reference), problem="set/7", seconds=seconds)


def mixed() -> list[Program]:
    """All kinds of outcomes; each says which program it is of."""
    kinds = [
        "def f(x):\n    return 'wrong {}'\n",
        "def f(x):\n    raise ValueError('{}')\n",
        "def f(x):\n    return x + 1  # {}\n",
        "import os\ndef f(x):\n    os._exit({})\n",
        "raise KeyError({})\n",
    ]
    check = Check("def check(candidate):\n    assert candidate(1) == 2\n")
    suites = [program(kinds[i % 5].format(i)) for i in range(20)]
    return suites + [
        Program(source=kinds[i % 5].format(i), entry_point="f", tests=check, problem="set/8") for i in range(20, 30)
    ]


def comes_true(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


# order and workers ---------------------------------------------------------------------------------------------------


def test_outcomes_do_not_depend_on_the_number_of_workers(grader: Grader, outcomes: Outcomes):
    one, two, three = (outcomes(replace(grader, workers=n), mixed()) for n in (1, 2, 3))
    assert one == two == three


def test_outcomes_do_not_depend_on_the_order_of_programs(grader: Grader, outcomes: Outcomes):
    programs = mixed()
    assert outcomes(grader, programs[::-1])[::-1] == outcomes(grader, programs)


def test_each_index_belongs_to_its_program(grader: Grader, outcomes: Outcomes):
    found = outcomes(replace(grader, workers=2), mixed())
    assert [found[i].message for i in (0, 5)] == ["returned 'wrong 0', expected 2", "returned 'wrong 5', expected 2"]
    assert [found[i].message for i in (1, 21, 26)] == ["ValueError: 1", "ValueError: 21", "ValueError: 26"]
    assert [found[i].verdict for i in (2, 22, 3, 23)] == [Verdict.PASSED] * 2 + [Verdict.CRASHED] * 2


def test_the_longest_suites_are_begun_first_and_indices_still_fit(grader: Grader):
    slow = BURN.format(0.1, 0)
    programs = [program(), program("def f(x):\n    return 0\n", slow), program("def f(x):\n    return 'x'\n")]
    found = list(grader.run(programs))
    assert [index for index, _ in found] == [1, 0, 2]
    assert [str(outcome.verdict) for _, outcome in found] == ["passed", "passed", "wrong"]


def test_nothing_to_grade_gives_nothing_and_starts_nothing(grader: Grader):
    broken = replace(grader, sandbox=Broken())
    assert list(broken.run([])) == []


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_refused(workers: int, grader: Grader):
    with pytest.raises(UsageError, match=f"workers={workers}; at least 1 is needed"):
        list(replace(grader, workers=workers).run([program()]))


def test_more_workers_than_programs_are_not_started(grader: Grader):
    before = set(children())
    running = replace(grader, workers=5).run([program(), program("def f(x):\n    import time; time.sleep(9)\n")])
    next(running)
    started = set(children()) - before
    running.close()
    assert len(started) <= 2


def test_workers_that_are_kept_do_everything_and_end_with_the_block(grader: Grader, fresh: Grader, outcomes: Outcomes):
    """References, programs and behaviours in two processes, and every answer as elsewhere."""
    programs, before = mixed(), set(children())
    alone = dict(grader.behaviours(programs))
    seen = set[int]()
    with replace(fresh, workers=2).kept() as kept:
        for answers, wanted in ((kept.run, outcomes(grader, programs)), (kept.behaviours, alone)):
            found = {}
            for index, answer in answers(programs):
                found[index] = answer
                seen |= set(children()) - before
            assert found == dict(wanted if isinstance(wanted, dict) else enumerate(wanted))
    assert len(seen) == 2
    assert set(children()) <= before


def test_a_kept_worker_that_was_killed_is_replaced(grader: Grader):
    before = set(children())
    with replace(grader, workers=1).kept() as kept:
        first = dict(kept.run([program()]))
        [idle] = set(children()) - before
        os.kill(idle, signal.SIGKILL)
        assert comes_true(lambda: "Z" in Path(f"/proc/{idle}/stat").read_text().rpartition(")")[2])
        assert dict(kept.run([program()])) == first
    assert set(children()) <= before


def test_what_is_broken_off_ends_its_worker_and_keeps_the_idle_ones(grader: Grader):
    before = set(children())
    with replace(grader, workers=2).kept() as kept:
        running = kept.run([program(), program("def f(x):\n    import time; time.sleep(9)\n")])
        next(running)
        running.close()
        assert len(set(children()) - before) == 1
    assert set(children()) <= before


# progress of references ----------------------------------------------------------------------------------------------


def test_progress_of_references_is_told_once_for_each_suite_that_is_new(fresh: Grader, outcomes: Outcomes):
    told: list[tuple[int, int]] = []
    watched = replace(fresh, workers=2, progress=lambda done, total: told.append((done, total)))
    programs = [program(reference=ADD + f"# {i % 3}\n") for i in range(6)]
    outcomes(watched, programs)
    assert told == [(1, 3), (2, 3), (3, 3)]
    outcomes(watched, [*programs, program(reference=ADD + "# new\n")])
    assert told[3:] == [(1, 1)]


def test_progress_tells_nothing_of_tests_that_are_code(fresh: Grader, outcomes: Outcomes):
    told: list[tuple[int, int]] = []
    check = Check("def check(candidate):\n    assert candidate(1) == 2\n", helpers=ADD)
    outcomes(
        replace(fresh, progress=lambda done, total: told.append((done, total))),
        [Program(source=ADD, entry_point="f", tests=check)],
    )
    assert told == []


# closing early -------------------------------------------------------------------------------------------------------


def test_closing_early_ends_the_programs_that_run(grader: Grader, outcomes: Outcomes):
    before = set(descendants())
    endless = program("def f(x):\n    while True:\n        pass\n", seconds=30)
    running = replace(grader, workers=2).run([program(), endless, endless])
    assert next(running)[1].verdict == Verdict.PASSED
    assert set(descendants()) - before
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < 20
    assert comes_true(lambda: set(descendants()) <= before)


def test_an_iterator_that_nobody_asks_starts_nothing(grader: Grader):
    before = set(children())
    running = grader.run([program()])
    assert set(children()) == before
    running.close()


def test_temporary_folders_are_gone_afterwards(grader: Grader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    running = replace(grader, workers=2).run([program(), program(), program()])
    next(running)
    assert list(tmp_path.iterdir())
    running.close()
    assert list(tmp_path.iterdir()) == []


# what breaks outside of programs -------------------------------------------------------------------------------------


class Broken:
    """A sandbox that does not start."""

    name, cgroup = "broken", False

    def command(self, limits: Limits, packages: Sequence[str] = (), scratch: str = "") -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit('no such room\\nreally')"]


class KilledAtStart:
    """A sandbox that is killed while it starts, so many times."""

    name, cgroup = "killed", False

    def __init__(self, marks: Path, times: int):
        self._marks, self._times = marks, times

    def command(self, limits: Limits, packages: Sequence[str] = (), scratch: str = "") -> list[str]:
        script = (
            f'for i in {" ".join(map(str, range(self._times)))}; do mkdir "$0/$i" 2>/dev/null && kill -9 $$; done; exec "$@"'
        )
        return ["/bin/sh", "-c", script, str(self._marks), *NoSandbox().command(limits, packages, scratch)]


def test_a_sandbox_that_is_killed_while_it_starts_is_started_once_more(grader: Grader, tmp_path: Path):
    [(_, found)] = replace(grader, sandbox=KilledAtStart(tmp_path, 1)).run([program()])
    assert found.verdict == Verdict.PASSED
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_sandbox_that_is_always_killed_is_one_line(grader: Grader, tmp_path: Path):
    with pytest.raises(SandboxError, match=r"^the killed sandbox did not start: it says not why$"):
        list(replace(grader, sandbox=KilledAtStart(tmp_path, 2)).run([program()]))


@pytest.fixture
def killing() -> Iterator[Kill]:
    """Kills, once, the first of the processes that a function finds, and appends it to the list that it returns."""
    threads = []

    def kill(find: Callable[[], list[int]]) -> list[int]:
        killed: list[int] = []

        def act() -> None:
            if comes_true(find):
                time.sleep(0.3)  # until it is at work
                killed.append(find()[0])
                os.kill(killed[0], signal.SIGKILL)

        threads.append(threading.Thread(target=act))
        threads[-1].start()
        return killed

    yield kill
    for thread in threads:
        thread.join()


def test_a_worker_that_is_killed_is_one_line(grader: Grader, killing: Kill):
    grader.prepare([program()])
    before = set(children())
    killed = killing(lambda: sorted(set(children()) - before))
    with pytest.raises(SandboxError, match=r"^a grading process ended \(status -9\); run the same command again$"):
        list(grader.run([program(BUSY, seconds=9)]))
    assert len(killed) == 1
    assert comes_true(lambda: set(children()) <= before)


def test_a_sandbox_that_is_killed_is_started_again(grader: Grader, killing: Kill):
    grader.prepare([program()])
    before = set(children())
    # one that has started: it has processes of its own
    killed = killing(lambda: [pid for worker in set(children()) - before for pid in children(worker) if children(pid)])
    [(_, found)] = grader.run([program(BUSY, seconds=9)])
    assert found.verdict == Verdict.PASSED
    assert killed


def test_a_fault_of_the_worker_is_one_line_that_asks_for_a_report(grader: Grader, monkeypatch: pytest.MonkeyPatch):
    grader.prepare([program()])
    broken = "import spa_bench.grading.worker as w; w.Worker.grade = lambda *a: 1 / 0; w.main(sys.argv[2])"
    monkeypatch.setattr(sessions, "_START", f"import sys; sys.path.insert(0, sys.argv[1]); {broken}")
    pattern = r"^grading itself failed, please report it: ZeroDivisionError: division by zero \(.*, line \d+\)$"
    with pytest.raises(SandboxError, match=pattern):
        list(grader.run([program()]))


def test_a_fault_while_a_reference_runs_is_one_line_too(fresh: Grader, monkeypatch: pytest.MonkeyPatch):
    broken = "import spa_bench.grading.worker as w; w.Worker.grade = lambda *a: 1 / 0; w.main(sys.argv[2])"
    monkeypatch.setattr(sessions, "_START", f"import sys; sys.path.insert(0, sys.argv[1]); {broken}")
    with pytest.raises(SandboxError, match=r"^grading itself failed, please report it: ZeroDivisionError: division by zero"):
        list(fresh.run([program()]))


def test_a_worker_that_does_not_start_is_one_line(grader: Grader, monkeypatch: pytest.MonkeyPatch):
    grader.prepare([program()])
    monkeypatch.setattr(sessions, "_START", "import sys; sys.exit(3)")
    with pytest.raises(SandboxError, match=r"^a grading process ended \(status 3\)"):
        list(grader.run([program()]))


def test_a_sandbox_that_does_not_start_is_one_line_with_its_reason(grader: Grader):
    grader.prepare([program()])
    with pytest.raises(SandboxError, match=r"^the broken sandbox did not start: really$"):
        list(replace(grader, sandbox=Broken()).run([program()]))


# the cache -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file/below", "file"])
def test_a_cache_that_cannot_be_written_is_one_line(place: str, grader: Grader, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaBenchError) as caught:
        list(replace(grader, cache=tmp_path / place).run([program()]))
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_suite_that_cannot_be_written_by_the_worker_is_one_line(fresh: Grader, tmp_path: Path):
    names = Grader._key(fresh, SUITE, ADD, "f")
    (fresh.cache / "suites" / f"{names}.expected").mkdir(parents=True)
    with pytest.raises(SpaBenchError) as caught:
        list(fresh.run([program()]))
    assert "\n" not in str(caught.value)


def test_tests_that_are_code_need_no_cache(grader: Grader, tmp_path: Path):
    (tmp_path / "file").write_text("")
    check = Check("def check(candidate):\n    assert candidate(1) == 2\n")
    [(_, found)] = replace(grader, cache=tmp_path / "file" / "below").run([Program(source=ADD, entry_point="f", tests=check)])
    assert found.verdict == Verdict.PASSED


def test_two_graders_in_one_process_share_a_cache(fresh: Grader):
    one, other = (replace(fresh).run([program(reference=ADD + f"# {i}\n") for i in range(3)]) for _ in range(2))
    found = list(zip(one, other, strict=True))
    assert [a[1].verdict for a, _ in found] == [b[1].verdict for _, b in found] == [Verdict.PASSED] * 3


@pytest.mark.slow
def test_two_graders_in_two_processes_share_a_cache_at_once(fresh: Grader):
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {HARNESS!r})
from spa_bench.grading import Calls, Grader, Program
from spa_bench.sandbox import Limits, choose
from spa_bench.types import CallSuite
suite = CallSuite(name="base", inputs=lambda: [[i] for i in range(2000)])
of = "def f(x):\\n    return [x] * {{}}\\n".format
tests = [Calls((suite,), of(i)) for i in range(12)]
programs = [Program(source=of(i % 8), entry_point="f", tests=tests[i], problem="set/7") for i in range(12)]
sandbox, cache = choose({fresh.sandbox.name!r}), Path({str(fresh.cache)!r})
grader = Grader(sandbox=sandbox, cache=cache, workers=2, limits=Limits(memory_mb=512))
found = dict(grader.run(programs))
print([str(found[i].verdict) for i in range(12)])
"""
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    ended = [process.communicate(timeout=60) for process in both]
    assert [errors for _, errors in ended] == ["", ""]
    assert [out.strip() for out, _ in ended] == [str(["passed"] * 8 + ["wrong"] * 4)] * 2
    assert not list((fresh.cache / "suites").glob("*.new"))


def test_two_graders_in_two_threads_share_a_cache_at_once(fresh: Grader):
    suite = CallSuite(name="base", inputs=lambda: [[i] for i in range(2000)])
    of = "def f(x):\n    return [x] * {}\n".format
    programs = [Program(source=of(i), entry_point="f", tests=Calls((suite,), of(i)), problem="set/7") for i in range(6)]
    found: list[list[Verdict]] = []
    start = threading.Barrier(2)

    def grade() -> None:
        start.wait()
        found.append([outcome.verdict for _, outcome in replace(fresh).run(programs)])

    threads = [threading.Thread(target=grade) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[Verdict.PASSED] * 6] * 2


def test_a_zygote_that_has_not_started_takes_no_command_and_is_gone():
    zygote = Zygote({})
    with pytest.raises(SandboxGone, match="the sandbox ended"):
        zygote.send({"do": "stop"})
    with pytest.raises(SandboxGone, match="the sandbox ended"):
        zygote.receive(0.0)
