"""The options of the vLLM engine, and what it must know of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from spa_bench.support.address import host_of

TESTED = "0.32.0"  # the version of vLLM that tests/engines/ ran with
INSTALL = "pip install 'spa-bench[vllm]'"

_NO_NUMBER = {"in_spec": False}  # of options that change no number: where vLLM is, what it may take, how long one waits
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class VllmOptions:
    """How vLLM runs. What says "offline" has no effect over HTTP, where the server was started with options of its own."""

    # of a running `vllm serve`, as http://host:8000; None: a process of this machine
    base_url: str | None = field(default=None, metadata=_NO_NUMBER)
    served: str | None = None  # over HTTP: the name of the base model there; None: the only base that it serves
    # over HTTP: requests that are under way together, no more than the server's --max-num-seqs
    concurrency: int = field(default=64, metadata=_NO_NUMBER)
    max_num_seqs: int = 256  # offline: rows decoded together
    max_model_len: int | None = None  # offline: the most tokens of prompt and answer together; None: the model's context
    # offline: share of the memory of each GPU; None: vLLM's own
    gpu_memory_utilization: float | None = field(default=None, metadata=_NO_NUMBER)
    # offline: memory of the cache, in GiB; None: what vLLM finds free, on a CPU a quarter
    kv_cache_gib: float | None = field(default=None, metadata=_NO_NUMBER)
    tensor_parallel_size: int = 1  # offline: GPUs over which each layer is split
    dtype: str | None = None  # offline: float32, bfloat16, float16; None: the run's
    enforce_eager: bool = False  # offline: no CUDA graphs, no compilation; always so on a CPU
    prefix_caching: bool = True  # offline: prompts that begin alike are read once
    # whether transformers loads the weights too: it trains, measures divergence and checks adapters; no: for a model that does
    # not fit here twice
    hf: bool = True
    seed: int = 0  # offline: of what vLLM draws beside the answers, which have seeds of their own
    # offline: the interpreter that has vLLM; None: that in SPA_BENCH_VLLM_PYTHON, or this one
    python: str | None = field(default=None, metadata=_NO_NUMBER)
    # the longest that loading may take
    start_seconds: float = field(default=3600.0, metadata=_NO_NUMBER)
    # without any sign of life, after which the engine is taken for dead
    still_seconds: float = field(default=600.0, metadata=_NO_NUMBER)

    def __post_init__(self) -> None:
        for name, whole in (
            ("concurrency", self.concurrency),
            ("max_num_seqs", self.max_num_seqs),
            ("tensor_parallel_size", self.tensor_parallel_size),
        ):
            if whole < 1:
                raise ValueError(f"{name} is {whole}; it must be at least 1")
        if self.max_model_len is not None and self.max_model_len < 2:
            raise ValueError(f"max_model_len is {self.max_model_len}; it must be at least 2")
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"gpu_memory_utilization is {self.gpu_memory_utilization}; it must be in (0, 1]")
        for name, number in (
            ("kv_cache_gib", self.kv_cache_gib),
            ("start_seconds", self.start_seconds),
            ("still_seconds", self.still_seconds),
        ):
            if number is not None and not 0 < number < float("inf"):
                raise ValueError(f"{name} is {number}; it must be above 0 and finite")
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; it must be one of {', '.join(_DTYPES)}")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed is {self.seed}; it must be in [0, 2^32)")
        if self.base_url is not None:
            if (host := host_of(self.base_url)) is None:
                raise ValueError("base_url must be an address such as http://host:8000")
            parts = urlsplit(self.base_url)
            if "@" in parts.netloc or parts.query or parts.fragment:
                raise ValueError(
                    f"base_url (of {host}) holds a user, a password or a query; give the address alone, and put a key "
                    "into VLLM_API_KEY"
                )


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What an engine of its own must know of the model that it runs."""

    path: str  # a local folder or a name on the hub
    name: str  # by which messages speak of it
    vocabulary: int  # rows of the embedding
    ends: Callable[[tuple[str, ...]], frozenset[int]]  # the token ids that end an answer with these stop strings
    context: int  # the most tokens of context and continuation together
    dtype: str  # of the run: float32, bfloat16, float16
    threads: int = 1  # of a CPU
    revision: str | None = None  # on the hub
    trust_remote_code: bool = False
    positions: int | None = None  # the most tokens that it reads, where `context` may be fewer; None: `context`
