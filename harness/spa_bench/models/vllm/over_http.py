"""vLLM as a server, `vllm serve`, by its OpenAI completions: token ids in and out, adapters as names of models."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from spa_bench.errors import ModelError
from spa_bench.models.engine import LoraAdapter
from spa_bench.models.vllm.asked import GOES_ON, Answer, Asked, Opened, failed
from spa_bench.models.vllm.options import ModelFacts, VllmOptions
from spa_bench.support.interrupt import asked as asked_to_stop
from spa_bench.support.interrupt import pause_point

_QUICK_SECONDS = 30.0  # the longest that a question about the server itself may take
_NOT_TOLD = "not told by the server"
_TOLD = (  # of /server_info, which a server in development mode has: part of its config, name there, name here
    ("scheduler_config", "max_num_seqs", "max_num_seqs"),
    ("scheduler_config", "max_num_batched_tokens", "max_num_batched_tokens"),
    ("parallel_config", "tensor_parallel_size", "tensor_parallel_size"),
    ("model_config", "dtype", "dtype"),
    ("model_config", "enforce_eager", "enforce_eager"),
    ("model_config", "quantization", "quantization"),
    ("cache_config", "cache_dtype", "kv_cache_dtype"),
    ("cache_config", "enable_prefix_caching", "prefix_caching"),
)

Json = dict[str, Any]
Names = dict[str | None, str]  # the name of an adapter, None for the base -> the name of its model at the server


class Refused(Exception):
    """The server answered with a status that is no success."""

    def __init__(self, status: int, said: str):
        super().__init__(said)
        self.status = status


class Server:
    """One server. Each thread has a connection of its own; the key comes from VLLM_API_KEY and is kept nowhere else."""

    def __init__(self, base_url: str):
        parts = urlsplit(base_url)
        self.where = f"{parts.scheme}://{parts.netloc}"
        self._front = parts.path.rstrip("/").removesuffix("/v1")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._place = parts.netloc
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._over = False

    def hang_up(self) -> None:
        """End what is under way in other threads: they raise, and the server drops their requests."""
        self._over = True
        for connection in self._all:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections, which open again when they are needed."""
        for connection in self._all:
            connection.close()

    def get(self, path: str) -> Json:
        """The JSON object at `path`. Raises Refused, and ModelError as `post`."""
        return self._object(path, *self._ask("GET", path, None, _QUICK_SECONDS))

    def post(self, path: str, body: Json, seconds: float) -> Json:
        """The JSON object with which the server answers `body`.

        Raises Refused where it says no, ModelError where it is gone, silent for so long, or answers nonsense.
        """
        return self._object(path, *self._ask("POST", path, body, seconds))

    def tell(self, path: str, body: Json, seconds: float) -> None:
        """As `post`, for an answer that is words. Raises likewise."""
        status, text = self._ask("POST", path, body, seconds)
        if status != 200:
            raise Refused(status, _message(text))

    def _object(self, path: str, status: int, text: str) -> Json:
        if status != 200:
            raise Refused(status, _message(text))
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ModelError(
                f"the server at {self.where} answered {path} with {text[:40]!r}, which is no JSON object; {GOES_ON}"
            )
        return found

    def _ask(self, verb: str, path: str, body: Json | None, seconds: float) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if key := _key():
            headers["Authorization"] = f"Bearer {key}"
        payload = None if body is None else json.dumps(body)
        for last in (False, True):
            connection = self._connection(seconds)
            fresh = connection.sock is None
            try:
                if fresh:
                    connection.connect()
                if self._over:
                    raise ConnectionAbortedError("hung up")
                connection.request(verb, quote(self._front + path, safe="/?=&"), payload, headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode(errors="replace")
            except TimeoutError as error:
                connection.close()
                raise ModelError(f"the server at {self.where} gave no answer for {seconds:g} s; {GOES_ON}") from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if (
                    fresh or last or self._over
                ):  # a connection that was kept may have been closed meanwhile, and says nothing of the server
                    why = str(error) or type(error).__name__
                    raise ModelError(f"the server at {self.where} is gone ({why}); {GOES_ON}") from error
        raise AssertionError("the second try returns or raises")

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        kept: http.client.HTTPConnection | None = self._own.__dict__.get("connection")
        if kept is None:
            kept = self._own.connection = self._kind(self._place, timeout=seconds)
            self._all.append(kept)
        kept.timeout = seconds
        if kept.sock is not None:
            kept.sock.settimeout(seconds)
        return kept


class OverHttp:
    """See Backend."""

    name = "vllm-http"

    def __init__(self, model: ModelFacts, options: VllmOptions):
        assert options.base_url is not None
        self._model, self._options, self._url = model, options, options.base_url
        self._server = Server(self._url)
        self._positions: int | None = None  # None: not asked yet

    @property
    def positions(self) -> int:
        """See Backend.positions: one less than the server has, so that a token can be drawn behind whatever is scored."""
        if self._positions is None:
            self._positions = self._told()[0] - 1
        return self._positions

    @property
    def prompt(self) -> int:
        """See Backend.prompt."""
        return self.positions

    def facts(self) -> dict[str, object]:
        """See Backend.facts: asked anew each time. What a server does not tell is said to be unknown."""
        length, facts = self._told()
        self._positions = length - 1
        return facts

    def open(self, adapters: Sequence[LoraAdapter]) -> Opened:
        """See Backend.open. An adapter is known by its name, or loaded where the server allows that."""
        try:
            known = {card["id"] for card in self._cards()}
            for adapter in adapters:
                if adapter.name not in known:
                    self._load(adapter)
            names: Names = {None: self._base()["id"], **{a.name: a.name for a in adapters}}
        except Refused as error:
            raise self._refusal(error, failed("to name its models", f"{error.status}: {error}")) from error
        finally:
            self._server.close()
        # a server may have been started anew at the same place, and nothing tells: the canary sings at each opening
        return Opened(anew=True, answers=partial(self._answers, names))

    def close(self) -> None:
        """See Backend.close. Nothing is held here: the server goes on, with the adapters that it has."""

    def _answers(self, names: Names, asked: Sequence[Asked]) -> Iterator[tuple[int, Answer]]:
        """See Opened.answers. No request is sent after a Ctrl-C."""
        waiting = iter(enumerate(asked))
        running: dict[Future[Answer], int] = {}
        pool, server = ThreadPoolExecutor(self._options.concurrency), Server(self._url)
        try:
            while True:
                if not running:
                    pause_point()
                if not asked_to_stop():
                    for place, one in itertools.islice(waiting, self._options.concurrency - len(running)):
                        running[pool.submit(self._answer, server, names[one.adapter], one)] = place
                if not running:
                    pause_point()
                    return
                done = wait(running, return_when=FIRST_COMPLETED).done
                for future in sorted(done, key=_failed):  # answers first: what came is kept
                    yield running.pop(future), future.result()
        finally:
            server.hang_up()
            pool.shutdown(cancel_futures=True)
            server.close()

    # with the server -------------------------------------------------------------------------------------------

    def _told(self) -> tuple[int, dict[str, object]]:
        """(tokens of its context, its facts), as the server tells them now."""
        try:
            version = self._server.get("/version").get("version")
            base, settings = self._base(), self._settings()
        except Refused as error:
            other = ModelError(f"the server at {self._server.where} is no vLLM ({error.status}: {error})")
            raise self._refusal(error, other) from error
        finally:
            self._server.close()
        length = base.get("max_model_len")
        if not isinstance(version, str) or not isinstance(length, int):
            raise ModelError(f"the server at {self._server.where} tells no version or context, as vLLM does")
        facts = {"version": version, "max_model_len": length, "runner": _NOT_TOLD, "attention": _NOT_TOLD, **settings}
        return length, facts

    def _refusal(self, error: Refused, other: ModelError) -> ModelError:
        """What a user reads of `error`: `other`, but for a server that asks for a key."""
        if error.status not in {401, 403}:
            return other
        if _key():
            return ModelError(f"the server at {self._server.where} refuses the key in VLLM_API_KEY; put another one there")
        return ModelError(f"the server at {self._server.where} wants a key; put it into VLLM_API_KEY")

    def _cards(self) -> list[Json]:
        """The cards of the server's models, each with a text "id"; what is no such card is passed over."""
        cards = self._server.get("/v1/models").get("data")
        return [c for c in cards if isinstance(c, dict) and isinstance(c.get("id"), str)] if isinstance(cards, list) else []

    def _base(self) -> Json:
        """The card of the base model. Raises ModelError where the server has it not, or more than one."""
        bases = [c for c in self._cards() if c.get("parent") is None]
        wanted = self._options.served
        found = [c for c in bases if wanted is None or c["id"] == wanted]
        if len(found) != 1:
            names = ", ".join(repr(c["id"]) for c in bases) or "none"
            asked = f"not {wanted!r}" if wanted else "which of them is not said"
            raise ModelError(
                f"the server at {self._server.where} serves the base models {names}, {asked}; name one by `served`"
            )
        return found[0]

    def _settings(self) -> dict[str, object]:
        """What a server in development mode tells of its engine."""
        try:
            told = self._server.get("/server_info?config_format=json")
        except Refused:
            return {"settings": _NOT_TOLD}
        config, environment = told.get("vllm_config"), told.get("vllm_env")
        if not isinstance(config, dict) or not isinstance(environment, dict):
            return {"settings": _NOT_TOLD}
        found: dict[str, object] = {
            here: str(config[part][there]).removeprefix("torch.") if here == "dtype" else config[part][there]
            for part, there, here in _TOLD
            if isinstance(config.get(part), dict) and there in config[part]
        }
        return {**found, "batch_invariant": bool(environment.get("VLLM_BATCH_INVARIANT"))}

    def _load(self, adapter: LoraAdapter) -> None:
        body = {"lora_name": adapter.name, "lora_path": str(adapter.folder.resolve())}
        try:
            self._server.tell("/v1/load_lora_adapter", body, self._options.start_seconds)
        except Refused as error:
            if error.status in {404, 405}:
                raise ModelError(
                    f"the server at {self._server.where} has no adapter {adapter.name} and loads none; start it with "
                    f"--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, or with "
                    f"--lora-modules {adapter.name}={adapter.folder}"
                ) from error
            raise self._refusal(error, failed(f"to load the adapter in {adapter.folder}", str(error))) from error

    def _answer(self, server: Server, model: str, asked: Asked) -> Answer:
        body = {"model": model, "prompt": list(asked.ids), "n": 1, "stream": False, "return_token_ids": True, **asked.sampling}
        try:
            said = server.post("/v1/completions", body, self._options.still_seconds)
        except Refused as error:
            raise self._refusal(error, failed("to answer", f"{error.status}: {error}; {GOES_ON}")) from error
        try:
            return _read(said, model, asked.ids)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ModelError(
                f"the server at {self._server.where} answered without token ids or scores ({error!r}); it must be vLLM, "
                f"0.10.2 or newer"
            ) from error


def _key() -> str:
    """The key; "" where there is none. Raises ModelError for one that no header can hold, which would be shown otherwise."""
    key = os.environ.get("VLLM_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ModelError("the environment variable VLLM_API_KEY holds characters that no key has; set it to the key alone")
    return key


def _failed(future: Future[Answer]) -> bool:
    return future.exception() is not None


def _read(said: Json, model: str, ids: Sequence[int]) -> Answer:
    """The answer in a completion. Raises ModelError where it is of another model."""
    if said["model"] != model:
        raise ModelError(f"the server answered for the model {said['model']!r}, and {model!r} was asked; {GOES_ON}")
    [choice] = said["choices"]
    scores = choice.get("prompt_logprobs") or [None]
    read = [at[str(token)] for at, token in zip(scores[1:], ids[1:], strict=False)]
    if any(math.isnan(float(one["logprob"])) for one in read):
        raise ValueError("a log-probability is not a number")
    return Answer(
        tokens=tuple(int(t) for t in choice["token_ids"]),
        finish=str(choice["finish_reason"]),
        prompt=tuple((float(one["logprob"]), int(one["rank"])) for one in read),
    )


def _message(text: str) -> str:
    """What a server says in an answer that is no success."""
    try:
        found = json.loads(text)
        error = found.get("error", found)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return text[:200]
