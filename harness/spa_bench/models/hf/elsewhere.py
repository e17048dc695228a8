"""The network of a model whose weights are in other processes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from spa_bench.errors import ModelError


class Elsewhere(nn.Module):
    """Stands where a network is expected, and refuses to be one."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Raises ModelError."""
        raise refusal()


def refusal() -> ModelError:
    """The error for work that only the process with the weights can do."""
    return ModelError("this part of SPA cannot use several workers: leave out --executor, --num-workers and --devices")
