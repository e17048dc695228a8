"""SoftSRV as a method: training, early stopping, resuming, files, drafts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import MockModel, ignore
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.mini.data import MODEL
from spa_bench.mini.world import draw_pipeline
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.soft_prompt import SoftPrompts
from spa_bench.models.mock import MockModel as Mock
from spa_bench.spa.synthesize.base import Draft, Setting
from spa_bench.spa.synthesize.filters import Limits
from spa_bench.spa.synthesize.softsrv import KIND, nll, training
from spa_bench.spa.synthesize.softsrv.drawing import draw_z
from spa_bench.spa.synthesize.softsrv.encoding import fit_encoder
from spa_bench.spa.synthesize.softsrv.method import FOLDER, SoftSRV
from spa_bench.spa.synthesize.softsrv.options import FORMS, SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.saving import load_prompt
from spa_bench.spa.synthesize.softsrv.training import split_targets
from spa_bench.spa.synthesize.stage import Order, _recipe
from spa_bench.support.files import put
from spa_bench.types import Example

SMALL = SoftSRVOptions(length=4, hidden=8, steps=6, batch=4, every=2, warmup=2, learning_rate=0.3, round=6, max_new_tokens=24)


def family(count: int) -> list[Example]:
    """Pairs of one task family: single steps over a list, each as one expression."""
    rng = random.Random("softsrv")
    tasks = [t for t in (draw_pipeline(rng, level=1) for _ in range(20 * count)) if "one-line" in t.styles()]
    return [Example(t.prompt, t.solution("one-line", rng)) for t in tasks[:count]]


TARGETS = family(12)


def method(model: Any, options: SoftSRVOptions = SMALL, targets: list[Example] = TARGETS, seed: int = 5) -> SoftSRV:
    made = KIND.build(Setting(card=SynthesisCard(method="softsrv", options=options), model=model, targets=targets, seed=seed))
    assert isinstance(made, SoftSRV)
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def embedded() -> HFModel:
    return HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")


TRAINED = replace(SMALL, steps=16, every=4, length=6)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a form that is trained with TRAINED on the embedded model: the first test that needs it trains it."""
    root = tmp_path_factory.mktemp("trained")
    return lambda form: root / form


