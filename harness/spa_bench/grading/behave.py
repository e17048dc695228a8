"""The worker's part of behaviours: run a program on the probes of its problem, and digest what it did.

Runs outside the sandbox. What a program returns is read by wire.decode and rewritten by digest.py. Expected values and
the count of right answers stay here. docs/explanation/security.md says what a behaviour does not show.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import marshal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from spa_bench.grading.base import Behaved, Grading
from spa_bench.grading.channel import Zygote
from spa_bench.grading.compare import is_floats, is_right, leaked, reads_items
from spa_bench.grading.digest import canonical
from spa_bench.grading.ends import (
    OUTPUT_FACTOR,
    OUTPUT_ROOM,
    REFERENCE_SECONDS,
    TIME_FACTOR,
    TOTAL_SECONDS,
    TooLong,
    command,
    ended,
    no_longer_than,
)
from spa_bench.grading.frames import frames
from spa_bench.grading.suites import FrameFile, SuiteFiles, write_frames
from spa_bench.sandbox.inside import wire
from spa_bench.types import Verdict

_JUDGE_SECONDS = 10  # to judge everything that one program returned
_MOST = 1 << 26  # bytes of a reference's results, and of all arguments of a problem
_KEPT = 4  # problems
_KNOWN, _KNOWN_SIZE = 512, 1 << 12  # answers of a problem whose judgement is kept, and their most bytes
_NAME = 1024  # bytes of the name of a type, or of a message, at most
_GOES_ON = b"ONE"
_ENDS = {b"P": "raised", b"X": "raised", b"M": "memory", b"S": "crashed"}


class _Did(NamedTuple):
    """What a program did on one probe: a frame of inside/probe.py."""

    code: bytes
    seconds: float  # of CPU
    data: bytes


class _Probes:
    """The probes of one problem, loaded."""

    def __init__(self, job: dict[str, Any], grading: Grading):
        files = SuiteFiles(Path(job["cache"]), job["key"])
        inputs, expected, times = FrameFile(files.inputs), FrameFile(files.expected), files.read_times()
        self.arguments = [inputs[i] for i in range(len(inputs))]
        self.expected = [expected[i] for i in range(len(expected))]
        self.limits = [max(job["seconds"], TIME_FACTOR * seconds) for seconds in times]
        # with tests that are code, the time is that of all calls together: neither a call nor their sum may exceed it
        total = max(self.limits) if job["together"] else sum(self.limits)
        self.seconds = min(TOTAL_SECONDS, total) + 1
        self.most = OUTPUT_FACTOR * max(map(len, self.expected)) + OUTPUT_ROOM
        self.oracle, self.atol, self.grading = job["oracle"], job["atol"], grading
        self._known: dict[tuple[int, bytes, bytes], tuple[bytes, bool]] = {}

    def judge(self, index: int, did: _Did) -> tuple[bytes, bool]:
        """(canonical form of what was done, whether the reference did the same). Raises WireError where it cannot be read."""
        known = (index, did.code, did.data)
        judged = self._known.get(known)
        if judged is None:
            if did.code == b"O":
                answer = wire.decode(did.data)
                judged = canonical(answer), self._is_right(index, answer)
            else:
                judged = did.data, did.code == b"E" and self.expected[index] == b"E" + did.data
            if len(did.data) <= _KNOWN_SIZE and len(self._known) < _KNOWN:
                self._known[known] = judged
        return judged

    def _is_right(self, index: int, answer: Any) -> bool:
        if self.expected[index][:1] != b"O":
            return False
        expected = wire.natural(wire.decode(self.expected[index][1:]))
        before = any(e[:1] == b"O" and is_floats(wire.decode(e[1:])) for e in self.expected[:index])
        atol = leaked(self.atol, before, self.grading) if self.grading is Grading.EVALPLUS else self.atol
        arguments = wire.decode(self.arguments[index])[0]
        return is_right(answer, expected, arguments, oracle=self.oracle, atol=atol, grading=self.grading)

    def may_raise(self, index: int) -> bool:
        """Whether the reference raises on this probe."""
        return self.expected[index][:1] == b"E"


class Prober:
    """Finds probes, and runs programs on them, in the sandbox of a worker."""

    def __init__(self, zygote: Zygote, grading: Grading):
        self.zygote, self.grading = zygote, grading
        self._loaded: dict[str, _Probes] = {}

    # programs

    def behave(self, job: dict[str, Any]) -> Behaved:
        """What the job's program does on the probes. Raises SandboxGone."""
        probes = self._load(job)
        how = f"{job['key']} {job['seconds']}"
        did, end = self._run(job, how, probes.arguments, limits=probes.limits, seconds=probes.seconds, most=probes.most)
        digest, right = _digest(), 0
        ran = not end
        try:
            with no_longer_than(_JUDGE_SECONDS):
                for index, one in enumerate(did):
                    what, as_expected = probes.judge(index, one)
                    _add(digest, one.code, what)
                    right += as_expected
                    ran = ran and (one.code != b"E" or probes.may_raise(index))
        except (TooLong, MemoryError):
            ran, end = False, "too long to compare"
        except Exception:  # whatever it is, the program caused it, and it must not end the run
            ran, end = False, "cannot be read"
        _add(digest, b"!", end.encode())
        return Behaved(digest.hexdigest(), ran, right, len(probes.arguments))

    def gone(self, job: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
        """The answer to a job in which the sandbox ended."""
        if job["do"] == "probes":
            return {"probes": 0}
        digest = _digest()
        _add(digest, b"!", verdict.encode())
        return asdict(Behaved(digest.hexdigest(), False, 0, len(self._load(job).arguments)))

    def _load(self, job: dict[str, Any]) -> _Probes:
        name = f"{job['key']} {job['seconds']} {job['atol']}"
        if name not in self._loaded:
            while len(self._loaded) >= _KEPT:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[name] = _Probes(job, self.grading)
        return self._loaded[name]

    def _run(
        self, job: dict[str, Any], name: str, probes: Sequence[bytes], *, limits: list[float], seconds: float, most: int
    ) -> tuple[list[_Did], str]:
        """(what a program did on each probe, in order; how it ended where that was before the last probe, else "")."""
        # marshalled twice: the zygote unpacks a frame and gives the child bytes, which the child reads again for each call
        self.zygote.send_suite(f"{name} probes", [marshal.dumps(probe, 2) for probe in probes], limits)
        kills = self.zygote.memory_kills()
        header = command(
            job, "probe", job["load_seconds"], seconds, suite=f"{name} probes", most=most, items=reads_items(job["oracle"])
        )
        self.zygote.send(header, {"source": job["source"], "entry_point": job["entry_point"]})
        answered: list[_Did] = []
        buffer = bytearray()
        answers = self.zygote.answers(seconds)
        with contextlib.closing(answers):
            for kind, data in answers:
                if kind == b"E":
                    end = json.loads(data)
                    break
                buffer += data
                at = 0
                for code, used, start, stop in frames(buffer):
                    if stop - start > most + _NAME or (code not in _ENDS and code not in _GOES_ON):
                        return answered, "crashed"  # an invalid frame: the program itself wrote to the channel
                    if stop > len(buffer):
                        break
                    did, at = _Did(code, used, bytes(buffer[start:stop])), stop
                    if code in _ENDS:
                        # before the first call, the class of the exception is the behaviour
                        name = did.data.partition(b":")[0][:100].hex() if code in b"PX" else ""
                        return answered, _ENDS[code] + name
                    answered.append(did)
                    if len(answered) == len(probes):
                        return answered, ""
                del buffer[:at]
        return answered, str(ended(self.zygote, end, end["status"][0], limit=seconds, call="", kills=kills).verdict)

    # references

    def measure(self, job: dict[str, Any]) -> dict[str, Any]:
        """Write the probes of a problem and what its reference does on them; `probes` of the result is their number.

        There are none where the reference does not pass its tests or does not run on all probes. A probe is left out where
        the reference's result cannot cross. Raises SandboxGone.
        """
        files = SuiteFiles(Path(job["cache"]), job["key"])
        if job["together"]:
            arguments, altogether = self._noted(job)
        else:
            inputs = FrameFile(files.inputs)
            arguments, altogether = [inputs[i] for i in range(len(inputs))], 0.0
        if not arguments:
            return {"probes": 0}
        limits = [REFERENCE_SECONDS] * len(arguments)
        did, end = self._run(job, f"{job['key']} reference", arguments, limits=limits, seconds=REFERENCE_SECONDS, most=_MOST)
        kept = [i for i, one in enumerate(did) if one.code != b"N"]
        if end or not kept:
            return {"probes": 0}
        expected = [did[i].code + self._expected(job, did[i]) for i in kept]
        write_frames(files.inputs, [arguments[i] for i in kept])
        write_frames(files.expected, expected)
        files.write_times([altogether or max(0.0, did[i].seconds) for i in kept])
        return {"probes": len(kept)}

    def _expected(self, job: dict[str, Any], did: _Did) -> bytes:
        if job["oracle"] == "not none" and did.code == b"O":  # as for suites: see compare.py
            return wire.encode(wire.decode(did.data) is not None)
        return did.data

    def _noted(self, job: dict[str, Any]) -> tuple[list[bytes], float]:
        """(arguments of the first distinct calls of tests that are code, CPU seconds of tests and reference together).

        The list is empty where the reference does not pass its tests in a process of its own.
        """
        seconds = 10 * job["seconds"]  # as when the time of a reference is measured
        tests = {name: job[name] for name in ("tests", "helpers", "entry_point", "noted")}
        program = {"source": job["source"], "entry_point": job["entry_point"]}
        self.zygote.send(command(job, "check", seconds, seconds), tests, program)
        said, end = bytearray(), {}
        for kind, data in self.zygote.answers(seconds):
            if kind == b"E":
                end = json.loads(data)
            elif len(said) <= _MOST:
                said += data
        arguments: list[bytes] = []
        for code, _, start, stop in frames(said):
            data = bytes(said[start:stop])
            if code == b"J" and stop <= len(said):  # the last one
                return (arguments if _says_passed(data) else []), max(float(end["cpu"]), 1e-6)
            if code != b"C" or not _is_call(data):
                break
            arguments.append(data)
        return [], 0.0


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=8)


def _add(digest: hashlib.blake2b, code: bytes, what: bytes) -> None:
    digest.update(code + len(what).to_bytes(8, "little") + what)


def _says_passed(report: bytes) -> bool:
    try:
        return bool(json.loads(report)["verdict"] == "passed")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_call(data: bytes) -> bool:
    """Whether these are arguments: a list, and a dictionary with names as keys."""
    try:
        value = wire.natural(wire.decode(data))
    except (wire.WireError, TypeError, ValueError, ArithmeticError, RecursionError):
        return False
    whole = type(value) is tuple and len(value) == 2 and type(value[0]) is list and type(value[1]) is dict
    return whole and all(type(name) is str for name in value[1])
