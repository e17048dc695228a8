"""The stage of the scores: its key, the warm-up that it shares, what a stopped one leaves, attributors of the user's own."""

import errno
import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import Lines, sampler_card
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.training import AttributionCard, LoraCard, concerns
from spa_bench.errors import DataError, StoreError, UsageError
from spa_bench.models.hf.model import HFModel
from spa_bench.spa.attribution import gradients
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import TrainingData
from spa_bench.types import Example

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n") for i in range(40)]
QUERIES = [Example(f"def g{i}(text):\n", f"    return text[{i}]\n") for i in range(3)]
DATA = TrainingData(examples=PAIRS, queries=QUERIES, skipped=0)
CARD = sampler_card(
    "spa",
    members=2,
    adapters="parts",
    lora=LoraCard(rank=2, steps=3, batch=2, targets=("q_proj",)),
    attribution=AttributionCard(curvature="identity"),
)


def with_scores(**changes: Any) -> SamplerCard:
    return replace(CARD, attribution=replace(CARD.attribution, **changes))


def scores(model: HFModel, cache: Path, card: SamplerCard = CARD, console: Any = None) -> Path:
    return Stages(card, DATA, model, seed=0, cache=cache, console=console or Lines()).attribute()


def test_another_curvature_at_the_same_checkpoints_trains_nothing_again(tiny_model: HFModel, tmp_path: Path):
    lines = Lines()
    first = scores(tiny_model, tmp_path, with_scores(checkpoints=(1, 3)), lines)
    assert set(lines.stages) == {"warm-up", "attribution (influence)"}
    again = Lines()
    second = scores(tiny_model, tmp_path, with_scores(checkpoints=(1, 3), curvature="fisher"), again)
    assert again.stages == ["attribution (influence)"]
    assert first != second
    assert sorted(p.name for p in next(tmp_path.glob("warm-up-*")).glob("step-*")) == ["step-1", "step-3"]


def test_scores_after_a_warm_up_are_not_those_of_the_start(tiny_model: HFModel, tmp_path: Path):
    start, later = (np.load(scores(tiny_model, tmp_path, with_scores(checkpoints=c)) / "scores.npy") for c in ((0,), (3,)))
    assert not np.allclose(start, later, rtol=1e-2)


def test_a_checkpoint_behind_the_end_of_the_warm_up_is_refused(tiny_model: HFModel, tmp_path: Path):
    with pytest.raises(DataError, match=r"attribution.checkpoints has 4, but the warm-up ends after 3 steps"):
        scores(tiny_model, tmp_path, with_scores(checkpoints=(1, 4)))


@pytest.mark.parametrize(
    ("method", "idle", "busy"),
    [
        ("bm25", {"curvature": "lissa", "damping": 9.0, "encoder": "other"}, {"variant": "okapi"}),
        ("influence", {"variant": "okapi", "encoder": "other", "depth": 7, "core": "pca", "damping": 9.0}, {"normalize": True}),
        ("random", {"damping": 9.0, "variant": "okapi"}, {"method": "bm25"}),
    ],
)
def test_only_keys_that_the_method_reads_make_other_scores(
    method: str, idle: dict[str, Any], busy: dict[str, Any], tiny_model: HFModel, tmp_path: Path
):
    plain = with_scores(method=method)
    folder = scores(tiny_model, tmp_path, plain)
    assert scores(tiny_model, tmp_path, with_scores(method=method, **idle)) == folder
    assert scores(tiny_model, tmp_path, with_scores(**{"method": method, **busy})) != folder


def test_the_order_of_checkpoints_makes_no_other_scores(tiny_model: HFModel, tmp_path: Path):
    first = scores(tiny_model, tmp_path, with_scores(checkpoints=(2, 0)))
    assert scores(tiny_model, tmp_path, with_scores(checkpoints=(0, 2))) == first


def test_the_keys_of_lissa_core_and_projection_count_where_they_are_used():
    assert {"depth", "repeats", "scale", "lissa_batch"} <= concerns(AttributionCard(curvature="lissa"))
    assert {"core", "dimensions"} <= concerns(AttributionCard(features="core"))
    assert "dimensions" in concerns(AttributionCard(features="projection"))
    assert not {"depth", "core", "dimensions", "factors", "draws"} & concerns(AttributionCard())
    assert {"damping", "damping_kind", "curvature_examples"} <= concerns(AttributionCard())
    assert {"factors", "draws"} <= concerns(AttributionCard(curvature="ekfac"))
    assert "curvature_examples" in concerns(AttributionCard(curvature="identity", features="core", core="pca"))


