"""vLLM in a process of its own on this machine: see spa_bench.models.vllm.worker for what is said between the two."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

from spa_bench.errors import ModelError
from spa_bench.models.engine import LoraAdapter
from spa_bench.models.vllm.asked import GOES_ON, Answer, Asked, Opened, cause_in, failed
from spa_bench.models.vllm.options import ModelFacts, VllmOptions
from spa_bench.models.vllm.shape import Shape
from spa_bench.support.interrupt import asked as asked_to_stop
from spa_bench.support.interrupt import pause_point
from spa_bench.support.text import one_line

_WORKER = Path(__file__).with_name("worker.py")
_FACTS_SECONDS = 600.0  # the longest that importing vLLM may take
_LOG_TAIL = 1 << 16  # bytes of vLLM's log that are searched for a cause

Line = dict[str, Any]


class Process:
    """A process that runs the worker, in a session of its own: a Ctrl-C in the terminal does not reach it."""

    def __init__(self, command: Sequence[str], threads: int):
        self.python = command[0]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        given = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        for name, value in (("VLLM_NO_USAGE_STATS", "1"), ("TOKENIZERS_PARALLELISM", "false")):
            given.setdefault(name, value)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                encoding="utf-8",
                bufsize=1,
                env=given,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise ModelError(
                f"the interpreter for vLLM, {command[0]}, cannot be started ({error.strerror}); see SPA_BENCH_VLLM_PYTHON"
            ) from error
        self._lines: queue.Queue[Line | None] = queue.Queue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The number of the process, which is that of its group too."""
        return self._process.pid

    def _read(self, stream: TextIO) -> None:
        for text in stream:
            try:
                self._lines.put(json.loads(text))
            except ValueError:  # a line of which the end was lost with the process
                break
        self._lines.put(None)

    def say(self, line: Line) -> None:
        """Send a command. Where nobody listens any more, `hear` tells why."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(line) + "\n")

    def hear(self, seconds: float) -> Line | None:
        """The next line; None where none comes within `seconds`. Raises ModelError where the process has ended."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if line is None:
            self._ended()
        return line

    def _ended(self) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        code = self._process.returncode
        if code is not None and code < 0:
            word = signal.Signals(-code).name
            why = f"by {word}" + (", as the system does when memory ends" if word == "SIGKILL" else "")
        else:
            why = f"with code {code}" + (f" ({cause})" if (cause := one_line(self.cause(), 300)) else "")
        raise ModelError(f"vLLM's process ended {why}; {GOES_ON}")

    def cause(self) -> str:
        """The last error in what vLLM printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL))
        found = cause_in(self._log.read().decode(errors="replace"))
        self._log.seek(0, os.SEEK_END)
        return found

    def kill(self) -> None:
        """End the process and what it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(10)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()


