"""A process below the driver, with a socket between the two. It ends with the driver, however that ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

_LOOK = 0.5  # seconds between two looks at whether the driver still runs


def begin(
    module: str, environment: Mapping[str, str], *, silent: bool = False
) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
    """(a process that runs `module`, our end of its socket). `environment` is beside ours; a `silent` one prints nothing."""
    ours, theirs = socket.socketpair()
    # the import path of this process; -P leaves out the working folder, where a user's file may be called as one of Python's
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if silent else None,
            stderr=subprocess.DEVNULL if silent else None,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": paths, **environment},
            start_new_session=True,
        )
    return process, Connection(ours.detach())


def begun() -> Connection[Any, Any]:
    """The other end of the socket, in the process that `begin` began. Signals of the terminal do not end this process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all processes: the driver decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    return Connection(int(sys.argv[1]))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)
