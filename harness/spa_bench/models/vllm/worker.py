"""A process that runs vLLM for the harness: commands in as lines of JSON on stdin, answers out as lines on stdout.

It is started as a script by the interpreter of the environment that has vLLM, which need not be the harness's: vLLM pins its
own torch. So this file imports the standard library and vLLM alone. Whatever vLLM prints goes to stderr.

In: {"do": "facts" | "start", "engine": {...}}, {"do": "adapters", "adapters": [{"name", "id", "folder"}]},
{"do": "ask", "n": 7, "ids": [...], "adapter": name or null, "sampling": {...}}, {"do": "forget"}.
Out: {"facts": {...}}, {"started": {...}}, {"ready": [...]}, {"n": 7, "tokens": [...], ...}, {"alive": steps},
{"error": cause, "about": command}.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, TextIO, get_args

Line = dict[str, Any]


def rank_for(ranks: list[int], taken: list[int]) -> int:
    """The least rank that vLLM takes and that is no less than each of `ranks`. Raises ValueError where there is none."""
    most = max(ranks)
    fitting = [r for r in sorted(taken) if r >= most]
    if not fitting:
        raise ValueError(f"an adapter has rank {most}, and vLLM takes {max(taken)} at most; train with a lower rank")
    return fitting[0]


def slots(adapters: int, *, on_cpu: bool) -> int:
    """How many adapters vLLM is told of: one more on a CPU.

    There the rows of the base take the factors of the last place (index -1 of a tensor), which must be a place without any.
    """
    return adapters + on_cpu


def cache_bytes(asked: float | None, *, share_is_set: bool, on_cpu: bool, environment: str | None, free: int) -> int | None:
    """Bytes of the cache: those asked for in GiB; on a CPU where nothing is said a quarter of the `free` ones; None: vLLM's."""
    if asked is not None:
        return int(asked * 2**30)
    if not on_cpu or share_is_set or environment:
        return None
    return free // 4


class Runner:
    """One vLLM engine, and the requests in it."""

    def __init__(self, say: Any):
        self._say = say
        self._engine: Any = None
        self._adapters: dict[str, Any] = {}
        self._waiting: dict[str, Line] = {}
        self._steps, self._said = 0, 0.0

    @property
    def busy(self) -> bool:
        """Whether there are requests without an answer."""
        return bool(self._waiting)

    def act(self, line: Line) -> None:
        """Carry out one command; what goes wrong is said, and ends nothing."""
        acts = {"facts": self.facts, "start": self.start, "adapters": self.adapters, "ask": self.ask, "forget": self.forget}
        try:
            acts[line["do"]](line)
        except Exception as error:  # vLLM raises what it likes: the harness says it to the user
            self._say({"error": f"{type(error).__name__}: {error}", "about": line["do"], "n": line.get("n")})

    def facts(self, line: Line) -> None:
        """Say what vLLM will run with, without loading the model."""
        self._say({"facts": _facts(_engine_arguments(line["engine"]).create_engine_config())})

    def start(self, line: Line) -> None:
        """Load the model."""
        from vllm.v1.engine.llm_engine import LLMEngine

        arguments = _engine_arguments(line["engine"])
        self._engine = LLMEngine.from_engine_args(arguments)
        self._say({"started": _facts(self._engine.vllm_config)})

    def adapters(self, line: Line) -> None:
        """Load adapters, and drop those that are not named. Raises ValueError for one that vLLM does not take."""
        from vllm.lora.request import LoRARequest

        wanted = {a["name"]: a for a in line["adapters"]}
        for name in [n for n in self._adapters if n not in wanted]:
            self._engine.remove_lora(self._adapters.pop(name).lora_int_id)
        for name, adapter in wanted.items():
            if name in self._adapters:
                continue
            request = LoRARequest(name, adapter["id"], adapter["folder"])
            if not self._engine.add_lora(request):
                raise ValueError(f"vLLM did not take the adapter in {adapter['folder']}")
            self._adapters[name] = request
        self._say({"ready": sorted(self._adapters)})

    def ask(self, line: Line) -> None:
        """Put one request into the engine."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(**line["sampling"], output_kind=RequestOutputKind.FINAL_ONLY)
        adapter = self._adapters[line["adapter"]] if line["adapter"] else None
        name = str(line["n"])
        self._engine.add_request(name, {"prompt_token_ids": line["ids"]}, params, lora_request=adapter)
        self._waiting[name] = line

    def forget(self, _: Line) -> None:
        """Drop every request that has no answer yet."""
        self._engine.abort_request([*self._waiting])
        self._waiting.clear()

    def step(self) -> None:
        """Decode one token of each row, and say what is complete."""
        for output in self._engine.step():
            if output.finished:
                line = self._waiting.pop(output.request_id, None)
                if line is None:  # forgotten, and complete before vLLM knew
                    continue
                self._say({"n": line["n"], **_answer(output, line["ids"])})
        self._steps += 1
        if time.monotonic() - self._said > 1:
            self._said = time.monotonic()
            self._say({"alive": self._steps})


def _answer(output: Any, ids: list[int]) -> Line:
    [one] = output.outputs
    answer: Line = {"tokens": list(one.token_ids), "finish": one.finish_reason}
    if output.prompt_logprobs is not None:
        found = [at[token] for at, token in zip(output.prompt_logprobs[1:], ids[1:], strict=True)]
        answer["prompt"] = [[one.logprob, one.rank] for one in found]
    if one.logprobs is not None:
        found = [at[token] for at, token in zip(one.logprobs, one.token_ids, strict=True)]
        answer["drawn"] = [[one.logprob, one.rank] for one in found]
    return answer


def _engine_arguments(engine: Line) -> Any:
    """vLLM's arguments from ours, which hold two things that are for vLLM itself to say: ranks and memory."""
    import psutil  # a dependency of vLLM
    from vllm import EngineArgs
    from vllm.config.lora import MaxLoRARanks
    from vllm.platforms import current_platform

    given = dict(engine)
    ranks, modules, cache = given.pop("ranks"), given.pop("modules"), given.pop("kv_cache_gib")
    on_cpu = bool(current_platform.is_cpu())
    if ranks:
        given |= {
            "enable_lora": True,
            "max_loras": slots(len(ranks), on_cpu=on_cpu),
            "max_lora_rank": rank_for(ranks, list(get_args(MaxLoRARanks))),
            "lora_target_modules": modules,
        }
    given["kv_cache_memory_bytes"] = cache_bytes(
        cache,
        share_is_set="gpu_memory_utilization" in given,
        on_cpu=on_cpu,
        environment=os.environ.get("VLLM_CPU_KVCACHE_SPACE"),
        free=psutil.virtual_memory().available,
    )
    if on_cpu:
        given["enforce_eager"] = True  # compilation needs a compiler on the machine, and gains little there
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process: nothing to overlap with
    return EngineArgs(**given)


