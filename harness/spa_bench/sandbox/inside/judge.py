"""Tests that are code: `check(candidate)` runs in a judge process, the program in another one, plain data between them.

`candidate` is a proxy in the judge: arguments, what became of them, results and exceptions cross as `wire` writes them. A
value that cannot cross (see docs/security.md) ends the test with the verdict `unproxied`: a function, a generator or an object
of the program's own class, as argument or result. `in_one_process` runs tests and program together, for cards that allow it;
such a program can read the tests and cheat.
"""

from __future__ import annotations

import builtins
import json
import os
import struct
import sys
from collections import deque
from typing import Any, NoReturn

from spa_bench.sandbox.inside import calls, wire

_ANSWER, _TO, _FROM = 3, 5, 6  # descriptors of the judge
_REQUESTS, _REPLIES = 5, 6  # of the candidate
_HEAD = struct.Struct("<sI")
_MOST = 1 << 26  # bytes of one reply
_ENDS = {b"P": "raised", b"X": "raised", b"S": "crashed", b"M": "memory", b"N": "unproxied"}


class _Over(BaseException):
    """The program cannot continue. Only a test that catches BaseException can swallow it, and then it is raised again."""

    def __init__(self, verdict: str, message: str):
        self.verdict, self.message = verdict, message


class _Candidate:
    """The program behind its proxy."""

    def __init__(self, noted: int = 0) -> None:
        self.last = ""  # the arguments of the last call
        self.noted: dict[bytes, None] = {}  # the first distinct arguments, as the bytes that crossed
        self.most_noted = noted
        self.over: _Over | None = None

    def ready(self) -> None:
        """Wait until the program is loaded. Raises _Over when it cannot be."""
        self._receive()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.over:
            raise self.over
        self.last = _call_text(args, kwargs)
        request = self._encode((list(args), kwargs))
        if len(self.noted) < self.most_noted:
            self.noted[request] = None
        self._ask(request)
        kind, data = self._receive()
        error, result, after = self._read(kind, data)
        if after is not None:
            _update(list(args), after[0])
            _update(kwargs, after[1])
        if error:
            raise error
        return result

    def _ask(self, request: bytes) -> None:
        try:
            _send(_TO, b"C", request)
        except OSError:  # the program has closed its end, or has ended
            self._end("gone", "")

    def _read(self, kind: bytes, data: bytes) -> tuple[BaseException | None, Any, Any]:
        """(exception to raise, result, arguments after the call or None) of a reply, which may be any bytes."""
        try:
            result, after = wire.decode(data)
            if after is not None:
                arguments, keywords = wire.natural(after)
                after = list(arguments), dict(keywords)
            if kind == b"E":
                names, parts, text = result
                return _exception(names, parts, str(text)), None, after
            self._crossed(result, "returned")
            return None, wire.natural(result), after
        except Exception as error:  # the program caused it; _Over is no Exception
            self._end("crashed", f"answered nonsense ({error})")

    def _encode(self, request: Any) -> bytes:
        try:
            data = wire.encode(request)
        except wire.WireError as error:
            self._end("unproxied", f"an argument cannot cross: {error}")
        self._crossed(wire.decode(data), "an argument is", ("opaque", "ndarray", "numpy", "subclass"))
        return data

    def _crossed(self, value: Any, what: str, not_these: tuple[str, ...] = ("opaque", "ndarray")) -> None:
        for foreign in wire.foreigners(value):
            if foreign.kind in not_these:
                self._end("unproxied", f"{what} {foreign.name}, which cannot cross between program and tests")

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


def judge(job: dict[str, Any]) -> None:
    """Run the tests against the program in the other process.

    `noted` is a number: where the program passes, so many first distinct arguments of calls are reported too.
    """
    program = _Candidate(job.get("noted", 0))

    def candidate(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs)

    candidate.__name__ = candidate.__qualname__ = job["entry_point"]
    try:
        program.ready()
        verdict, message = _tests(job, _helpers(job), candidate)
    except _Over:
        verdict, message = "", ""
    if program.over:
        verdict, message = program.over.verdict, program.over.message
    for request in program.noted if verdict == "passed" else ():
        _answer(b"C", request)
    _report(verdict, message, program.last)


def candidate(job: dict[str, Any]) -> None:
    """Run the program and answer calls until the judge ends."""
    exactly, send, encode, decode, natural = _exactly, _send, wire.encode, wire.decode, wire.natural
    kind, loaded = calls.load(job["source"], job["entry_point"])
    if kind:
        return send(_REPLIES, kind, loaded.encode("utf-8", "replace"))
    send(_REPLIES, b"R", b"")
    while True:
        try:
            request = exactly(_REQUESTS, _HEAD.unpack(exactly(_REQUESTS, _HEAD.size))[1])
        except EOFError:
            return
        given = natural(decode(request))
        kind, error = b"O", None
        try:
            result = loaded(*given[0], **given[1])
        except SystemExit:
            kind, data = b"S", b"SystemExit before its tests were done"
        except MemoryError:
            kind, data = b"M", b"MemoryError"
        except BaseException as raised:
            kind, error, result = b"E", raised, _parts(raised)
        if kind in b"OE":
            try:
                after = given if encode(given) != request else None
                data = encode((result, after))
            except wire.WireError as reason:
                kind, data = (b"N", str(reason).encode()) if not error else (b"E", encode((_parts(error), None)))
        send(_REPLIES, kind, data)


def in_one_process(job: dict[str, Any]) -> None:
    """Run program and tests together."""
    kind, loaded = calls.load(job["source"], job["entry_point"])
    if kind:
        return _report(_ENDS[kind], loaded, "")
    scope = dict(vars(sys.modules["__spa_bench__"]))
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


def _parts(error: BaseException) -> Any:
    """(names of its classes, plain arguments, text): the parts of an exception that cross."""
    names = [kind.__name__ for kind in type(error).__mro__]
    plain = [a for a in error.args if type(a) in (str, bytes, int, float, bool, type(None))]
    try:
        text = str(error)
    except BaseException:
        text = "an exception that cannot be described"
    return names, plain, text


def _exception(names: Any, arguments: Any, text: str) -> BaseException:
    """The exception as the tests see it: of the nearest class that Python itself has and can make."""
    kinds = [getattr(builtins, name, None) for name in names if isinstance(name, str)]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Exception):
            for parts in (arguments, [text]):
                try:
                    error: BaseException = kind(*parts)
                except Exception:
                    continue
                return error
    return Exception(text)


def _update(old: Any, new: Any) -> None:
    """Change `old` in place to `new`, the program's version of it, as a call in one process would have."""
    if type(old) is not type(new):
        return
    if isinstance(old, list):
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
    if type(old) is type(new) and isinstance(old, list | dict | set | bytearray | deque | tuple):
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
