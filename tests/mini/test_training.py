"""The shipped training script: a run that was stopped resumes to the same bytes, and other settings are refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spa_bench.mini import train as script
from spa_bench.mini.train import Settings, pool, train

SMALL = Settings(steps=6, batch=4, hidden=16, layers=1, heads=2, feed_forward=16, warmup=2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of few documents, which training takes as it is."""
    from spa_bench.mini.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, documents=60)
    return folder


def begun(folder: Path, tokenizer: Path) -> Path:
    folder.mkdir()
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def done(folder: Path, settings: Settings = SMALL, minutes: float = 60.0) -> bool:
    return train(folder, settings, minutes=minutes, device="cpu", threads=1)


def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch):
    whole, pieces = (begun(tmp_path / name, tokenizer) for name in ("whole", "pieces"))
    monkeypatch.setattr(script, "POOL", 2)  # several pools, so that a piece begins within one
    assert done(whole)
    ticks = itertools.count()
    monkeypatch.setattr(script.time, "monotonic", lambda: float(next(ticks)))  # a second each time one looks
    calls = 1
    while not done(pieces, minutes=4 / 60):
        calls += 1
    assert calls > 2
    for name in ("model.safetensors", "training.json", "README.md", "config.json"):
        assert (whole / name).read_bytes() == (pieces / name).read_bytes(), name


def test_the_loss_curve_does_not_depend_on_where_training_stopped(tmp_path: Path, tokenizer: Path):
    training = script.begin(SMALL, "cpu")
    training.step, training.running = 98, [2.0] * 98
    training.save(tmp_path / "state.pt")
    other = script.begin(SMALL, "cpu")
    other.restore(tmp_path / "state.pt", "cpu")
    assert (other.step, other.running) == (98, [2.0] * 98)
    ids, weights = next(script.batches(_loaded(tokenizer), SMALL, 0))
    for _ in range(2):
        script.take_step(other, ids, weights, "cpu")
    assert other.curve == [[100, round((98 * 2.0 + sum(_losses(ids, weights))) / 100, 4)]]
    assert other.running == []


def _losses(ids: torch.Tensor, weights: torch.Tensor) -> list[float]:
    training = script.begin(SMALL, "cpu")
    training.step = 98
    training.curve, training.running = [], []
    found: list[float] = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(float(script.loss_of(training.model, ids, weights).detach()))
        script.take_step(training, ids, weights, "cpu")
    return found


def _loaded(folder: Path):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(str(folder))


def test_a_training_of_other_settings_is_refused(tmp_path: Path, tokenizer: Path):
    folder = begun(tmp_path / "out", tokenizer)
    assert not done(folder, minutes=0.0)
    with pytest.raises(SystemExit, match=r"made with other settings: .*'text': 0\.5.*; use another --out"):
        done(folder, replace(SMALL, text=0.25))


def test_answers_prompts_and_explanations_have_their_weights(tokenizer: Path):
    settings = replace(SMALL, answer_weight=4.0, prompt_weight=0.1, batch=8)
    for share, kinds in ((1.0, {0.0, 0.1, 1.0, 4.0}), (0.0, {0.0, 0.1, 1.0})):
        batches = pool(_loaded(tokenizer), replace(settings, text=share), 0)
        assert {round(float(w), 3) for _, weights in batches for w in weights.unique()} == kinds
        for ids, weights in batches:
            assert ids.shape == weights.shape
            for row in weights.tolist():
                kept = [w for w in row if w]
                order = [w for i, w in enumerate(kept) if i == 0 or w != kept[i - 1]]
                assert [round(w, 3) for w in order] == ([0.1, 4.0, 1.0] if share else [0.1, 1.0])
