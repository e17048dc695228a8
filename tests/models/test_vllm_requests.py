"""What is asked of vLLM, and what is made of its words: no vLLM is needed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw, Target
from spa_bench.models.vllm.asked import cause_in, drawing, failed, scoring
from spa_bench.models.vllm.options import VllmOptions
from spa_bench.models.vllm.shape import Shape, modules_of, rank_of
from spa_bench.models.vllm.worker import cache_bytes, rank_for, slots
from spa_bench.types import Decoding, Key
from vllm_doubles import adapter

RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512]


def draw(decoding: Decoding, *, seed: int = 5, limit: int = 9) -> Draw:
    return Draw(key=Key("p", 0, 0), prompt=(3, 4), adapter=None, decoding=decoding, seed=seed, limit=limit)


def test_every_knob_of_a_decoding_reaches_vllm_and_nothing_is_left_to_its_defaults():
    decoding = Decoding(temperature=0.7, top_p=0.9, top_k=40, min_p=0.1, max_new_tokens=99, stop=("\n\n", "END"))
    asked = drawing(draw(decoding, seed=(1 << 63) - 1), frozenset({7, 2}))
    assert asked.ids == (3, 4)
    assert asked.adapter is None
    assert asked.sampling == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": (1 << 63) - 1,
        "max_tokens": 9,
        "stop": ["\n\n", "END"],
        "stop_token_ids": [2, 7],
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "min_tokens": 0,
        "include_stop_str_in_output": True,
        "skip_special_tokens": True,
    }


def test_a_seed_of_more_bits_than_a_server_takes_is_reduced_to_63():
    assert drawing(draw(Decoding(), seed=(1 << 63) + 12), frozenset()).sampling["seed"] == 12


@pytest.mark.parametrize("knob", ["typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma", "mirostat_tau"])
def test_a_knob_that_vllm_has_not_is_refused(knob: str):
    with pytest.raises(
        ModelError, match=f"engine vllm cannot draw with decoding.{knob}; use --engine hf, or a sampler without"
    ):
        drawing(draw(Decoding(temperature=1.0, **{knob: 0.5})), frozenset())  # type: ignore[arg-type]


def test_an_adapter_is_named_by_its_content(tmp_path: Path):
    one = adapter(tmp_path, 1)
    asked = drawing(Draw(key=Key("p", 0, 0), prompt=(3,), adapter=one, decoding=Decoding(), seed=1, limit=1), frozenset())
    assert asked.adapter == f"spa-{one.hash}"


@pytest.mark.parametrize("temperature", [0.001, 0.0099])
def test_a_temperature_that_vllm_would_replace_is_refused(temperature: float):
    with pytest.raises(ModelError, match=f"0.01 in the place of {temperature}"):
        drawing(draw(Decoding(temperature=temperature)), frozenset())


@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_a_temperature_that_vllm_takes_is_not_refused(temperature: float):
    assert drawing(draw(Decoding(temperature=temperature)), frozenset()).sampling["temperature"] == temperature


def test_a_target_is_scored_as_a_prompt_with_one_token_drawn_behind_it():
    asked = scoring(Target(name="t", context=(1, 2), tokens=(3, 4), adapter=None), 4)
    assert asked.ids == (1, 2, 3, 4)
    assert (asked.sampling["prompt_logprobs"], asked.sampling["max_tokens"]) == (0, 1)
    assert "allowed_token_ids" not in asked.sampling


def test_a_target_that_fills_the_context_has_its_last_token_drawn():
    asked = scoring(Target(name="t", context=(1, 2), tokens=(3, 4), adapter=None), 3)
    assert asked.ids == (1, 2, 3)
    assert (asked.sampling["allowed_token_ids"], asked.sampling["logprobs"]) == ([4], 0)


@pytest.mark.parametrize(("ranks", "taken"), [([1], 1), ([4], 8), ([8, 3], 8), ([9], 16), ([257], 320), ([512], 512)])
def test_a_rank_is_rounded_up_to_the_next_that_vllm_takes(ranks: list[int], taken: int):
    assert rank_for(ranks, RANKS) == taken


def test_a_rank_above_all_that_vllm_takes_is_refused_by_number():
    with pytest.raises(ValueError, match="rank 513, and vLLM takes 512 at most"):
        rank_for([8, 513], RANKS)


def test_a_cpu_has_one_place_more_than_adapters_for_the_rows_of_the_base():
    assert (slots(4, on_cpu=True), slots(4, on_cpu=False)) == (5, 4)


@pytest.mark.parametrize(
    ("asked", "share", "on_cpu", "environment", "expected"),
    [
        (1.5, False, False, None, 3 * 2**29),
        (1.5, True, True, "2", 3 * 2**29),
        (None, False, True, None, 250),
        (None, False, True, "2", None),
        (None, True, True, None, None),
        (None, False, False, None, None),
    ],
)
def test_the_cache_is_what_was_asked_or_a_quarter_of_a_cpus_memory(
    asked: float | None, share: bool, on_cpu: bool, environment: str | None, expected: int | None
):
    assert cache_bytes(asked, share_is_set=share, on_cpu=on_cpu, environment=environment, free=1000) == expected


def test_the_shape_of_adapters_is_read_from_their_files(tmp_path: Path):
    one, two = adapter(tmp_path, 1, rank=8), adapter(tmp_path, 2, rank=16, module="v_proj")
    assert Shape.of([one, two]) == Shape((8, 16), frozenset({"q_proj", "v_proj"}))
    assert rank_of(two.folder) == 16
    assert modules_of(one.folder) == {"q_proj"}


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        (Shape((8,), frozenset({"a"})), True),
        (Shape((16, 16), frozenset({"a", "b"})), True),
        (Shape(), True),
        (Shape((8, 8, 8), frozenset({"a"})), False),
        (Shape((17,), frozenset({"a"})), False),
        (Shape((8,), frozenset({"c"})), False),
    ],
)
def test_a_loaded_model_takes_adapters_that_are_no_more_no_higher_and_no_wider(other: Shape, holds: bool):
    assert Shape((8, 16), frozenset({"a", "b"})).holds(other) == holds


def test_an_adapter_without_a_rank_or_weights_is_named(tmp_path: Path):
    one = adapter(tmp_path, 1)
    (one.folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="names no rank"):
        rank_of(one.folder)
    (one.folder / "adapter_model.safetensors").write_bytes(b"\x01")
    with pytest.raises(ModelError, match="cannot be read"):
        modules_of(one.folder)


def test_the_cause_in_a_log_is_its_last_error_that_says_something():
    log = (
        "(EngineCore pid=5) ERROR core.py:1] torch.OutOfMemoryError: CUDA out of memory.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
        "INFO all is well: yes\n"
    )
    assert cause_in(log) == "OutOfMemoryError: CUDA out of memory."
    assert cause_in("INFO nothing\n") == ""


@pytest.mark.parametrize(
    "cause",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "ValueError: No available memory for the cache blocks.",
        "ValueError: Available memory on node 0 (3/23 GiB) on startup is less than desired CPU memory utilization",
        "ValueError: To serve at least one request, 4.0 GiB KV cache is needed, which is larger than the available",
    ],
)
def test_where_memory_ends_the_line_says_what_to_lower(cause: str):
    said = str(failed("to load the model", cause))
    assert "max_model_len" in said
    assert "\n" not in said


def test_another_cause_gets_no_advice_on_memory():
    assert str(failed("to answer", "ValueError:\n  odd")) == "vLLM failed to answer: ValueError: odd"


def test_a_missing_vllm_is_said_with_the_line_that_installs_it():
    said = str(failed("to start", "ModuleNotFoundError: No module named 'vllm'", python="/venv/bin/python"))
    assert "pip install 'spa-bench[vllm]'" in said
    assert "/venv/bin/python" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs is 0; it must be at least 1"),
        ({"concurrency": 0}, "concurrency is 0; it must be at least 1"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0; it must be at least 1"),
        ({"max_model_len": 1}, "max_model_len is 1; it must be at least 2"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5; it must be in (0, 1]"),
        ({"kv_cache_gib": 0.0}, "kv_cache_gib is 0.0; it must be above 0 and finite"),
        ({"still_seconds": float("nan")}, "still_seconds is nan; it must be above 0 and finite"),
        ({"dtype": "int8"}, "dtype is 'int8'; it must be one of float32, bfloat16, float16"),
        ({"seed": -1}, "seed is -1; it must be in [0, 2^32)"),
        ({"base_url": "localhost:8000"}, "base_url must be an address such as http://host:8000"),
        ({"base_url": "http://host:port"}, "base_url must be an address such as http://host:8000"),
        ({"base_url": "http://[::1"}, "base_url must be an address such as http://host:8000"),
        ({"base_url": "http://a host:8000"}, "base_url must be an address such as http://host:8000"),
        ({"base_url": "http://a..b:8000"}, "base_url must be an address such as http://host:8000"),
    ],
)
def test_an_option_that_cannot_be_is_named_with_its_value(given: dict[str, object], said: str):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        VllmOptions(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["http://me:secret@host:8000", "http://secret@host:8000", "http://host:8000/?key=secret"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str):
    with pytest.raises(ValueError, match="VLLM_API_KEY") as error:
        VllmOptions(base_url=url)
    assert "secret" not in str(error.value)


def test_options_that_say_where_and_how_long_are_marked_as_no_part_of_a_spec():
    marked = {f.name for f in dataclasses.fields(VllmOptions) if not f.metadata.get("in_spec", True)}
    assert marked == {
        "base_url",
        "concurrency",
        "gpu_memory_utilization",
        "kv_cache_gib",
        "python",
        "start_seconds",
        "still_seconds",
    }
