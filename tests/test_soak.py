"""The soak (soak.py): it sees what grows, and two cycles of it pass."""

from __future__ import annotations

import gc
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import soak
from spa_bench.spa import footprint

FLAT = soak.Reading(memory=800, descriptors=20, processes=0, server_memory=50, server_descriptors=4, temporary=1)


def test_what_stays_as_it_is_is_flat():
    assert soak.grown([FLAT] * 10) == []


@pytest.mark.parametrize("what", ["descriptors", "processes", "server_descriptors", "temporary"])
def test_one_more_at_the_end_is_growth(what: str):
    more = replace(FLAT, **{what: getattr(FLAT, what) + 1})
    assert soak.grown([FLAT] * 7 + [more] * 3) == [f"{what}: {getattr(FLAT, what)} at first, {getattr(FLAT, what) + 1} at last"]


def test_memory_may_waver_and_not_grow():
    wavers = [replace(FLAT, memory=800 + 30 * (i % 2)) for i in range(20)]
    grows = [replace(FLAT, memory=800 + 10 * i) for i in range(20)]
    assert soak.grown(wavers) == []
    assert soak.grown(grows) == ["memory: 845 at first, 975 at last"]


@pytest.mark.slow  # two minutes on a busy machine
def test_cycles_leave_nothing_and_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("TMPDIR", "SPA_BENCH_CACHE"):
        monkeypatch.setenv(name, "")  # as they were after the test
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(soak, "WARM_UP", 1)
    monkeypatch.setattr(soak, "MEMORY", (0.1, 100.0))
    assert soak.soak(tmp_path, minutes=0, least=3, tell=False) == []


def test_what_an_estimate_looked_at_does_not_stay_in_memory():
    seen: list[weakref.ref[Tensor]] = []

    def run() -> Tensor:
        weight = torch.ones(3, requires_grad=True)
        seen.append(weakref.ref(weight))
        return weight.exp().exp().sum()  # exp keeps its own result for the backward pass

    assert footprint._kept(run, set()) > 0
    gc.collect()
    assert seen[0]() is None
