"""Adapters after given steps, and trainings that were stopped: the same bytes wherever that was."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from doubles import ignore
from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, initial_down
from spa_bench.spa import adapt, checkpoint
from spa_bench.spa.adapt import adapters_at, train_adapters
from spa_bench.types import Example

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(14)]
PARTS = [PAIRS[a:b] for a, b in itertools.pairwise((0, 2, 5, 14))]
SEEDS = [3, 4, 5]
# 1, 2 and 5 steps
CARD = LoraCard(
    rank=2, alpha=4.0, dropout=0.2, targets=("q_proj",), steps=0, epochs=2.0, batch=2, accumulation=2, learning_rate=5e-3
)
WANTED = [0, 1, 2, 4]
Snapshots = list[tuple[int, list[Adapter]]]


def snapshots(model: HFModel, keep: Path | None = None, *, card: LoraCard = CARD, progress: Any = ignore) -> Snapshots:
    return list(adapters_at(model, PARTS, card, SEEDS, WANTED, progress=progress, keep=keep))


def assert_equal(mine: Snapshots, theirs: Snapshots) -> None:
    assert [s for s, _ in mine] == [s for s, _ in theirs]
    for (_, a), (_, b) in zip(mine, theirs, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.factors.keys() == y.factors.keys()
            assert all(torch.equal(f, g) for p in x.factors for f, g in zip(x.factors[p], y.factors[p], strict=True))
            assert (x.rank, x.alpha) == (y.rank, y.alpha) == (2, 4.0)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(adapt, "_CHECKPOINT_SECONDS", 0.0)


class Stop:
    """Progress of a process that is killed when so many steps have been told of."""

    def __init__(self, after: int):
        self._left = after

    def __call__(self, done: int, total: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt


# which steps ---------------------------------------------------------------------------------------------------------


def test_after_no_step_an_adapter_is_loras_start(tiny_model: HFModel):
    (step, start), *_ = snapshots(tiny_model)
    assert step == 0
    for adapter, seed in zip(start, SEEDS, strict=True):
        generator = torch.Generator().manual_seed(seed)
        for low, high in adapter.factors.values():
            assert torch.equal(low, initial_down(64, 2, generator))
            assert not high.any()


def test_adapters_after_some_steps_are_those_of_a_training_of_so_many(tiny_model: HFModel):
    card = replace(CARD, epochs=0.0, steps=8, schedule="constant", warmup=0)
    found = list(adapters_at(tiny_model, PARTS, card, SEEDS, [4, 8], progress=ignore))
    for step, adapters in found:
        trained = train_adapters(tiny_model, PARTS, replace(card, steps=step), SEEDS, progress=ignore)
        assert_equal([(step, adapters)], [(step, trained)])
    assert not torch.equal(*(adapters[0].factors["model.layers.0.self_attn.q_proj"][1] for _, adapters in found))


def test_the_last_step_is_what_train_adapters_gives(tiny_model: HFModel):
    trained = train_adapters(tiny_model, PARTS, CARD, SEEDS, progress=ignore)
    assert_equal(list(adapters_at(tiny_model, PARTS, CARD, SEEDS, [5], progress=ignore)), [(5, trained)])


def test_no_more_steps_are_made_than_are_wanted(tiny_model: HFModel):
    seen: list[tuple[int, int]] = []
    list(adapters_at(tiny_model, PARTS, CARD, SEEDS, [0, 2], progress=lambda *c: seen.append(c)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("steps", [[], [2, 1], [1, 1], [-1], [3, 6]], ids=str)
def test_steps_that_cannot_be_are_refused(tiny_model: HFModel, steps: list[int]):
    with pytest.raises(DataError, match=r"adapters after \[.*\] steps of 5 cannot be had; give ascending numbers up to 5"):
        next(adapters_at(tiny_model, PARTS, CARD, SEEDS, steps, progress=ignore))


# stopped and resumed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [0, 2, 1])
def test_a_training_goes_on_to_the_same_bytes_wherever_it_was_stopped(
    tiny_model: HFModel, tmp_path: Path, at_once: None, together: int
):
    card = replace(CARD, together=together)
    whole = snapshots(tiny_model, card=card)
    total = {0: 4, 2: 6, 1: 7}[together]
    for after in range(total):
        keep = tmp_path / str(after) / "state.safetensors"
        keep.parent.mkdir()
        with pytest.raises(KeyboardInterrupt):
            snapshots(tiny_model, keep, card=card, progress=Stop(after))
        told: list[int] = []
        assert_equal(snapshots(tiny_model, keep, card=card, progress=lambda done, _, told=told: told.append(done)), whole)
        # the step that was done when it was killed is done again, unless it was the last of its group
        assert len(told) in {total - after, total - after - 1}
        assert told == list(range(total + 1 - len(told), total + 1))


def test_a_training_that_is_stopped_again_and_again_arrives(tiny_model: HFModel, tmp_path: Path, at_once: None):
    keep, card = tmp_path / "state.safetensors", replace(CARD, together=2)
    for _ in range(20):
        try:
            found = snapshots(tiny_model, keep, card=card, progress=Stop(2))
            break
        except KeyboardInterrupt:
            continue
    assert_equal(found, snapshots(tiny_model, card=card))


def test_a_finished_training_is_read_and_not_repeated(tiny_model: HFModel, tmp_path: Path):
    keep = tmp_path / "state.safetensors"
    first = snapshots(tiny_model, keep)
    assert_equal(snapshots(tiny_model, keep, progress=Stop(0)), first)


def test_a_snapshot_that_is_gone_or_torn_is_made_again(tiny_model: HFModel, tmp_path: Path, at_once: None):
    keep = tmp_path / "state.safetensors"
    first = snapshots(tiny_model, keep)
    files = sorted(p for p in tmp_path.iterdir() if p != keep)
    assert [p.name for p in files] == [f"state.safetensors.0-3.{s}" for s in WANTED]
    for file, damage in itertools.product(files, (Path.unlink, lambda f: f.write_bytes(f.read_bytes()[:-9]))):
        damage(file)
        assert_equal(snapshots(tiny_model, keep), first)


@pytest.mark.parametrize("other", ["card", "seeds", "parts", "steps"])
def test_nothing_is_taken_from_another_training(tiny_model: HFModel, tmp_path: Path, at_once: None, other: str):
    keep = tmp_path / "state.safetensors"
    changed: dict[str, Any] = {"parts": PARTS, "card": CARD, "seeds": SEEDS, "steps": WANTED}
    changed[other] = {
        "card": replace(CARD, clip=0.5),
        "seeds": [3, 4, 6],
        "parts": [PARTS[1], PARTS[0], PARTS[2]],
        "steps": [0, 2, 3],
    }[other]
    list(adapters_at(tiny_model, **changed, progress=ignore, keep=keep))
    assert_equal(snapshots(tiny_model, keep), snapshots(tiny_model))


def test_nothing_is_taken_from_a_training_over_another_model(tiny_model: HFModel, tiny_folder: Path, tmp_path: Path):
    folder, keep = tmp_path / "other", tmp_path / "state.safetensors"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(str(folder / "model.safetensors"))
    save_file({name: 2 * w for name, w in weights.items()}, str(folder / "model.safetensors"), metadata={"format": "pt"})
    snapshots(HFModel(str(folder), HFOptions(device="cpu", threads=1), name="tiny"), keep)
    assert_equal(snapshots(tiny_model, keep), snapshots(tiny_model))


def test_a_group_that_was_halved_goes_on_halved(
    tiny_model: HFModel, tmp_path: Path, at_once: None, monkeypatch: pytest.MonkeyPatch
):
    real, room = adapt._Training._backward, 2

    def backward(training: Any, active: Any, batch: Any, *rest: Any) -> None:
        if len(active) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        real(training, active, batch, *rest)

    monkeypatch.setattr(adapt._Training, "_backward", backward)
    whole = snapshots(tiny_model)
    keep = tmp_path / "state.safetensors"
    for after in range(7):
        checkpoint.clear(keep)
        room = 2
        with pytest.raises(KeyboardInterrupt):
            snapshots(tiny_model, keep, progress=Stop(after))
        room = 2 if after < 2 else 3  # there is more memory now: where a group had begun it is as it was
        assert_equal(snapshots(tiny_model, keep), whole)


def test_clearing_removes_what_a_training_left_and_nothing_else(tiny_model: HFModel, tmp_path: Path, at_once: None):
    keep = tmp_path / "state.safetensors"
    (tmp_path / "state.safetensors.txt").write_text("mine")
    snapshots(tiny_model, keep, card=replace(CARD, together=1))
    assert len(list(tmp_path.iterdir())) == 1 + 1 + 3 * 4
    for half in ("state.new", "state.safetensors.0-1.new"):  # of processes that were killed while they wrote
        (tmp_path / half).write_text("half")
    checkpoint.clear(keep)
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors.txt"]
    checkpoint.clear(keep)


def test_without_a_place_to_keep_them_nothing_is_written(tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    snapshots(tiny_model)
    assert list(tmp_path.iterdir()) == []
