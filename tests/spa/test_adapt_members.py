"""Each member learns what it would learn alone, whoever is trained beside it; and what PEFT and a plain loop teach it."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import LoraCard
from spa_bench.errors import ModelError
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import Adapter, Dropout, attach, use_factors
from spa_bench.spa import adapt
from spa_bench.spa.adapt import adapters_at, train_adapters
from spa_bench.spa.batches import encode
from spa_bench.spa.schedule import order, steps_of
from spa_bench.spa.trainee import Trainee
from spa_bench.types import Example

PAIRS = [
    Example(f"def f{i}(nums):\n" + "    # note\n" * (i % 5), f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(20)
]
# 1, 2 and 5 steps for the parts below; the last step of the third has three pairs
CARD = LoraCard(
    rank=3,
    alpha=6.0,
    dropout=0.2,
    targets=("q_proj", "up_proj"),
    steps=0,
    epochs=2.5,
    batch=2,
    accumulation=4,
    learning_rate=5e-3,
    warmup=1,
    clip=0.5,
    weight_decay=0.1,
)
CUTS = (0, 1, 6, 20)
PARTS = [PAIRS[a:b] for a, b in itertools.pairwise(CUTS)]
SEEDS = [3, 4, 5]


def train(model: HFModel, parts: list[list[Example]], seeds: list[int], card: LoraCard = CARD) -> list[Adapter]:
    return train_adapters(model, parts, card, seeds, progress=ignore)


def distance(a: Adapter, b: Adapter) -> float:
    assert a.factors.keys() == b.factors.keys()
    return max(float((a.factors[p][i] - b.factors[p][i]).abs().max()) for p in a.factors for i in (0, 1))


def test_epochs_give_parts_of_unequal_size_unequal_steps_and_a_last_step_that_may_be_short():
    assert [steps_of(len(p), CARD) for p in PARTS] == [1, 2, 5]
    assert [len(step) for step in order([1] * 14, CARD, 0)] == [8, 8, 8, 8, 3]
    assert steps_of(14, replace(CARD, steps=7, epochs=0.0)) == 7


@pytest.mark.parametrize(
    "change",
    [{}, {"dropout": 0.0}, {"steps": 3, "epochs": 0.0}, {"packing": True, "length": 96}, {"loss": "all"}],
    ids=["unequal steps", "no dropout", "equal steps", "packed", "all tokens"],
)
def test_members_in_one_stack_are_those_trained_in_turn(tiny_model: HFModel, change: dict[str, Any]):
    card = replace(CARD, **change)
    together = train(tiny_model, PARTS, SEEDS, card)
    in_turn = train(tiny_model, PARTS, SEEDS, replace(card, together=1))
    alone = [train(tiny_model, [part], [seed], card)[0] for part, seed in zip(PARTS, SEEDS, strict=True)]
    for a, b, c in zip(together, in_turn, alone, strict=True):
        assert distance(a, b) < 1e-4
        assert distance(a, c) < 1e-4
    assert distance(together[0], together[1]) > 1e-2


def test_a_member_that_is_done_does_not_move_while_others_go_on(tiny_model: HFModel):
    card = replace(CARD, weight_decay=10.0)  # what a step on a zero gradient would show by
    snapshots = dict(adapters_at(tiny_model, PARTS, card, SEEDS, [1, 2, 3, 5], progress=ignore))
    for member, last in enumerate((1, 2, 5)):
        moved = [distance(snapshots[a][member], snapshots[b][member]) for a, b in itertools.pairwise(snapshots)]
        ends = [1, 2, 3, 5].index(last)
        assert all(m > 1e-4 for m in moved[:ends])
        assert moved[ends:] == [0.0] * (3 - ends)


def test_a_member_that_is_done_takes_no_more_time_of_the_network(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    memory = Memory(monkeypatch, 3)
    train(tiny_model, PARTS, SEEDS, replace(CARD, batch=4, accumulation=2))  # two batches a step
    assert memory.asked == [3, 3, 2, 2, 1, 1, 1, 1, 1]  # the last step has three pairs: one batch


def test_groups_of_two_give_what_one_stack_gives_and_count_their_steps(tiny_model: HFModel):
    seen: list[tuple[int, int]] = []
    grouped = train_adapters(tiny_model, PARTS, replace(CARD, together=2), SEEDS, progress=lambda *c: seen.append(c))
    assert seen == [(i, 7) for i in range(1, 8)]  # 2 steps of the first two, 5 of the third
    assert all(distance(a, b) < 1e-4 for a, b in zip(grouped, train(tiny_model, PARTS, SEEDS), strict=True))


class Memory:
    """Room for the rows of so many members at once; keeps how many there were each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int):
        self.asked: list[int] = []
        real = adapt._Training._backward

        def backward(training: Any, active: Any, batch: Any, *rest: Any) -> None:
            self.asked.append(len(active))
            if len(active) > room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 EiB")
            real(training, active, batch, *rest)

        monkeypatch.setattr(adapt._Training, "_backward", backward)


