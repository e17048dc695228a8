"""How the rows of a batch are laid out."""

import pytest
import torch

from spa_bench.models.hf.rows import padded

ROWS = [([5, 6], [7]), ([1] * 15, [2]), ([], [9]), ([3] * 40, [4, 8])]


def test_every_row_begins_at_a_multiple_of_the_block_and_ends_at_the_edge():
    ids, mask = padded(ROWS, block=16)
    assert ids.shape == mask.shape == (4, 48)
    for row, kept, (head, tail) in zip(ids, mask, ROWS, strict=True):
        assert row[kept.bool()].tolist() == [*head, *tail]
        assert row[len(row) - len(tail) :].tolist() == tail
        if head:
            assert int(kept.argmax()) % 16 == 0


@pytest.mark.parametrize("company", [[], ROWS])
def test_a_row_keeps_its_layout_in_any_company(company: list[tuple[list[int], list[int]]]):
    ids, mask = padded([ROWS[0], *company], block=16)
    assert mask[0, -16:].tolist() == [1, 1, *[0] * 13, 1]
    assert ids[0, -16:].tolist() == [5, 6, *[0] * 13, 7]
    assert not mask[0, :-16].any()


def test_a_row_of_a_full_block_still_has_a_masked_column():
    _, mask = padded([ROWS[1]], block=16)
    assert mask.shape == (1, 32)
    assert int(mask.sum()) == 16


def test_without_a_block_rows_are_padded_on_the_left_alone():
    ids, mask = padded(ROWS[:2], block=0)
    assert torch.equal(mask, torch.tensor([[0] * 13 + [1] * 3, [1] * 16]))
    assert ids[0, -3:].tolist() == [5, 6, 7]
