"""Passes of so many tokens: of similar length, the longest first, halved where memory ends."""

from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.hf.model import HFModel
from spa_bench.spa.attribution import gradients
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.spa.passes import halves, row_groups, run_within_memory
from spa_bench.types import Example

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n" * (1 + i % 5)) for i in range(30)]
LORA = LoraCard(rank=3, targets=("q_proj", "down_proj"))


def test_groups_hold_every_row_once_and_no_more_padded_tokens_than_asked():
    lengths = [7, 3, 9, 3, 8, 1, 40]
    groups = row_groups(lengths, 18)
    assert groups == [[6], [2, 4], [0, 1], [3, 5]]
    assert all(len(g) * max(lengths[i] for i in g) <= 18 for g in groups[1:])


def test_halves_are_as_equal_as_can_be_and_never_empty():
    assert halves(range(5), 2) == [[0, 1], [2, 3, 4]]
    assert halves(range(3), 8) == [[0], [1], [2]]


class Room:
    """An act that has memory for so many rows at a time."""

    def __init__(self, rows: int):
        self.rows, self.tried, self.done = rows, 0, [[0]][:0]

    def __call__(self, rows: list[int]) -> None:
        self.tried += 1
        if len(rows) > self.rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 EiB")
        self.done.append(rows)


def test_a_group_that_does_not_fit_is_halved_and_later_ones_from_the_start():
    room = Room(2)
    assert run_within_memory([range(8), range(8, 16)], room) == 4
    assert [i for rows in room.done for i in rows] == list(range(16))
    assert room.tried == 1 + 1 + 4 + 4  # eight, four, then pairs alone


def test_a_single_row_that_does_not_fit_is_out_of_memory():
    with pytest.raises(MemoryError, match="a single row"):
        run_within_memory([[0, 1]], Room(0))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(rows: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run_within_memory([[0]], broken)


@pytest.mark.parametrize("curvature", ["identity", "fisher", "datainf", "ekfac"])
@pytest.mark.parametrize("step", ["before", "after"])
def test_scores_are_the_same_when_memory_runs_out_on_the_way(
    curvature: str, step: str, tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch
):
    """Memory ends in front of the backward pass, or when all but one layer is behind it."""
    card = AttributionCard(curvature=curvature, curvature_examples=12)

    def scores() -> Any:
        return scores_at(tiny_model, None, PAIRS, queries=PAIRS[:3], card=card, lora=LORA, seed=1, progress=ignore)

    whole, sizes = scores(), []
    plain = gradients.Point.catch

    def catch(point: Any, batch: Any, sink: Any, **more: Any) -> None:
        seen = 0

        def counted(*given: Any) -> None:
            nonlocal seen
            seen += 1
            if len(batch.indices) > 4 and (step == "before" or seen == 4):
                raise MemoryError
            sink(*given)

        sizes.append(len(batch.indices))
        plain(point, batch, counted, **more)

    monkeypatch.setattr(gradients.Point, "catch", catch)
    np.testing.assert_allclose(scores(), whole, rtol=1e-3, atol=1e-4 * float(np.abs(whole).max()))
    assert max(sizes) > 4
    assert sizes[-1] <= 4


def test_the_longest_pairs_are_tried_first(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    widths = []
    plain = gradients.Point.catch

    def catch(point: Any, batch: Any, sink: Any, **more: Any) -> None:
        widths.append(batch.ids.shape[1])
        assert batch.ids.numel() <= 200
        plain(point, batch, sink, **more)

    monkeypatch.setattr(gradients.Point, "catch", catch)
    monkeypatch.setattr(gradients, "TOKENS", {"cpu": 200})
    scores_at(
        tiny_model,
        None,
        PAIRS,
        queries=PAIRS[:1],
        card=AttributionCard(curvature="identity"),
        lora=LORA,
        seed=1,
        progress=ignore,
    )
    assert len(widths) > 4
    assert widths[1:] == sorted(widths[1:], reverse=True)  # behind the pass of the query


def test_a_pair_that_memory_does_not_hold_alone_is_an_error_that_says_what_to_do(
    tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(gradients.Point, "catch", refuse)
    with pytest.raises(DataError, match="attribution ran out of memory with 1 queries"):
        scores_at(tiny_model, None, PAIRS, queries=PAIRS[:1], card=AttributionCard(), lora=LORA, seed=1, progress=ignore)


def test_gradients_that_the_curvature_took_are_not_computed_again(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.spa.attribution import sample

    rows = 0
    plain = gradients.Point.catch

    def catch(point: Any, batch: Any, sink: Any, **more: Any) -> None:
        nonlocal rows
        rows += len(batch.indices)
        plain(point, batch, sink, **more)

    monkeypatch.setattr(gradients.Point, "catch", catch)
    found, counts = [], []
    for share in (0.25, 0.0):  # of the free memory
        monkeypatch.setattr(sample, "_HELD_SHARE", share)
        for curvature in ("fisher", "datainf"):
            rows = 0
            card = AttributionCard(curvature=curvature, curvature_examples=20)
            found.append(scores_at(tiny_model, None, PAIRS, queries=PAIRS[:2], card=card, lora=LORA, seed=1, progress=ignore))
            counts.append(rows)
    assert counts == [2 + 30, 2 + 30, 2 + 20 + 30, 2 + 20 + 20 + 30]
    assert found[0].tobytes() == found[2].tobytes()
    assert found[1].tobytes() == found[3].tobytes()
