"""Generation that cannot be done fails with a cause: memory that runs out, logits that are not finite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spa_bench.models.beams import BeamSearch
from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.draw import Drawer
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, target_modules, write_adapter
from spa_bench.models.hf.stream import Stream
from spa_bench.support.memory import is_out_of_memory
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Completion, Decoding, Key, Member, Request

PROMPTS = [f"def f{i}(nums):\n" + "    # the sum\n" * i for i in range(6)]
BASE = Member("base", None, Decoding())
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to")
REFUSALS = [CPU, MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]


@pytest.fixture
def model(tiny_folder: Any) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


@pytest.fixture
def adapter(model: HFModel, tmp_path: Path) -> Path:
    """A random adapter of one layer."""
    [path, *_] = target_modules(model.network, ["q_proj"])
    layer: Any = model.network.get_submodule(path)
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(4, layer.in_features, generator=generator), torch.randn(layer.out_features, 4, generator=generator)
    write_adapter(Adapter({path: factors}, 4, 8.0), tmp_path / "adapter", base_model="tiny")
    return tmp_path / "adapter"


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
    """Memory for so many rows of a step, or prompts, or tokens of a prompt, at once; it keeps the sizes that were tried."""

    def __init__(self, error: BaseException, *, rows: int = 10**6, prompts: int = 10**6, tokens: int = 10**6):
        self.error, self.rows, self.prompts, self.tokens = error, rows, prompts, tokens
        self.steps: list[int] = []
        self.read: list[int] = []

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        first = ids.shape[1] > 1
        (self.read if first else self.steps).append(len(ids))
        length = int((ids != 0).sum(-1).max())  # 0 is the end token, with which prompts are padded
        if len(ids) > (self.prompts if first else self.rows) or (first and length > self.tokens):
            raise self.error


# memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", REFUSALS, ids=["cpu", "python", "cuda"])
def test_a_batch_that_does_not_fit_is_halved_and_the_texts_are_the_same(error: BaseException, model: HFModel):
    whole = answers(model, requests(), [BASE])
    memory = Small(error, rows=5)
    with watched(model, memory):
        assert answers(model, requests(), [BASE]) == whole
    assert memory.steps[:3] == [18, 9, 4]
    assert set(memory.steps[2:]) == {4}


@pytest.mark.parametrize("error", REFUSALS, ids=["cpu", "python", "cuda"])
def test_fewer_rows_begin_where_their_prompts_do_not_fit(error: BaseException, model: HFModel):
    whole = answers(model, requests(), [BASE])
    memory = Small(error, prompts=1)
    with watched(model, memory):
        assert answers(model, requests(), [BASE]) == whole
    assert max(memory.read) > 1
    assert memory.read[-1] == 1


def test_memory_that_ends_in_the_middle_loses_no_answer_and_draws_none_twice(model: HFModel):
    asked = requests()
    whole = answers(model, asked, [BASE])

    class Later(Small):
        def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
            super().__call__(ids, mask)
            if ids.shape[1] == 1 and len(self.steps) == 6:
                raise self.error

    with watched(model, Later(CPU)):
        assert answers(model, asked, [BASE]) == whole


def test_members_are_decoded_apart_where_one_row_each_does_not_fit(model: HFModel, adapter: Path):
    two = [BASE, Member("adapted", adapter, Decoding())]
    whole = answers(model, requests(2), two)
    memory = Small(CPU, rows=4)
    with watched(model, memory):
        assert answers(model, requests(2), two) == whole
    assert 8 in memory.steps
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


@pytest.mark.usefixtures("four_rows")
def test_a_batch_grows_again_behind_a_request_that_failed(model: HFModel):
    memory = Small(CPU, tokens=len(model.codec.prompt(PROMPTS[4])))
    with watched(model, memory):
        answers(model, requests(draws=1), [BASE])
    assert memory.steps[0] == 5


class ReadingLater(Small):
    """Memory that ends where several prompts are read together behind the first step."""

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        super().__call__(ids, mask)
        if ids.shape[1] > 1 and len(ids) > 1 and self.steps:
            raise self.error


def one_long(answers: int) -> list[Request]:
    """A request with a long answer, and some with short ones that leave it alone in its batch before others begin."""
    asked = [r for r in requests(draws=answers) if r.problem_id == "0"]
    asked = [replace(r, problem_id=str(i), draw=0, prompt=f"def f{i}(nums):\n") for i, r in enumerate(asked)]
    first, *others = (replace(r, decoding=replace(r.decoding, max_new_tokens=5)) for r in asked)
    return [replace(first, prompt=PROMPTS[3], decoding=replace(first.decoding, max_new_tokens=40)), *others]


@pytest.mark.usefixtures("four_rows")
def test_memory_that_ends_while_new_prompts_are_read_fails_no_row_that_was_there(
    model: HFModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Drawer, "_rows_a_group", lambda *_: 4)
    monkeypatch.setattr(model.codec, "ends", frozenset())
    asked = one_long(10)
    whole = answers(model, asked, [BASE])
    memory = ReadingLater(CPU)
    with watched(model, memory):
        assert answers(model, asked, [BASE]) == whole
    assert max(memory.read) > 1


@pytest.mark.usefixtures("four_rows")
def test_what_did_not_fit_are_the_rows_that_began_too(model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Drawer, "_rows_a_group", lambda *_: 16)
    monkeypatch.setattr(model.codec, "ends", frozenset())
    widths: list[int] = []
    made = Stream.__init__
    monkeypatch.setattr(Stream, "__init__", lambda self, *given: widths.append(given[2]) or made(self, *given))
    with watched(model, ReadingLater(CPU)):
        answers(model, one_long(40), [BASE])
    assert widths[:2] == [16, 8]  # one row went on, and fifteen began beside it


def test_another_error_is_not_taken_for_memory(model: HFModel):
    with watched(model, Small(RuntimeError("shapes do not match"), rows=1)), pytest.raises(RuntimeError, match="shapes"):
        answers(model, requests(), [BASE])


@pytest.mark.usefixtures("four_rows")
def test_a_beam_search_that_does_not_fit_is_halved_and_one_that_never_fits_fails(model: HFModel):
    search, asked = BeamSearch(2, 2, 0.5), requests(draws=1)
    whole = {b.request.key: b for b in model.diverse_beams(asked, BASE, search)}
    memory = Small(CPU, rows=9)
    with watched(model, memory):
        assert {b.request.key: b for b in model.diverse_beams(asked, BASE, search)} == whole
    assert memory.read == [6, 4, *[4] * 6]  # six prompts, three, and six times one, padded to four
    with watched(model, Small(CPU, tokens=len(model.codec.prompt(PROMPTS[4])))):
        found = {b.request.key: b for b in model.diverse_beams(asked, BASE, search)}
    [[lost]] = found["5", 0, 0].groups
    assert lost.finish == "failed"
    assert lost.failure.startswith("out of memory with a prompt of ")
    assert {k: b for k, b in found.items() if k.problem != "5"} == {k: b for k, b in whole.items() if k.problem != "5"}


def test_a_beam_search_whose_adapter_does_not_fit_fails_with_that_cause(
    model: HFModel, adapter: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Adapters, "use", full)
    found = list(model.diverse_beams(requests(draws=1), Member("adapted", adapter, Decoding()), BeamSearch(2, 2, 0.5)))
    assert len(found) == len(PROMPTS)
    assert all(group[0].failure.startswith("out of memory") for beams in found for group in beams.groups)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("unable to mmap 538090408 bytes from file <model.safetensors>: Cannot allocate memory (12)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), False),
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
    """The rows of `prompt` get `value` among their logits from the step `after` on; rows are told by their first logits.

    What is read of a prompt before its last token matches no logits.
    """
    ids = model.codec.prompt(prompt)
    with torch.inference_mode():
        mark = model.network(torch.tensor([ids])).logits[0, -1]
    state: dict[str, Any] = {"step": -1}

    def spoil(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        logits = output.logits
        if kwargs["input_ids"].shape[1] > 1 or state["step"] < 0:
            rows = torch.isclose(logits[:, -1], mark, atol=1e-4).all(-1)
            state.update(step=0 if rows.any() else -1, rows=rows)
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
