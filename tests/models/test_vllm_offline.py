"""vLLM's process from outside, by a stand-in that speaks as the worker does: streams, deaths, silence, one line each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spa_bench.errors import ModelError
from spa_bench.models.vllm.asked import Asked
from spa_bench.models.vllm.engine import vllm_engine
from spa_bench.models.vllm.offline import Offline, Process
from vllm_doubles import FACTS, SETTINGS, adapter, command, options

Start = Callable[..., Offline]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    began: list[Offline] = []

    def begin(mode: str = "well", **given: object) -> Offline:
        began.append(Offline(FACTS, options(**given), command(tmp_path, mode)))
        return began[-1]

    yield begin
    for one in began:
        one.close()


def asked(count: int, name: str | None = None) -> list[Asked]:
    return [Asked(ids=(1, 2), adapter=name, sampling={}) for _ in range(count)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_settings_are_known_before_the_model_is_loaded(start: Start):
    assert start().facts() == {**SETTINGS, "device": "gpu"}


def test_answers_come_back_to_the_place_from_which_they_were_asked(start: Start, tmp_path: Path):
    one = start(max_num_seqs=2)
    adapters = [adapter(tmp_path, n) for n in (1, 2)]
    vllm = one.open(adapters)
    assert vllm.anew
    got = dict(vllm.answers([*asked(5), *asked(1, adapters[1].name)]))
    assert [got[place].tokens for place in range(6)] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 5)]


def test_the_model_is_loaded_anew_only_for_adapters_that_do_not_fit(start: Start, tmp_path: Path):
    one = start()
    first, second, wide = adapter(tmp_path, 1), adapter(tmp_path, 2), adapter(tmp_path, 3, rank=16)
    assert one.open([first]).anew
    pid = one.pid
    assert not one.open([first]).anew
    assert one.open([second]).anew
    assert one.pid == pid
    assert one.open([wide]).anew
    assert one.pid != pid
    assert pid is not None
    assert not alive(pid)


def test_a_killed_process_is_one_line_and_what_came_before_is_kept(start: Start):
    one = start("dies", max_num_seqs=1)
    vllm = one.open([])
    got = []
    with pytest.raises(ModelError, match=r"ended by SIGKILL.* the same command resumes") as error:
        got.extend(place for place, _ in vllm.answers(asked(9)))
    assert "\n" not in str(error.value)
    assert one.pid is None
    vllm = one.open([])  # numbers go on from where they were: the stand-in dies at request 3 of its own
    assert len(dict(vllm.answers(asked(2)))) == 2


def test_a_process_that_says_nothing_is_ended(start: Start):
    one = start("hangs", still_seconds=0.5)
    vllm = one.open([])
    pid = one.pid
    with pytest.raises(ModelError, match=r"said nothing for 0\.5 s and was ended"):
        list(vllm.answers(asked(9)))
    assert pid is not None
    assert not alive(pid)


def test_a_process_that_leaves_tells_its_last_error(start: Start):
    one = start("exits")
    vllm = one.open([])
    with pytest.raises(ModelError, match=r"ended with code 3 \(ValueError: odd\)"):
        list(vllm.answers(asked(9)))


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("missing", r"vLLM is not installed for .*: pip install 'spa-bench\[vllm\]'"),
        ("memory", "to load the model: ValueError: No available memory for the cache blocks.; give it less"),
        ("core", "to load the model: RuntimeError: weights are broken"),
        ("other", "runs with attention 'OTHER' and had said 'CPU_ATTN'"),
        ("refuses", "to load the adapters: ValueError: LoRA rank 64 is greater than max_lora_rank 16"),
    ],
    ids=["missing", "memory", "core", "other", "refuses"],
)
def test_what_cannot_be_opened_is_one_line_and_leaves_no_process(start: Start, tmp_path: Path, mode: str, said: str):
    one = start(mode)
    with pytest.raises(ModelError, match=said) as error:
        one.open([adapter(tmp_path, 1)])
    assert "\n" not in str(error.value)
    assert one.pid is None


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"nowhere, cannot be started .* SPA_BENCH_VLLM_PYTHON"):
        Offline(FACTS, options(), [str(tmp_path / "nowhere")]).facts()


def test_answers_that_nobody_wants_any_more_are_not_mixed_up_with_later_ones(start: Start):
    one = start()
    vllm = one.open([])
    stream = vllm.answers(asked(6))
    assert next(stream)[0] == 0
    stream.close()  # type: ignore[attr-defined]
    got = dict(vllm.answers(asked(2)))
    assert [got[place].tokens[1] for place in range(2)] == [6, 7]


def test_an_interrupted_command_leaves_no_reply_that_a_later_one_could_take_for_its_own(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    one = start()
    one.facts()
    process, hear = one._process, Process.hear

    def interrupted(self: Process, seconds: float) -> None:
        monkeypatch.setattr(Process, "hear", hear)
        raise KeyboardInterrupt

    monkeypatch.setattr(Process, "hear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.open([])
    assert process is not None
    assert not alive(process.pid)
    assert len(dict(one.open([]).answers(asked(2)))) == 2


def test_what_was_opened_before_it_was_closed_answers_no_longer(start: Start):
    one = start()
    before = one.open([])
    one.close()
    vllm = one.open([])
    with pytest.raises(ModelError, match="vLLM is not open"):
        list(before.answers(asked(1)))
    assert len(dict(vllm.answers(asked(2)))) == 2


def test_a_context_of_the_users_own_is_what_vllm_takes():
    assert Offline(FACTS, options(max_model_len=40)).positions == 40
    assert Offline(FACTS, options(max_model_len=400)).positions == 80


def test_a_context_below_the_positions_of_the_model_stays_as_it_is_also_when_a_run_is_repeated_with_it():
    for most, given in ((80, None), (80, 60), (40, None), (400, 79)):
        facts = replace(FACTS, context=given or 80, positions=80)
        first = vllm_engine(facts, options(max_model_len=most), reference=None).context
        assert first == (given if given == 60 else min(most, 80) - 1)
        again = replace(FACTS, context=first, positions=80)
        assert vllm_engine(again, options(max_model_len=most), reference=None).context == first
