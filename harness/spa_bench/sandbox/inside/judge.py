"""Tests that are code: `check(candidate)` runs in a judge process, the program in another one, plain data between them.

`candidate` is a proxy in the judge: arguments, what became of them, results and exceptions cross as `wire` and `exceptions`
write them. What cannot cross (see docs/explanation/security.md) ends the test with the verdict `unproxied`: a function, a
generator or an object of the program's own class, and what tests do or look at that another process does not see (apart.py,
sharing.py).
`in_one_process` runs tests and program together, for cards that allow it; such a program can read the tests and cheat.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

from spa_bench.sandbox.inside import apart, calls, exceptions, library, sharing, wire

_ANSWER, _TO, _FROM = 3, 5, 6  # descriptors of the judge
_REQUESTS, _REPLIES = 5, 6  # of the candidate
_HEAD = struct.Struct("<sI")
_MOST = 1 << 26  # bytes of one reply
_NOT_RESULTS = ("opaque", "kin", "own", "ndarray", "subclass")
_NOT_ARGUMENTS = (*_NOT_RESULTS, "numpy")
_CHANGEABLE = (list, dict, set, bytearray, deque, tuple, UserDict, UserList, ChainMap)
_SHARED = {
    sharing.ARGUMENT: "returned an argument, which the tests change",
    sharing.TWICE: "returned one object in two places, and the tests change what it returned",
    sharing.AGAIN: "returned the same object again, and the tests change what it returned",
    sharing.CHANGED: "changed what it had returned before",
    sharing.RANDOM: "took random numbers, which the tests seed",
}
_ENDS = {b"P": "raised", b"X": "raised", b"S": "crashed", b"M": "memory", b"N": "unproxied"}


class _Over(BaseException):
    """The program cannot continue. Only a test that catches BaseException can swallow it, and then it is raised again."""

    def __init__(self, verdict: str, message: str):
        self.verdict, self.message = verdict, message


class _Candidate:
    """The program behind its proxy."""

    def __init__(self, reading: apart.Reading, noted: int = 0) -> None:
        self.last = ""  # the arguments of the last call
        self.noted: dict[bytes, None] = {}  # the first distinct arguments, as the bytes that crossed
        self.most_noted = noted
        self.over: _Over | None = None
        self.inexact = ""  # the class of an exception that crossed as another one
        self.stopped = ""  # a StopIteration that the program raised: for `map` and `zip` in the tests it means no more items
        self.is_function = False  # a plain one, with the name by which it is known
        self.surroundings: apart.Surroundings | None = None
        self._reading, self._lock = reading, threading.Lock()

    def ready(self) -> None:
        """Wait until the program is loaded. Raises _Over when it cannot be."""
        kind, _ = self._receive()
        self.is_function = kind == b"F"

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a call of the program; raises what it raised, or _Over where that cannot be said."""
        if self.over:
            raise self.over
        with self._lock:
            self.last = _call_text(args, kwargs)
            self._check_tests()
            request = self._encode((list(args), kwargs))
            if len(self.noted) < self.most_noted:
                self.noted[request] = None
            self._ask(request)
            kind, data = self._receive()
            error, result, after, notes = self._read(kind, data)
            if after is not None and sharing.containers((args, tuple(kwargs.values())))[1]:
                self.unproxied("two arguments are one object, and the program changed it")
            self._check_shared(notes)
            if after is not None:
                _update(list(args), after[0])
                _update(kwargs, after[1])
        if isinstance(error, StopIteration):
            self.stopped = calls.describe(error)
        if error:
            raise error
        return result

    def unproxied(self, what: str) -> NoReturn:
        """End the tests, which need what does not cross."""
        self._end("unproxied", f"{what}, which cannot cross between program and tests")

    def _check_tests(self) -> None:
        if self._reading.captures:
            self.unproxied("the tests capture what is logged or printed")
        if self._reading.identity:
            self.unproxied("the tests compare identities")
        if self.surroundings and (changed := self.surroundings.changed()):
            self.unproxied(f"the tests change {changed}")

    def _check_shared(self, notes: list[str]) -> None:
        for note in notes:
            if note in (sharing.CHANGED, sharing.RANDOM) or (note in _SHARED and self._reading.mutates):
                self.unproxied(_SHARED[note])

    def _ask(self, request: bytes) -> None:
        try:
            _send(_TO, b"C", request)
        except OSError:  # the program has closed its end, or has ended
            self._end("gone", "")

    def _read(self, kind: bytes, data: bytes) -> tuple[BaseException | None, Any, Any, list[str]]:
        """(exception to raise, result, arguments after the call or None, what is shared) of a reply, which may be any bytes."""
        try:
            result, after, notes = wire.decode(data)
            if after is not None:
                self._crossed(after, "an argument became", _NOT_ARGUMENTS)
                arguments, keywords = wire.natural(after)
                after = list(arguments), dict(keywords)
            notes = [note for note in notes if isinstance(note, str)]
            self._crossed(result, "raised an exception with" if kind == b"E" else "returned", _NOT_RESULTS)
            result = wire.natural(result)
            if kind == b"E":
                return self._exception(result), None, after, notes
            return None, result, after, notes
        except Exception as error:  # the program caused it; _Over is no Exception
            self._end("crashed", f"answered nonsense ({error})")

    def _exception(self, taken: Any) -> BaseException:
        try:
            error, exact = exceptions.made(taken)
        except exceptions.NoSuchException as failed:
            self.unproxied(f"raised {failed}")
        if not exact:
            self.inexact = type(error).__name__
        return error

    def _encode(self, request: Any) -> bytes:
        try:
            data = wire.encode(request)
        except wire.WireError as error:
            self._end("unproxied", f"an argument cannot cross: {error}")
        self._crossed(wire.decode(data), "an argument is", _NOT_ARGUMENTS)
        return data

    def _crossed(self, value: Any, what: str, not_these: tuple[str, ...]) -> None:
        for foreign in wire.foreigners(value):
            unknown = foreign.kind == "defaultdict" and foreign.value[0] == library.UNKNOWN_FACTORY
            if foreign.kind in not_these or unknown:
                self.unproxied(f"{what} {foreign.name}")

    def _receive(self) -> tuple[bytes, bytes]:
        try:
            kind, size = _HEAD.unpack(_exactly(_FROM, _HEAD.size))
            if size > _MOST:
                self._end("wrong", f"answered with more than {_MOST >> 20} MB")
            data = _exactly(_FROM, size)
        except (EOFError, OSError):
            self._end("gone", "")
        if kind in _ENDS:
            self._end(_ENDS[kind], data.decode("utf-8", "replace")[:300])
        return kind, data

    def _end(self, verdict: str, message: str) -> NoReturn:
        self.over = _Over(verdict, message)
        raise self.over


