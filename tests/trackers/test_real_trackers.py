"""The packages themselves, without a network: what they keep of a run, and that a run logged twice is one run there.

They are in no extra of the tests; docs/how-to/trackers.md says how to have them beside the tests' environment.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, WRONG, InProcessJudge, mock_run
from spa_bench.publish.trackers.names import original
from spa_bench.publish.trackers.tracking import Tracking
from spa_bench.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's packages


def needs(name: str) -> pytest.MarkDecorator:
    found = importlib.util.find_spec(name)
    return pytest.mark.skipif(
        found is None or found.origin is None, reason=f"no package {name}: pip install 'spa-bench[{name}]'"
    )


@pytest.fixture
def folder(tmp_path: Path, three: Path, sandbox: InProcessJudge, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A finished run; the working folder, where trackers leave their files, is a new one."""
    found = mock_run(tmp_path / "runs", three, lambda r: WRONG if r.draw else RIGHT[r.problem_id])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return found


def log_twice(name: str, folder: RunFolder) -> None:
    """First as a run that stopped, then as one that resumed to its end."""
    for state in ("stopped", "finished"):
        said: list[str] = []
        with Tracking([name], said.append, samples=state == "finished") as told:
            told.begin(folder)
            told.finish(state)  # type: ignore[arg-type]
        assert len(said) == 1, said
        assert said[0].startswith(f"{name}: ")
        assert "logged later" not in said[0]


def estimates(folder: RunFolder) -> dict[str, Any]:
    return {n: e for n, e in folder.read_json("metrics.json")["estimates"].items() if e["value"] is not None}


@needs("mlflow")
def test_mlflow_has_one_run_with_every_metric(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if importlib.util.find_spec("sqlalchemy") is None:
        pytest.skip("mlflow without sqlalchemy and alembic writes to servers alone")
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    log_twice("mlflow", folder)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("spa-bench")
    [run] = client.search_runs([experiment.experiment_id])
    found = {original(name): value for name, value in run.data.metrics.items()}
    assert (run.info.run_name, run.info.status) == (folder.path.name, "FINISHED")
    for name, estimate in estimates(folder).items():
        assert found[name] == pytest.approx(estimate["value"])
        assert found[f"{name}/n"] == estimate["n"]
    assert {"sampler": "mock-sampler", "task": "three", "model": "mock", "seed": "0", "state": "finished"}.items() <= (
        run.data.tags.items()
    )
    assert run.data.params["sampler.decoding.temperature"] == "0.8"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"spec.json", "metrics.json", "records.jsonl"} <= files


@needs("trackio")
def test_trackio_has_one_run_with_every_metric(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    log_twice("trackio", folder)
    import trackio.sqlite_storage as storage

    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    assert storage.SQLiteStorage.get_runs("spa-bench") == [folder.path.name]
    rows = storage.SQLiteStorage.get_logs("spa-bench", folder.path.name)
    for name, estimate in estimates(folder).items():
        assert rows[-1][name] == pytest.approx(estimate["value"])
    assert [row["state"] for row in rows] == ["stopped", "finished"]
    stored = (tmp_path / "trackio" / "artifacts").rglob("blobs/sha256/*/*")
    assert (folder.path / "spec.json").read_bytes() in {blob.read_bytes() for blob in stored}


@needs("wandb")
def test_wandb_offline_writes_files_of_one_id(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    log_twice("wandb", folder)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert {file.name for file in files} == {f"run-{folder.hash}.wandb"}
    # blocks of 32 KB with a head of 7 bytes, in them messages whose values are JSON texts
    data = b"".join(file.read_bytes() for file in files)
    for name, estimate in estimates(folder).items():
        assert name.encode() in data
        assert str(estimate["value"]).encode() in data
    assert b"sampler.decoding.temperature" in data
    assert b"records.jsonl" in data


@needs("wandb")
def test_wandb_without_a_login_is_one_line(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    said: list[str] = []
    with Tracking(["wandb"], said.append) as told:
        told.begin(folder)
        told.finish("finished")
    assert len(said) == 1
    assert said[0].startswith("wandb: not logged in; `wandb login` does that")


@needs("mlflow")
def test_mlflow_without_its_server_is_one_line_within_a_minute(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers
    said: list[str] = []
    with Tracking(["mlflow"], said.append) as told:
        told.begin(folder)
        told.finish("finished")
    assert len(said) == 1
    assert "127.0.0.1" in said[0]
    assert "can be logged later" in said[0]
