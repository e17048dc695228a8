"""A worker process of LocalTransport."""

from __future__ import annotations

import os

from spa_bench.executors.base import serve
from spa_bench.executors.child import begun


def main() -> None:
    """Do one act after another that comes over the socket, until it is closed."""
    connection, state = begun(), list[object]()
    while True:
        try:
            connection.send_bytes(serve(state, connection.recv_bytes()))
        except (EOFError, OSError):  # the driver has ended, or wants no more
            os._exit(0)


if __name__ == "__main__":
    main()