def _proxy(program: _Candidate, name: str) -> Any:
    """What the tests call. Its name crosses; its docstring, signature and other attributes do not."""

    class Proxy:
        __slots__ = ()

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            return program.call(args, kwargs)

        def __getattribute__(self, attribute: str) -> Any:
            if program.is_function and attribute in ("__name__", "__qualname__"):
                return name
            if program.is_function and attribute == "__class__":
                return FunctionType
            program.unproxied(f"the tests read {name}.{attribute}")

        def __setattr__(self, attribute: str, value: Any) -> None:
            program.unproxied(f"the tests set {name}.{attribute}")

    return Proxy()


def judge(job: dict[str, Any]) -> None:
    """Run the tests against the program in the other process.

    `noted` is a number of calls: where the program passes, the first distinct arguments of that many are reported too.
    """
    reading = apart.Reading(job["tests"], job["entry_point"])
    program = _Candidate(reading, job.get("noted", 0))
    library.NATURAL["numpy"] = _scalar  # in this process alone
    try:
        program.ready()
        scope = _helpers(job)
        if reading.surroundings:
            program.surroundings = apart.Surroundings(reading.modules)
        verdict, message = _tests(job, scope, _proxy(program, job["entry_point"]))
        if verdict != "passed" and program.inexact:
            program.unproxied(f"raised {program.inexact}")
        if verdict == "passed" and program.stopped and not reading.catches_stop:
            verdict, message = "raised", f"{program.stopped}, which ended a loop of the tests"
    except _Over:
        verdict, message = "", ""
    if program.over:
        verdict, message = program.over.verdict, program.over.message
    for request in program.noted if verdict == "passed" else ():
        _answer(b"C", request)
    _report(verdict, message, program.last)


def _scalar(parts: Any) -> Any:
    """A scalar of numpy from the name of its type and its number."""
    import numpy as np

    return np.dtype(parts[0]).type(parts[1])


def candidate(job: dict[str, Any]) -> None:
    """Run the program and answer calls until the judge ends."""
    exactly, send, encode, decode, natural = _exactly, _send, wire.encode, wire.decode, wire.natural
    parts, shared = exceptions.parts, sharing.Calls(job.get("seeded", False))
    kind, loaded = calls.load(job["source"], job["entry_point"])
    if kind:
        return send(_REPLIES, kind, loaded.encode("utf-8", "replace"))
    named = type(loaded) is FunctionType and loaded.__name__ == loaded.__qualname__ == job["entry_point"]
    send(_REPLIES, b"F" if named else b"R", b"")
    while True:
        try:
            request = exactly(_REQUESTS, _HEAD.unpack(exactly(_REQUESTS, _HEAD.size))[1])
        except EOFError:
            return
        given = natural(decode(request))
        shared.begin(given)
        kind, error, result = b"O", None, None
        try:
            result = loaded(*given[0], **given[1])
        except MemoryError:
            kind, data = b"M", b"MemoryError"
        except BaseException as raised:
            kind, error = b"E", raised
        if kind in b"OE":
            kind, data = _reply(error, result, given, request=request, shared=shared, encode=encode, parts=parts)
        send(_REPLIES, kind, data)


