"""vLLM itself, in its process: the same texts and log-probabilities as transformers and PEFT, deaths, wrong adapters."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engines_reference import NEAR_TIE, Start, World
from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw, LoraAdapter, Target
from spa_bench.models.vllm.engine import VllmEngine
from spa_bench.models.vllm.offline import Offline
from spa_bench.types import Decoding, Key

pytestmark = pytest.mark.engines


def draws(one: World, *, decoding: Decoding | None = None, limit: int = 48, times: int = 1) -> list[Draw]:
    """Every prompt by the base and the four adapters."""
    return [
        Draw(
            key=Key(f"p{i}", m, n),
            prompt=prompt,
            adapter=adapter,
            decoding=decoding or Decoding(),
            seed=(i * 100 + m) * 100 + n,
            limit=limit,
        )
        for i, prompt in enumerate(one.prompts)
        for m, adapter in enumerate([None, *one.adapters])
        for n in range(times)
    ]


def test_greedy_tokens_are_those_of_transformers_but_for_near_ties(vllm: VllmEngine, either: World):
    asked = {d.key: d for d in draws(either)}
    got = {d.key: d for d in vllm.draw([*asked.values()])}
    assert got.keys() == asked.keys()
    behind = {key: either.reference.behind(asked[key].prompt, one.tokens, asked[key].adapter) for key, one in got.items()}
    assert max(max(values) for values in behind.values()) <= NEAR_TIE
    assert all((one.tokens[-1] in either.ends) if one.finish == "stop" else len(one.tokens) == 48 for one in got.values())
    members = {m: tuple(got[key].tokens for key in sorted(got) if key.member == m) for m in range(5)}
    assert len(set(members.values())) == 5  # each adapter says something of its own


def test_log_probabilities_and_ranks_are_those_of_transformers(vllm: VllmEngine, either: World):
    random = np.random.default_rng(3)
    targets = [
        Target(
            name=f"{m}/{length}",
            context=either.prompts[m % 4],
            tokens=tuple(random.integers(1, either.vocabulary, length).tolist()),
            adapter=adapter,
        )
        for m, adapter in enumerate([None, *either.adapters])
        for length in (1, 7, 150)
    ]
    told = {s.name: s for s in either.reference.score(targets)}
    seen = {s.name: s for s in vllm.score(targets)}
    assert seen.keys() == told.keys()
    apart = max(np.abs(seen[n].logprobs - told[n].logprobs).max() for n in told)
    assert apart <= 1e-3
    ranks = np.concatenate([np.abs(seen[n].ranks - told[n].ranks) for n in told])
    assert (ranks == 0).mean() >= 0.9  # far down, many tokens are as likely to the last digit
    assert ranks.max() <= 3


def test_a_greedy_text_has_rank_one_everywhere(vllm: VllmEngine, either: World):
    [drawn] = vllm.draw([draws(either, limit=20)[1]])
    ask = draws(either)[1]
    [scores] = vllm.score([Target(name="t", context=ask.prompt, tokens=drawn.tokens, adapter=ask.adapter)])
    behind = either.reference.behind(ask.prompt, drawn.tokens, ask.adapter)
    assert [r == 1 for r, b in zip(scores.ranks, behind, strict=True) if b == 0] == [True] * behind.count(0)


def test_a_target_that_fills_the_context_is_scored_to_its_last_token(vllm: VllmEngine, either: World):
    assert vllm.context is not None
    context = either.prompts[0]
    tokens = tuple(np.random.default_rng(4).integers(1, either.vocabulary, vllm.context + 1 - len(context)).tolist())
    target = Target(name="full", context=context, tokens=tokens, adapter=either.adapters[0])
    [seen], [told] = vllm.score([target]), either.reference.score([target])
    assert np.abs(seen.logprobs - told.logprobs).max() <= 1e-3
    assert abs(int(seen.ranks[-1]) - int(told.ranks[-1])) <= 1


def test_a_draw_depends_on_its_seed(vllm: VllmEngine, either: World):
    decoding = Decoding(temperature=1.0, top_p=0.95)
    asked = draws(either, decoding=decoding, limit=24, times=3)
    first = {d.key: d.tokens for d in vllm.draw(asked)}
    again = {d.key: d.tokens for d in vllm.draw(asked)}
    assert sum(first[key] == again[key] for key in first) >= 0.9 * len(first)  # texts may depend on the batch
    assert len({first[Key("p2", 0, n)] for n in range(3)}) > 1


def test_a_stop_string_ends_an_answer(vllm: VllmEngine, either: World):
    ask = [d for d in draws(either, decoding=Decoding(stop=("\n",)), limit=48) if d.adapter is None]
    for one in vllm.draw(ask):
        text = either.decode(one.tokens, skip_special_tokens=True)
        assert one.finish == "length" or one.tokens[-1] in either.ends or "\n" in text
        assert "\n" not in either.decode(one.tokens[:-1], skip_special_tokens=True)


def test_a_short_answer_does_not_wait_for_a_long_one(vllm: VllmEngine, either: World):
    base = Draw(key=Key("long", 0, 0), prompt=(5, 6, 7), adapter=None, decoding=Decoding(temperature=1.0), seed=1, limit=200)
    endless = VllmEngine(vllm._model.__class__(**{**vars(vllm._model), "ends": frozenset()}), vllm._backend, reference=None)
    endless._open = tuple(either.adapters)
    short = [Draw(**{**vars(base), "key": Key("short", 0, n), "limit": 2, "seed": n}) for n in range(3)]
    order = [d.key.problem for d in endless.draw([base, *short])]
    assert order == ["short", "short", "short", "long"]


def test_the_canary_found_each_adapter_to_be_right(vllm: VllmEngine, either: World):
    assert vllm.checked.keys() == {a.name for a in either.adapters}
    assert all(c.measurable and c.apart <= c.tolerance < 1e-3 for c in vllm.checked.values())


def test_settings_are_told_before_the_model_is_loaded(start: Start, mini: World):
    told = start(mini, max_num_seqs=16).fingerprint()
    expected = {"device": "cpu", "attention": "CPU_ATTN", "max_num_seqs": 16, "tensor_parallel_size": 1, "dtype": "float32"}
    assert expected.items() <= told.items()
    assert told["runner"] in {"V1", "V2"}
    assert told["batch_invariant"] is False


def test_an_engine_that_is_killed_loses_what_was_under_way_and_opens_again(start: Start, mini: World):
    one = start(mini)
    one.open(mini.adapters)
    backend = one._backend
    assert isinstance(backend, Offline)
    asked = draws(mini, times=30)
    got: dict[Key, tuple[int, ...]] = {}

    def until_killed() -> None:
        for drawn in one.draw(asked):
            got[drawn.key] = drawn.tokens
            if len(got) == 20 and backend.pid is not None:
                os.kill(backend.pid, signal.SIGKILL)

    with pytest.raises(ModelError, match=r"ended by SIGKILL.*the same command resumes from there"):
        until_killed()
    assert 20 <= len(got) < len(asked)
    got |= {d.key: d.tokens for d in one.draw([d for d in asked if d.key not in got])}
    assert got.keys() == {d.key for d in asked}


def test_an_engine_that_hangs_is_ended(start: Start, mini: World):
    one = start(mini, still_seconds=5.0)
    one.open(mini.adapters)
    backend = one._backend
    assert isinstance(backend, Offline)
    assert backend.pid is not None
    os.kill(backend.pid, signal.SIGSTOP)
    with pytest.raises(ModelError, match="said nothing for 5 s and was ended"):
        list(one.draw(draws(mini)))


def test_an_adapter_whose_modules_have_other_names_is_caught(start: Start, mini: World, tmp_path: Path):
    right = mini.adapters[0]
    weights = load_file(right.folder / "adapter_model.safetensors")
    save_file(
        {k.replace(".model.layers.", ".decoder.layers."): v for k, v in weights.items()}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_bytes((right.folder / "adapter_config.json").read_bytes())
    wrong = LoraAdapter.at(tmp_path)
    mini.reference.plays[wrong.name] = right.name
    with pytest.raises(ModelError, match="it was ignored, as adapters are whose modules vLLM does not know by name"):
        start(mini).open([mini.adapters[1], wrong])


def test_a_rank_that_vllm_does_not_take_is_said(start: Start, mini: World, tmp_path: Path):
    right = mini.adapters[0]
    (tmp_path / "adapter_model.safetensors").write_bytes((right.folder / "adapter_model.safetensors").read_bytes())
    config = json.loads((right.folder / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "r": 513}))
    wrong = LoraAdapter.at(tmp_path)
    mini.reference.plays[wrong.name] = right.name
    with pytest.raises(ModelError, match="an adapter has rank 513, and vLLM takes 512 at most"):
        start(mini).open([wrong])


def test_a_cache_without_room_for_one_row_is_said_with_what_to_lower(start: Start, mini: World):
    with pytest.raises(ModelError, match=r"vLLM failed to load the model: .*give it less to hold") as error:
        start(mini, kv_cache_gib=0.0005).open([])
    assert "\n" not in str(error.value)
