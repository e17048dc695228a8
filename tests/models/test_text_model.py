"""A model of texts gives the same answers by any engine: what is cut, counted and compared is not the engine's work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from other_engine import Options, OtherEngine
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.answers import completed
from spa_bench.models.beams import BeamSearch
from spa_bench.models.engine import STAGES, Drawn, LoraAdapter, Target
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.text import TextModel
from spa_bench.types import Asked, Decoding, Key, Member, Request
from tiny import random_adapter

ASKED = [
    Asked("letters", tuple(("Which is even?\nAnswer:", f" {letter}") for letter in "ABCD"), 4),
    Asked("long", tuple(("def double(x):\n    return", text) for text in (" x * 2", " 2 * x + 0", " x")), 3),
    Asked("contexts", (("The cup fell since the table", " was wet."), ("The cup fell since the cup", " was wet.")), 2),
]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> HFModel:
    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))


@pytest.fixture
def other(model: HFModel) -> Iterator[OtherEngine]:
    """Another engine that draws and scores; behind the test, transformers does it again."""
    engine = OtherEngine(model.hf, Options())
    model.use(engine, ("draw", "score"))
    yield engine
    model.use(model.hf, STAGES)


@pytest.fixture(scope="module")
def members(model: HFModel, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    folder, random = tmp_path_factory.mktemp("adapters"), torch.Generator().manual_seed(3)
    made = [random_adapter(model.network, folder / str(m), random, rank=4, scale=0.2) for m in range(2)]
    decoding = Decoding(temperature=1.0, max_new_tokens=12, stop=("e", "\n"))
    return [Member("base", None, decoding), *(Member(f"m{m}", a, decoding) for m, a in enumerate(made))]


def requests(members: list[Member]) -> list[Request]:
    return [
        Request(
            problem_id=f"p{i}",
            member=m,
            draw=0,
            kind="generate",
            prompt=f"def f{i}(x):",
            decoding=member.decoding,
            seed=10 * i + m,
        )
        for i in range(4)
        for m, member in enumerate(members)
    ]


def test_texts_are_cut_at_stop_strings_alike_by_an_engine_that_goes_on(
    model: HFModel, members: list[Member], other: OtherEngine
):
    found = {c.key: c for c in model.generate(requests(members), members)}
    model.use(model.hf, STAGES)
    assert found == {c.key: c for c in model.generate(requests(members), members)}
    assert any(c.finish == "stop" for c in found.values())
    assert other.opened == [[LoraAdapter.at(m.adapter) for m in members if m.adapter]]


def test_a_special_token_that_is_a_stop_string_ends_a_text_by_every_engine(tiny_folder: Path, tmp_path: Path):
    model = HFModel(str(_with_turns(tiny_folder, tmp_path)), HFOptions(device="cpu", threads=1))
    [turn] = model.codec.ids("<|turn|>")
    base, free = [Member("base", None, Decoding())], Decoding(temperature=1.0, max_new_tokens=30)
    asked = [replace(r, decoding=free, problem_id=f"{r.problem_id}/{i}") for i in range(4) for r in requests(base)]
    asked = [replace(r, seed=i) for i, r in enumerate(asked)]
    tokens = {d.key: d.tokens for d in model.hf.draw(model.draws_of(asked, lambda _: None)[0])}
    stopped = [replace(r, decoding=replace(free, stop=("\n\n\n", "<|turn|>"))) for r in asked]
    found = {c.key: c for c in model.generate(stopped, base)}
    for key, completion in found.items():
        place = tokens[key].index(turn) if turn in tokens[key] else len(tokens[key])
        assert completion.text == model.codec.text(tokens[key][:place])
        assert completion.tokens == len(tokens[key][: place + 1])
        assert completion.finish == "stop" or turn not in tokens[key]
    assert any(0 < tokens[key].index(turn) < 29 for key in found if turn in tokens[key])
    drawn = model.hf.beams(model.draws_of(stopped[:4], lambda _: None)[0], None, BeamSearch(4, 2, 0.5))
    beams = [beam for one in drawn for group in one.groups for beam in group if turn in beam.tokens]
    assert beams
    assert all(beam.tokens.index(turn) == len(beam.tokens) - 1 and beam.finish == "stop" for beam in beams)
    model.use(OtherEngine(model.hf, Options()), ("draw",))  # which knows nothing of stop strings
    assert found == {c.key: c for c in model.generate(stopped, base)}


def _with_turns(tiny_folder: Path, folder: Path) -> Path:
    """The tiny model with a special token in the place of its last token, which is drawn now and then."""
    shutil.copytree(tiny_folder, folder, dirs_exist_ok=True)
    words = json.loads((folder / "tokenizer.json").read_text())
    last = max(words["model"]["vocab"], key=words["model"]["vocab"].__getitem__)
    number = words["model"]["vocab"].pop(last)
    words["model"]["vocab"]["<|turn|>"] = number
    words["model"]["merges"] = [pair for pair in words["model"]["merges"] if "".join(pair).replace(" ", "") != last]
    words["added_tokens"].append({**words["added_tokens"][0], "id": number, "content": "<|turn|>"})
    (folder / "tokenizer.json").write_text(json.dumps(words))
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][number] *= 1.8
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_scores_token_by_token_are_those_of_one_pass(model: HFModel, members: list[Member], other: OtherEngine):
    found = {s.problem: s for s in model.option_scores(ASKED, members, done=["long"])}
    model.use(model.hf, STAGES)
    wanted = {s.problem: s for s in model.option_scores(ASKED, members, done=["long"])}
    assert found.keys() == wanted.keys() == {"letters", "contexts"}
    for name, scores in found.items():
        for field in ("logprobs", "kl", "js", "entropy"):
            np.testing.assert_allclose(getattr(scores, field), getattr(wanted[name], field), atol=1e-5)
        assert (scores.greedy == wanted[name].greedy).all()
        assert scores.tokens == wanted[name].tokens
    assert found["letters"].kl[0, 1] > 0.001


def test_likelihoods_of_texts_and_of_whole_prompts_are_those_of_one_pass(
    model: HFModel, members: list[Member], other: OtherEngine
):
    asked = [replace(r, kind="loglikelihood", continuation=" return x", apart=bool(r.member)) for r in requests(members)]

    def numbers() -> tuple[dict[Key, float], list[float]]:
        return (
            {r.key: logprob for r, logprob, _ in model.loglikelihood(asked, members)},
            [model.rolling(replace(asked[0], prompt="x = 1\n" * 200), member) for member in members],
        )

    found = numbers()
    model.use(model.hf, STAGES)
    wanted = numbers()
    assert found[0] == pytest.approx(wanted[0], abs=1e-4)
    assert found[1] == pytest.approx(wanted[1], abs=1e-2)
    assert len(set(found[1])) == len(members)


def test_ranks_count_the_likelier_tokens(model: HFModel, members: list[Member]):
    context, tokens = model.encode_pair("def f(x):", "\n    return x")
    target = Target(
        name="t", context=tuple(context), tokens=tuple(tokens), adapter=LoraAdapter.at(members[1].adapter or Path())
    )
    [scored] = model.hf.score([target])
    [logprobs] = model.next_token_logprobs([("def f(x):", "\n    return x")], members[1:2])
    assert logprobs is not None
    for place, token in enumerate(tokens):
        assert scored.logprobs[place] == pytest.approx(float(logprobs[0, place, token]), abs=1e-6)
        order = np.argsort(-logprobs[0, place], kind="stable").tolist()
        assert scored.ranks[place] == order.index(token) + 1


def test_numerics_name_each_engine_and_training_has_its_own(model: HFModel, other: OtherEngine):
    assert model.numerics() == {**model.training_numerics(), "other": {"version": "1", "size": 1}}
    assert "other" not in model.training_numerics()
    assert model.engines == {"train": "hf", "draw": "other", "score": "other", "divergence": "hf"}


def test_a_stage_that_an_engine_cannot_do_is_refused(model: HFModel):
    with pytest.raises(UsageError, match=r"^engine other cannot do divergence; it can do draw, score$"):
        model.use(OtherEngine(model.hf, Options()), ("draw", "divergence"))


def test_the_context_of_an_engine_counts_where_it_is_shorter(tiny_folder: Path):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    model.use(OtherEngine(model.hf, Options(room=16)), ("draw", "score"))
    base = Member("base", None, Decoding())
    [skipped] = model.generate([replace(requests([base])[0], prompt="x = 1\n" * 9)], [base])
    assert skipped.failure == "the prompt leaves no room in the context of 16 tokens"
    with pytest.raises(UsageError, match="context of 16 tokens"):
        model.check_options([Asked("long", (("x = 1\n" * 9, " A"), ("x", " B")), 2)])


def test_a_model_without_an_engine_for_a_stage_says_so(model: HFModel):
    bare = TextModel(name="bare", codec=model.codec, context=64, engines={"draw": model.hf})
    assert bare.engines == {"train": "none", "draw": "hf", "score": "none", "divergence": "none"}
    with pytest.raises(ModelError, match=r"^model 'bare' cannot do score here"):
        list(bare.option_scores(ASKED, [Member("base", None, Decoding())]))
    assert bare.training_numerics() == {}


def test_without_an_engine_that_compares_there_are_scores_and_no_divergence(model: HFModel):
    engine = OtherEngine(model.hf, Options())
    bare = TextModel(name="bare", codec=model.codec, context=model.context, engines={"score": engine})
    [found] = bare.option_scores(ASKED[:1], [Member("base", None, Decoding())])
    assert np.isfinite(found.logprobs).all()
    assert np.isnan(found.kl).all()


def test_a_failed_draw_has_its_cause_and_what_it_spent(model: HFModel):
    [request] = requests([Member("b", None, Decoding(max_new_tokens=4))])[:1]
    drawn = Drawn(key=request.key, tokens=(1, 2), finish="failed", failure="the server said no", spent=3)
    completion = completed(model.codec, request, drawn)
    assert (completion.finish, completion.failure, completion.tokens, completion.spent) == (
        "failed",
        "the server said no",
        0,
        3,
    )
    assert completed(model.codec, request, replace(drawn, spent=None)).spent is None


def test_where_engines_share_a_device_one_at_a_time_is_open(model: HFModel, members: list[Member], other: OtherEngine):
    other.opened.append([])
    asked = requests(members)[:1]
    model.exclusive = True
    try:
        list(model.divergence([("x", "y")], members, base=False, top=1))
        assert other.opened == []  # closed
        list(model.generate(asked, members))
        assert len(other.opened) == 1
        assert model.network is not None
        assert other.opened == []
    finally:
        model.exclusive = False


def test_an_adapter_is_named_by_its_content(members: list[Member], tmp_path: Path):
    import shutil

    folder = members[1].adapter
    assert folder
    shutil.copytree(folder, tmp_path / "copy")
    first, copy = LoraAdapter.at(folder), LoraAdapter.at(tmp_path / "copy")
    assert first.name == copy.name
    assert first.name != LoraAdapter.at(members[2].adapter or Path()).name
