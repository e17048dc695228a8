"""A worker process of LocalWorkers: `python -m spa_bench.executors.worker DESCRIPTOR PARENT`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from spa_bench.executors.base import serve

_LOOK = 0.5  # seconds between two looks at whether the driver still runs


def main(descriptor: int, parent: int) -> None:
    """Do one act after another that comes over the socket `descriptor`, until it is closed or the process `parent` ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all processes: the driver decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection: Connection[bytes, bytes] = Connection(descriptor)
    state: list[object] = []
    while True:
        try:
            act = connection.recv_bytes()
            connection.send_bytes(serve(state, act))
        except (EOFError, OSError):  # the driver has ended, or wants no more
            os._exit(0)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