def _facts(config: Any) -> Line:
    """What of a vLLM configuration can change the last digits."""
    import torch
    import vllm
    from vllm import envs
    from vllm.config import set_current_vllm_config
    from vllm.platforms import current_platform
    from vllm.v1.attention.selector import get_attn_backend

    model, cache = config.model_config, config.cache_config
    with set_current_vllm_config(config):
        attention = get_attn_backend(model.get_head_size(), model.dtype, cache.cache_dtype)
    device = "cpu" if current_platform.is_cpu() else str(current_platform.get_device_name())
    return {
        "version": vllm.__version__,
        "torch": torch.__version__,
        "device": device,
        "runner": "V2" if config.use_v2_model_runner else "V1",
        "attention": attention.get_name(),
        "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "max_model_len": model.max_model_len,
        "batch_invariant": bool(envs.VLLM_BATCH_INVARIANT),
        "dtype": str(model.dtype).removeprefix("torch."),
        "kv_cache_dtype": str(cache.cache_dtype),
        "prefix_caching": bool(cache.enable_prefix_caching),
        "enforce_eager": bool(model.enforce_eager),
        "quantization": model.quantization,
    }


def _commands(stream: TextIO, waiting: queue.Queue[Line]) -> None:
    for text in stream:
        waiting.put(json.loads(text))
    os.killpg(os.getpgid(0), signal.SIGKILL)  # the harness is gone: nobody reads what would be drawn, and nothing is lost


def main() -> None:
    """Serve until stdin ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what vLLM prints must not come between our lines
    waiting: queue.Queue[Line] = queue.Queue()

    def say(line: Line) -> None:
        out.write(json.dumps(line) + "\n")

    runner = Runner(say)
    threading.Thread(target=_commands, args=(sys.stdin, waiting), daemon=True).start()
    while True:
        while not (runner.busy and waiting.empty()):
            runner.act(waiting.get())
        try:
            runner.step()
        except Exception as error:  # the engine is broken for good
            say({"error": f"{type(error).__name__}: {error}", "about": "step", "n": None})
            raise


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != here]  # modules beside this file are not for vLLM to find
    main()
