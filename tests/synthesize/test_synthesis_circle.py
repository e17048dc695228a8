"""The full circle from one card: synthesize, attribute, partition, adapt, run; it resumes wherever it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from doubles import SANDBOX
from spa_bench.models.base import Model
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.options import JudgeOptions, RunOptions
from spa_bench.runs.perform import NoFollower, run
from spa_bench.runs.reopen import ModelOptions, load_model
from spa_bench.runs.rerun import RerunOptions, rerun
from spa_bench.support.console import Reporter

SETTINGS = (
    "task.max_new_tokens=8",
    "synthesize.targets=mini-words",
    "synthesize.pairs=24",
    "synthesize.code=parse",
    "synthesize.options.round=16",
    "attribution.method=bm25",
    "lora.steps=1",
    "lora.batch=2",
    "members=2",
)
STAGES = ("synthesis", "attribution", "partition", "training", "generation", "divergence")


class Stopping(Reporter):
    """Interrupts at the end of a stage, as a user would."""

    def __init__(self, at: str):
        super().__init__(quiet=True)
        self._at = at

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        with super().stage(name) as progress:
            yield progress
            if self._at and name.startswith(self._at):
                raise KeyboardInterrupt


class Follower(NoFollower):
    def __init__(self, at: str):
        super().__init__(quiet=True)
        self._at = at

    def reporter(self) -> Reporter:
        return Stopping(self._at)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with closing(load_model("embedded", ModelOptions(threads=1, device="cpu"))) as loaded:
        yield loaded


def circle(out: Path, model: Model, *, stop: str = "", seed: int = 0, grade: bool = False) -> RunFolder:
    options = RunOptions(
        loading=ModelOptions(threads=1, device="cpu"),
        n=2,
        seeds=(seed,),
        limit=2,
        settings=SETTINGS,
        noise_floor=False,
        until="grade" if grade else "generate",
        judge=JudgeOptions(sandbox=SANDBOX, workers=1),
        out=out,
        quiet=True,
    )
    [folder] = run("spa-synth", "mini-code", options, follow=Follower(stop), loaded=model)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("circle")


def cached(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("SPA_BENCH_CACHE", str(cache))


@pytest.mark.slow
def test_it_resumes_at_every_stage(places: Path, monkeypatch: pytest.MonkeyPatch, model: Model):
    cached(monkeypatch, places / "whole-cache")
    whole = circle(places / "whole", model)
    cached(monkeypatch, places / "stopped-cache")
    for stage in STAGES:
        with pytest.raises(KeyboardInterrupt):
            circle(places / "stopped", model, stop=stage)
    resumed = circle(places / "stopped", model)
    for name in ("spec.json", "synthesis.json", "records.jsonl", "divergence.jsonl", "adapters.json"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    made = whole.read_json("synthesis.json")
    assert made is not None
    assert (made["pairs"], made["wanted"], made["compared_with"]) == (24, 24, "120 problems of the task")
    [stage] = (places / "whole-cache" / "stages").glob("synthesis-*")
    assert json.loads((stage / "report.json").read_text()) == made


def test_its_spec_says_what_makes_the_pairs(places: Path, monkeypatch: pytest.MonkeyPatch, model: Model):
    cached(monkeypatch, places / "whole-cache")
    one, other = circle(places / "whole", model), circle(places / "whole", model, seed=1)
    assert one.spec["sampler"]["synthesize"]["method"] == "template"
    assert one.spec["data"]["examples"] == "made by template"
    assert one.spec["data"]["targets_hash"]
    made = [folder.read_json("synthesis.json") for folder in (one, other)]
    assert made[0]["pairs_hash"] != made[1]["pairs_hash"]  # type: ignore[index]  # the seed of the run draws them
    assert {**one.spec, "seed": 1} == other.spec  # seeds are one group


@pytest.mark.slow
def test_it_can_be_repeated(places: Path, monkeypatch: pytest.MonkeyPatch, model: Model):
    cached(monkeypatch, places / "whole-cache")
    folder = circle(places / "whole", model, grade=True)
    _, found = rerun(folder.path, RerunOptions(out=places / "again", judge=JudgeOptions(sandbox=SANDBOX, workers=1)))
    assert found.same
    assert found.spec == ""