class Offline:
    """See Backend. The process starts when it is first needed; `command` starts it, where it is not the usual one."""

    name = "vllm"

    def __init__(self, model: ModelFacts, options: VllmOptions, command: Sequence[str] | None = None):
        self._model, self._options = model, options
        python = options.python or os.environ.get("SPA_BENCH_VLLM_PYTHON") or sys.executable
        self._command = [*command] if command else [python, str(_WORKER)]
        self._process: Process | None = None
        self._facts: dict[str, object] | None = None
        self._shape: Shape | None = None  # of the adapters for which vLLM has loaded the model; None: not loaded
        self._loaded: frozenset[str] = frozenset()
        self._ids: dict[str, int] = {}  # an adapter's name -> its number, one for all times
        self._count = itertools.count()  # of requests

    @property
    def positions(self) -> int:
        """See Backend.positions."""
        context = self._model.context
        most = context + ((self._model.positions or context) > context)  # so that a text may be a token longer than the context
        return min(most, self._options.max_model_len or most)

    @property
    def prompt(self) -> int:
        """See Backend.prompt."""
        return self.positions - 1

    @property
    def pid(self) -> int | None:
        """The number of vLLM's process; None where there is none."""
        return self._process.pid if self._process else None

    def facts(self) -> dict[str, object]:
        """See Backend.facts."""
        if self._facts is None:
            said = self._command_and_wait({"do": "facts", "engine": self._engine(Shape())}, "facts", _FACTS_SECONDS, "to start")
            self._facts = {**said, "threads": self._model.threads} if said["device"] == "cpu" else said
        return dict(self._facts)

    def open(self, adapters: Sequence[LoraAdapter]) -> Opened:
        """See Backend.open. The model is loaded once for all adapters that fit beside each other, and again for more."""
        known, shape = self.facts(), Shape.of(adapters)
        have = self._shape
        fresh = have is None or not have.holds(shape)
        if fresh:
            if have is not None:
                self.close()
            said = self._command_and_wait(
                {"do": "start", "engine": self._engine(shape)}, "started", self._options.start_seconds, "to load the model"
            )
            self._shape = shape
            if changed := [n for n, value in said.items() if known[n] != value]:
                self.close()
                name = changed[0]
                raise ModelError(
                    f"vLLM runs with {name} {said[name]!r} and had said {known[name]!r}; set what decides about it"
                )
        names = frozenset(a.name for a in adapters)
        new = not names <= self._loaded
        if names != self._loaded:
            wanted = [
                {"name": a.name, "id": self._ids.setdefault(a.name, len(self._ids) + 1), "folder": str(a.folder.resolve())}
                for a in adapters
            ]
            wanted = list({w["name"]: w for w in wanted}.values())
            limit = self._options.start_seconds
            self._command_and_wait({"do": "adapters", "adapters": wanted}, "ready", limit, "to load the adapters")
            self._loaded = names
        return Opened(anew=fresh or new, answers=partial(self._answers, self._running()))

    def close(self) -> None:
        """See Backend.close."""
        process, self._process = self._process, None
        self._shape, self._loaded = None, frozenset()
        if process is not None:
            process.kill()

    def _answers(self, process: Process, asked: Sequence[Asked]) -> Iterator[tuple[int, Answer]]:
        """See Opened.answers. Twice as many requests as rows are with vLLM at a time; none is sent after a Ctrl-C."""
        if process is not self._process:
            raise ModelError("vLLM is not open")
        waiting = iter(enumerate(asked))
        sent: dict[int, int] = {}  # number of a request -> place in `asked`
        try:
            while True:
                if not sent:
                    pause_point()
                while len(sent) < 2 * self._options.max_num_seqs and not asked_to_stop() and (then := next(waiting, None)):
                    sent[(n := next(self._count))], one = then
                    process.say({"do": "ask", "n": n, "ids": one.ids, "adapter": one.adapter, "sampling": one.sampling})
                if not sent:
                    pause_point()
                    return
                line = self._hear(process, self._options.still_seconds)
                if "error" in line and (line["n"] in sent or line["n"] is None):
                    self._fail(process, "to answer", line["error"])
                if line.get("n") in sent:
                    yield sent.pop(line["n"]), _answer(line)
        finally:
            if sent and process is self._process:  # whoever asked does not want the rest
                process.say({"do": "forget"})

    # with the process ------------------------------------------------------------------------------------------

    def _engine(self, shape: Shape) -> Line:
        """vLLM's arguments, and what the worker makes arguments of."""
        model, options = self._model, self._options
        engine: Line = {
            "model": model.path,
            "revision": model.revision,
            "trust_remote_code": model.trust_remote_code,
            "load_format": "safetensors",  # vLLM would also take pickled weights, which can run code
            "dtype": options.dtype or model.dtype,
            "max_model_len": self.positions,
            "max_num_seqs": options.max_num_seqs,
            "tensor_parallel_size": options.tensor_parallel_size,
            "enforce_eager": options.enforce_eager,
            "enable_prefix_caching": options.prefix_caching,
            "seed": options.seed,
            "generation_config": "vllm",  # not the model's, whose penalties would come in unseen
            "disable_log_stats": True,
            "ranks": shape.ranks,
            "modules": sorted(shape.modules),
            "kv_cache_gib": options.kv_cache_gib,
        }
        if options.gpu_memory_utilization is not None:
            engine["gpu_memory_utilization"] = options.gpu_memory_utilization
        return engine

    def _running(self) -> Process:
        """The process, which is started where there is none."""
        if self._process is None:
            self._process = Process(self._command, self._model.threads)
        return self._process

    def _hear(self, process: Process, seconds: float) -> Line:
        """The next line. Raises ModelError, and ends the process, where it has ended or says nothing for so long."""
        try:
            line = process.hear(seconds)
        except ModelError:
            self.close()
            raise
        if line is None:
            self.close()
            raise ModelError(f"vLLM's process has said nothing for {seconds:g} s and was ended; {GOES_ON}")
        return line

    def _command_and_wait(self, command: Line, word: str, seconds: float, doing: str) -> Any:
        """What the process says under `word` when `command` is done.

        An interrupt ends the process: what it says later would be taken for the reply to another command.
        """
        until, process = time.monotonic() + seconds, self._running()
        try:
            process.say(command)
            while True:
                line = self._hear(process, max(0.01, until - time.monotonic()))
                if word in line:
                    return line[word]
                if line.get("about") == command["do"]:
                    self._fail(process, doing, line["error"])
        except KeyboardInterrupt:
            self.close()
            raise

    def _fail(self, process: Process, doing: str, cause: str) -> NoReturn:
        if "Engine core" in cause or "EngineDead" in cause:  # its own process has said why
            cause = process.cause() or cause
        self.close()
        raise failed(doing, cause, python=process.python)


def _answer(line: Line) -> Answer:
    prompt, drawn = (tuple((float(p), int(r)) for p, r in line.get(name, ())) for name in ("prompt", "drawn"))
    return Answer(tokens=tuple(line["tokens"]), finish=str(line["finish"]), prompt=prompt, drawn=drawn)
