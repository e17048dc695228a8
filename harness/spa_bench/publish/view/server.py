"""`spa-bench view`: an HTTP server on loopback. It only reads files, and answers only requests from this machine.

Anybody with an account on this machine can connect to a port of loopback: on a shared machine, all users can see the runs
while the server runs. Pages of other sites cannot read answers: there is no CORS, and the Host header must name this server,
which a foreign name that points at 127.0.0.1 does not.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from urllib.parse import parse_qs, urlsplit

from spa_bench.errors import UsageError
from spa_bench.publish.view.answers import Response, Responses, problem
from spa_bench.publish.view.folder import Runs
from spa_bench.support.console import Reporter
from spa_bench.support.interrupt import Flag, asked

PORT = 7677  # the default port
_LOOPBACK = "127.0.0.1"
_LOOK = 0.2  # seconds between two looks at whether it is to end
_MOST_QUERY = 1 << 16  # the most characters of an address
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Server(ThreadingHTTPServer):
    """Serves the runs in `folder` on 127.0.0.1; port 0 means any free port. Raises UsageError for an unavailable port."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int):
        self.answers = Responses(Runs(folder))
        try:
            super().__init__((_LOOPBACK, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is taken" if error.errno == errno.EADDRINUSE else "is not for this user"
            raise UsageError(f"--port {port} {why}; --port 0 takes any that is free") from error
        except OverflowError as error:
            raise UsageError(f"--port is {port}; ports are 0 to 65535") from error

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://{_LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of a connection: a browser that has closed it is normal."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "spa-bench"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds for which a silent connection stays open

    def parse_request(self) -> bool:
        """As in http.server; in addition, all methods but two are refused in the same way."""
        if not super().parse_request():
            return False
        if self.command not in ("GET", "HEAD"):
            self._send(problem(405, "This server only shows: it takes GET."), {"Allow": "GET, HEAD"})
            self.close_connection = True
            return False
        return True

    def do_GET(self) -> None:
        if self.headers.get("Host", "").lower() not in self._names():
            self._send(problem(403, f"This server answers to {self.server.url} alone."))
            return
        if len(self.path) > _MOST_QUERY:
            self._send(problem(414, "The address is too long."))
            return
        try:
            address = urlsplit(self.path)
            query = parse_qs(address.query, max_num_fields=5000)
        except ValueError:
            self._send(problem(400, "The address cannot be read."))
            return
        self._send(self.server.answers.answer(address.path, query))

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing: the terminal belongs to the run beside the server."""

    def _names(self) -> set[str]:
        port = self.server.server_port
        return {f"{name}:{port}" for name in (_LOOPBACK, "localhost")} | ({_LOOPBACK, "localhost"} if port == 80 else set())

    def _send(self, answer: Response, more: dict[str, str] | None = None) -> None:
        same = answer.status == 200 and self.headers.get("If-None-Match") == answer.tag
        body = b"" if same else answer.body
        with contextlib.suppress(ConnectionError, TimeoutError):  # the browser has closed the connection
            self.send_response(304 if same else answer.status)
            headers = {
                **_HEADERS,
                "Content-Security-Policy": answer.policy,
                "Content-Type": f"{answer.kind}; charset=utf-8",
                "ETag": answer.tag,
                **(more or {}),
            }
            for name, value in headers.items():
                self.send_header(name, value)
            if not same:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)


def view(folder: Path, port: int | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UsageError for an unavailable folder or port."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is not there"
        raise UsageError(
            f"{folder} {what}; name a folder of runs, or make one first: "
            f"spa-bench run --sampler base --task mini-code --out {folder}"
        )
    with _bound(folder, port) as server, _told_to_stop() as stop:
        if asked():  # a signal came before this command had its own handler
            return
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        print(server.url, flush=True)
        Reporter().note(f"the runs in {folder.resolve()}, for this machine alone; Ctrl-C ends it")
        while not stop.is_set():
            time.sleep(_LOOK)
        server.shutdown()
        thread.join()


def _bound(folder: Path, port: int | None) -> Server:
    """The server on `port`. Where `port` is None, it takes PORT, or a free port where PORT is taken."""
    if port is not None:
        return Server(folder, port)
    try:
        return Server(folder, PORT)
    except UsageError:
        return Server(folder, 0)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[Flag]:
    """A flag that Ctrl-C and SIGTERM set: for this command they are the normal end."""
    stop = Flag()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
