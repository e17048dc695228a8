"""A server of the OpenAI protocol for tests: a toy model of words, and every way in which servers fail or ignore fields."""

from __future__ import annotations

import json
import random
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["sea", "boat", "wind", "sail", "rope", "tide", "gull", "sand", "wave", "salt", "moon", "star", "rain", "mist"]

NO_KEY = "SPA_BENCH_TEST_KEY"  # an environment variable that has no key


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status with a body, or something worse."""

    status: int = 200
    body: str = '{"error": {"message": "busy", "code": "busy"}}'
    headers: tuple[tuple[str, str], ...] = ()
    half: bool = False  # promise more bytes than there are, and hang up
    hang: float = 0.0  # seconds before anything is sent


@dataclass
class Served:
    """The server's state: what it honours, how it fails, and what it was asked."""

    models: tuple[str, ...] = ("toy",)
    ignores: frozenset[str] = frozenset()  # fields that it takes and does not look at
    refuses: frozenset[str] = frozenset()  # fields that it answers with 400
    apis: frozenset[str] = frozenset({"completions", "chat"})
    answers_as: str = ""  # another name than was asked for
    fingerprint: str = "f1"
    context: int = 10_000  # tokens
    max_stops: int = 1000
    usage: bool = True
    list_fails: bool = False  # whether the list of models is answered with 500
    fault: Callable[[int, dict[str, Any]], Fault | None] = lambda number, body: None  # for the call of that number, from 0
    answer: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = lambda body, reply: reply  # changes a reply
    seconds: float = 0.0  # that an answer takes
    asked: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most: int = 0  # answered at once
    url: str = ""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: dict[str, Any], key: str) -> int:
        with self._lock:
            self.asked.append(body)
            self.times.append(time.monotonic())
            self.keys.append(key)
            self._now += 1
            self.most = max(self.most, self._now)
            return len(self.asked) - 1

    def done(self) -> None:
        with self._lock:
            self._now -= 1

    def forget(self) -> None:
        self.asked.clear()
        self.times.clear()
        self.keys.clear()


def pieces(text: str) -> list[str]:
    """Tokens: words with the space before them."""
    return re.findall(r"\s?\S+|\s", text)


