"""Probing: call the function on each probe and send back what it does; expected values are not here.

A probe is the arguments of one call, (list, dict), as `wire` writes them. They are read again for each call, so that a
program's changes to its arguments stay in that call; what it keeps elsewhere (a global, a default value) remains. Frames are
those of `calls`: `O` a value, `N` the name of the type of one that cannot cross or is too large, `E` the name of an
exception's class. The program continues after these; `P`, `X`, `M` and `S` end it.
"""

from __future__ import annotations

import mmap
import os
import resource
import time

from spa_bench.sandbox.inside import calls, wire


def type_name(value: object) -> bytes:
    """The name of a value's type. It survives any metaclass that the program defines."""
    try:
        return f"{type(value).__name__}"[:100].encode("utf-8", "replace")
    except BaseException:
        return b"?"


def run(payload: dict[str, str], probes: list[bytes], shared: mmap.mmap, most: int, items: bool) -> None:
    """Run the program on the probes. A value of more than `most` bytes cannot cross; `items` is that of calls.run."""
    # bound before the program can replace them
    clock, decode, natural, name, write = time.process_time, wire.decode, wire.natural, type_name, os.write
    encode = wire.encode_items if items else wire.encode
    frame, begin, make_room = calls.FRAME.pack, calls.HEADER.pack_into, resource.setrlimit
    ceiling = (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2

    def send(kind: bytes, seconds: float, data: bytes) -> None:
        data = frame(kind, seconds, len(data)) + data
        while data:
            data = data[write(calls.ANSWER, data) :]

    kind, loaded = calls.load(payload["source"], payload["entry_point"])
    if kind:
        make_room(resource.RLIMIT_AS, ceiling)
        return send(kind, clock(), loaded.encode("utf-8", "replace"))
    for number, probe in enumerate(probes, 1):
        arguments, keywords = natural(decode(probe))
        start = clock()
        begin(shared, 0, number, start, 0, 0)
        kind, measured, value = b"O", 0.0, None
        try:
            value = loaded(*arguments, **keywords)
            measured = clock()
            data = encode(value)
            if len(data) > most:
                kind, data = b"N", name(value)
        except wire.WireError:
            kind, data = (b"N", name(value)) if measured else (b"E", b"WireError")
        except SystemExit:
            kind, data = b"S", b""
        except MemoryError:
            make_room(resource.RLIMIT_AS, ceiling)
            kind, data = b"M", b""
        except BaseException as error:
            kind, data = b"E", name(error)
        seconds = (measured or clock()) - start
        begin(shared, 0, number, start, 0, 1)  # a slow reader does not count against the call
        send(kind, seconds, data)
        if kind in (b"S", b"M"):
            return
        begin(shared, 0, number + 1, clock(), 0, 0)
