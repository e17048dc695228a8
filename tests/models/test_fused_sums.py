"""Sums over a large vocabulary by numba: when they are taken, and what is done where numba, or its cache, does not work."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from test_divergence_sums import largest_difference, logits_of, members_of

from spa_bench.metrics.divergence import divergences, of_sums
from spa_bench.models.hf import token_sums


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_polynomials_are_as_near_as_is_said():
    fused = pytest.importorskip("spa_bench.models.hf.fused_sums")
    power, logarithm = (np.array(c, np.float32).astype(float)[::-1] for c in (fused._POWER, fused._LOGARITHM))
    y = np.linspace(-0.5, 0.5, 100_001)
    assert 1e-9 < np.abs((1 + y * np.polyval(power, y)) / 2**y - 1).max() < 2e-8
    y = np.linspace(-1 / 3, 1 / 3, 100_001)
    assert 1e-9 < np.abs(y * np.polyval(logarithm, y) - np.log2(1 + y)).max() < 2.2e-8


def test_large_vocabularies_are_read_by_numba_and_threads_share_the_tokens(two_threads: None, monkeypatch: pytest.MonkeyPatch):
    fused = pytest.importorskip("spa_bench.models.hf.fused_sums")
    logits = logits_of((3, 5, token_sums._FUSED_FROM + 5), 3.0)
    shares = []
    compiled = fused._compiled()

    def counted(share: tuple[int, int], *rest: np.ndarray) -> None:
        shares.append(share[1] - share[0])
        compiled(share, *rest)

    monkeypatch.setattr(fused, "_compiled", lambda: counted)
    found = of_sums(members_of(logits, 2))
    assert sorted(shares) == [2, 3]
    torch.set_num_threads(1)
    alone = of_sums(members_of(logits, 2))
    assert sorted(shares) == [2, 3, 5]
    assert largest_difference(found, alone) == 0
    assert len(compiled.signatures) == 1
    members_of(logits[..., 6:], 2)
    assert len(shares) == 3  # a smaller vocabulary is not


class Broken(types.ModuleType):
    """A package that does not find a library of its own."""

    def __getattr__(self, name: str) -> object:
        raise OSError("Could not find/load shared object file")


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module is imported again in the test, and after it."""
    monkeypatch.delitem(sys.modules, "spa_bench.models.hf.fused_sums", raising=False)
    monkeypatch.delattr("spa_bench.models.hf.fused_sums", raising=False)
    token_sums._fused.cache_clear()
    yield
    token_sums._fused.cache_clear()


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize("numba", [None, Broken("numba")])
def test_without_a_numba_that_works_the_sums_are_torch_s(numba: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "numba", numba)  # None: its import fails
    logits = logits_of((3, 2, token_sums._FUSED_FROM), 3.0)
    logs = logits.double().log_softmax(-1).numpy()
    assert largest_difference(of_sums(members_of(logits, 2)), divergences(logs[:2], base=logs[2])) < 1e-6
    assert token_sums._fused() is None


@pytest.mark.usefixtures("again")
def test_a_numba_that_is_told_to_compile_nothing_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", 1)
    assert token_sums._fused() is None


@pytest.mark.parametrize("error", [RuntimeError("no locator available"), OSError(28, "No space left on device"), EOFError()])
def test_what_was_compiled_need_not_be_kept(error: Exception, monkeypatch: pytest.MonkeyPatch):
    fused = pytest.importorskip("spa_bench.models.hf.fused_sums")

    def njit(*, cache: bool = False, **_: object) -> Callable[[object], Callable[..., str]]:
        def kernel(*_: object) -> str:
            if cache:  # numba reads and writes its files at the first call
                raise error
            return "compiled"

        return lambda _: kernel

    monkeypatch.setattr(fused.numba, "njit", njit)
    fused._compiled.cache_clear()
    assert fused._compiled()() == "compiled"
    fused._compiled.cache_clear()
