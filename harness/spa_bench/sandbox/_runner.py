"""The process inside the sandbox: forks a child for each program on stdin and answers with its verdict on stdout.

Run as `python _runner.py LIMITS SCRATCH` (JSON of base.Limits, a folder to empty between programs); it imports nothing
of spa_bench, which the sandbox need not show. The child reports on a pipe, behind a nonce drawn before the program runs:
a program that leaves early has not passed. The package's docstring says what this does not cover.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import types
from typing import NoReturn

WARM = "bisect collections copy dataclasses datetime decimal enum fractions functools hashlib heapq itertools operator re"
WARM += " statistics string typing"
VERDICTS = ("passed", "wrong", "raised", "timeout", "memory", "crashed")
TICK = 0.03  # seconds between looks at a running program
REPORT = 4096  # bytes that are read of a report; a genuine one is shorter, and written at once
ALONE = os.getpid() == 1  # in a pid namespace of our own: then, and only then, all other processes are ours to kill
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


def main(limits: dict[str, float], scratch: str) -> None:
    """Answer programs until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as pid 1: cannot be interrupted from inside
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # children cannot open our memory or descriptors, nor trace us
    for name in WARM.split():
        importlib.import_module(name)
    kept = set(os.listdir(scratch))  # an interpreter that lives in /tmp is mounted there
    gc.freeze()
    print("{}", flush=True)
    for line in sys.stdin.buffer:
        if b"numpy" in line:  # import it once, not once a program
            with contextlib.suppress(ImportError):
                importlib.import_module("numpy")
        verdict, message = _run(json.loads(line), limits, scratch)
        # what cannot be removed raises, which ends this sandbox: better than showing it to the next program
        for entry in set(os.listdir(scratch)) - kept:
            path = os.path.join(scratch, entry)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        message = "".join(c if c.isprintable() else " " for c in message)
        print(json.dumps({"verdict": verdict, "message": " ".join(message.split())[:200]}), flush=True)


def _run(program: dict[str, str], limits: dict[str, float], scratch: str) -> tuple[str, str]:
    """Verdict and message of a program; when it returns, all processes of the program are gone."""
    nonce = os.urandom(16).hex()
    folder = tempfile.mkdtemp(dir=scratch)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _child(program, limits, folder, nonce, theirs)
    os.close(theirs)
    try:
        report, broken = _watch(child, ours, limits)
    finally:
        os.close(ours)
        status = _kill(child)
    if report.startswith(nonce.encode()):
        verdict, _, message = report.decode(errors="replace")[len(nonce) :].partition(" ")
        # one that found the nonce can claim anything, but not break the harness with it
        return (verdict, message) if verdict in VERDICTS else ("crashed", "reported a verdict that does not exist")
    if broken:
        return broken
    if status == -signal.SIGXCPU:
        return "timeout", "used up its CPU time"
    end = f"exited with status {status}" if status >= 0 else f"killed by signal {-status} ({signal.strsignal(-status)})"
    return "crashed", f"{end} before its tests were done"


def _watch(child: int, pipe: int, limits: dict[str, float]) -> tuple[bytes, tuple[str, str] | None]:
    """What the child reports, until it is done, dead or past a limit; then also that verdict and message."""
    deadline = time.monotonic() + limits["seconds"]
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    gone = False
    while True:
        # WNOWAIT: its id stays taken until the processes of its group are killed by that id
        gone = gone or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if poll.poll(0 if gone else TICK * 1000):
            return os.read(pipe, REPORT), None  # nothing: it is dying, or has closed the pipe and may as well
        elif gone:
            return b"", None
        if time.monotonic() > deadline:
            return b"", ("timeout", f"still running after {limits['seconds']:g} s")
        if ALONE and (broken := _excess(limits)):
            return b"", broken


def _excess(limits: dict[str, float]) -> tuple[str, str] | None:
    """The limit on all processes together that is broken: rlimits hold for one process, and some not for root."""
    processes = [entry for entry in os.listdir("/proc") if entry.isdigit() and entry != "1"]
    if len(processes) > limits["processes"]:
        return "crashed", f"more than {limits['processes']} processes"
    pages = 0
    for process in processes:
        with contextlib.suppress(OSError), open(f"/proc/{process}/statm") as sizes:
            pages += int(sizes.read().split()[1])
    if pages * resource.getpagesize() > limits["memory_mb"] * 2**20:
        return "memory", f"its processes use more than {limits['memory_mb']} MB"
    return None


