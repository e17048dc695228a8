"""A server on a free port for a folder of runs, and what a browser would ask of it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spa_bench.publish.view.server import Server


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Asker:
    """Asks a server of this machine."""

    server: Server

    @property
    def url(self) -> str:
        return self.server.url

    def get(self, path: str, *, method: str = "GET", host: str | None = "", **headers: str) -> Got:
        """`host`: "" is the server's own, None sends no such header."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        connection.putrequest(method, path, skip_host=True)
        if host is not None:
            connection.putheader("Host", host or f"127.0.0.1:{self.server.server_port}")
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        got = Got(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return got

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of the list by the names of their runs."""
        return {row["name"]: row for row in json.loads(self.get("/api/runs").body)["runs"]}


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Asker]]:
    servers = []

    def served(folder: Path) -> Asker:
        server = Server(folder, 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return Asker(server)

    yield served
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
