"""The first process inside a sandbox: forks a warmed child for each program, relays what it says, and ends it.

Started as `python -sPSBc BOOT FOLDER SETTINGS` (see sandbox/base.py). Commands come on stdin, each a length and a marshalled
dict; they are trusted. Answers go to stdout, each a kind, a length and bytes: `H` hello, `D` what the child wrote, `W` what
waits to be written while a call runs (it comes again as `D`), `E` how it ended. Programs, tests and results pass through
(splice) without ever being in this process' memory, because every later child begins as a copy of that. A child has one pipe
each way and no other channel; it cannot make processes, so when it is killed nothing of it is left. Time is counted as CPU
time of the child, read from its clock, so that a busy machine does not turn right answers wrong; a program that sleeps is
ended by the clock on the wall. The kernel does not say here (there is no /proc) which program waits for a processor and which
one sleeps, but the share of CPU time tells them apart: see idle.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import marshal
import mmap
import os
import random
import select
import shutil
import signal
import site
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, NoReturn

from spa_bench.sandbox.inside import apart, begin, calls, exceptions, guard, judge, library, probe, sharing, wire
from spa_bench.sandbox.inside.idle import Idle, too_long

TICK = 0.02  # seconds between looks at a running program
KEPT_SUITES = 4
_READ = 1 << 20
_LEAVING = 0.05  # seconds that the second process gets to end after the first has ended


def main(folder: str, settings_json: str) -> None:
    """Answer commands until stdin ends."""
    settings = json.loads(settings_json)
    commands, answers = begin.channels()
    signal.signal(signal.SIGINT, signal.SIG_IGN if os.getpid() != 1 else signal.SIG_DFL)
    wake, waker = os.pipe()
    for end in (wake, waker, commands, answers):
        os.set_inheritable(end, False)
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    sys.path[:] = [path for path in sys.path if path and path != folder]
    sys.meta_path.append(begin.Packages(settings["packages"]))
    if settings["site"]:
        site.main()
    os.environ.clear()
    begin.warm()
    begin.own_builtins(apart, calls, exceptions, judge, library, probe, sharing, wire)
    hello = {"python": sys.version.split()[0], "pid": os.getpid(), **begin.restrict(settings)}
    zygote = Zygote(settings, commands, answers, wake)
    gc.collect()
    gc.freeze()
    zygote.send(b"H", json.dumps(hello).encode())
    zygote.serve()


class Zygote:
    """Holds the suites it was given; runs one program at a time."""

    def __init__(self, settings: dict[str, Any], commands: int, answers: int, wake: int):
        self.settings, self.commands, self.answers, self.wake = settings, commands, answers, wake
        self.suites: dict[str, tuple[list[Any], list[float]]] = {}
        self.shared, self.copy = mmap.mmap(-1, calls.SHARED), mmap.mmap(-1, calls.SHARED)
        self.scratch = settings["scratch"]
        self.kept = set(os.listdir(self.scratch)) if self.scratch else set()  # an interpreter may live in /tmp

    def serve(self) -> NoReturn:
        """Run the jobs that arrive, one after the other."""
        while True:
            message = self._command()
            if message["do"] == "suite":
                while len(self.suites) >= KEPT_SUITES:
                    del self.suites[next(iter(self.suites))]
                self.suites[message["suite"]] = ([marshal.loads(f) for f in message["frames"]], message["limits"])
                gc.freeze()
            elif message["do"] != "stop":  # a "stop" that came too late
                self._run(message)

    def _command(self) -> Any:
        size = struct.unpack("<I", self._exactly(4))[0]
        return marshal.loads(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.commands, min(size, _READ))
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def send(self, kind: bytes, data: bytes) -> None:
        """One answer to the grader."""
        self._write(kind + struct.pack("<I", len(data)) + data)

    def _write(self, data: bytes | memoryview) -> None:
        while data:
            data = data[os.write(self.answers, data) :]

    def _run(self, job: dict[str, Any]) -> None:
        if job["numpy"]:  # import it once, not once a program
            with contextlib.suppress(ImportError):
                importlib.import_module("numpy")
        run = _RunningProgram(self, self.suites[job["suite"]][1] if "suite" in job else [], job)
        run.start(self._children(job))
        end = run.watch()
        self._clean()
        self.send(b"E", json.dumps(end).encode())

    def _children(self, job: dict[str, Any]) -> list[tuple[list[int], Callable[[Any], None]]]:
        """For each process of the job: descriptors of its own, and what it does with its part of the payload."""
        if job["do"] == "calls":
            inputs = self.suites[job["suite"]][0]
            return [([], lambda payload: calls.run(payload, inputs, self.shared, job["collect"], job["items"]))]
        if job["do"] == "probe":
            probes = self.suites[job["suite"]][0]
            return [([], lambda payload: probe.run(payload, probes, self.shared, job["most"], job["items"]))]
        if job["do"] == "one process":
            return [([], judge.in_one_process)]
        to_candidate, to_judge = os.pipe(), os.pipe()
        return [([to_candidate[1], to_judge[0]], judge.judge), ([to_candidate[0], to_judge[1]], judge.candidate)]

    def pass_on(self, size: int, target: int) -> None:
        """Move `size` bytes of the commands to a child; they are dropped when it has ended."""
        while size:
            try:
                moved = os.splice(self.commands, target, min(size, _READ))
            except BrokenPipeError:
                null = os.open(os.devnull, os.O_WRONLY)
                self.pass_on(size, null)
                os.close(null)
                return
            if not moved:
                os._exit(0)
            size -= moved

    def relay(self, pipe: int) -> bool:
        """Move the bytes that wait in the pipe to the grader; False when none do."""
        size = waiting = _waiting(pipe)
        if waiting:
            self._write(b"D" + struct.pack("<I", waiting))
        while size:
            try:
                size -= os.splice(pipe, self.answers, size)
            except BlockingIOError:
                select.select([], [self.answers], [])
                if not _waiting(pipe):  # the program has read its own answer: it gets zeros in its place
                    self._write(bytes(size))
                    break
        return bool(waiting)

    def relay_bytes(self, data: memoryview, kind: bytes = b"D") -> None:
        """Move bytes of shared memory to the grader."""
        self._write(kind + struct.pack("<I", len(data)))
        self._write(data)

    def child(self, descriptors: list[int], act: Callable[[Any], None], job: dict[str, Any]) -> NoReturn:
        """Become a process that runs a program. Its descriptors: null as 0 to 2, then answer, payload and its own."""
        leave = os._exit
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            guard.die_with_parent()
            for place, descriptor in enumerate(descriptors, 40):  # out of the way of those below
                os.dup2(descriptor, place)
            for place in range(len(descriptors)):
                os.dup2(40 + place, 3 + place)
            os.closerange(3 + len(descriptors), 256)
            begin.null_as_standard()  # opened again: a program could set flags on the zygote's descriptors for the next program
            payload = marshal.loads(_all(4))
            os.close(4)
            os.chdir(self._folder())
            random.seed(0)
            sys.setrecursionlimit(job["recursion"])
            limits = self.settings["limits"]
            threads = limits["threads"] if self.settings["alone"] else None
            guard.limit(job["memory_mb"], limits["file_mb"], job["cpu_seconds"], threads)
            if self.settings["seccomp"]:
                guard.install(guard.child_filter(os.getpid()))
            act(payload)
            leave(0)
        finally:
            leave(71)

    def _folder(self) -> str:
        if not self.scratch:
            return "/"
        if self.settings["alone"]:
            return str(self.scratch)
        folder = f"{self.scratch}/{os.getpid()}"
        os.mkdir(folder)
        return folder

    def _clean(self) -> None:
        # what cannot be removed raises, which ends this sandbox: better than showing it to the next program
        for entry in set(os.listdir(self.scratch)) - self.kept if self.scratch else ():
            path = os.path.join(self.scratch, entry)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


class _RunningProgram:
    """One running program: its processes and their limits of time."""

    def __init__(self, zygote: Zygote, limits: list[float], job: dict[str, Any]):
        self.zygote, self.limits, self.job = zygote, limits, job
        self.pids: list[int] = []
        self.pipe = -1
        self.ended: dict[int, int] = {}
        self.used = 0.0  # CPU seconds of the processes that have ended
        self.call, self.call_began = 0, time.monotonic()
        self.began = self.call_began
        self.idle, self.call_idle = Idle(self.began), 0.0
        self.peeked = 0  # the call during which the grader was shown what waits

    def start(self, children: list[tuple[list[int], Callable[[Any], None]]]) -> None:
        """Fork the processes and hand each its payload; the first one answers."""
        calls.reset(self.zygote.shared)
        calls.reset(self.zygote.copy)
        self.pipe, answer = os.pipe()
        os.set_blocking(self.pipe, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, _READ)
        null = os.open(os.devnull, os.O_WRONLY)
        payloads = []
        for place, (own, act) in enumerate(children):
            theirs, ours = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(ours)
                self.zygote.child([null if place else answer, theirs, *own], act, self.job)
            self.pids.append(pid)
            os.close(theirs)
            payloads.append(ours)
        for descriptor in {answer, null, *(d for own, _ in children for d in own)}:
            os.close(descriptor)
        for size, target in zip(self.job["sizes"], payloads, strict=True):
            self.zygote.pass_on(size, target)
            os.close(target)

    def watch(self) -> dict[str, Any]:
        """Relay until the program has ended, passed a limit, or is no longer wanted; the result says which."""
        poll = select.poll()
        for descriptor in (self.pipe, self.zygote.wake, self.zygote.commands):
            poll.register(descriptor, select.POLLIN)
        why, looked = "", time.monotonic()
        while not why:
            for descriptor, _ in poll.poll(TICK * 1000):
                if descriptor == self.pipe:
                    if not self.zygote.relay(self.pipe):
                        poll.unregister(self.pipe)
                elif descriptor == self.zygote.wake:
                    os.read(self.zygote.wake, 512)
                    why = why or self._reap()
                else:
                    self.zygote._command()  # "stop" is all that can come now
                    why = "stopped"
            now = time.monotonic()
            if not why and now - looked >= TICK:
                why, looked = self._overdue(now), now
                self._peek()
        return self._finish(why)

    def _peek(self) -> None:
        """Show the grader the frames that wait for a long call to end: one may be wrong, and the call is not needed."""
        if self.call > 1 and self.peeked != self.call and self.job["do"] == "calls" and not self.job["collect"]:
            self.peeked = self.call
            while self.zygote.relay(self.pipe):  # what was sent before
                pass
            if size := calls.peek(self.zygote.shared, self.zygote.copy, self.call):
                with memoryview(self.zygote.copy)[:size] as seen:
                    self.zygote.relay_bytes(seen, b"W")

    def _reap(self) -> str:
        """Record which processes have ended; the job ends with the first one."""
        for pid in self.pids:
            if pid not in self.ended:
                self._wait(pid, os.WNOHANG)
        return "exit" if self.pids[0] in self.ended else ""

    def _wait(self, pid: int, options: int = 0) -> None:
        """Where a process has ended, record how, and the CPU time that it used."""
        ended, status, usage = os.wait4(pid, options)
        if ended:
            self.ended[pid] = os.waitstatus_to_exitcode(status)
            self.used += usage.ru_utime + usage.ru_stime

    def _overdue(self, now: float) -> str:
        """ "timeout" when the call in hand, or the whole program, has used up its time."""
        used = self.used + sum(_cpu(pid) for pid in self.pids if pid not in self.ended)
        idle = self.idle.seconds(now, used)
        call, since, flushing = calls.progress(self.zygote.shared)
        if call != self.call:
            self.call, self.call_began, self.call_idle = call, now, idle
        total = self.job["cpu_seconds"]
        if used > total or too_long(idle, now - self.began, total):
            return "timeout"
        in_call = max(0.0, idle - self.call_idle), now - self.call_began
        if 0 < call <= len(self.limits) and not flushing:
            if used - since > self.limits[call - 1] or too_long(*in_call, self.limits[call - 1]):
                return "timeout"
        elif not call and (used > self.job["seconds"] or too_long(idle, now - self.began, self.job["seconds"])):
            return "timeout"
        return ""

    def _finish(self, why: str) -> dict[str, Any]:
        """Kill and reap all processes and relay the rest; the result says how the program ended."""
        self._reap()  # before they are killed, to see which ended by themselves
        patience = time.monotonic() + _LEAVING
        while why == "exit" and len(self.ended) < len(self.pids) and time.monotonic() < patience:
            time.sleep(0.0003)  # a process closes its pipes a moment before it has ended
            self._reap()
        own = dict(self.ended)
        with contextlib.suppress(OSError):
            if self.zygote.settings["alone"]:
                os.kill(-1, signal.SIGKILL)
        for pid in self.pids:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            if pid not in self.ended:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)  # it may not have a group yet
                self._wait(pid)
        with contextlib.suppress(ChildProcessError):
            while self.zygote.settings["alone"]:
                os.waitpid(-1, 0)
        if why != "stopped":
            self._relay_rest()
        os.close(self.pipe)
        status = [own.get(pid) for pid in self.pids]
        return {"why": why, "status": status, "call": max(0, calls.progress(self.zygote.shared)[0] - 1), "cpu": self.used}

    def _relay_rest(self) -> None:
        while self.zygote.relay(self.pipe):
            pass
        if rest := calls.unsent(self.zygote.shared):
            self.zygote.relay_bytes(rest)
            rest.release()


def _waiting(pipe: int) -> int:
    """Bytes that can be read from a pipe now."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


def _all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, _READ):
        parts.append(part)
    return b"".join(parts)


def _cpu(pid: int) -> float:
    """CPU seconds of a child, all its threads together; 0 once it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes it
    return 0.0
