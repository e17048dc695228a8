"""What a kind refuses, it refuses before anything is trained or written; and the plan knows what it draws."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, Lines, MockModel, sampler_card
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import ModelError, UsageError
from spa_bench.runs.generate import generate
from spa_bench.runs.job import Job, check_draws, load_task
from spa_bench.runs.plan import plan_lines
from spa_bench.samplers.base import any_model, any_n, draws_n, sampler_kind

KINDS = ("oversample-mmr", "oversample-dpp", "diverse-beam", "one-reply")


@pytest.mark.parametrize("kind", ["oversample-mmr", "oversample-dpp"])
def test_more_answers_than_the_pool_are_refused(kind: str):
    card = load_sampler_card(kind, {"options.pool": 6})
    check_draws(card, 6)
    with pytest.raises(UsageError, match=r"n is 7, but .* keeps answers of a pool of 6: choose n between 1 and that"):
        check_draws(card, 7)


def test_more_answers_than_beams_are_refused():
    card = load_sampler_card("diverse-beam", {"options.groups": 3, "options.width": 2})
    check_draws(card, 6)
    with pytest.raises(UsageError, match=r"n is 7, but .* has 3 groups of 2 beams: choose n between 1 and 6"):
        check_draws(card, 7)
    check_draws(load_sampler_card("diverse-beam", {"options.groups": 0}), 50)


@pytest.mark.parametrize(
    ("kind", "settings", "n", "drawn"),
    [
        ("oversample-mmr", {"options.pool": 10}, 4, 10),
        ("oversample-dpp", {"options.pool": 12}, 4, 12),
        ("diverse-beam", {"options.groups": 3, "options.width": 5}, 4, 15),
        ("diverse-beam", {"options.groups": 0, "options.width": 5}, 4, 20),
    ],
)
def test_the_plan_counts_what_is_drawn_and_what_is_kept(kind: str, settings: dict[str, Any], n: int, drawn: int, three: Path):
    card = load_sampler_card(kind, settings)
    task, model = load_task(load_task_card(str(three))), MockModel(lambda r: "")
    [*_, cost] = plan_lines(card, task, model, n=n, seeds=[0, 1], limit=2, embedded=False)
    assert cost.startswith("cost a seed: ")
    assert cost.endswith(f"{2 * drawn} answers, {2 * n} of them kept")
    [*_, plain] = plan_lines(sampler_card(), task, model, n=n, seeds=[0, 1], limit=2, embedded=False)
    assert plain == "cost a seed: no training, 8 answers"


def test_kinds_without_hooks_draw_n():
    kind = sampler_kind("mixture")
    assert (kind.check_n, kind.check_model, kind.drawn) == (any_n, any_model, draws_n)
    assert kind.drawn(sampler_card(), 7) == 7


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("diverse-beam", "needs a model that can search with beams, and 'bare'"),
        ("oversample-mmr", "and 'bare' has none"),
    ],
)
def test_a_model_that_cannot_do_it_is_refused_before_a_folder_is_made(kind: str, message: str, three: Path, tmp_path: Path):
    class Bare(MockModel):
        name = "bare"
        encode_pair = None  # type: ignore[assignment]

    model = Bare(lambda r: "")
    card = load_sampler_card(kind, {"adapters": "none"})
    loaded = load_task_card(str(three))
    if kind == "oversample-mmr":
        model = type("NoTokenizer", (), {k: getattr(MockModel, k) for k in ("describe", "numerics", "generate")})()
        model.name = "bare"  # type: ignore[attr-defined]
    job = Job(sampler=card, task=loaded, n=2, seed=0)
    with pytest.raises(ModelError, match=message):
        generate(job, load_task(loaded), model, out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines())  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_one_reply_of_a_model_without_a_chat_template_is_refused_before_the_plan(run: Call, tmp_path: Path):
    done = run("--sampler", "one-reply", "--n", 2)
    assert "has no chat template, so it cannot be asked in messages" in done.error()
    assert "cost" not in done.err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("attribute", ["build", "KIND"])
def test_the_hooks_of_ones_own_kind_are_called(attribute: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, three: Path):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "hooked.py").write_text(
        "from spa_bench.errors import ModelError, UsageError\n"
        "def build(card, adapters): ...\n"
        "def check_n(card, n):\n    if n > 3: raise UsageError(f'{card.name}: {n} are too many')\n"
        "def check_model(card, model): raise ModelError(f'{model.name} will not do')\n"
        "def drawn(card, n): return 5 * n\n"
        "from spa_bench.samplers.base import SamplerKind\n"
        "KIND = SamplerKind(build=build, check_n=check_n, check_model=check_model, drawn=drawn)\n"
    )
    try:
        card = sampler_card(kind=f"hooked:{attribute}")
        with pytest.raises(UsageError, match="mock-sampler: 4 are too many"):
            check_draws(card, 4)
        loaded = load_task_card(str(three))
        task, model = load_task(loaded), MockModel(lambda r: "")
        with pytest.raises(ModelError, match="mock will not do"):
            generate(
                Job(sampler=card, task=loaded, n=2, seed=0),
                task,
                model,
                out=tmp_path / "runs",
                cache=tmp_path / "cache",
                console=Lines(),
            )  # type: ignore[arg-type]
        [*_, cost] = plan_lines(card, task, model, n=2, seeds=[0], limit=None, embedded=False)
        assert "30 answers, 6 of them kept" in cost
    finally:
        sys.modules.pop("hooked", None)