def _kill(child: int) -> int:
    """Kill and reap the child and all that it left; the child's exit status, negative for a signal."""
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL) if ALONE else os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)  # it may not have a group yet
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ChildProcessError):
        while ALONE:  # orphans come to pid 1
            os.waitpid(-1, 0)
    return os.waitstatus_to_exitcode(status)


def _child(program: dict[str, str], limits: dict[str, float], folder: str, nonce: str, pipe: int) -> NoReturn:
    """Be the program. Never returns into the runner's loop."""
    # bound before the program can replace them, or it would be handed the nonce
    write, leave, encode = os.write, os._exit, str.encode
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        os.chdir(folder)
        os.environ.clear()
        sys.argv[:] = [""]
        random.seed(0)
        _limit(limits)
        verdict, message = _judge(**program)
        write(pipe, encode(f"{nonce}{verdict} {message}", "utf-8", "replace"))
        leave(0)
    finally:
        leave(1)


def _limit(limits: dict[str, float]) -> None:
    """Lower the limits of this process."""
    memory, seconds = int(limits["memory_mb"]) << 20, math.ceil(limits["seconds"])
    wanted = {
        resource.RLIMIT_AS: (memory, memory + (1 << 24)),  # the difference is for reporting that memory ran out
        resource.RLIMIT_CPU: (seconds, seconds + 1),  # SIGXCPU first: a timeout can be told from a crash
        resource.RLIMIT_FSIZE: (int(limits["file_mb"]) << 20,) * 2,
        resource.RLIMIT_STACK: (1 << 26,) * 2,
        resource.RLIMIT_NOFILE: (64,) * 2,
        resource.RLIMIT_CORE: (0,) * 2,
    }
    if ALONE:  # counted within the namespace; elsewhere it counts, and would stop, all that the user runs
        wanted[resource.RLIMIT_NPROC] = (int(limits["processes"]),) * 2
    for kind, (soft, hard) in wanted.items():
        _, ceiling = resource.getrlimit(kind)
        top = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
        resource.setrlimit(kind, (min(soft, top), top))


def _judge(source: str, tests: str, entry_point: str) -> tuple[str, str]:
    """Run the program, then its tests: verdict and message."""
    execute, room = exec, resource.setrlimit  # as in _child: a program may replace builtins
    ceiling = (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2
    module = types.ModuleType("__spa_bench__")
    sys.modules["__spa_bench__"] = module  # dataclasses and pickle look modules up there
    namespace = vars(module)
    testing = False
    try:
        code = compile(source, "<program>", "exec", dont_inherit=True)
        checks = compile(tests, "<tests>", "exec", dont_inherit=True)
        execute(code, namespace)
        if entry_point not in namespace:
            return "raised", f"{entry_point} is not defined"
        execute(checks, namespace)
        testing = True
        namespace["check"](namespace[entry_point])
        return "passed", ""
    except AssertionError as error:
        return ("wrong" if testing else "raised"), _describe(error, tests)
    except SystemExit:
        return "crashed", "SystemExit before its tests were done"
    except MemoryError:
        room(resource.RLIMIT_AS, ceiling)
        return "memory", "MemoryError"
    except BaseException as error:
        return "raised", _describe(error, "")


def _describe(error: BaseException, tests: str) -> str:
    """`NameError: what`, or `AssertionError at: line of the tests`. Survives any __str__ that the program wrote."""
    try:
        text = f"{type(error).__name__}: {error}"[:200].removesuffix(": ")
        at, trace = "", error.__traceback__
        while trace and tests:
            if trace.tb_frame.f_code.co_filename == "<tests>":
                at = " at: " + tests.split("\n")[trace.tb_lineno - 1].strip()
            trace = trace.tb_next
        return (text + at)[:200]
    except BaseException:
        return "an exception that cannot be described"


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
