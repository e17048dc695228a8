"""Generation that cannot be done fails with a cause: memory that runs out, logits that are not finite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from spa_bench.models.beams import BeamSearch
from spa_bench.models.hf.failures import is_out_of_memory, within_memory
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Completion, Decoding, Key, Member, Request

PROMPTS = [f"def f{i}(nums):\n" + "    # the sum\n" * i for i in range(6)]
BASE = Member("base", None, Decoding())
TWO = [BASE, BASE]
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to")
REFUSALS = [CPU, MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]


@pytest.fixture
def model(tiny_folder: Any) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


def requests(members: int = 1, draws: int = 3, **changes: Any) -> list[Request]:
    decoding = Decoding(**{"temperature": 0.8, "max_new_tokens": 10, **changes})
    return [
        Request(
            problem_id=str(i),
            member=m,
            draw=d,
            kind="generate",
            prompt=prompt,
            decoding=decoding,
            seed=draw_seed(0, "t", str(i), m, d),
        )
        for i, prompt in enumerate(PROMPTS)
        for m in range(members)
        for d in range(draws)
    ]


def answers(model: HFModel, asked: list[Request], members: list[Member]) -> dict[Key, Completion]:
    found = list(model.generate(asked, members))
    assert len(found) == len(asked)
    return {c.key: c for c in found}


@contextmanager
def watched(model: HFModel, watch: Callable[[torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """Call `watch` with the token ids and the mask of every forward pass."""

    def hook(_: Any, args: Any, kwargs: Any) -> None:
        watch(kwargs["input_ids"], kwargs["attention_mask"])

    handle = model.network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class Small:
    """Memory for so many rows, or tokens of prompts, at once; it keeps the sizes that were tried."""

    def __init__(self, error: BaseException, *, rows: int = 10**6, tokens: int = 10**6, step: bool = False):
        self.error, self.rows, self.tokens, self.step = error, rows, tokens, step
        self.tried: list[int] = []

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        first = ids.shape[1] > 1
        if first:
            self.tried.append(len(ids))
        if (first != self.step and len(ids) > self.rows) or (first and int(mask.sum(-1).max()) > self.tokens):
            raise self.error


# memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", REFUSALS, ids=["cpu", "python", "cuda"])
@pytest.mark.parametrize("step", [False, True], ids=["prompt", "later"])
def test_a_batch_that_does_not_fit_is_halved_and_the_texts_are_the_same(error: BaseException, step: bool, model: HFModel):
    whole = answers(model, requests(), [BASE])
    memory = Small(error, rows=5, step=step)
    with watched(model, memory):
        assert answers(model, requests(), [BASE]) == whole
    assert memory.tried[:3] == [18, 9, 4]
    assert set(memory.tried[2:]) == {4}


def test_members_are_decoded_apart_where_one_row_each_does_not_fit(model: HFModel):
    whole = answers(model, requests(2), TWO)
    memory = Small(CPU, rows=4)
    with watched(model, memory):
        assert answers(model, requests(2), TWO) == whole
    assert 8 in memory.tried
    assert not any(c.failure for c in whole.values())


def test_a_request_that_does_not_fit_alone_fails_and_the_others_do_not(model: HFModel):
    whole = answers(model, requests(), [BASE])
    most = len(model.codec.prompt(PROMPTS[4]))
    with watched(model, Small(CPU, tokens=most)):
        found = answers(model, requests(), [BASE])
    length = len(model.codec.prompt(PROMPTS[5]))
    why = f"out of memory with a prompt of {length} tokens: use a smaller dtype or fewer new tokens"
    for key, completion in found.items():
        if key.problem == "5":
            assert completion == Completion(key=key, text="", tokens=0, finish="failed", seed=whole[key].seed, failure=why)
        else:
            assert completion == whole[key]


def test_a_batch_grows_again_behind_a_request_that_failed(model: HFModel):
    memory = Small(CPU, tokens=len(model.codec.prompt(PROMPTS[4])))
    with watched(model, memory):
        answers(model, requests(draws=1), [BASE])
    assert memory.tried[-1] == 5


def test_another_error_is_not_taken_for_memory(model: HFModel):
    with watched(model, Small(RuntimeError("shapes do not match"), rows=1)), pytest.raises(RuntimeError, match="shapes"):
        answers(model, requests(), [BASE])


def test_a_beam_search_that_does_not_fit_is_halved_and_one_that_never_fits_fails(model: HFModel):
    search, asked = BeamSearch(2, 2, 0.5), requests(draws=1)
    whole = {b.request.key: b for b in model.diverse_beams(asked, BASE, search)}
    memory = Small(CPU, rows=9, step=True)
    with watched(model, memory):
        assert {b.request.key: b for b in model.diverse_beams(asked, BASE, search)} == whole
    assert memory.tried == [6, 4, *[4] * 6]  # six prompts, three, and six times one, padded to four
    with watched(model, Small(CPU, tokens=len(model.codec.prompt(PROMPTS[4])))):
        found = {b.request.key: b for b in model.diverse_beams(asked, BASE, search)}
    [[lost]] = found["5", 0, 0].groups
    assert lost.finish == "failed"
    assert lost.failure.startswith("out of memory with a prompt of ")
    assert {k: b for k, b in found.items() if k.problem != "5"} == {k: b for k, b in whole.items() if k.problem != "5"}


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("size mismatch"), False),
        (OSError(), False),
    ],
)
def test_what_says_that_memory_ran_out(error: BaseException, memory: bool):
    assert is_out_of_memory(error) is memory


def test_what_was_taken_is_free_again_when_memory_ran_out():
    import weakref

    class Thing:
        pass

    seen: list[weakref.ref[Thing]] = []

    def act() -> None:
        thing = Thing()
        seen.append(weakref.ref(thing))
        raise MemoryError

    assert within_memory(act) is None
    assert seen[0]() is None


# logits --------------------------------------------------------------------------------------------------------------


@contextmanager
def broken_logits(model: HFModel, value: float, *, prompt: str, after: int, everywhere: bool = False) -> Iterator[None]:
    """The rows of `prompt` get `value` among their logits from the step `after` on; rows are told by their first logits."""
    ids = model.codec.prompt(prompt)
    with torch.inference_mode():
        mark = model.network(torch.tensor([ids])).logits[0, -1]
    state: dict[str, Any] = {}

    def spoil(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        logits = output.logits
        if kwargs["input_ids"].shape[1] > 1:
            state.update(step=0, rows=torch.isclose(logits[:, -1], mark, atol=1e-4).all(-1))
        else:
            state["step"] += 1
        if state["step"] >= after and len(logits) == len(state["rows"]):
            logits = logits.clone()
            logits[state["rows"], -1, slice(None) if everywhere else 7] = value
        output.logits = logits
        return output

    handle = model.network.register_forward_hook(spoil, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize(("value", "everywhere"), [(float("nan"), False), (float("inf"), False), (float("-inf"), True)])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("after", [0, 3])
def test_a_row_whose_logits_are_not_finite_fails_and_the_others_do_not(
    value: float, everywhere: bool, temperature: float, after: int, model: HFModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(model.codec, "ends", frozenset())  # no row ends early, so that rows keep their places
    asked = requests(temperature=temperature)
    whole = answers(model, asked, [BASE])
    with broken_logits(model, value, prompt=PROMPTS[2], after=after, everywhere=everywhere):
        found = answers(model, asked, [BASE])
    why = f"the model's logits are not finite (NaN or infinite) after {after} new tokens: use float32 or bfloat16"
    for key, completion in found.items():
        if key.problem == "2":
            assert completion == Completion(
                key=key, text="", tokens=0, finish="failed", seed=whole[key].seed, failure=why, spent=after
            )
        else:
            assert completion == whole[key]


def test_a_token_that_is_only_forbidden_breaks_nothing(model: HFModel):
    asked = requests(temperature=0.0)
    with broken_logits(model, float("-inf"), prompt=PROMPTS[2], after=0):
        assert not any(c.failure for c in answers(model, asked, [BASE]).values())


def test_beams_whose_logits_are_not_finite_fail_with_their_prompt_alone(model: HFModel):
    search, asked = BeamSearch(2, 2, 0.5), requests(draws=1)
    whole = {b.request.key: b for b in model.diverse_beams(asked, BASE, search)}
    with broken_logits(model, float("nan"), prompt=PROMPTS[2], after=0):
        found = {b.request.key: b for b in model.diverse_beams(asked, BASE, search)}
    [[lost]] = found["2", 0, 0].groups
    assert (lost.finish, lost.text) == ("failed", "")
    assert "not finite" in lost.failure
    assert {k: b for k, b in found.items() if k.problem != "2"} == {k: b for k, b in whole.items() if k.problem != "2"}