def _reply(
    error: BaseException | None,
    result: Any,
    given: Any,
    *,
    request: bytes,
    shared: sharing.Calls,
    encode: Callable[[Any], bytes],
    parts: Callable[[BaseException], Any],
) -> tuple[bytes, bytes]:
    """(kind, data) of the reply to a call: its exception or result, the arguments where they have changed, what is shared."""
    try:
        notes = shared.raised() if error else shared.end(result)
        after = given if encode(given) != request else None
        return (b"E" if error else b"O"), encode((parts(error) if error else result, after, notes))
    except wire.WireError as reason:
        return b"N", str(reason).encode()
    except MemoryError:
        return b"M", b"MemoryError"
    except Exception as failed:  # an object that breaks when it is looked at
        return b"N", f"a value cannot be read: {calls.describe(failed)}".encode("utf-8", "replace")


def in_one_process(job: dict[str, Any]) -> None:
    """Run program and tests together."""
    kind, loaded = calls.load(job["source"], job["entry_point"])
    if kind:
        return _report(_ENDS[kind], loaded, "")
    scope = {**_helpers(job), **vars(sys.modules["__spa_bench__"])}  # a whole program may leave out what the prompt defines
    _report(*_tests(job, scope, loaded), "")


def _helpers(job: dict[str, Any]) -> dict[str, Any]:
    """The names that tests may use beside the candidate: those of the prompt and the reference solution."""
    scope: dict[str, Any] = {"__name__": "__tests__"}
    if job["helpers"]:
        try:
            exec(compile(job["helpers"], "<helpers>", "exec", dont_inherit=True), scope)
        except Exception:  # a prompt that is no program by itself; a test that needs its names will say so
            scope = {"__name__": "__tests__"}
    return scope


def _tests(job: dict[str, Any], scope: dict[str, Any], candidate: Any) -> tuple[str, str]:
    """Verdict and message."""
    scope[job["entry_point"]] = candidate
    testing = False
    try:
        exec(compile(job["tests"], "<tests>", "exec", dont_inherit=True), scope)
        testing = True
        scope["check"](candidate)
        return "passed", ""
    except AssertionError as error:
        return ("wrong" if testing else "raised"), calls.describe(error) + _place(error, job["tests"])
    except SystemExit:
        return "crashed", "SystemExit before its tests were done"
    except MemoryError:
        return "memory", "MemoryError"
    except _Over:
        raise
    except BaseException as error:
        return "raised", calls.describe(error)


def _place(error: BaseException, tests: str) -> str:
    """` at: ` and the line of the tests that failed."""
    at, trace = "", error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            at = " at: " + tests.split("\n")[trace.tb_lineno - 1].strip()
        trace = trace.tb_next
    return at


def _report(verdict: str, message: str, call: str) -> None:
    data = json.dumps({"verdict": verdict, "message": message[:500], "call": call}).encode()
    _answer(b"J", data)


def _answer(kind: bytes, data: bytes) -> None:
    data = calls.FRAME.pack(kind, 0.0, len(data)) + data
    while data:
        data = data[os.write(_ANSWER, data) :]


def _update(old: Any, new: Any) -> None:
    """Change `old` in place to `new`, the program's version of it, as a call in one process would have."""
    if type(old) is not type(new):
        return
    if isinstance(old, UserDict | UserList):
        _update(old.data, new.data)
    elif isinstance(old, ChainMap):
        _update(tuple(old.maps), tuple(new.maps))
    elif isinstance(old, list):
        old[:] = [_updated(old[i], item) if i < len(old) else item for i, item in enumerate(new)]
    elif isinstance(old, dict):
        fresh = {key: _updated(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(fresh)
    elif isinstance(old, set | bytearray | deque) and old != new:
        old.clear()
        old.update(new) if isinstance(old, set) else old.extend(new)
    elif isinstance(old, tuple):
        for mine, theirs in zip(old, new, strict=False):
            _update(mine, theirs)


def _updated(old: Any, new: Any) -> Any:
    """`old` itself where it can be changed in place, else `new`."""
    if type(old) is type(new) and isinstance(old, _CHANGEABLE):
        _update(old, new)
        return old if not isinstance(old, tuple) or old == new else new
    return new


def _call_text(args: Any, kwargs: Any) -> str:
    parts = [wire.short(a) for a in args] + [f"{k}={wire.short(v)}" for k, v in kwargs.items()]
    return ", ".join(parts)[:300]


def _send(descriptor: int, kind: bytes, data: bytes) -> None:
    data = _HEAD.pack(kind, len(data)) + data
    while data:
        data = data[os.write(descriptor, data) :]


def _exactly(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
