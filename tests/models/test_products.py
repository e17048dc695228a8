"""How many rows make a product's row independent of the others: tried on this machine, and on made-up kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spa_bench.models.hf import products

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What was found is found again, and what a made-up kernel gave is forgotten."""
    products._on_this_cpu.cache_clear()
    yield
    products._on_this_cpu.cache_clear()


def from_rows_on(change: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer whose last bits are others from `change` rows on."""
    plain = functional.linear

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        whole = torch.cat([plain(row[None], weight) for row in x])
        return whole * (1 + 1e-6) if len(x) >= change else whole

    monkeypatch.setattr(products.functional, "linear", linear)
    monkeypatch.setattr(products, "_adapters", lambda rows, down, count: products._repeated(rows, count))


@pytest.mark.parametrize(("change", "least"), [(1, 4), (4, 4), (5, 16), (16, 16), (17, 4), (64, 4), (1000, 4)])
def test_a_kernel_that_changes_within_few_rows_makes_a_batch_larger(change: int, least: int, monkeypatch: pytest.MonkeyPatch):
    from_rows_on(change, monkeypatch)
    assert products.least_rows(CPU) == least


def test_so_many_rows_have_the_same_bytes_here_at_any_place():
    least = products.least_rows(CPU)
    assert least in {4, 16}
    weight, rows = torch.randn(192, 576), torch.randn(4, 576)
    alone = functional.linear(rows.repeat(least // 4, 1), weight)[:4]
    for count in (least, least + 1, 3 * least):
        among = functional.linear(rows[torch.arange(count) % 4], weight)
        assert torch.equal(among, alone[torch.arange(count) % 4]), count


def test_the_packed_kernel_counts_too(monkeypatch: pytest.MonkeyPatch):
    plain = products.packed_product(torch.eye(8))
    if plain is None:
        pytest.skip("this build of torch has no packed product")

    def packed(weight: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.cat([x[i : i + 1] @ weight.T for i in range(len(x))]) * (1 + 1e-6 * (len(x) >= 9))

    monkeypatch.setattr(products, "packed_product", packed)
    monkeypatch.setattr(products, "_adapters", lambda rows, down, count: products._repeated(rows, count))
    assert products.least_rows(CPU) == 16


def test_a_gpu_needs_no_more(monkeypatch: pytest.MonkeyPatch):
    from_rows_on(16, monkeypatch)
    assert products.least_rows(torch.device("cuda")) == 4
