"""A process outside the sandbox that hands programs to one sandbox and compares what they return.

`python -c START CONFIG` reads jobs from stdin, a line of JSON each, and writes a line with an outcome to stdout for each.
It trusts its own process alone: wire.decode reads what comes out of the sandbox, with limits on size, depth and time.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import struct
import sys
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spa_bench.grading.answers import TOO_LONG, Answers, Suite
from spa_bench.grading.base import Grading, Outcome, one_line
from spa_bench.grading.behave import Prober
from spa_bench.grading.channel import SandboxGone, Zygote
from spa_bench.grading.compare import is_right, leaked, reads_items
from spa_bench.grading.ends import (
    OUTPUT_ROOM,
    REFERENCE_SECONDS,
    TIME_FACTOR,
    TooLong,
    command,
    ended,
    no_longer_than,
)
from spa_bench.grading.frames import frames
from spa_bench.grading.suites import FrameFile, SuiteFiles, write_frames
from spa_bench.sandbox.inside import calls, guard, wire
from spa_bench.types import Verdict

_SEEDS = re.compile(r"\b(seed|setstate|set_state)\b")  # what tests call that seeds the generators that all modules share
_COMPARE_SECONDS = 10  # of CPU, to compare one value
_COMPARE_ALL_SECONDS = 60.0  # and all values that a program returns in a suite
_MEMORY = 16 << 30  # address space of this process, and so of its children, which have limits of their own
_KEPT_SUITES = 4
_MESSAGES = {
    b"N": Verdict.WRONG, b"E": Verdict.RAISED, b"P": Verdict.RAISED, b"X": Verdict.RAISED, b"M": Verdict.MEMORY,
    b"S": Verdict.CRASHED,
}  # fmt: skip


class BrokenSuite(Exception):
    """The files of a suite in the cache cannot be read; the argument is its key."""


class Worker:
    """Grades one program at a time."""

    def __init__(self, config: dict[str, Any]):
        self.grading = Grading(config["grading"])
        self.zygote = Zygote(config)
        self.prober = Prober(self.zygote, self.grading)
        self._suites: dict[str, Suite] = {}
        self._reference_seconds: dict[str, float] = {}
        self._cpu = 0.0  # seconds that a piece of a job took
        self._patience = _COMPARE_ALL_SECONDS  # CPU seconds that are left to compare the values of the suite in hand

    def grade(self, job: dict[str, Any]) -> dict[str, Any]:
        """The outcome of a job as JSON; `error` when the sandbox does not start, `broken` when a suite cannot be read."""
        for attempt in (1, 2):
            try:
                self.zygote.start()
            except SandboxGone as error:
                return {"error": str(error)}
            try:
                if job["do"] == "reference":
                    return self._reference(job)
                if job["do"] == "probes":
                    return self.prober.measure(job)
                if job["do"] == "behave":
                    return asdict(self.prober.behave(job))
                outcome = self._calls(job) if job["do"] == "calls" else self._check(job)
                return {**asdict(outcome), "cpu": self._cpu} if "piece" in job else asdict(outcome)
            except BrokenSuite as error:
                return {"broken": str(error)}
            except SandboxGone as error:
                self.zygote.close()
                hangs = "stopped" in str(error)
                verdict = Verdict.TIMEOUT if hangs else Verdict.CRASHED
                if attempt == 2 or hangs:
                    if job["do"] in ("probes", "behave"):
                        return self.prober.gone(job, verdict)
                    return asdict(Outcome(verdict=verdict, message=f"{error} while the program ran"))
        raise AssertionError

    # tests that are data

    def _calls(self, job: dict[str, Any]) -> Outcome:
        self._cpu = 0.0
        for place in job["suites"]:
            outcome = self._suite(job, self._load(job, place))
            if outcome.verdict is not Verdict.PASSED:
                return replace(outcome, message=one_line(outcome.message), suite=place["name"])
        return Outcome(verdict=Verdict.PASSED)

    def _load(self, job: dict[str, Any], place: dict[str, Any]) -> Suite:
        name = f"{place['key']} {job['seconds']} {place.get('from')} {place.get('to')}"
        if name not in self._suites:
            while len(self._suites) >= _KEPT_SUITES:
                del self._suites[next(iter(self._suites))]
            try:
                self._suites[name] = Suite(name, job, place)
            except (ValueError, OSError, KeyError, TypeError) as error:
                raise BrokenSuite(place["key"]) from error
        return self._suites[name]

    def _suite(self, job: dict[str, Any], suite: Suite) -> Outcome:
        if not len(suite):  # Mbpp/793 has no plus inputs
            return Outcome(verdict=Verdict.PASSED)
        self.zygote.send_suite(suite.key, map(suite.arguments, range(len(suite))), suite.limits)
        kills = self.zygote.memory_kills()
        header = command(
            job, "calls", job["load_seconds"], suite.seconds(), suite=suite.key, collect=False, items=reads_items(suite.oracle)
        )
        self.zygote.send(header, {"source": job["source"], "entry_point": job["entry_point"]})
        came, self._patience = Answers(suite), _COMPARE_ALL_SECONDS
        answers = self.zygote.answers(suite.seconds())
        with contextlib.closing(answers):
            for kind, data in answers:
                if kind == b"E":
                    end = json.loads(data)
                    break
                # what waits comes a second time, and is judged here only to end a program early
                for index, code, answer in came.take(data) if kind == b"D" else came.show(data):
                    if wrong := self._wrong(suite, index, code, answer):
                        return wrong
                if came.done() == len(suite) and "piece" not in job:
                    return Outcome(verdict=Verdict.PASSED)
        done = came.done()
        if done == len(suite):
            self._cpu += end["cpu"]
            return Outcome(verdict=Verdict.PASSED)
        return ended(
            self.zygote,
            end,
            end["status"][0],
            limit=suite.limits[min(done, len(suite) - 1)],
            call=suite.call_text(done),
            kills=kills,
        )

    def _wrong(self, suite: Suite, index: int, code: bytes, data: bytes) -> Outcome | None:
        """The outcome where a frame is not a right answer; None where it is."""
        if code == TOO_LONG:
            return Outcome(verdict=Verdict.WRONG, message=f"returned {data.decode()} MB", call=suite.call_text(index))
        if code != b"O":
            if code not in _MESSAGES:
                return Outcome(verdict=Verdict.CRASHED, message="answered nonsense", call=suite.call_text(index))
            message = data[:2000].decode("utf-8", "replace")
            return Outcome(verdict=_MESSAGES[code], message=message, call="" if code in b"PX" else suite.call_text(index))
        if suite.is_expected(index, data):
            return None
        if not suite.size(index):
            return Outcome(
                verdict=Verdict.WRONG, message="evalplus cannot keep a value of this size", call=suite.call_text(index)
            )
        expected = wire.natural(wire.decode(suite.expected(index)))
        began = time.process_time()
        try:
            with no_longer_than(min(_COMPARE_SECONDS, self._patience)):
                answer = wire.decode(data)
                atol = leaked(suite.atol, suite.floats_before(index), self.grading)
                arguments = wire.decode(suite.arguments(index))
                how = {"oracle": suite.oracle, "atol": atol, "grading": self.grading}
                if is_right(answer, expected, arguments, **how):
                    return None
                unknown = wire.undecided(answer) or wire.undecided(expected)
                if unknown is None and (unread := [f for f in wire.foreigners(expected) if f.kind == "kin"]):
                    alike = is_right(wire.by_name(answer), wire.by_name(expected), arguments, **how)
                    unknown = unread[0] if alike else None
                if unknown:
                    message = f"returned {unknown.name}, whose class decides what it equals: it cannot be judged outside"
                    return Outcome(verdict=Verdict.REFUSED, message=message, call=suite.call_text(index), mark="unproxied")
                wanted = f", expected {wire.short(expected)}" if suite.oracle == "equal" else ""
                message = f"returned {wire.short(answer)}{wanted}"
        except wire.WireError as error:
            message = f"returned a value that cannot be read: {error}"
        except (TooLong, MemoryError):
            message = "returned values that take too long to compare"
        except Exception as error:  # whatever it is, the program caused it, and it must not end the run
            message = f"returned a value that cannot be compared ({type(error).__name__})"
        finally:
            self._patience -= time.process_time() - began
        return Outcome(verdict=Verdict.WRONG, message=message, call=suite.call_text(index))

    # tests that are code

    def _check(self, job: dict[str, Any]) -> Outcome:
        outcome = self._check_within(job, job["seconds"])
        if outcome.verdict is Verdict.TIMEOUT and job["helpers"]:
            # a slow machine must not make a right answer wrong: measure how long the reference takes here
            name = job["helpers"] + job["tests"]
            if name not in self._reference_seconds:
                reference = {**job, "source": job["helpers"]}
                self._reference_seconds[name] = self._measure(reference, 10 * job["seconds"])
            allowed = TIME_FACTOR * self._reference_seconds[name]
            if allowed > job["seconds"]:
                return self._check_within(job, allowed)
        return outcome

    def _measure(self, job: dict[str, Any], seconds: float) -> float:
        """CPU seconds of a program with its tests; 0 when it does not pass."""
        outcome, cpu = self._run_check(job, seconds, one_process=False)
        return cpu if outcome.verdict is Verdict.PASSED else 0.0

    def _check_within(self, job: dict[str, Any], seconds: float) -> Outcome:
        outcome, _ = self._run_check(job, seconds, one_process=False)
        if outcome.mark == "unproxied" and job["one_process"]:
            outcome, _ = self._run_check(job, seconds, one_process=True)
            return Outcome(verdict=outcome.verdict, message=outcome.message, call=outcome.call, mark="one process")
        return outcome

    def _run_check(self, job: dict[str, Any], seconds: float, *, one_process: bool) -> tuple[Outcome, float]:
        kills = self.zygote.memory_kills()
        seeded = _SEEDS.search(job["tests"]) is not None
        program = {"source": job["source"], "entry_point": job["entry_point"], "seeded": seeded}
        tests = {"tests": job["tests"], "helpers": job["helpers"], "entry_point": job["entry_point"]}
        header = command(job, "one process" if one_process else "check", seconds, seconds)
        self.zygote.send(header, *([{**tests, **program}] if one_process else [tests, program]))
        said, end = b"", {}
        for kind, data in self.zygote.answers(seconds):
            if kind == b"E":
                end = json.loads(data)
            elif len(said) < OUTPUT_ROOM:
                said += data
        report = self._report(said)
        if report is None or report["verdict"] == "gone":
            outcome = ended(self.zygote, end, end["status"][0 if report is None else -1], limit=seconds, call="", kills=kills)
            return Outcome(
                verdict=outcome.verdict, message=one_line(outcome.message), call=one_line(report["call"]) if report else ""
            ), 0.0
        call, message = one_line(report["call"]), one_line(report["message"])
        if report["verdict"] == "unproxied":
            return Outcome(verdict=Verdict.REFUSED, message=message, call=call, mark="unproxied"), 0.0
        verdict = Verdict(report["verdict"])
        return Outcome(verdict=verdict, message=message, call="" if verdict is Verdict.PASSED else call), end["cpu"]

    def _report(self, data: bytes) -> dict[str, Any] | None:
        """The judge's report; None where there is none. In one process the program may have written any bytes."""
        try:
            code, _, size = calls.FRAME.unpack_from(data)
            report = json.loads(data[calls.FRAME.size : calls.FRAME.size + size])
            texts = {name: report[name] for name in ("verdict", "message", "call")}
            known = {*map(str, Verdict), "gone", "unproxied"}
            honest = code == b"J" and all(isinstance(text, str) for text in texts.values()) and texts["verdict"] in known
            return texts if honest else {"verdict": "crashed", "message": "reported nonsense", "call": ""}
        except struct.error:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"verdict": "crashed", "message": "reported nonsense", "call": ""}

    # references

    def _reference(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run the reference and write its results and times; `failed` says why it cannot serve as a reference."""
        files = SuiteFiles(Path(job["cache"]), job["key"])
        inputs = FrameFile(files.inputs)
        self.zygote.send_suite(
            f"{job['key']} reference", map(inputs.__getitem__, range(len(inputs))), [REFERENCE_SECONDS] * len(inputs)
        )
        header = command(
            job,
            "calls",
            60.0,
            REFERENCE_SECONDS,
            suite=f"{job['key']} reference",
            collect=True,
            items=reads_items(job["oracle"]),
        )
        self.zygote.send(header, {"source": job["source"], "entry_point": job["entry_point"]})
        chunks, end = [], {}
        for kind, data in self.zygote.answers(REFERENCE_SECONDS):
            if kind == b"D":
                chunks.append(data)
            else:
                end = json.loads(data)
        data = b"".join(chunks)
        kept: list[bytes] = []
        times: list[float] = []
        odd: list[int] = []
        doubt = ""
        for code, seconds, start, stop in frames(data):
            if stop > len(data):
                break
            frame = data[start:stop]
            if code == b"N":
                frame = b""
            elif code == b"Q":
                odd.append(len(kept))
                doubt = doubt or self._doubt(job, len(kept), frame, inputs[len(kept)])
            elif code != b"O":
                return {"failed": one_line(f"on test input {len(kept)}: {frame[:500].decode('utf-8', 'replace')}")}
            if job["oracle"] == "not none" and frame:
                frame = wire.encode(wire.decode(frame) is not None)
            kept.append(frame)
            times.append(max(0.0, seconds))
        if len(kept) != len(inputs):
            outcome = ended(
                self.zygote, end, end["status"][0], limit=REFERENCE_SECONDS, call="", kills=self.zygote.memory_kills()
            )
            return {"failed": f"on test input {len(kept)}: {outcome.message}"}
        write_frames(files.expected, kept, odd)
        files.write_times(times, doubt)
        return {"failed": ""}

    def _doubt(self, job: dict[str, Any], number: int, frame: bytes, arguments: bytes) -> str:
        """Why what the reference returned does not pass as an answer; "" where it does."""
        if job["oracle"] == "poly":
            return ""
        answer = wire.decode(frame)
        expected = answer is not None if job["oracle"] == "not none" else wire.natural(wire.decode(frame))
        how = {"oracle": job["oracle"], "atol": 0.0, "grading": Grading.DEFAULT}
        if is_right(answer, expected, wire.decode(arguments), **how):
            return ""
        return f"on test input {number} it returns {one_line(wire.short(answer))}, which equals no other value"


def main(config_json: str) -> None:
    """Answer jobs until stdin ends."""
    guard.die_with_parent()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    memory = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    worker = Worker(json.loads(config_json))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the harness no longer needs this worker
    try:
        for line in sys.stdin.buffer:
            try:
                answer = worker.grade(json.loads(line))
            except Exception as error:  # an error of the harness itself, which reports it in one line
                place = traceback.extract_tb(error.__traceback__)[-1]
                answer = {"fault": f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        worker.zygote.close()
