"""Sends calls to a server: several at once, again after failures that pass, within limits and a budget.

The `openai` package speaks the protocol; its own retries are off, because they know neither the budget nor the limits of a
minute, nor an answer that is cut in half. The calls run in a thread with an event loop of its own, so that answers go on
coming in while a caller works on the last one. The thread ends with the calls.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from spa_bench.errors import ModelError, SpaBenchError, UsageError
from spa_bench.models.base import Spending, dollars
from spa_bench.models.openai.limits import Gate, backoff, retry_after
from spa_bench.models.openai.options import OPENAI, OpenAIOptions
from spa_bench.models.openai.spending import Ledger
from spa_bench.models.openai.wire import Call, Refused, Reply, told
from spa_bench.support.interrupt import asked, pause_point
from spa_bench.support.text import utf8

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_LOOK = 0.1  # seconds between two looks at whether the user wants to stop
_WATCH = 1.0  # seconds between two calls of what watches
_END = 10.0  # seconds that calls which are broken off may take to end
_RESUMES = "what is drawn is kept, and the same command resumes from there"
_SECRET = 8  # letters that a key has at least
_PASSES = {408, 409, 425, 429}  # statuses of failures that pass, beside 500 and above


@dataclass(frozen=True)
class _Trouble:
    """Why a try gave no answer."""

    words: str
    wait: float | None = None  # seconds that the server asks for
    lost: bool = False  # the call was sent, and may have been billed
    status: int | None = None


class GivenUp(ModelError):
    """A call that was sent as often as it may be, in vain."""

    def __init__(self, message: str, status: int | None):
        super().__init__(message)
        self.status = status  # with which the server answered last; None: it did not, or not with a status


class _Stopped(Exception):
    """No call is sent any more."""


class Server:
    """A server of the OpenAI protocol. Raises UsageError where the package, a key or an address is missing or unfit."""

    def __init__(self, options: OpenAIOptions, earlier: Spending | None = None):
        """`earlier`: see Ledger."""
        try:
            self.url = options.url
        except ValueError as error:
            raise UsageError(str(error)) from None
        try:
            self.client = f"openai {version('openai')}"
        except PackageNotFoundError:
            raise UsageError("a model on a server needs the package openai: pip install 'spa-bench[openai]'") from None
        self.options = options
        name, secret = options.api_key_env, self.secret
        if self.url == OPENAI and not secret:
            raise UsageError(f"{self.url} needs a key, and the environment variable {name} has none")
        if not (secret.isascii() and secret.isprintable()):
            raise UsageError(f"the environment variable {name} holds characters that no key has; set it to the key alone")
        self.ledger = Ledger(options, earlier)
        self.watch: Callable[[], None] | None = None  # called about every second while calls are answered
        self._watched = 0.0
        self.together = 0  # the most calls that were under way at once
        self._under_way = 0
        self._gate = Gate(options.requests_per_minute, options.tokens_per_minute)

    @property
    def secret(self) -> str:
        """The key; "" where there is none. It is looked up each time, so that no object of ours holds it."""
        return os.environ.get(self.options.api_key_env, "").strip()

    @property
    def hidden(self) -> str:
        """What no message and no answer may hold: the key, but for a placeholder such as EMPTY, which any text may have."""
        return secret if len(secret := self.secret) >= _SECRET else ""

    def ask(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Refused]]:
        """(place in `calls`, answer) of each call, as answers come.

        Raises ModelError, after everything that is under way has come, where the server is gone, refuses the key or has
        cost what it may; and what `check` of a call raises. Raises KeyboardInterrupt likewise where the user wants to stop.
        """
        if not calls:
            return
        work = _Work(self, calls)
        left = len(calls)
        try:
            while True:
                if asked():
                    work.stop()
                self._look()
                try:
                    came = work.came.get(timeout=_LOOK)
                except queue.Empty:
                    continue
                if came is None:
                    break
                left -= 1
                yield came
        finally:
            work.end()
        if work.error is not None:
            raise work.error
        if left:
            pause_point()

    def _look(self) -> None:
        if self.watch is not None and (now := time.monotonic()) - self._watched >= _WATCH:
            self._watched = now
            self.watch()

    def one(self, call: Call) -> Reply | Refused:
        """The answer to one call. Raises as `ask`."""
        [(_, answer)] = self.ask([call])
        return answer

    # within the thread of the calls ------------------------------------------------------------------------------

    def opened(self) -> AsyncOpenAI:
        """The package's client. A server that asks for no key gets a word in its place."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(api_key=self.secret or "none", base_url=self.url, max_retries=0, timeout=self.options.timeout)

    async def answer(self, client: AsyncOpenAI, call: Call, drain: asyncio.Event) -> Reply | Refused:
        """The answer to `call`, in as many tries as it may take.

        Raises GivenUp, a ModelError, when they are used up, and _Stopped where `drain` is set before there is an answer.
        """
        began, tries = math.inf, 0
        while True:
            row = await self._admitted(call, drain)
            began, tries = min(began, time.monotonic()), tries + 1
            given = await self._tried(client, call)
            if isinstance(given, Reply):
                row[1] = float(given.usage.prompt + given.usage.new)
            asked_for = given.wait if isinstance(given, _Trouble) else None
            if asked_for is not None:
                self._gate.close(time.monotonic() + asked_for)
            # a server that asks for no wait at all, or whose clock is behind, must not use up all tries at once
            passed, wait = time.monotonic() - began, max(asked_for or 0.0, backoff(tries))
            last = tries >= (call.tries or self.options.tries) or passed + wait > self.options.patience
            if not isinstance(given, _Trouble):
                call.check(given)
                if last or not (isinstance(given, Reply) and given.broken_off):
                    return given  # one that is broken off to the last is an answer that failed
            elif last:
                times = f"{tries} tries in {passed:.0f} s" if tries > 1 else "one try"
                asks = f" and asks for a wait of {given.wait:.0f} s" if given.wait else ""
                raise GivenUp(f"{self.url} {given.words}{asks}: given up after {times}; {_RESUMES}", given.status)
            await _rest(wait, drain)

    async def _admitted(self, call: Call, drain: asyncio.Event) -> list[float]:
        """Wait until limits and budget let `call` through. Raises ModelError where the budget never will."""
        tokens = call.most.prompt + call.most.new
        while not drain.is_set():
            wait = self._gate.wait(time.monotonic(), tokens)
            if wait <= 0:
                if self.ledger.hold(call.most):
                    return self._gate.sent(time.monotonic(), tokens)
                if self.ledger.idle:
                    raise ModelError(self._spent(call))
                wait = _LOOK  # a call that is under way may turn out cheaper than it could have been
            await _rest(wait, drain)
        raise _Stopped

    def _spent(self, call: Call) -> str:
        ledger = self.ledger
        return (
            f"the budget of max_cost = ${self.options.max_cost:g} is spent: {dollars(ledger.total)} so far, this time "
            f"{ledger.spent.words()}, and the next call could cost {dollars(ledger.cost(call.most))}; what is drawn is kept, "
            "and the same command with a larger max_cost resumes from there"
        )

    async def _tried(self, client: AsyncOpenAI, call: Call) -> Reply | Refused | _Trouble:
        """One try, whose tokens and cost are counted whatever comes. Raises ModelError where no other call will do better."""
        self._under_way += 1
        self.together = max(self.together, self._under_way)
        given: Reply | Refused | _Trouble | ModelError = _Trouble("was not waited for", lost=True)
        try:
            given = await self._sent(client, call)
        finally:
            self._under_way -= 1
            if isinstance(given, Reply):
                self.ledger.answered(call.most, given.usage)
            elif isinstance(given, _Trouble) and given.lost:
                self.ledger.lost(call.most)
            else:
                self.ledger.release(call.most)
        if isinstance(given, ModelError):
            raise given
        return given

    async def _sent(self, client: AsyncOpenAI, call: Call) -> Reply | Refused | _Trouble | ModelError:
        """What came of sending `call`. Errors are returned: what is raised has no frame and no cause with a server's words."""
        import openai

        try:
            async with asyncio.timeout(self.options.timeout):
                if call.body is None:
                    text = await client.get(call.path, cast_to=str)
                else:
                    # what UTF-8 cannot hold, as halves of surrogate pairs in another server's answer, would be no request
                    body = json.loads(utf8(json.dumps(call.body, ensure_ascii=False)))
                    text = await client.post(call.path, cast_to=str, body=body)
        except (TimeoutError, openai.APITimeoutError):
            return _Trouble(f"gave no answer in {self.options.timeout:g} s", lost=True)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            what = told(f"{type(cause).__name__}: {cause}", self.hidden, 120)
            if type(cause).__name__ in {"ConnectError", "ConnectTimeout"}:
                return _Trouble(f"does not answer ({what})")
            return _Trouble(f"broke off ({what})", lost=True)
        except openai.APIStatusError as error:
            return self._status(error)
        try:
            return call.reply(text).without(self.hidden)
        except ValueError as error:
            return _Trouble(told(str(error), self.hidden), lost=True)
        except ModelError as error:
            return ModelError(str(error))

    def _status(self, error: APIStatusError) -> Refused | _Trouble | ModelError:
        """What a status other than 200 means; a ModelError where every call would get it."""
        status, name = error.status_code, self.options.api_key_env
        said = told(_message(error.body) or error.response.text, self.hidden)
        if status in {401, 403}:
            key = f"refuses the key in {name}" if self.secret else f"asks for a key, and {name} has none"
            return ModelError(f"{self.url} {key} ({status}: {said})")
        if status == 402 or error.code == "insufficient_quota":
            return ModelError(f"{self.url} gives no more for this account ({status}: {said}); {_RESUMES}")
        refused = Refused(status=status, message=said)
        if (status in _PASSES or status >= 500) and not refused.too_long:
            return _Trouble(f"answers {status} ({said})", retry_after(error.response.headers, time.time()), status=status)
        return refused


