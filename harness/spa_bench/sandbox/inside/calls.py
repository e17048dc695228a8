"""Tests that are data: call the function on each input and send back its result; expected values are not here.

A frame is a kind, the CPU seconds of the call (of a reference; else 0) and a length, then bytes: `O` the value that was
returned, as `wire` writes it (of a reference `Q` where it does not equal itself, as NaN, or is not plain); the rest ends the
program: `N` a value that cannot cross, `E` an exception of a call, `P` one before the first call, `X` no such function, `M`
out of memory, `S` sys.exit. Frames wait in memory that is shared with the zygote, which sends them on when the program is
killed, and go through the pipe in batches, so that a call costs no system call.
"""

from __future__ import annotations

import marshal
import mmap
import os
import resource
import struct
import sys
import time
import types
from typing import Any

from spa_bench.sandbox.inside import wire

FRAME = struct.Struct("<sdI")
SHARED = 1 << 18
HEADER = struct.Struct("<QdQQ")  # calls begun, CPU time when the last one began, bytes that wait, whether they are being sent
_FLUSH_SECONDS = 0.002
ANSWER = 3  # the descriptor


def reset(shared: mmap.mmap) -> None:
    """Clear what the last program left, before the next one starts."""
    shared[:] = bytes(SHARED)


def progress(shared: mmap.mmap) -> tuple[int, float, bool]:
    """(calls begun, CPU seconds before the last one, whether it is sending). A program can write any bytes here."""
    begun, since, _, sending = HEADER.unpack_from(shared, 0)
    return begun, since if since >= 0 else 0.0, bool(sending)


def unsent(shared: mmap.mmap) -> memoryview:
    """A view of the frames that a killed program had finished and not sent."""
    _, _, waiting, sending = HEADER.unpack_from(shared, 0)
    size = 0 if sending or waiting > SHARED - HEADER.size else waiting
    return memoryview(shared)[HEADER.size : HEADER.size + size]


def peek(shared: mmap.mmap, copy: mmap.mmap, call: int) -> int:
    """Copy the frames that wait while that call runs. The result is their size in bytes; 0: another call runs.

    What the program sent before the call began is in the pipe; once it has ended, the pipe may hold what belongs before these.
    """
    before = progress(shared)
    if before[0] != call:
        return 0
    with unsent(shared) as view, memoryview(copy) as room:
        size = len(view)
        room[:size] = view
    return size if progress(shared) == before else 0


def describe(error: BaseException) -> str:
    """The text `NameError: what`. It survives any __str__ that the program defines."""
    try:
        return f"{type(error).__name__}: {error}"[:300].removesuffix(": ")
    except BaseException:
        return "an exception that cannot be described"


def load(source: str, entry_point: str) -> tuple[bytes, Any]:
    """(b"", the function) of a program, or (kind, message) where it does not load."""
    module = types.ModuleType("__spa_bench__")
    sys.modules["__spa_bench__"] = module  # dataclasses and pickle look up modules there
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), vars(module))
        function = vars(module).get(entry_point, module)
        return (b"X", f"{entry_point} is not defined") if function is module else (b"", function)
    except SystemExit:
        return b"S", "SystemExit before its tests were done"
    except MemoryError:
        return b"M", "MemoryError"
    except BaseException as error:
        return b"P", describe(error)


def _equals_itself(data: bytes, value: Any) -> bool:
    """Whether the value is plain and equals itself after it is read again; NaN does not."""
    try:
        return (type(value) in wire.ATOMS or wire.is_plain(value)) and bool(marshal.loads(data) == value)
    except Exception:  # numpy
        return False


def run(payload: dict[str, str], inputs: list[Any], shared: mmap.mmap, collect: bool, items: bool) -> None:
    """Run the program. With `collect` it continues after a value that cannot cross (for references).

    With `items` a value that can be iterated is written with its items, for rules that compare sets.
    """
    # bound before the program can replace them
    clock, write, frame, begin = time.process_time, os.write, FRAME.pack, HEADER.pack_into
    encode = wire.encode_items if items else wire.encode
    room, base = SHARED - HEADER.size, HEADER.size
    waiting, sent_at = 0, 0.0
    make_room = resource.setrlimit
    ceiling = (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2

    def send(data: Any) -> None:
        data = memoryview(data)
        while data:
            data = data[write(ANSWER, data) :]

    going_on = (b"O", b"Q", b"N") if collect else (b"O",)
    kind, loaded = load(payload["source"], payload["entry_point"])
    if kind:
        make_room(resource.RLIMIT_AS, ceiling)
        send(frame(kind, clock(), len(loaded.encode("utf-8", "replace"))) + loaded.encode("utf-8", "replace"))
        return
    for number, arguments in enumerate(inputs, 1):
        start = clock()
        begin(shared, 0, number, start, waiting, 0)
        kind, measured = b"O", 0.0
        try:
            value = loaded(*arguments)
            measured = clock() if collect else 0.0
            data = encode(value)
            if collect and not _equals_itself(data, value):
                kind = b"Q"
        except wire.WireError as error:
            kind, data = b"N", describe(error).encode()
        except SystemExit:
            kind, data = b"S", b"SystemExit before its tests were done"
        except MemoryError:
            make_room(resource.RLIMIT_AS, ceiling)
            kind, data = b"M", b"MemoryError"
        except BaseException as error:
            kind, data = b"E", describe(error).encode("utf-8", "replace")
        end = measured or clock()
        head = frame(kind, end - start if collect else 0.0, len(data))
        size = len(head) + len(data)
        fits = waiting + size <= room
        if fits:
            shared[base + waiting : base + waiting + size] = head + data
            waiting += size
        last = number == len(inputs) or kind not in going_on
        if fits and not last and end - sent_at < _FLUSH_SECONDS:
            continue
        begin(shared, 0, number, start, 0, 1)
        send(shared[base : base + waiting])
        if not fits:
            send(head)
            send(data)
        waiting, sent_at = 0, end
        begin(shared, 0, number + 1, clock(), 0, 0)
        if last:
            return
