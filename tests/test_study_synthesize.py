"""`study synthesize`: a student on the pairs of each method, and what the pairs are like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import SANDBOX, Call
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.compare.study.claims import Outcome, sign
from spa_bench.compare.study.designs import STUDIES, Wishes, points_of, roles_of
from spa_bench.compare.study.of_pairs import (
    LIKE,
    NATS,
    _apart,
    _nearer,
    _over_seeds,
    _share,
    claims_of_pairs,
    measures_of,
    pair_sections,
)
from spa_bench.compare.study.syntheses import VALID, Measuring, PairsOfSeed, _nats, check_held_out, held_out
from spa_bench.errors import DataError, SpaBenchError, UsageError
from spa_bench.mini.data import MODEL
from spa_bench.mini.words import instructions, queries
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.soft_prompt import SoftPrompts
from spa_bench.spa.synthesize.softsrv import nll
from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.saving import load_prompt
from spa_bench.spa.synthesize.stage import Order, synthesize
from spa_bench.support.console import Reporter
from spa_bench.types import Estimate, Example
from study_points import point, rates

STUDY = STUDIES["synthesize"]


def test_the_roles_are_the_student_on_pairs_of_each_method():
    cards = roles_of(STUDY, "embedded", None)
    points = {p.role: p.card for p in points_of(STUDY, Wishes(cards=cards))}
    assert list(points) == ["targets", "sample", "template", "softsrv-nsp", "softsrv-mpk", "softsrv-mc"]
    assert {role: card.synthesize.method for role, card in points.items() if card.synthesizes} == {
        "sample": "sample",
        "template": "template",
        **{f"softsrv-{form}": "softsrv" for form in ("nsp", "mpk", "mc")},
    }
    assert points["targets"].data.examples == "mini-words"
    assert {card.synthesize.targets for card in points.values() if card.synthesizes} == {"mini-words"}
    assert {card.adapters for card in points.values()} == {"all"}
    assert points["softsrv-mpk"].synthesize.options.form == "mpk"  # type: ignore[attr-defined]


def test_settings_reach_the_roles_that_they_mean_something_to():
    cards = roles_of(STUDY, "embedded", "targets,template,softsrv-mc")
    settings = {
        "synthesize.pairs": 9,
        "synthesize.options.steps": 3,
        "data.examples": "mini",
        "data.queries": "mini-nlu",
        "lora.steps": 5,
    }
    targets, template, steered = (p.card for p in points_of(STUDY, Wishes(cards=cards, settings=settings)))
    assert (targets.data.examples, template.synthesize.targets) == ("mini", "mini")
    assert (template.synthesize.pairs, steered.synthesize.pairs) == (9, 9)
    assert steered.synthesize.options.steps == 3  # type: ignore[attr-defined]
    assert {(card.lora.steps, card.data.queries) for card in (targets, template, steered)} == {(5, "mini-nlu")}
    with pytest.raises(UsageError, match=r"'templates' is no role of this study; did you mean 'template'"):
        roles_of(STUDY, "embedded", "templates")


def cards(samplers: str, settings: dict[str, object]) -> dict[str, SamplerCard]:
    wishes = Wishes(cards=roles_of(STUDY, "embedded", samplers), settings=settings)
    return {p.role: p.card for p in points_of(STUDY, wishes)}


def test_an_option_reaches_every_method_that_has_it_and_the_narrowest_setting_counts():
    found = cards(
        "sample,template,softsrv-nsp,softsrv-mc,oss-instruct",
        {
            "softsrv-mc.options.steps": 5,
            "softsrv.options.steps": 4,
            "synthesize.options.steps": 3,
            "synthesize.options.round": 6,
            "sample.options.round": 7,
            "sample.code": "parse",
            "oss-instruct.options.loose": True,
        },
    )
    options = {role: card.synthesize.options for role, card in found.items()}
    assert [options[role].steps for role in ("softsrv-nsp", "softsrv-mc")] == [4, 5]  # type: ignore[attr-defined]
    assert [options[role].round for role in ("sample", "softsrv-nsp", "oss-instruct")] == [7, 6, 6]  # type: ignore[attr-defined]
    assert [found[role].synthesize.code for role in ("sample", "template")] == ["parse", "auto"]
    assert options["oss-instruct"].loose  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("synthesize.options.step", r"no method that takes part has this option; did you mean 'steps'"),
        ("skill-mix.options.round", r"skill-mix makes no pairs in this study; the methods that take part: sample, softsrv"),
        ("targets.pairs", r"targets makes no pairs in this study"),
        ("sample.options.steps", r"unknown key 'synthesize.options.steps'"),
    ],
)
def test_a_setting_that_no_method_takes_is_refused(key: str, said: str):
    with pytest.raises(SpaBenchError, match=said):
        cards("targets,sample,softsrv-mc", {key: 3})


def test_pairs_are_measured_with_examples_that_no_method_sees():
    def card(queries: str) -> SamplerCard:
        return load_sampler_card("single", {"data.queries": queries})

    assert held_out(card("mini-words")) == queries()
    for source in ("sample", "sample:4", "code"):
        with pytest.raises(DataError, match=rf"data.queries is '{source}'; give --queries SOURCE with such examples"):
            check_held_out(points_of(STUDY, Wishes(cards={"sample": "single"}, settings={"data.queries": source})))


def rows(path: Path, pairs: Sequence[Example]) -> Path:
    path.write_text("".join(json.dumps({"prompt": pair.prompt, "completion": pair.completion}) + "\n" for pair in pairs))
    return path


def like(label: str, seed: int, value: float, **more: object) -> PairsOfSeed:
    likeness = {LIKE: Estimate(value=value, low=0.0, high=1.0, n=8)}
    return PairsOfSeed(label=label, seed=seed, pairs=8, likeness=likeness, **more)  # type: ignore[arg-type]


def test_likeness_is_compared_seed_by_seed_by_students_t():
    ours, theirs = [like("a", s, v) for s, v in enumerate((0.5, 0.6, 0.7))], [like("b", s, 0.4) for s in range(3)]
    found = _nearer(ours, theirs)
    assert found.value == pytest.approx(0.2)
    assert found.high == pytest.approx(0.2 + 4.302653 * 0.1 / 3**0.5)  # t of 2 degrees of freedom, sd 0.1
    assert sign(found) is Outcome.OPEN
    assert sign(replace(found, low=0.1)) is Outcome.HOLDS
    assert sign(replace(found, low=-0.3, high=-0.1)) is Outcome.FAILS
    assert _over_seeds([0.9, 1.0], None, (0.0, 1.0)).high == 1.0


def test_one_seed_has_the_interval_of_both_sides():
    def at(value: float, low: float, high: float) -> Estimate:
        return Estimate(value=value, low=low, high=high, n=8)

    found = _apart(at(0.7, 0.6, 0.9), at(0.2, 0.1, 0.5))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 - 0.1**0.5, 0.5 + 0.05**0.5))
    one = _nearer([like("a", 0, 0.7)], [like("b", 0, 0.2)])
    assert (one.low, one.n) == (pytest.approx(0.5 - (0.7**2 + 0.8**2) ** 0.5), 1)
    missing = _nearer([like("a", 0, 0.7)], [PairsOfSeed(label="b", seed=0, pairs=3)])
    assert (missing.value, missing.reason) == (None, "b has 3 pairs")


@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("open_ended", [False, True])
def test_a_better_student_is_one_by_what_is_judged(*, open_ended: bool, judged: bool):
    made, wanted = [], "quality[judged]" if open_ended else "pass@1"
    for role, card in cards("sample,softsrv-mc", {}).items():
        value = 0.9 if role == "sample" else 0.3
        values = {"diversity_score[exact]": rates(0.5)} | ({wanted: rates(value)} if judged or not open_ended else {})
        one = point("single", values, open_ended=open_ended)
        made.append(replace(one, point=replace(one.point, card=card), row=replace(one.row, label=role)))
    [claim] = claims_of_pairs(made, [like("sample", 0, 0.4), like("softsrv-mc", 0, 0.5)])
    [student] = [part for part in claim.parts if "student" in part.words] or [None]
    assert ("a better student" in claim.states) == (student is not None) == (judged or not open_ended)
    if student is not None:
        assert student.words.startswith(
            f"{'quality' if open_ended else 'pass@1'} of the student of softsrv-mc minus sample -0.6"
        )
        assert student.outcome is Outcome.FAILS
    assert claim.papers is not open_ended


def test_a_share_is_over_drafts_and_seeds():
    found = _share([(3, 4), (1, 4)])
    assert (found.value, found.n) == (0.5, 8)
    unequal = _share([(128, 160), (128, 300)])  # the drafts of a seed end where there are enough pairs
    assert (unequal.value, unequal.n) == (pytest.approx(256 / 460), 460)
    alone, again = _share([(30, 100)]), _share([(30, 100)] * 4)
    assert again.high - again.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)
    assert _share([]).reason == "nothing was drafted"


def test_a_measure_that_a_method_does_not_have_is_missing_and_a_column_of_none_is_left_out():
    pairs = [like("a", 0, 0.5, drafts=10, shares={"kept": (5, 10), "valid": (5, 8)}), like("targets", 0, 0.9)]
    found = measures_of(pairs)
    assert found["a"][VALID].value == 5 / 8
    assert found["targets"][VALID].value is None
    assert found["a"][NATS].reason == "the method gives no density of texts"
    [_, table, *_] = pair_sections(pairs)
    assert "nats" not in table.splitlines()[0]
    assert "mauve[frontier]" in table.splitlines()[0]
    assert pair_sections([]) == []


def test_a_soft_prompt_is_measured_by_its_mixture_over_targets_and_not_by_the_text_s_own_z(tmp_path: Path):
    model = HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")
    options = SoftSRVOptions(form="mc", length=4, hidden=8, steps=4, batch=4, every=4, warmup=1, round=2, max_new_tokens=8)
    source = str(rows(tmp_path / "targets.jsonl", instructions()[:24]))
    card = SynthesisCard(method="softsrv", targets=source, pairs=2, drafts=2, code="none", options=options)
    made = synthesize(Order(card=card, model=model, seed=0), cache=tmp_path, console=Reporter(quiet=True))
    held, targets = queries()[:3], instructions()[:24]
    how = Measuring(model=model, problems=None, cache=tmp_path, console=Reporter(quiet=True), mixed=4)
    found = _nats(made, held, targets, 0, how)
    assert _nats(made, held, targets, 0, how) == found  # from the stage cache
    soft = SoftPrompts(model)
    prompt = load_prompt(made.folder / "prepared" / "soft-prompt", soft)
    texts = [e.prompt + e.completion for e in held]
    own = nll.own_nll(soft, prompt, texts)
    every = nll.mixture_nll(soft, prompt, texts, prompt.z(soft, [e.prompt + e.completion for e in targets[:4]]))
    assert len(found) == 3
    assert found == pytest.approx((every.nats / every.tokens).tolist(), rel=0.05)  # four steps: z has little influence yet
    assert found != pytest.approx((own.nats / own.tokens).tolist(), rel=1e-9)


@pytest.mark.slow
def test_the_command_makes_the_pairs_trains_the_students_and_writes_the_page(call: Call, tmp_path: Path):
    words: list[object] = ["--task", "mini-code", "--limit", "2", "--seeds", "0", "--n", "1", "--sandbox", SANDBOX]
    few = [
        "synthesize.pairs=6",
        "synthesize.code=none",
        "sample.options.round=6",
        "sample.options.max_new_tokens=90",
        "sample.options.top_p=0.5",
        "lora.steps=1",
        "lora.batch=2",
        "task.max_new_tokens=8",
    ]
    settings = [word for one in few for word in ("--set", one)]
    places = ["--out", tmp_path / "runs", "--write", tmp_path / "page"]
    words += ["--data", rows(tmp_path / "words.jsonl", instructions()[:12])]
    words += ["--queries", rows(tmp_path / "others.jsonl", queries()[:12])]
    done = call("study", "synthesize", *words, "--samplers", "targets,sample,template", *settings, *places)
    assert done.code == 0, done.err
    page = (tmp_path / "page" / "synthesize--mini-code--embedded.md").read_text()
    head = next(line for line in page.splitlines() if line.startswith("| method"))
    assert [cell.strip() for cell in head.split("|")[1:4]] == ["method", "pairs", "drafts"]
    content = json.loads((tmp_path / "page" / "synthesize--mini-code--embedded.json").read_text())
    made = {(row["label"], row["seed"]): row for row in content["pairs"]}
    assert made["sample", 0]["pairs"] == 6
    assert made["sample", 0]["nats"] > 0
    assert made["template", 0]["nats"] is None
    assert (made["targets", 0]["pairs"], made["targets", 0]["drafts"]) == (12, 0)
    assert 0 <= made["sample", 0]["likeness"][LIKE]["value"] <= 1
    assert {path.suffix for path in (tmp_path / "page").iterdir()} == {".md", ".json", ".svg", ".png"}
    assert "The pairs are left out" not in page
    table = call("study", "synthesize", *words, "--samplers", "targets,sample,template", *settings, *places, "--table-only")
    assert table.code == 0, table.err
    assert (
        "**The pairs are left out**: with --table-only"
        in (tmp_path / "page" / "synthesize--mini-code--embedded.md").read_text()
    )


def test_pairs_alone_need_no_student_and_a_method_without_pairs_is_a_result(call: Call, tmp_path: Path):
    few = [
        "synthesize.pairs=16",
        "synthesize.drafts=16",
        "sample.code=none",
        "sample.options.round=8",
        "sample.options.max_new_tokens=1",
    ]
    settings = [word for one in few for word in ("--set", one)]
    words: list[object] = ["--data", rows(tmp_path / "words.jsonl", instructions()[:32])]
    words += ["--queries", rows(tmp_path / "others.jsonl", queries()[:32])]
    words += ["--pairs-only", "--seeds", "3", "--samplers", "targets,sample,template", *settings, "--write", tmp_path / "page"]
    done = call("study", "synthesize", *words)
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "page" / "synthesize--words--embedded.json").read_text())
    made = {row["label"]: row for row in content["pairs"]}
    assert (made["sample"]["pairs"], made["sample"]["drafts"], made["sample"]["likeness"]) == (0, 16, {})
    assert made["sample"]["filters"]["readable"] == 0
    assert made["sample"]["nats"] > 0
    assert made["template"]["pairs"] > 0
    assert made["targets"]["likeness"][LIKE]["value"] > 0
    page = (tmp_path / "page" / "synthesize--words--embedded.md").read_text()
    assert "**sample, seed 3**: 0 pairs of 16 drafts, fewer than 16" in page
    assert "16 readable: did not end within the most new tokens" in page
    refused = call("study", "synthesize", *words, "--n", "2")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        "spa-bench: --pairs-only makes no runs, and --n is of runs; leave one of them out",
    )
    assert call("study", "main", "--pairs-only").code == 2