class Stopping(Lines):
    """Interrupts the attribution after some passes; `seen` are the numbers that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        def progress(done: int, total: int) -> None:
            self.seen.append(done)
            if total // 2 < done < total:  # half of it is the curvature's
                raise KeyboardInterrupt

        yield progress


def test_a_stopped_attribution_goes_on_in_its_stage_to_the_same_bytes(
    tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gradients, "TOKENS", {"cpu": 300})  # several passes
    stopping = Stopping()
    whole = scores(tiny_model, tmp_path / "whole", with_scores(curvature="fisher"))
    with pytest.raises(KeyboardInterrupt):
        scores(tiny_model, tmp_path / "stopped", with_scores(curvature="fisher"), stopping)
    kept = sorted(p.name for p in (tmp_path / "stopped").glob(".scores-*/kept/*"))
    assert kept == ["step-0.rows", "step-0.safetensors"]
    rows: list[int] = []

    class Counting(Lines):
        @contextmanager
        def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
            yield lambda done, total: rows.append(done)

    resumed = scores(tiny_model, tmp_path / "stopped", with_scores(curvature="fisher"), Counting())
    assert (resumed / "scores.npy").read_bytes() == (whole / "scores.npy").read_bytes()
    assert rows[:2] == [0, stopping.seen[-1]]  # the curvature and the passes before the stop were there
    assert 40 < stopping.seen[-1] < 80 == rows[-1]
    assert not (resumed / "kept").exists()


OWN = """
import numpy as np

class Lengths:
    def scores(self, examples, queries, *, progress, kept=None):
        columns = range(1, len(queries) + 1 - {missing})
        return np.array([[len(e.completion) * j for j in columns] for e in examples], np.float32)

def build(setting):
    return Lengths()
"""


def test_an_attributor_of_the_users_own_is_named_on_the_card(
    tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own_scores.py").write_text(OWN.format(missing=0))
    monkeypatch.syspath_prepend(str(tmp_path))
    card = with_scores(method="own_scores:build")
    folder = scores(tiny_model, tmp_path / "c", card)
    assert np.load(folder / "scores.npy")[:, 1].tolist() == [2.0 * len(p.completion) for p in PAIRS]
    other = replace(card, lora=replace(card.lora, rank=4))  # its setting has the table [lora]
    assert scores(tiny_model, tmp_path / "c", other) != folder
    before = DATA.describe(card)["scores"]
    (tmp_path / "own_scores.py").write_text(OWN.format(missing=0) + "# changed\n")
    assert DATA.describe(card)["scores"] != before
    assert "scores" not in DATA.describe(CARD)


def test_scores_of_the_wrong_shape_are_refused(tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "short_scores.py").write_text(OWN.format(missing=1))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"'short_scores:build' gave scores \(40, 2\) instead of \(40, 3\)"):
        scores(tiny_model, tmp_path / "c", with_scores(method="short_scores:build"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise OSError('gone')", "attribution.method 'failing_scores:build' failed: OSError: gone"),
        ("return 7", "failed: AttributeError: 'int' object has no attribute 'scores'"),
        ("return type('A', (), {'scores': lambda *a, **k: [['x'] * 3] * 40})()", "failed: ValueError: could not convert"),
    ],
)
def test_what_an_attributor_of_the_users_own_raises_is_one_line(
    body: str, message: str, tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "failing_scores.py").write_text(f"def build(setting):\n    {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "failing_scores", raising=False)
    with pytest.raises(UsageError, match=re.escape(message)):
        scores(tiny_model, tmp_path / "c", with_scores(method="failing_scores:build"))


def test_bm25_draws_nothing_so_every_seed_shares_its_scores(tiny_model: HFModel, tmp_path: Path):
    folders = {
        Stages(with_scores(method="bm25"), DATA, tiny_model, seed=seed, cache=tmp_path, console=Lines()).attribute()
        for seed in (0, 1)
    }
    assert len(folders) == 1
    folders = {
        Stages(with_scores(method="random"), DATA, tiny_model, seed=seed, cache=tmp_path, console=Lines()).attribute()
        for seed in (0, 1)
    }
    assert len(folders) == 2


@pytest.mark.parametrize(
    ("method", "package"),
    [("bm25", "rank-bm25"), ("embedding", "scikit-learn"), ("random", "")],
    ids=["bm25", "tf-idf", "random"],
)
def test_another_version_of_the_library_that_counts_makes_other_scores(
    method: str, package: str, tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    card = with_scores(method=method)
    folder, real = scores(tiny_model, tmp_path, card), importlib.metadata.version
    changed = {"rank-bm25", "scikit-learn"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name in changed else real(name))
    assert (scores(tiny_model, tmp_path, card) != folder) == bool(package)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name in changed - {package} else real(name))
    assert scores(tiny_model, tmp_path, card) == folder  # the libraries of other methods


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write the stage cache CACHE: No space left on device; make"),
        (OSError(errno.EACCES, "Permission denied", "CACHE/x"), "cannot write the stage cache CACHE: Permission denied; make"),
        (OSError(errno.ENOENT, "No such file or directory", "/words.txt"), "scores: /words.txt: No such file or directory"),
        (OSError("Can't load the model for 'a/b'"), "scores: Can't load the model for 'a/b'"),
    ],
)
def test_an_error_of_the_system_says_what_could_not_be_done(
    error: OSError, message: str, tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from spa_bench.spa.attribution.bm25 import BM25Attributor

    def fail(*_: object, **__: object) -> None:
        if error.filename:
            error.filename = error.filename.replace("CACHE", str(tmp_path))
        raise error

    monkeypatch.setattr(BM25Attributor, "scores", fail)
    with pytest.raises(StoreError, match="^" + re.escape(message.replace("CACHE", str(tmp_path)))):
        scores(tiny_model, tmp_path, with_scores(method="bm25"))
