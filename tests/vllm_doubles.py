"""Doubles of vLLM: a model that is a formula, a backend in memory, and a process that speaks as the worker does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from spa_bench.errors import ModelError
from spa_bench.models.engine import LoraAdapter, Target, TargetScores
from spa_bench.models.vllm.asked import Answer, Asked, Opened
from spa_bench.models.vllm.options import ModelFacts, VllmOptions


def ends(stop: tuple[str, ...]) -> frozenset[int]:
    """The end tokens; "<|end|>" is the text of another special token."""
    return frozenset({0, 7, *([9] if "<|end|>" in stop else [])})


FACTS = ModelFacts(path="folder", name="double", vocabulary=100, ends=ends, context=80, dtype="float32")
SETTINGS: dict[str, object] = {"version": "0.32.0", "runner": "V1", "attention": "CPU_ATTN", "dtype": "float32"}


def adapter(folder: Path, number: int, *, rank: int = 8, module: str = "q_proj") -> LoraAdapter:
    """An adapter whose files say its number."""
    folder = folder / f"adapter-{number}"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "number": number}))
    weights = {f"base_model.model.layers.0.{module}.lora_{side}.weight": np.zeros((1, 1), np.float32) for side in "AB"}
    save_file(weights, folder / "adapter_model.safetensors")
    return LoraAdapter.at(folder)


def logprob(token: int, number: int) -> float:
    """What the double's model gives a token with the adapter of that number; 0: the base."""
    return -5.0 - token % 11 - 0.3 * number * (token % 3)


def number_of(one: LoraAdapter | None) -> int:
    return 0 if one is None else int(json.loads((one.folder / "adapter_config.json").read_text())["number"])


def reference(targets: Sequence[Target]) -> Iterator[TargetScores]:
    """Engine.score of the double, as transformers would give it."""
    for target in targets:
        found = np.array([logprob(t, number_of(target.adapter)) for t in target.tokens])
        yield TargetScores(name=target.name, logprobs=found, ranks=np.ones(len(found), np.int64))


class Memory:
    """A backend whose adapters do what `as_loaded` says: the name of an adapter -> the number whose effect it has."""

    name = "vllm"

    def __init__(self, *, positions: int = 80, base: int = 0):
        self.positions, self.prompt, self._base = positions, positions - 1, base
        self.settings = dict(SETTINGS)
        self.base_once: int | None = None  # what the base does in its second reading
        self.spoiled = -1  # the place of a request whose scores are no numbers
        self.as_loaded: dict[str, int] = {}
        self.opened: list[tuple[str, ...]] = []
        self.asked: list[Asked] = []
        self.closed = 0
        self.finish = "stop"
        self.fails_after: int | None = None
        self.failure: Exception = AssertionError("set it")

    def facts(self) -> dict[str, object]:
        return dict(self.settings)

    def open(self, adapters: Sequence[LoraAdapter]) -> Opened:
        self.opened.append(tuple(a.name for a in adapters))
        self.as_loaded = {a.name: number_of(a) for a in adapters} | self.as_loaded
        return Opened(anew=True, answers=self._answers)

    def _answers(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Answer]]:
        self.asked += asked
        for place, one in reversed([*enumerate(asked)]):  # any order is right
            if self.fails_after is not None and len(asked) - place > self.fails_after:
                raise self.failure
            if len(one.ids) > self.prompt:  # as vLLM says it
                raise ModelError(
                    "the prompt plus the number of requested output tokens (at least 1) is longer than the maximum"
                )
            number = self.as_loaded[one.adapter] if one.adapter else self._base
            if one.adapter is None and self.base_once is not None and [a.adapter for a in asked[:place]].count(None) == 1:
                number = self.base_once
            scores = tuple((logprob(t, number), 1) for t in one.ids[1:]) if "prompt_logprobs" in one.sampling else ()
            if place == self.spoiled:
                scores = tuple((float("nan"), rank) for _, rank in scores)
            forced = one.sampling.get("allowed_token_ids")
            drawn = ((logprob(forced[0], number), 1),) if isinstance(forced, list) else ()
            tokens = (*range(20, 22), 0)
            yield place, Answer(tokens=tokens, finish=self.finish, prompt=scores, drawn=drawn)

    def close(self) -> None:
        self.closed += 1


WORKER = """
import json, os, sys, time
def say(**line):
    print(json.dumps(line), flush=True)
settings = {settings!r}
adapters, waiting = {{}}, []
mode = sys.argv[1]
for text in sys.stdin:
    line = json.loads(text)
    do = line["do"]
    if do == "facts":
        if mode == "missing":
            say(error="ModuleNotFoundError: No module named 'vllm'", about=do, n=None)
            continue
        if mode == "silent":
            time.sleep(60)
        say(facts=settings)
    elif do == "start":
        if mode == "memory":
            say(error="ValueError: No available memory for the cache blocks.", about=do, n=None)
            continue
        if mode == "core":
            print("ERROR 11:02 core.py:9] RuntimeError: weights are broken", file=sys.stderr, flush=True)
            say(error="RuntimeError: Engine core initialization failed. See root cause above.", about=do, n=None)
            continue
        say(started=dict(settings, **({{"attention": "OTHER"}} if mode == "other" else {{}})), engine=line["engine"])
    elif do == "adapters":
        adapters = {{a["name"]: a["id"] for a in line["adapters"]}}
        if mode == "refuses":
            say(error="ValueError: LoRA rank 64 is greater than max_lora_rank 16", about=do, n=None)
            continue
        say(ready=sorted(adapters))
    elif do == "forget":
        pass
    else:
        n = line["n"]
        if mode == "dies" and n == 3:
            os.kill(os.getpid(), 9)
        if mode == "hangs" and n == 3:
            time.sleep(60)
        if mode == "exits" and n == 3:
            print("Traceback\\nValueError: odd", file=sys.stderr, flush=True)
            os._exit(3)
        say(alive=n)
        say(n=n, tokens=[adapters.get(line["adapter"], 0), n], finish="stop")
"""


def command(folder: Path, mode: str = "well") -> list[str]:
    """What starts a process that speaks as the worker does."""
    file = folder / "worker.py"
    file.write_text(WORKER.format(settings={**SETTINGS, "device": "gpu"}))
    return [sys.executable, str(file), mode]


def options(**given: object) -> VllmOptions:
    return VllmOptions(**{"start_seconds": 20.0, "still_seconds": 20.0, **given})  # type: ignore[arg-type]
