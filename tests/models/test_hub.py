"""Models of the hub: a wrong name, and a hub that does not answer, are one line, and nothing is asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_bench.errors import ModelError
from spa_bench.models.hf import hub
from spa_bench.models.hf.loading import load_network


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


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
