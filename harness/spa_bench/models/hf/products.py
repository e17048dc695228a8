"""From how many rows on the bytes of a product's row do not depend on how many rows there are: a CPU's kernels decide it.

A library of matrix products takes one kernel for few rows and another for many, and these add in other orders. Where the change
lies depends on the CPU: at 4 rows on many, at 16 on others. So products are tried, on the machine itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from spa_bench.models.hf.packed import packed_product

LEAST = 4
"""The fewest rows in a product, where it is a GPU's or where no number of rows is enough."""

_TRIED = (LEAST, 16)  # numbers of rows that may be enough
_ROWS = (4, 5, 6, 8, 12, 16, 17, 24, 33, 64)  # at which products are compared
_SHAPES = ((64, 8), (128, 8), (384, 128), (576, 192), (1536, 576), (2048, 512))  # inputs and outputs of a layer


def least_rows(device: torch.device) -> int:
    """The fewest rows a member in every product on `device`, so that what is drawn does not depend on the others in a batch."""
    return _on_this_cpu(torch.get_num_threads()) if device.type == "cpu" else LEAST


@cache
def _on_this_cpu(threads: int) -> int:
    """See least_rows; some 20 ms, once for each number of threads, which the products take from torch."""
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        products = [product for shape in _SHAPES for product in _products(*shape, generator)]
        return next((least for least in _TRIED if all(_are_alike(product, least) for product in products)), LEAST)


def _products(inputs: int, outputs: int, generator: torch.Generator) -> list[partial[Tensor]]:
    """A layer, one with packed weights, and two stacked adapters, as functions of a number of rows: each reads four in turn.

    The results are (..., rows, out).
    """
    weight = torch.randn(outputs, inputs, generator=generator)
    rows, of_two = torch.randn(4, inputs, generator=generator), torch.randn(2, 4, inputs, generator=generator)
    down = torch.randn(2, 8, inputs, generator=generator)
    packed = packed_product(weight)
    layers = [partial(_layer, rows, weight)] + ([partial(_packed, rows, packed)] if packed else [])
    return [*layers, partial(_adapters, of_two, down)]


def _layer(rows: Tensor, weight: Tensor, count: int) -> Tensor:
    return functional.linear(_repeated(rows, count), weight)


def _packed(rows: Tensor, product: Callable[[Tensor], Tensor], count: int) -> Tensor:
    return product(_repeated(rows, count))


def _adapters(rows: Tensor, down: Tensor, count: int) -> Tensor:
    return torch.bmm(_repeated(rows, count), down.mT)


def _repeated(rows: Tensor, count: int) -> Tensor:
    """`count` rows, (..., count, in): the four of `rows` in turn."""
    return rows[..., torch.arange(count) % rows.shape[-2], :]


def _are_alike(product: partial[Tensor], least: int) -> bool:
    """Whether a row has the same bytes among `least` rows and among more, at every place."""
    first = product(least)[..., :4, :]
    return all(torch.equal(product(count), _repeated(first, count)) for count in _ROWS if count >= least)
