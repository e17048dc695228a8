"""Plain sampling: drafts begin with what the targets share, and depend on seed, round and place alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from doubles import ignore
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import DataError, ModelError
from spa_bench.mini.data import forbidden
from spa_bench.mini.words import HALF, instructions, queries
from spa_bench.models.base import Model
from spa_bench.models.hf.model import HFModel
from spa_bench.spa.synthesize.base import Draft, Prepared, Setting
from spa_bench.spa.synthesize.sample import Sample, SampleOptions, _common, check_model
from spa_bench.types import Example

TARGETS = [Example("def f(x):\n", "    return x\n"), Example("def g(y):\n", "    return -y\n")]


class Bare:
    """A model whose tokens nobody can see."""

    name = "bare"


def method(model: Model, seed: int = 0, *, targets: Sequence[Example] = TARGETS, **options: object) -> Prepared:
    card = SynthesisCard(method="sample", options=SampleOptions(**{"round": 6, **options}))  # type: ignore[arg-type]
    own = Sample(Setting(card=card, model=model, targets=targets, seed=seed))
    return own.prepare(progress=ignore, kept=Path())


def said(drafts: list[Draft]) -> list[tuple[str, str]]:
    return [(draft.text, draft.failure) for draft in drafts]


@pytest.mark.parametrize(
    ("texts", "shared"),
    [(["def f", "def g"], "def "), (["ab", "abc"], "ab"), (["a", "b"], ""), (["same", "same"], "same")],
)
def test_the_beginning_that_texts_share(texts: list[str], shared: str):
    assert _common(texts) == shared


def test_a_part_of_a_word_is_no_word_with_which_targets_begin(tiny_model: HFModel):
    ends = [Example(f"def a{end}(x):\n", "    return x\n") for end in ("dd", "bs")]
    assert method(tiny_model, targets=ends).facts["lead"] == "def"
    questions = [Example(prompt, "It is so.") for prompt in ("Why is it? Is", "Why is it? It")]
    assert method(tiny_model, targets=questions).facts["lead"] == "### Instruction:\nWhy is it?"


def test_one_target_has_no_words_with_which_all_begin(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"there is one target: give more targets, or set synthesize\.options\.lead"):
        method(tiny_model, targets=TARGETS[:1])
    assert method(tiny_model, targets=TARGETS[:1], lead="def").facts["lead"] == "def"


def test_drafts_begin_as_the_targets_do_and_are_drawn_again_with_the_same_text(tiny_model: HFModel):
    first = method(tiny_model, max_new_tokens=12)
    assert first.facts == {"layout": "code", "lead": "def", "max_new_tokens": 12}
    drafts = list(first.round(3, ()))
    assert len(drafts) == 6
    assert all(draft.text.startswith("def") for draft in drafts)
    assert len({draft.text for draft in drafts}) > 1
    assert said(list(method(tiny_model, max_new_tokens=12).round(3, TARGETS))) == said(drafts)
    assert said(list(first.round(4, ()))) != said(drafts)
    assert said(list(method(tiny_model, 1, max_new_tokens=12).round(3, ()))) != said(drafts)


def test_the_most_tokens_of_a_draft_follow_from_the_longest_target(tiny_model: HFModel):
    longest = max(len(tiny_model.encode_pair("", t.prompt + t.completion)[1]) for t in TARGETS)
    facts = method(tiny_model).facts
    assert facts["max_new_tokens"] == -(-3 * longest // 2)
    blank = method(tiny_model, lead="x", layout="pairs").facts
    assert (blank["lead"], blank["layout"]) == ("x", "pairs")


def test_a_model_without_a_tokenizer_needs_the_most_tokens_from_the_user():
    card, bare = SynthesisCard(method="sample", options=SampleOptions()), cast(Model, Bare())
    with pytest.raises(
        ModelError, match=r"takes the most tokens of a draft from the targets, and 'bare' has no tokenizer here"
    ):
        check_model(card, bare)
    check_model(SynthesisCard(method="sample", options=SampleOptions(max_new_tokens=9)), bare)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"top_p": 0.0}, "top_p is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"layout": "prose"}, "layout is 'prose'; use auto, code, pairs"),
        ({"round": 0}, "round is 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], why: str):
    with pytest.raises(ValueError, match=why):
        SampleOptions(**options)  # type: ignore[arg-type]


def test_the_family_of_words_has_two_halves_without_a_common_task_or_a_problem_of_the_benchmark():
    aim, measure = instructions(), queries()
    assert (len(aim), len(measure)) == (HALF, HALF)
    assert not {e.prompt for e in aim} & {e.prompt for e in measure}
    assert all("words" in e.prompt for e in (*aim, *measure))
    assert forbidden()