FOUR = [PAIRS[i::4] for i in range(4)]


def test_a_group_that_memory_does_not_hold_is_halved_and_begun_anew(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    whole = train(tiny_model, FOUR, [1, 2, 3, 4])
    memory = Memory(monkeypatch, 2)
    halved = train(tiny_model, FOUR, [1, 2, 3, 4])
    assert memory.asked[0] == 4
    assert set(memory.asked[1:]) == {2}
    assert all(distance(a, b) < 1e-4 for a, b in zip(halved, whole, strict=True))


def test_rows_are_halved_where_a_single_member_does_not_fit(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    whole = train(tiny_model, FOUR[:2], [1, 2])
    real, rows = adapt._Training._backward, []

    def backward(training: Any, active: Any, batch: Any, *rest: Any) -> None:
        rows.append(len(batch.ids))
        if len(batch.ids) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 EiB")
        real(training, active, batch, *rest)

    monkeypatch.setattr(adapt._Training, "_backward", backward)
    halved = train(tiny_model, FOUR[:2], [1, 2])
    assert rows[:2] == [4, 2]  # two members, one of them
    assert rows[-1] == 1
    assert all(distance(a, b) < 1e-4 for a, b in zip(halved, whole, strict=True))


def test_the_largest_pass_is_rehearsed_and_leaves_nothing(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    whole = train(tiny_model, PARTS, SEEDS)
    real, sizes = adapt._Training._backward, []

    def backward(training: Any, active: Any, batch: Any, *rest: Any) -> None:
        sizes.append(batch.ids.numel())
        real(training, active, batch, *rest)

    def train_rehearsed(training: Any, members: range, size: int) -> bool:
        group = [Trainee(m, training._rows[m], training._card, training._seeds[m], training._layers) for m in members]
        training._rehearse(group)
        assert all(p.grad is None for t in group for p in t.parameters)
        return bool(plain(training, members, size))

    plain = adapt._Training._train
    monkeypatch.setattr(adapt._Training, "_backward", backward)
    monkeypatch.setattr(adapt._Training, "_train", train_rehearsed)
    assert all(distance(a, b) == 0 for a, b in zip(train(tiny_model, PARTS, SEEDS), whole, strict=True))
    assert sizes[0] == max(sizes)


def test_memory_that_does_not_hold_one_member_is_a_clear_error(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    Memory(monkeypatch, 0)
    with pytest.raises(ModelError, match=r"out of memory while training 1 adapter at once: use .*lora\.batch"):
        train(tiny_model, FOUR, [1, 2, 3, 4])


def test_a_number_of_members_that_the_card_names_is_not_halved(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    Memory(monkeypatch, 2)
    with pytest.raises(ModelError, match=r"out of memory while training 3 adapters at once: use a smaller lora\.together"):
        train(tiny_model, FOUR, [1, 2, 3, 4], replace(CARD, together=3))


def test_how_a_step_is_cut_into_batches_changes_nothing(tiny_model: HFModel):
    [whole], [cut] = (train(tiny_model, [PAIRS], [0], replace(CARD, batch=batch, accumulation=8 // batch)) for batch in (8, 1))
    assert distance(whole, cut) < 1e-4


# dropout -------------------------------------------------------------------------------------------------------------


def test_a_mask_depends_on_its_sample_and_layer_alone():
    x = torch.ones(3, 9, 50)
    mask = Dropout(0.25, (3, 9), [(0, 0, 5, 1), (0, 5, 9, 2), (2, 0, 4, 2)]).mask("a", x)
    assert sorted(mask.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(mask[0, 5:9], mask[2, :4])  # wherever it stands
    assert not torch.equal(mask[0, :4], mask[2, :4])
    assert not torch.equal(mask, Dropout(0.25, (3, 9), [(0, 0, 5, 1), (0, 5, 9, 2), (2, 0, 4, 2)]).mask("b", x))


def test_a_pair_meets_another_mask_each_time_it_is_read(tiny_model: HFModel):
    rows, layers = encode(tiny_model, PAIRS, "pair"), tiny_model.lora_layers(CARD.targets)
    trainees = [Trainee(number, rows, CARD, seed, layers) for number, seed in ((0, 3), (1, 3), (0, 4))]
    first, again, other = ([s.seed for step in range(t.steps) for s in t.samples(step)] for t in trainees)
    assert first == again  # whatever its number is
    assert len({*first, *other}) == len(first) + len(other) == 2 * 50


def test_dropout_keeps_its_share_and_the_mean():
    mask = Dropout(0.3, (1, 400), [(0, 0, 400, 7)]).mask("a", torch.ones(1, 400, 50))
    assert float((mask == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.01)


def test_dropout_is_of_the_adapters_input_and_not_of_the_base():
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=False))
    layers = attach(network, ["0"])
    down, up = torch.randn(1, 2, 6, generator=generator), torch.randn(1, 2, 5, generator=generator)
    x = torch.randn(2, 3, 6, generator=generator)
    dropout = Dropout(0.5, (2, 3), [(0, 0, 3, 1), (1, 0, 3, 2)])
    with torch.no_grad(), use_factors(layers, {"0": down}, {"0": up}, dropout):
        got = network(x)
    wanted = x @ layers["0"].base.weight.T + (x * dropout.mask("0", x)) @ down[0].T @ up[0]
    torch.testing.assert_close(got, wanted)


def test_another_seed_drops_other_inputs(tiny_model: HFModel):
    # one pair, one step: the order is the same, and LoRA's start is put to the same by hand
    card = replace(CARD, epochs=1.0, dropout=0.5)
    start = {s: next(adapters_at(tiny_model, [PAIRS[:1]], card, [s], [0], progress=ignore))[1][0] for s in (0, 1)}
    assert distance(start[0], start[1]) > 1e-3
    [dropped], [not_dropped] = (train(tiny_model, [PAIRS[:1]], [0], replace(card, dropout=d)) for d in (0.5, 0.0))
    assert distance(dropped, not_dropped) > 1e-4


# against PEFT --------------------------------------------------------------------------------------------------------


def peft_trained(folder: Path, model: HFModel, card: LoraCard, seed: int) -> Adapter:
    """The adapter that PEFT, AdamW and a plain loop train from the same start on the same pairs in the same order."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

    base = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    config = LoraConfig(r=card.rank, lora_alpha=int(card.alpha), target_modules=list(card.targets), task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        network = get_peft_model(base, config)
    network.train()
    start = next(adapters_at(model, [PAIRS], card, [seed], [0], progress=ignore))[1][0]
    named = {n.removeprefix("base_model.model."): p for n, p in network.named_parameters() if p.requires_grad}
    for path, (low, _) in start.factors.items():
        named[f"{path}.lora_A.default.weight"].data.copy_(low)
    rows = encode(model, PAIRS, "pair")
    steps = order([len(r.ids) for r in rows], card, seed)
    optimizer = torch.optim.AdamW(named.values(), lr=card.learning_rate, weight_decay=card.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, card.warmup, len(steps))
    norms = []
    for step in steps:
        for i in step:
            row, ids = rows[i], torch.tensor([rows[i].ids])
            labels = ids.clone()
            labels[0, : row.head] = -100
            (network(input_ids=ids, labels=labels).loss / len(step)).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(named.values(), card.clip)))
        # transformers counts its warm-up from a rate of 0, we from the first share of it
        for group in optimizer.param_groups:
            done = schedule.last_epoch
            warm = card.learning_rate * (done + 1) / max(1, card.warmup)
            group["lr"] = warm if done < card.warmup else schedule.get_last_lr()[0]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    assert min(norms) < card.clip < max(norms)  # clipping plays a part, now and then
    pairs = {p: tuple(named[f"{p}.lora_{s}.default.weight"].detach() for s in "AB") for p in start.factors}
    return Adapter(pairs, card.rank, card.alpha)  # type: ignore[arg-type]


def test_an_adapter_is_what_peft_and_a_plain_loop_train(tiny_folder: Path, tiny_model: HFModel):
    card = replace(CARD, dropout=0.0, clip=1.0, warmup=2)
    [mine] = train(tiny_model, [PAIRS], [9], card)
    theirs = peft_trained(tiny_folder, tiny_model, card, 9)
    assert distance(mine, theirs) < 1e-4
    start = next(adapters_at(tiny_model, [PAIRS], card, [9], [0], progress=ignore))[1][0]
    assert distance(mine, start) > 1e-2
    assert math.isclose(mine.scale, 2.0)
