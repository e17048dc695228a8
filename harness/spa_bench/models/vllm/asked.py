"""What both ways to vLLM share: requests in the words of its sampling parameters, answers, and lines for its failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw, LoraAdapter, Target, cannot_draw
from spa_bench.models.vllm.options import INSTALL
from spa_bench.support.text import one_line

GOES_ON = "what it answered before is kept, and the same command resumes from there"
LEAST_TEMPERATURE = 0.01  # vLLM puts it in the place of a lower one, but for 0

_LENGTH = 300  # letters of a cause that stand in a message
_CAUSE = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception|Killed))\b: *(.+)")
_OF_LITTLE_USE = ("Engine core initialization failed", "EngineDeadError", "Worker failed with error")
_MEMORY = re.compile(
    r"OutOfMemory|out of memory|cannot allocate memory|No available memory|MemoryError|"
    r"[Aa]vailable (?:KV cache )?memory|KV cache (?:is needed|memory)",
    re.IGNORECASE,
)
_LESS = "give it less to hold: a lower max_model_len or max_num_seqs, or set kv_cache_gib or gpu_memory_utilization"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request to vLLM."""

    ids: tuple[int, ...]  # token ids of the prompt
    adapter: str | None  # name of the adapter; None: the base model
    sampling: dict[str, object]  # vLLM's names, in SamplingParams and over HTTP alike


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What vLLM answered to one request."""

    tokens: tuple[int, ...]
    finish: str  # vLLM's word: stop, length, or what else it has
    prompt: tuple[tuple[float, int], ...] = ()  # (log-probability, rank) of each token of the prompt but the first
    drawn: tuple[tuple[float, int], ...] = ()  # likewise of each new token


@dataclass(frozen=True, kw_only=True)
class Opened:
    """vLLM, ready to answer with the base and some adapters."""

    anew: bool  # whether it was started anew or has adapters that are new
    # requests -> (place of one, its answer) in the order in which they are complete; raises as a Backend does
    answers: Callable[[Sequence[Asked]], Iterator[tuple[int, Answer]]]


class Backend(Protocol):
    """A way to vLLM. Every method raises ModelError, on one line, where vLLM dies, hangs or answers nonsense."""

    name: str

    @property
    def positions(self) -> int:
        """The most tokens of prompt and answer together, and of a text that is scored with its context."""
        ...

    @property
    def prompt(self) -> int:
        """The most tokens of a prompt: vLLM draws one behind it, whatever it is asked for."""
        ...

    def facts(self) -> dict[str, object]:
        """Version and settings of vLLM, before it has loaded the model."""
        ...

    def open(self, adapters: Sequence[LoraAdapter]) -> Opened:
        """Make ready to answer with the base and `adapters`."""
        ...

    def close(self) -> None:
        """Free what is held here."""
        ...


def drawing(draw: Draw, ends: frozenset[int]) -> Asked:
    """The request for `draw`. Every knob is named, so that no default of vLLM, a server or a model's files comes in.

    Raises ModelError for a temperature in the place of which vLLM would take another one, and for a knob that it has not.
    """
    decoding = draw.decoding
    if decoding.rare:
        raise cannot_draw("engine vllm", decoding.rare[0])
    if 0 < decoding.temperature < LEAST_TEMPERATURE:
        raise ModelError(
            f"vLLM draws at temperature {LEAST_TEMPERATURE} in the place of {decoding.temperature}; "
            f"set 0 or at least {LEAST_TEMPERATURE}, or draw with --engine hf"
        )
    sampling: dict[str, object] = {
        **_PLAIN,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "min_p": decoding.min_p,
        "seed": draw.seed & ((1 << 63) - 1),  # signed 64 bits are what a server takes
        "max_tokens": draw.limit,
        "stop": list(decoding.stop),
        "stop_token_ids": sorted(ends),
    }
    return Asked(ids=draw.prompt, adapter=draw.adapter.name if draw.adapter else None, sampling=sampling)


def scoring(target: Target, prompt: int) -> Asked:
    """The request for the scores of `target`, where a prompt has `prompt` tokens at most.

    vLLM scores a prompt when it draws a token behind it. Where there is no room for one, the target's last token is left out of
    the prompt and is the only one that may be drawn, with the log-probability that it has among all.
    """
    ids = (*target.context, *target.tokens)
    sampling: dict[str, object] = {**_PLAIN, "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
    if len(ids) > prompt:
        sampling |= {"allowed_token_ids": [ids[-1]], "logprobs": 0}
        ids = ids[:-1]
    return Asked(ids=ids, adapter=target.adapter.name if target.adapter else None, sampling=sampling)


_PLAIN: dict[str, object] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": True,  # the tokens that end an answer are those that the harness names
    "min_tokens": 0,
    "include_stop_str_in_output": True,
    "skip_special_tokens": True,  # stop strings are looked for in the text that the harness reads
}


def cause_in(log: str) -> str:
    """The last error that a log of vLLM names; "" where there is none."""
    found = [m for m in map(_CAUSE.search, log.splitlines()) if m and not any(w in m[0] for w in _OF_LITTLE_USE)]
    return f"{found[-1][1]}: {found[-1][2]}" if found else ""


def failed(doing: str, cause: str, *, python: str = "") -> ModelError:
    """What a user reads where vLLM cannot do what `doing` names; `cause` is in its words."""
    if "No module named 'vllm'" in cause:
        return ModelError(
            f"vLLM is not installed for {python}: {INSTALL}, or name the interpreter that has it in SPA_BENCH_VLLM_PYTHON"
        )
    return ModelError(f"vLLM failed {doing}: {one_line(cause, _LENGTH)}" + (f"; {_LESS}" if _MEMORY.search(cause) else ""))
