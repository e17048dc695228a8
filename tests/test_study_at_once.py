"""Runs of a study at once, where workers hold the model: which wait for which, what an error ends, and the bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.compare.study import runner
from spa_bench.compare.study.at_once import make_at_once
from spa_bench.compare.study.designs import Point
from spa_bench.compare.study.runner import StudyRun, StudySetup, make, runs_of, shares_of
from spa_bench.errors import DataError
from spa_bench.executors.pool import Pool
from spa_bench.models.acts import station
from spa_bench.models.base import Model
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.sharded import ShardedModel
from spa_bench.runs.job import Job, load_task
from spa_bench.support import interrupt
from spa_bench.support.console import Reporter
from workers_here import InThisProcess

BYTES = ("spec.json", "records.jsonl", "divergence.jsonl", "adapters.json", "grades.jsonl", "behaviours.jsonl", "metrics.json")
SECONDS = 10.0  # that a run waits for another one in these tests


class Making:
    """Makes runs, each a word, and notes which are under way together. A run ends when it may."""

    def __init__(self, **fates: Callable[[], bool]):
        self._fates, self._lock = fates, threading.Lock()
        self.begun: list[str] = []
        self.ended: list[str] = []

    def __call__(self, run: str) -> bool:
        with self._lock:
            self.begun.append(run)
        try:
            return self._fates.get(run, lambda: True)()
        finally:
            with self._lock:
                self.ended.append(run)


def alone(run: str) -> frozenset[str]:
    return frozenset()


def quiet() -> Reporter:
    return Reporter(quiet=True)


def test_as_many_runs_as_there_are_workers_are_under_way_at_once():
    both = threading.Barrier(2)  # each waits until the other is under way too
    making = Making(a=lambda: both.wait(SECONDS) >= 0, b=lambda: both.wait(SECONDS) >= 0)
    assert make_at_once(["a", "b", "c"], making, 2, quiet(), shares=alone) == []
    assert making.begun[:2] == ["a", "b"]
    assert sorted(making.ended) == ["a", "b", "c"]


def test_runs_of_other_processes_are_given_back():
    assert make_at_once(list("abcd"), Making(b=lambda: False), 2, quiet(), shares=alone) == ["b"]


def test_a_run_waits_for_one_that_makes_what_it_shares_and_another_takes_its_turn():
    other = threading.Event()

    def end_c() -> bool:
        other.set()
        return True

    making = Making(a1=lambda: other.wait(SECONDS), c=end_c)
    assert make_at_once(["a1", "a2", "a3", "c"], making, 3, quiet(), shares=lambda run: frozenset(run[0])) == []
    assert making.begun[:2] == ["a1", "c"]
    assert making.ended.index("a1") < making.begun.index("a2")


def test_what_was_made_once_is_shared_by_several_at_once():
    both = threading.Barrier(2)
    making = Making(a2=lambda: both.wait(SECONDS) >= 0, a3=lambda: both.wait(SECONDS) >= 0)
    assert make_at_once(["a1", "a2", "a3"], making, 2, quiet(), shares=lambda run: frozenset(run[0])) == []


def test_an_error_begins_no_further_run_and_those_under_way_end(capsys: pytest.CaptureFixture[str]):
    told = threading.Event()

    def fail() -> bool:
        told.set()
        raise DataError("pair 3 is empty")

    making = Making(a=fail, b=lambda: told.wait(SECONDS))
    with pytest.raises(DataError, match=r"^pair 3 is empty$"):
        make_at_once(list("abcd"), making, 2, Reporter(), shares=alone)
    assert sorted(making.ended) == ["a", "b"]
    assert "pair 3 is empty; the other 1 runs under way are finished first" in capsys.readouterr().err


def test_ctrl_c_begins_no_further_run(monkeypatch: pytest.MonkeyPatch):
    def asked() -> bool:
        monkeypatch.setattr(interrupt._asked, "is_set", lambda: True)
        return True

    making = Making(a=asked)
    with pytest.raises(KeyboardInterrupt):
        make_at_once(list("abc"), making, 1, quiet(), shares=alone)
    assert making.begun == ["a"]


def test_a_claim_of_another_machine_that_may_have_ended_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def slept(_: float) -> None:
        raise KeyboardInterrupt

    claim = tmp_path / ".claims" / "run" / ".lock-owner"
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 7, "started": "1"}))
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(runner.time, "sleep", slept)
    run: Any = SimpleNamespace(path=tmp_path / "run", done=False)
    setup: Any = SimpleNamespace(model=None, price=None, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make([run], setup, Reporter())
    said = f"waiting for another process, which makes 1 of these runs; if it is not there any more, remove {claim}\n"
    assert said in capsys.readouterr().err


@pytest.fixture
def jobs(three: Path, tmp_path: Path, bwrap: str) -> list[tuple[Point, Job]]:
    """Runs of adapters on parts at two temperatures, of one adapter and of none, with two seeds."""
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"def f{i}(x):\n", "completion": f"    return x + {i}\n"} for i in range(8)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: dict[str, object] = {"data.examples": str(pairs), "lora.steps": 1, "lora.batch": 2, "lora.together": 1}
    parts = made | {"members": 2, "data.queries": "sample:4"}
    cards = [
        load_sampler_card("spa-influence", parts),
        load_sampler_card("spa-influence", {**parts, "decoding.temperature": 0.5}),
        load_sampler_card("single", made),
        load_sampler_card("base", {}),
    ]
    task = load_task_card(str(three))
    points = [Point("influence", None, card, 2) for card in cards]
    return [
        (point, Job(sampler=point.card, task=task, n=2, seed=seed, sandbox=bwrap, noise_floor=False))
        for seed in (0, 1)
        for point in points
    ]


def load(folder: Path) -> HFModel:
    return HFModel(str(folder), HFOptions(device="cpu", threads=1), name="tiny")


def made(model: Model, jobs: list[tuple[Point, Job]], out: Path) -> dict[str, dict[str, bytes]]:
    """The bytes of the runs of a study of `jobs` by `model`, by folder."""
    setup = StudySetup(
        task=load_task(jobs[0][1].task), model=model, out=out / "runs", cache=out / "cache", workers=1, programs=1
    )
    runs: list[StudyRun] = runs_of(jobs, setup)
    make(runs, setup, quiet())
    assert all(run.done for run in runs)
    return {
        run.path.name: {name: (run.path / name).read_bytes() for name in BYTES if (run.path / name).exists()} for run in runs
    }


@pytest.mark.slow
def test_runs_at_once_have_the_bytes_of_runs_one_after_another(
    jobs: list[tuple[Point, Job]], tiny_model: HFModel, tiny_folder: Path, tmp_path: Path
):
    one = made(tiny_model, jobs, tmp_path / "one")
    assert len(one) == 8
    model = ShardedModel(Pool(InThisProcess(2), partial(station, partial(load, tiny_folder))), sends=True)
    assert made(model, jobs, tmp_path / "two") == one
    model.close()


def test_runs_share_what_the_stage_cache_keeps(jobs: list[tuple[Point, Job]]):
    warm, cold, single, base, later, *_ = (shares_of(StudyRun(point, job, Path())) for point, job in jobs)
    assert warm == cold
    assert len(warm) == 2
    assert len(single) == 1
    assert not single & warm
    assert base == frozenset()
    random = replace(jobs[0][1], sampler=load_sampler_card("spa-random", {"members": 2}))
    assert len(shares_of(StudyRun(jobs[0][0], random, Path()))) == 1  # its parts need no scores
    assert not later & warm