class _Work:
    """Calls that are made in a thread of their own, from the beginning on."""

    def __init__(self, server: Server, calls: Sequence[Call]):
        self._server, self._calls = server, calls
        # None: no more will come. A SimpleQueue would wait for ever where a signal is handled as its timeout ends (CPython)
        self.came: queue.Queue[tuple[int, Reply | Refused] | None] = queue.Queue()
        self.error: BaseException | None = None
        self._drain = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="calls to a server", daemon=True)
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        """Send no more calls; those under way come to their end."""
        self._tell(self._drain.set)

    def end(self) -> None:
        """Break off whatever is under way."""
        if self._task is not None:
            self._tell(self._task.cancel)
        self._thread.join(timeout=_END)

    def _tell(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(what)

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # raised again in the caller's thread
            self.error = self.error or error
        finally:
            self._begun.set()
            self.came.put(None)

    async def _all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        places = iter(enumerate(self._calls))
        async with self._server.opened() as client:

            async def worker() -> None:
                for place, call in places:
                    try:
                        self.came.put((place, await self._server.answer(client, call, self._drain)))
                    except _Stopped:
                        return
                    except SpaBenchError as error:
                        self.error = self.error or error
                        self._drain.set()
                        return

            await asyncio.gather(*(worker() for _ in range(min(self._server.options.concurrency, len(self._calls)))))


async def _rest(seconds: float, drain: asyncio.Event) -> None:
    """Wait. Raises _Stopped as soon as no call is sent any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await drain.wait()
    if drain.is_set():
        raise _Stopped


def _message(body: object) -> str:
    """The server's words in the body of an error; "" where it has none."""
    if not isinstance(body, dict):
        return body if isinstance(body, str) else ""
    for name in ("message", "detail", "error"):
        said = body.get(name)
        if isinstance(said, dict):
            return _message(said)
        if said:
            return str(said)
    return ""