@pytest.mark.parametrize("form", ["nsp", pytest.param("mpk", marks=pytest.mark.slow), "mc"])
def test_training_lowers_the_held_out_loss_and_leaves_the_model_as_it_was(
    form: str, embedded: HFModel, kept: Callable[[str], Path]
):
    before = {name: tensor.clone() for name, tensor in embedded.network.state_dict().items()}
    made = method(embedded, replace(TRAINED, form=form), family(24))
    kept(form).mkdir(exist_ok=True)
    ready = made.prepare(progress=ignore, kept=kept(form))
    facts: Any = ready.facts
    assert facts["nats_per_token"]["trained"] < 0.9 * facts["nats_per_token"]["start"]
    assert (facts["targets"], facts["held_out"], facts["layout"]) == (21, 3, "code")
    after = embedded.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and not p.requires_grad for p in embedded.network.parameters())
    soft, texts = SoftPrompts(embedded), [e.prompt + e.completion for e in family(30)[24:]]
    behind = nll.own_nll(soft, ready.prompt, texts)
    z = ready.prompt.z(soft, [e.prompt + e.completion for e in family(3)])
    mixed = nll.mixture_nll(soft, ready.prompt, texts, z)
    assert behind.nats.shape == mixed.nats.shape == (6,)
    each = np.stack([nll.mixture_nll(soft, ready.prompt, texts, one[None]).nats for one in z])
    np.testing.assert_allclose(mixed.nats, -np.log(np.exp(-each).mean(0)), rtol=1e-6)
    assert (z.shape[1] == 0) == (form == "nsp") == bool(np.allclose(behind.nats, mixed.nats))
    assert (nll.model_nll(embedded, texts).tokens == behind.tokens).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_training_that_was_stopped_gives_the_same_bytes(
    form: str, tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = replace(SMALL, form=form)
    whole = method(tiny_model, options).prepare(progress=ignore, kept=tmp_path / "whole")
    again = method(tiny_model, options)
    kept = tmp_path / "again"
    kept.mkdir()

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    saved: list[int] = []
    monkeypatch.setattr(training, "put", lambda path, content: (saved.append(1), put(path, content))[1])
    with pytest.raises(KeyboardInterrupt):
        again.prepare(progress=stop, kept=kept)
    assert len(saved) == 2
    steps: list[int] = []
    resumed = method(tiny_model, options).prepare(progress=lambda done, total: steps.append(done), kept=kept)
    assert resumed.facts == whole.facts
    assert steps[0] == 3  # two steps were done and kept
    assert files(kept / FOLDER) == files(tmp_path / "whole" / FOLDER)
    assert [p.name for p in kept.iterdir()] == [FOLDER]
    drafts = list(whole.round(1, []))
    assert list(resumed.round(1, [])) == drafts
    finished: list[int] = []
    third = method(tiny_model, options).prepare(progress=lambda done, total: finished.append(done), kept=kept)
    assert third.facts == whole.facts
    assert finished == []  # what is trained is not trained again
    assert list(third.round(1, [])) == drafts
    other = method(tiny_model, options, seed=6)
    other.prepare(progress=lambda done, total: finished.append(done), kept=kept)
    assert len(finished) >= SMALL.steps  # another seed is another training
    assert files(kept / FOLDER) != files(tmp_path / "whole" / FOLDER)


def test_a_round_depends_on_the_seed_and_its_number_and_drafts_on_no_company(tiny_model: HFModel, tmp_path: Path):
    made = method(tiny_model).prepare(progress=ignore, kept=tmp_path)
    first = list(made.round(0, []))
    assert len(first) == 6
    assert list(made.round(0, TARGETS)) == first
    assert [d.text for d in made.round(1, [])] != [d.text for d in first]
    few = method(tiny_model, replace(SMALL, round=2))
    again = few.prepare(progress=lambda done, total: pytest.fail("trained again"), kept=tmp_path)
    assert list(again.round(0, [])) == first[:2]


def test_a_draft_has_a_pair_or_says_why_not(embedded: HFModel, kept: Callable[[str], Path]):
    kept(TRAINED.form).mkdir(exist_ok=True)  # trained already where the tests before have run
    made = method(embedded, replace(TRAINED, round=16, max_new_tokens=90), family(24))
    drafts: list[Draft] = list(made.prepare(progress=ignore, kept=kept(TRAINED.form)).round(0, []))
    assert all((d.example is None) == bool(d.failure) for d in drafts)
    assert all(d.example.prompt + d.example.completion == d.text for d in drafts if d.example)
    pairs = [d for d in drafts if d.example]
    assert pairs
    assert all(0 < d.tokens <= 90 and d.source.startswith("target ") for d in drafts)
    short = method(embedded, replace(TRAINED, round=4, max_new_tokens=3), family(24))
    cut = short.prepare(progress=lambda done, total: pytest.fail("trained again"), kept=kept(TRAINED.form))
    assert {d.failure for d in cut.round(0, [])} == {"did not end within the most new tokens"}


def test_early_stopping_keeps_the_best_state(tiny_model: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = replace(SMALL, form="nsp", steps=40, every=1, patience=3)
    made = method(tiny_model, options)
    losses = iter([5.0, 4.0, 3.0, 3.5, 3.0, 3.2])
    monkeypatch.setattr(
        training, "nats_of", lambda soft, form, texts: np.array([next(losses) * sum(len(t.tokens) for t in texts)])
    )
    stages: list[torch.Tensor] = []
    own = training.Training._step

    def step(self: Any, state: Any) -> bool:
        done = own(self, state)
        stages.append(self._form.prompt.detach().clone())
        return done

    monkeypatch.setattr(training.Training, "_step", step)
    ready = made.prepare(progress=ignore, kept=tmp_path)
    facts: Any = ready.facts
    assert (facts["steps"], facts["best_step"], facts["stopped"]) == (5, 2, "early")
    assert torch.equal(ready.prompt.form.prompt, stages[1])  # type: ignore[arg-type]
    assert not torch.equal(stages[1], stages[4])


def test_peft_loads_a_plain_soft_prompt_and_gives_the_same_logits(tiny_model: HFModel, tiny_folder: Path, tmp_path: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ready = method(tiny_model, replace(SMALL, form="nsp")).prepare(progress=ignore, kept=tmp_path)
    soft = SoftPrompts(tiny_model)
    ids = torch.tensor([[5, 9, 17, 4], [8, 8, 2, 30]])
    base = AutoModelForCausalLM.from_pretrained(str(tiny_folder), dtype=torch.float32)
    peft = PeftModel.from_pretrained(base, str(tmp_path / FOLDER)).eval()
    with torch.no_grad():
        theirs = peft(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -4:]
        with soft.read(ready.prompt.prompts(np.zeros((2, 0), np.float32))) as prompts:
            ours = soft.network(
                input_ids=torch.tensor([[*p, *row] for p, row in zip(prompts, ids.tolist(), strict=True)])
            ).logits
        plain = soft.network(input_ids=ids).logits
    torch.testing.assert_close(ours[:, -4:], theirs)
    assert not torch.allclose(plain, theirs, atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_a_soft_prompt_is_loaded_as_it_was_saved(form: str, tiny_model: HFModel, tmp_path: Path):
    ready = method(tiny_model, replace(SMALL, form=form)).prepare(progress=ignore, kept=tmp_path)
    soft = SoftPrompts(tiny_model)
    loaded, texts = load_prompt(tmp_path / FOLDER, soft), [e.prompt + e.completion for e in TARGETS[:3]]
    np.testing.assert_array_equal(loaded.z(soft, texts), ready.prompt.z(soft, texts))
    assert torch.equal(loaded.prompts(loaded.z(soft, texts)), ready.prompt.prompts(ready.prompt.z(soft, texts)))
    assert (loaded.trained, loaded.layout) == (ready.prompt.trained, ready.prompt.layout)


def test_a_soft_prompt_of_another_model_or_encoder_is_refused(
    tiny_model: HFModel, embedded: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = method(tiny_model, replace(SMALL, form="mc"))
    made.prepare(progress=ignore, kept=tmp_path)
    folder = tmp_path / FOLDER
    with pytest.raises(ModelError, match=r"was trained for the model 'tiny' \(\w+\), and this one is 'embedded' \(\w+\)"):
        load_prompt(folder, SoftPrompts(embedded))
    said = json.loads((folder / "softsrv.json").read_text())
    said["encoder"] |= {"name": "embedded", "layer": 0}
    (folder / "softsrv.json").write_text(json.dumps(said))
    soft = SoftPrompts(tiny_model)
    other = load_prompt(folder, soft)
    with pytest.raises(ModelError, match=r"'embedded' gives vectors of 192 numbers, and the soft prompt was trained on 64"):
        other.z(soft, ["x = 1\n"])
    (folder / "softsrv.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"soft-prompt is not whole .*: remove the folder and train it again"):
        load_prompt(folder, soft)


def test_z_is_the_mean_of_a_texts_own_states_in_units_of_its_spread(tiny_model: HFModel):
    soft, texts = SoftPrompts(tiny_model), [e.prompt + e.completion for e in TARGETS[:5]]
    encoder, z = fit_encoder(soft, "own", 0, texts)
    assert (encoder.layer, encoder.width, z.shape) == (1, 64, (5, 64))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-4)
    head, tail = tiny_model.encode_pair("", texts[3])
    with torch.no_grad():
        states = tiny_model.network(input_ids=torch.tensor([[*head, *tail[:-1]]]), output_hidden_states=True).hidden_states[1]
    pooled = states[0, len(head) :].mean(0).numpy()
    np.testing.assert_allclose(z[3], (pooled - encoder.mean) / encoder.spread, atol=1e-3)
    np.testing.assert_allclose(encoder.encode(soft, texts[3:4])[0], z[3], atol=1e-6)
    with pytest.raises(ModelError, match=r"gives the states of 2 layers, not of layer 9"):
        fit_encoder(soft, "own", 9, texts)
    other, _ = fit_encoder(soft, "embedded", 0, texts)
    assert (other.width, other.layer) == (192, 0)


def test_z_is_drawn_from_the_targets_between_them_or_around_them():
    z = np.random.default_rng(0).standard_normal((5, 200)).astype(np.float32)
    numbers = [0, 2, 3, 5, 8]
    seen = set()
    for seed in range(30):
        one, source = draw_z(z, numbers, SoftSRVOptions(draw="target"), seed)
        place = numbers.index(int(source.removeprefix("target ")) - 1)
        np.testing.assert_array_equal(one, z[place])
        seen.add(place)
        near, source = draw_z(z, numbers, SoftSRVOptions(draw="target+noise", noise=0.25), seed)
        place = numbers.index(int(source.removeprefix("target ")) - 1)
        assert float((near - z[place]).std()) == pytest.approx(0.25, abs=0.05)
        mixed, source = draw_z(z, numbers, SoftSRVOptions(draw="mix"), seed)
        first, second = (numbers.index(int(n) - 1) for n in source.removeprefix("targets ").split(" and "))
        assert first != second
        share = (mixed - z[first]) @ (z[second] - z[first]) / ((z[second] - z[first]) ** 2).sum()
        assert 0 <= share <= 1
        np.testing.assert_allclose(mixed, z[first] + share * (z[second] - z[first]), atol=1e-4)
    assert seen == {0, 1, 2, 3, 4}


def test_targets_are_held_out_by_the_seed():
    taught, held = split_targets(40, 0.125, 1)
    assert (len(taught), len(held)) == (35, 5)
    assert sorted(taught + held) == list(range(40))
    assert split_targets(40, 0.125, 1) == (taught, held)
    assert split_targets(40, 0.125, 2) != (taught, held)
    assert [len(part) for part in split_targets(2, 0.9, 0)] == [1, 1]


def test_one_target_is_refused(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"^1 target: softsrv holds some out"):
        method(tiny_model, targets=TARGETS[:1])


def test_a_loss_that_is_not_finite_is_refused(tiny_folder: Path, tmp_path: Path):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="broken")
    made = method(model, replace(SMALL, form="nsp"))
    with torch.no_grad():
        model.network.model.norm.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(DataError, match=r"the held-out loss is not finite after 0 steps of training the soft prompt"):
        made.prepare(progress=ignore, kept=tmp_path)


@pytest.mark.parametrize("make", [Mock, lambda: MockModel(str)], ids=["mock", "a model of another kind"])
def test_a_model_whose_network_is_not_here_is_refused(make: Callable[[], Any]):
    with pytest.raises(UsageError, match=r"softsrv trains a soft prompt through a model's network"):
        KIND.check_model(SynthesisCard(method="softsrv", options=SMALL), make())


def test_another_encoder_in_the_same_folder_makes_another_synthesis(tmp_path: Path):
    found = []
    for content in ("1", "1", "2"):
        (tmp_path / "config.json").write_text(content)
        card = SynthesisCard(method="softsrv", options=replace(SMALL, encoder=str(tmp_path)))
        found.append(_recipe(Order(card=card, model=Mock(), seed=0), TARGETS, Limits(), None))
    assert found[0] == found[1] != found[2]
    assert KIND.depends_on(SynthesisCard(method="softsrv", options=SMALL)) == {}
