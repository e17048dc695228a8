"""Models of the hub: a wrong name, and a hub that does not answer, are one line, and nothing is asked twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spa_bench.errors import ModelError
from spa_bench.models.hf import hub
from spa_bench.models.hf.loading import hash_here, load_network
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.unloaded import UnloadedModel


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)


def _answering(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    asked: list[str] = []

    def info(self: object, name: str, **options: object) -> None:
        asked.append(name)
        if error is not None:
            raise error

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    return asked


def test_a_hub_that_does_not_answer_is_one_line_and_is_asked_once(online: None, monkeypatch: pytest.MonkeyPatch):
    import torch

    asked = _answering(monkeypatch, ConnectionError("no network"))
    with pytest.raises(ModelError, match=r"^cannot load model 'nobody/nothing': .* and the hub does not answer; give a folder"):
        load_network("nobody/nothing", torch.float32, revision=None, trust_remote_code=False)
    assert asked == ["nobody/nothing"]


def test_a_name_that_is_none_is_refused(online: None, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub.errors import HFValidationError

    _answering(monkeypatch, HFValidationError("Repo id must be in the form 'repo_name' or 'namespace/repo_name'"))
    with pytest.raises(ModelError, match=r"^cannot load model 'a/b/c': there is no such folder here and no such model"):
        hub.only_here("a/b/c", None)


def test_a_folder_and_a_hub_that_answers_are_read_as_they_are(online: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = _answering(monkeypatch, None)
    assert not hub.only_here(str(tmp_path), None)
    assert asked == []
    assert not hub.only_here("some/model", "main")
    assert asked == ["some/model"]


def test_offline_asks_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = _answering(monkeypatch, None)
    assert hub.only_here("some/model", None)
    assert asked == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_what_keeps_the_hub_from_being_asked_is_named(online: None, monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv(variable, "1")
    asked = _answering(monkeypatch, None)
    assert hub.only_here("some/model", None)
    assert asked == []
    assert f"and {variable} is set; give a folder" in str(hub.not_here("some/model"))


@pytest.fixture
def snapshots(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Branch or tag -> the files of its commit, in a hub's cache that is offline: the same weights, other configs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    of_model, found = tmp_path / "models--some--model", dict[str, Path]()
    for revision, commit in (("main", "a" * 40), ("old", "b" * 40)):
        found[revision] = of_model / "snapshots" / commit
        found[revision].mkdir(parents=True)
        for file in tiny_folder.iterdir():
            (found[revision] / file.name).write_bytes(file.read_bytes())
        (of_model / "refs").mkdir(exist_ok=True)
        (of_model / "refs" / revision).write_text(commit)
    config = found["old"] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 1e-3}))
    return found


@pytest.mark.parametrize(("revision", "commit"), [(None, "a" * 40), ("old", "b" * 40), ("b" * 40, "b" * 40)])
def test_a_model_of_the_hub_knows_the_commit_of_its_files(snapshots: dict[str, Path], revision: str | None, commit: str):
    options = HFOptions(device="cpu", threads=1, revision=revision)
    bare = UnloadedModel("some/model", options)
    assert (bare.commit, bare.describe()["hash"]) == (commit, f"commit {commit}")
    assert HFModel("some/model", options).commit == commit


def test_models_of_two_revisions_with_the_same_weights_are_two(snapshots: dict[str, Path]):
    new, old = (HFModel("some/model", HFOptions(device="cpu", threads=1, revision=revision)) for revision in (None, "old"))
    assert new.describe()["hash"] != old.describe()["hash"]


def test_a_model_of_the_hub_with_another_config_is_another_model(tiny_model: HFModel, snapshots: dict[str, Path]):
    """A published config is mended without new weights: another end token, another scale of positions."""
    snapshot = snapshots["main"]

    def hashed(*, code: bool = False) -> str:
        tokenizer = tiny_model.codec.tokenizer
        return hash_here(tiny_model.network, tokenizer, "some/model", commit="a" * 40, code=code)

    (snapshot / "config.json").write_text('{"rope_theta": 10000.0}')
    first = hashed()
    (snapshot / "README.md").write_text("a card")
    (snapshot / "modeling.py").write_text("1")
    assert hashed() == first
    assert (with_code := hashed(code=True)) != first
    (snapshot / "modeling.py").write_text("2")
    assert hashed(code=True) != with_code
    (snapshot / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    second = hashed()
    (snapshot / "config.json").write_text('{"rope_theta": 500000.0}')
    assert len({first, second, hashed()}) == 3


def test_code_of_a_folder_counts_where_it_may_run(tiny_model: HFModel, tiny_folder: Path, tmp_path: Path):
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "modeling.py").write_text("1")

    def hashed(*, code: bool) -> str:
        return hash_here(tiny_model.network, tiny_model.codec.tokenizer, str(tmp_path), commit=None, code=code)

    before = hashed(code=True)
    (tmp_path / "modeling.py").write_text("2")
    assert hashed(code=True) != before
    assert hashed(code=False) == tiny_model.describe()["hash"]
