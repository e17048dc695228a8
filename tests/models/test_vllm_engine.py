"""The vLLM engine over a backend that is a formula: the canary, streams, fingerprints and failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw, LoraAdapter, Target
from spa_bench.models.vllm import canary
from spa_bench.models.vllm.engine import VllmEngine
from spa_bench.models.vllm.over_http import OverHttp
from spa_bench.types import Decoding, Key
from vllm_doubles import FACTS, Memory, adapter, logprob, options, reference
from vllm_server import serving_fake


@pytest.fixture
def adapters(tmp_path: Path) -> list[LoraAdapter]:
    return [adapter(tmp_path, n) for n in (1, 2)]


def engine(backend: Memory, said: list[str] | None = None) -> VllmEngine:
    return VllmEngine(FACTS, backend, reference=reference, tell=(said if said is not None else []).append)


def draws(adapters: list[LoraAdapter], prompts: int = 3) -> list[Draw]:
    return [
        Draw(key=Key(f"p{i}", m, 0), prompt=(1,) * (i + 1), adapter=a, decoding=Decoding(), seed=i, limit=5)
        for i in range(prompts)
        for m, a in enumerate([None, *adapters])
    ]


def test_it_draws_and_scores_and_does_not_train_or_measure_divergence():
    one = engine(Memory())
    assert one.can == {"draw", "score"}
    assert not one.batch_free([10])
    with pytest.raises(ModelError, match="measure them with hf"):
        one.divergence([], [], base=False, top=1)


def test_every_draw_gets_its_own_answer_in_whatever_order(adapters: list[LoraAdapter]):
    backend = Memory()
    wanted = draws(adapters)
    got = list(engine(backend).draw(wanted))
    assert {d.key for d in got} == {d.key for d in wanted}
    assert {(d.tokens, d.finish) for d in got} == {((20, 21, 0), "stop")}
    asked = [a for a in backend.asked if "prompt_logprobs" not in a.sampling]
    assert [len(a.ids) for a in asked] == [3, 3, 3, 2, 2, 2, 1, 1, 1]  # the longest first


def test_special_tokens_that_stop_strings_spell_end_an_answer_there(adapters: list[LoraAdapter]):
    backend, stops = Memory(), [(), ("\n\n",), ("\n\n", "<|end|>")]
    wanted = [replace(draws(adapters)[0], decoding=Decoding(stop=stop), prompt=(1,) * (9 - i)) for i, stop in enumerate(stops)]
    list(engine(backend).draw(wanted))
    asked = [a for a in backend.asked if "prompt_logprobs" not in a.sampling]
    assert [a.sampling["stop_token_ids"] for a in asked] == [[0, 7], [0, 7], [0, 7, 9]]


def test_scores_are_those_of_the_target_alone_also_where_it_fills_the_context(adapters: list[LoraAdapter]):
    one = engine(Memory(positions=80))
    short = Target(name="short", context=(5, 6, 8), tokens=(9, 10), adapter=adapters[1])
    full = Target(name="full", context=(5,) * 70, tokens=tuple(range(10, 20)), adapter=None)
    found = {s.name: s.logprobs for s in one.score([short, full])}
    assert np.allclose(found["short"], [logprob(9, 2), logprob(10, 2)])
    assert np.allclose(found["full"], [logprob(t, 0) for t in range(10, 20)])


def test_a_target_is_one_token_longer_than_the_context_at_the_most_and_is_scored(adapters: list[LoraAdapter]):
    one = engine(Memory(positions=80))
    assert one.context is not None
    for more in (-1, 0, 1):
        tokens = (7,) * (one.context + more - 2)
        [found] = one.score([Target(name="full", context=(5, 6), tokens=tokens, adapter=adapters[1])])
        assert np.allclose(found.logprobs, [logprob(7, 2)] * len(tokens))
    assert one.context == 79


def test_a_target_as_long_as_a_server_takes_is_scored():
    with serving_fake() as fake:
        one = VllmEngine(FACTS, OverHttp(FACTS, options(base_url=fake.url)), reference=None)
        assert one.context is not None
        for more in (-1, 0, 1):
            tokens = (7,) * (one.context + more - 2)
            [found] = one.score([Target(name="full", context=(5, 6), tokens=tokens, adapter=None)])
            assert np.allclose(found.logprobs, [-0.7] * len(tokens))
    assert one.context == 62


def test_adapters_that_do_what_transformers_says_are_let_through(adapters: list[LoraAdapter]):
    one = engine(Memory(), said := [])
    one.open(adapters)
    assert said == []
    assert all(c.measurable and c.apart < 1e-9 for c in one.checked.values())


def test_an_adapter_that_vllm_ignores_is_caught(adapters: list[LoraAdapter]):
    backend = Memory()
    backend.as_loaded = {adapters[1].name: 0}
    with pytest.raises(ModelError, match="ignored, as adapters are whose modules vLLM does not know") as error:
        engine(backend).open(adapters)
    assert str(adapters[1].folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert backend.closed == 1


def test_swapped_adapters_are_caught(adapters: list[LoraAdapter]):
    backend = Memory()
    backend.as_loaded = {adapters[0].name: 2, adapters[1].name: 1}
    with pytest.raises(ModelError, match=f"the effect is that of {adapters[1].name}: the two are swapped"):
        engine(backend).open(adapters)


def test_another_base_is_caught(adapters: list[LoraAdapter]):
    with pytest.raises(ModelError, match="another model than the one loaded here"):
        engine(Memory(base=1)).open(adapters)


def test_a_base_that_gets_an_adapter_in_some_batches_is_caught(adapters: list[LoraAdapter]):
    backend = Memory()
    backend.base_once = 2
    with pytest.raises(ModelError, match="--max-loras above the number of adapters"):
        engine(backend).open(adapters)


@pytest.mark.parametrize("place", range(12))  # base and two adapters, four times each
def test_a_reading_that_is_no_number_is_caught_whichever_it_is(adapters: list[LoraAdapter], place: int):
    backend = Memory()
    backend.spoiled = place
    with pytest.raises(ModelError, match="no finite log-probabilities of seeded tokens"):
        engine(backend).open(adapters)
    assert backend.closed == 1


def test_an_adapter_without_an_effect_is_let_through_with_a_note(tmp_path: Path):
    one = engine(Memory(), said := [])
    one.open([adapter(tmp_path, 0)])
    assert len(said) == 1
    assert "whether vLLM applies it cannot be told" in said[0]


def test_without_transformers_an_adapter_must_change_something(adapters: list[LoraAdapter]):
    backend = Memory()
    backend.as_loaded = {adapters[0].name: 0}
    said: list[str] = []
    with pytest.raises(ModelError, match="changes nothing in vLLM"):
        VllmEngine(FACTS, backend, reference=None, tell=said.append).open(adapters)
    assert "not compared with transformers" in said[0]
    VllmEngine(FACTS, Memory(), reference=None).open(adapters)


def test_the_row_of_the_canary_is_seeded_fits_and_ends_no_answer():
    context, tokens = canary.row(100, 80, frozenset({0, 7}))
    assert (len(context), len(tokens)) == (8, 56)
    assert (context, tokens) == canary.row(100, 80, frozenset({0, 7}))
    assert not {0, 7} & {*context, *tokens}
    assert [len(part) for part in canary.row(100, 16, frozenset())] == [2, 14]
    assert [len(part) for part in canary.row(5, 64, frozenset({1}))] == [8, 56]


def test_the_tolerance_is_four_times_the_noise_that_is_measured_on_the_base(adapters: list[LoraAdapter]):
    ones = np.ones(56)
    hf = {"": 0 * ones, adapters[0].name: ones, adapters[1].name: 2 * ones}
    vllm = {"": 0.001 * ones, adapters[0].name: 1.0045 * ones, adapters[1].name: 2 * ones}
    found = canary.check(adapters, ((1,), (2,) * 56), hf=hf, vllm=vllm, dtype="float32")
    assert found[adapters[0].name].tolerance == pytest.approx(0.004)
    assert found[adapters[0].name].apart == pytest.approx(0.0035)
    vllm[adapters[0].name] = 1.0055 * ones
    with pytest.raises(ModelError, match=r"off by 0\.0045, noise allows 0\.004"):
        canary.check(adapters, ((1,), (2,) * 56), hf=hf, vllm=vllm, dtype="float32")


def test_another_version_than_tested_is_said_once_with_both():
    backend = Memory()
    backend.settings["version"] = "0.33.1+cpu"
    one = engine(backend, said := [])
    one.fingerprint()
    one.fingerprint()
    assert said == ["vLLM 0.33.1 is installed, and 0.32.0 is the version that was tested"]


def test_settings_that_have_changed_are_refused_by_name(adapters: list[LoraAdapter]):
    backend = Memory()
    one = engine(backend)
    one.open(adapters)
    backend.settings["attention"] = "FLASH_ATTN"
    with pytest.raises(ModelError, match="attention is 'FLASH_ATTN' and was 'CPU_ATTN'"):
        one.open(adapters)


def test_what_was_answered_before_a_death_is_kept_and_the_engine_opens_again(adapters: list[LoraAdapter]):
    backend = Memory()
    one = engine(backend)
    one.open(adapters)
    backend.fails_after, backend.failure = 4, ModelError("vLLM's process ended by SIGKILL")
    got = []
    with pytest.raises(ModelError, match="SIGKILL"):
        got.extend(d.key for d in one.draw(draws(adapters)))  # extend keeps what came
    backend.fails_after = None
    rest = [d for d in draws(adapters) if d.key not in got]
    assert {d.key for d in one.draw(rest)} == {d.key for d in rest}
    assert len(backend.opened) == 2


def test_an_end_that_is_neither_stop_nor_length_is_an_error(adapters: list[LoraAdapter]):
    backend = Memory()
    one = engine(backend)
    one.open(adapters)
    backend.finish = "abort"
    with pytest.raises(ModelError, match="'abort'"):
        list(one.draw(draws(adapters)))