def weigh(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def draw(body: dict[str, Any], prompt: str, served: Served) -> list[str]:
    """The words of an answer, each with a space before it."""
    value = {k: v for k, v in body.items() if k not in served.ignores}
    temperature = value.get("temperature", 1.0)
    sharp = value.get("top_p", 1.0) < 0.01 or value.get("top_k", -1) == 1 or value.get("min_p", 0.0) >= 1.0
    sharp = (
        sharp or value.get("top_n_sigma", 9.0) < 0.01 or (value.get("mirostat") == 2 and value.get("mirostat_tau", 5.0) < 0.01)
    )
    sharp = sharp or value.get("typical_p", 1.0) < 0.01  # it leaves one token, here the likeliest
    if "generation_config" in value:
        said = {k: v for k, v in json.loads(value["generation_config"]).items() if k not in served.ignores}
        sharp = sharp or said["top_k"] == 1 or said.get("epsilon_cutoff", 0.0) > 0.99 or said.get("typical_p", 1.0) < 0.01
    words, limit = [], int(value.get("max_tokens") or value.get("max_completion_tokens") or 16)
    random_words = random.Random(repr((value.get("seed", random.random()), prompt, body["model"])))
    for place in range(limit):
        greedy = WORDS[weigh(body["model"], prompt, place) % len(WORDS)]
        words.append(" " + (greedy if temperature == 0 or sharp else random_words.choice(WORDS)))
    return words


def logprob(model: str, before: str, piece: str) -> float:
    return -0.5 - weigh(model, before, piece) % 1000 / 500


def scored(model: str, tokens: Sequence[str]) -> dict[str, Any]:
    """Log-probabilities as completions give them; a token is the likeliest where its own is above -1."""
    own = [None if i == 0 else logprob(model, "".join(tokens[:i]), t) for i, t in enumerate(tokens)]
    tops = [None if p is None else {t: p} if p > -1 else {t: p, "other": -1.0} for t, p in zip(tokens, own, strict=True)]
    return {"tokens": list(tokens), "token_logprobs": own, "top_logprobs": tops}


def reply(body: dict[str, Any], served: Served, *, chat: bool) -> tuple[dict[str, Any], int]:
    """(the answer of the toy model, the tokens of the prompt)."""
    goes_on = bool(body.get("continue_final_message")) and "continue_final_message" not in served.ignores
    prompt = "".join(f"<{m['role']}>{m['content']}\n" for m in body["messages"]) if chat else body["prompt"]
    read = pieces(prompt) if not chat else pieces(prompt) + ([] if goes_on else [" <end>", " <assistant>"])
    words = draw(body, prompt, served)
    finish, text = "length", "".join(words)
    stop = [] if "stop" in served.ignores else body.get("stop") or []
    places = [p for s in stop if (p := text.find(s)) >= 0]
    if places:
        finish, text = "stop", text[: min(places)]
        words = words[: len(pieces(text)) + 1]
    if len(words) == 3 and "moon" in words[-1]:
        finish = "stop"
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
    wanted = body.get("logprobs") if "logprobs" not in served.ignores else None
    if chat:
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        if wanted:
            rows = [{"token": w, "logprob": -0.5, "top_logprobs": [{"token": w, "logprob": -0.5}]} for w in words]
            choice["logprobs"] = {"content": rows}
    else:
        echo = body.get("echo") and "echo" not in served.ignores
        choice["text"] = prompt + text if echo else text
        if wanted is not None:
            choice["logprobs"] = scored(body["model"], read + words if echo else words)
    said: dict[str, Any] = {"id": "1", "model": served.answers_as or body["model"], "choices": [choice]}
    if served.usage:
        said["usage"] = {"prompt_tokens": len(read), "completion_tokens": len(words), "total_tokens": len(read) + len(words)}
    if served.fingerprint:
        said["system_fingerprint"] = served.fingerprint
    return served.answer(body, said), len(read)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece
    served: Served

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""

    def send(self, status: int, body: str, headers: Sequence[tuple[str, str]] = (), *, half: bool = False) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) * (2 if half else 1)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        if half:
            self.close_connection = True

    def refuse(self, status: int, message: str, code: str | None = None) -> None:
        self.send(status, json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}}))

    def do_GET(self) -> None:
        if self.served.list_fails:
            return self.send(500, "Internal Server Error")
        rows = [{"id": name, "max_model_len": self.served.context} for name in self.served.models]
        return self.send(200, json.dumps({"object": "list", "data": rows}))

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = served.take(body, self.headers.get("Authorization", ""))
        try:
            self.answer(body, served.fault(number, body))
        except (BrokenPipeError, ConnectionResetError):  # the client went away, as a test may want it to
            self.close_connection = True
        finally:
            served.done()

    def answer(self, body: dict[str, Any], fault: Fault | None) -> None:
        served, chat = self.served, self.path.endswith("/chat/completions")
        time.sleep(served.seconds if fault is None else fault.hang)
        if fault is not None:
            return self.send(fault.status, fault.body, fault.headers, half=fault.half)
        if ("chat" if chat else "completions") not in served.apis:
            return self.refuse(404, f"no {self.path} here")
        if body["model"] not in served.models:
            return self.refuse(404, f"The model `{body['model']}` does not exist.", "model_not_found")
        if unknown := sorted(body.keys() & served.refuses):
            return self.refuse(400, f"Unrecognized request arguments supplied: {', '.join(unknown)}")
        if len(body.get("stop") or []) > served.max_stops:
            return self.refuse(400, f"Invalid 'stop': array too long. Expected {served.max_stops} at most.")
        said, read = reply(body, served, chat=chat)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        if read + limit > served.context:
            return self.refuse(
                400,
                f"This model's maximum context length is {served.context} tokens. However, you requested {limit} output tokens "
                f"and your prompt contains at least {max(0, served.context - limit) + 1} input tokens.",
            )
        return self.send(200, json.dumps(said))


class Listener(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def serving(**state: Any) -> Iterator[Served]:
    """A server on a port of the system's choice, for as long as the block."""
    served = Served(**state)
    server = Listener(("127.0.0.1", 0), type("Own", (Handler,), {"served": served}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
