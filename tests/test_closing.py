"""A model is closed once by whoever loaded it, however the work ends, and frees what its engines hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX, Call, InProcessJudge, MockModel, mock_run
from spa_bench.compare.study import making
from spa_bench.errors import DataError
from spa_bench.models.engine import STAGES
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.mock import MockModel as ShippedMock
from spa_bench.models.text import TextModel
from spa_bench.runs import defaults, reopen, stages

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> MockModel:
    """The model that every command loads."""
    loaded = MockModel(lambda request: "    return a + b\n")
    for module in (defaults, reopen, stages):
        monkeypatch.setattr(module, "loaded_with", lambda *_: loaded)
    return loaded


def run(three: Path, tmp_path: Path, *more: object) -> list[object]:
    fixed = ["run", "--sampler", "base", "--task", three, "--n", 2, "--sandbox", SANDBOX, "--out", tmp_path / "runs"]
    return [*fixed, *more]


def test_run_closes_it_once_for_all_seeds_also_where_nothing_is_left_to_do(
    call: Call, three: Path, tmp_path: Path, model: MockModel
):
    assert call(*run(three, tmp_path, "--seeds", "0,1")).code == 0
    assert model.closed == 1
    assert call(*run(three, tmp_path, "--seeds", "0,1")).code == 0
    assert model.closed == 2


def test_run_closes_it_where_it_does_not_suit_the_run(call: Call, three: Path, tmp_path: Path, model: MockModel):
    assert call(*run(three, tmp_path, "--sampler", "diverse-beam")).code == 2
    assert model.closed == 1
    assert model.asked == []


def test_run_closes_it_at_ctrl_c(call: Call, three: Path, tmp_path: Path, model: MockModel):
    model._stop_after = 2
    assert call(*run(three, tmp_path)).code == 130
    assert model.closed == 1


def test_rerun_closes_it_also_where_the_repetition_is_refused(call: Call, three: Path, tmp_path: Path, model: MockModel):
    made = mock_run(tmp_path / "runs", three, MockModel(lambda request: "    return a + b\n"))
    assert call("rerun", made.path, "--sandbox", SANDBOX).code == 0
    assert model.closed == 1
    assert call("rerun", made.path, "--sandbox", SANDBOX).code == 2  # it is there already
    assert model.closed == 2


def test_a_study_and_the_stages_close_it_at_an_error(
    call: Call, three: Path, tmp_path: Path, model: MockModel, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise DataError("pair 3 is empty")

    monkeypatch.setattr(making, "runs_of", fail)
    study = ["study", "main", "--task", three, "--out", tmp_path / "study", "--write", tmp_path, "--seeds", "0"]
    assert call(*study, "--samplers", "single,random", "--sandbox", SANDBOX).error() == "pair 3 is empty"
    assert model.closed == 1
    assert call("spa", "attribute", "--sampler", "spa-influence", "--data", tmp_path / "none.jsonl").code == 2
    assert model.closed == 2


class _Engine:
    """An engine that holds something, and may fail to let it go."""

    can, context = frozenset(STAGES), None

    def __init__(self, name: str, error: Exception | None = None):
        self.name, self._error, self.closed = name, error, 0

    def close(self) -> None:
        self.closed += 1
        if self._error:
            raise self._error


def test_an_engine_that_fails_to_close_keeps_no_other_open():
    engines: list[Any] = [_Engine("a"), _Engine("b", OSError("gone")), _Engine("c")]
    stages_of = dict(zip(STAGES, [*engines, engines[0]], strict=True))
    codec: Any = None
    model = TextModel(name="m", codec=codec, context=9, engines=stages_of)
    with pytest.raises(OSError, match="gone"):
        model.close()
    assert [engine.closed for engine in engines] == [1, 1, 1]


def test_a_model_of_transformers_closes_other_engines_and_leaves_its_weights_where_they_are(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    other: Any = _Engine("other")
    model.use(other, ("draw", "score"))
    monkeypatch.setattr(model.hf, "close", lambda: pytest.fail("the weights were moved"))
    model.close()
    assert other.closed == 1


def test_a_model_without_anything_to_free_can_be_closed():
    ShippedMock().close()


def test_options_that_a_model_elsewhere_cannot_use_are_said_to_have_no_effect(
    call: Call, three: Path, tmp_path: Path, sandbox: InProcessJudge
):
    done = call(*run(three, tmp_path, "--engine", "mock", "--device", "cuda", "--threads", 3))
    assert done.code == 0
    assert "engine mock loads no model here: --device cuda, --threads 3 have no effect\n" in done.err
    done = call(*run(three, tmp_path, "--engine", "mock", "--batch-size", 4))
    assert "engine mock loads no model here: --batch-size 4 has no effect\n" in done.err
    assert "no effect" not in call(*run(three, tmp_path, "--engine", "mock")).err
    assert "no effect" not in call("rerun", next((tmp_path / "runs").iterdir()), "--sandbox", SANDBOX).err
