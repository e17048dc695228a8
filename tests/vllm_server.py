"""A server that speaks as vLLM does, of the tests' own, whose answers a test changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


class Fake:
    """What the server does, which a test changes."""

    def __init__(self) -> None:
        self.models = ["base"]
        self.adapters: list[str] = []
        self.loads = True
        self.load: bytes | int | None = None  # what loading an adapter answers instead
        self.told: Json | None = None  # by /server_info
        self.bodies: list[Json] = []
        self.keys: list[str | None] = []
        self.spoil: Callable[[int, Json], Json | bytes | int | None] = lambda n, answer: answer
        self.spoil_get: Callable[[str, Json | int], Json | bytes | int | None] = lambda path, answer: answer
        self.url = ""

    def get(self, path: str) -> Json | bytes | int | None:
        return self.spoil_get(path, self._get(path))

    def _get(self, path: str) -> Json | int:
        if path == "/version":
            return {"version": "0.32.0"}
        if path == "/v1/models":
            base = [{"id": m, "parent": None, "max_model_len": 64} for m in self.models]
            return {"data": [*base, *({"id": a, "parent": self.models[0]} for a in self.adapters)]}
        return self.told or 404

    def post(self, path: str, body: Json) -> Json | bytes | int | None:
        if path == "/v1/load_lora_adapter" and self.load is not None:
            return self.load
        if path == "/v1/load_lora_adapter":
            if not self.loads:
                return 404
            if "64" in body["lora_path"].rsplit("-", 1)[-1]:
                return b"400"
            self.adapters.append(body["lora_name"])
            return {}
        self.bodies.append(body)
        ids = body["prompt"]
        if len(ids) + body["max_tokens"] > 64:
            return 400
        choice: Json = {"token_ids": [len(ids), 0], "finish_reason": "stop", "text": "?"}
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [None, *({str(t): {"logprob": -t / 10, "rank": t}} for t in ids[1:])]
        return self.spoil(len(self.bodies), {"model": body["model"], "choices": [choice]})


@contextmanager
def serving_fake() -> Iterator[Fake]:
    """A server on a free port of this machine, until the block ends."""
    state = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(state.get(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            state.keys.append(self.headers["Authorization"])
            self._say(state.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _say(self, answer: Json | bytes | int | None) -> None:
            if answer is None:  # nothing
                self.close_connection = True
                return
            if answer == b"400":
                answer, status = {"error": {"message": "LoRA rank 64 is greater than max_lora_rank 8"}}, 400
            else:
                status = answer if isinstance(answer, int) else 200
            payload = answer if isinstance(answer, bytes) else json.dumps(answer if isinstance(answer, dict) else {}).encode()
            self.send_response(status)
            half = payload.endswith(b"HALF")
            self.send_header("Content-Length", str(len(payload) + 100 * half))
            self.end_headers()
            self.wfile.write(payload)
            self.close_connection = half

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # it hangs up on us, as we did
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
