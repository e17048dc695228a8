"""Over-sampling: a pool of ordinary draws, a choice that sees no verdict, and an account of all tokens."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import RIGHT, SANDBOX, WRONG, Call, MockModel, mock_run, sampler_card
from spa_bench.cards.sampler import DecodingCard, load_sampler_card
from spa_bench.errors import CardError, ModelError, UsageError
from spa_bench.metrics.vendi import ngram_kernel
from spa_bench.models.hf.model import HFModel
from spa_bench.samplers import oversample_dpp, oversample_mmr
from spa_bench.samplers.base import Graded, sampler_kind
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.samplers.pool import Oversampler, token_probabilities
from spa_bench.samplers.selection import greedy_dpp, maximal_marginal_relevance
from spa_bench.types import Completion, Key, Member, Prompt, Request

PROMPTS = [Prompt(problem_id=name, text=f"def {name}(x):\n", max_new_tokens=8, stop=()) for name in "abcdefghijk"]
KINDS = {"oversample-mmr": oversample_mmr.MmrOptions, "oversample-dpp": oversample_dpp.DppOptions}


class Scored(MockModel):
    """A mock that draws a text of four words by the seed, of as many tokens as bytes, the less likely the longer."""

    def __init__(self, failing: Sequence[int] = (), finish: str = "failed") -> None:
        super().__init__(lambda r: " ".join(f"w{(r.seed >> 8 * i) % 5}" for i in range(1 + r.seed % 4)))
        self.failing, self.finish = failing, finish

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        for c in super().generate(list(reversed(requests)), members):
            if c.key.draw in self.failing:
                yield Completion(
                    key=c.key, text="", tokens=0, finish=self.finish, seed=c.seed, failure=f"lost {c.key.draw}", spent=2
                )  # type: ignore[arg-type]
            else:
                yield replace(c, tokens=len(c.text))

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        for request in reversed(requests):
            yield request, -0.01 * len(request.continuation) ** 2, False


def sampler(kind: str, **options: Any) -> Oversampler:
    made = sampler_kind(kind).build(sampler_card(kind=kind, options=KINDS[kind](**{"pool": 12, **options})), [])
    return made


def answers(kind: str, model: Any, n: int = 4, done: Sequence[Key] = (), **options: Any) -> dict[Key, Completion]:
    found = list(sampler(kind, **options).sample(model, PROMPTS, n, 0, task="t", done=done))
    assert len({c.key for c in found}) == len(found)
    return {c.key: c for c in found}


def pool(problem: str, count: int = 12) -> list[Completion]:
    """The plain draws of the same card."""
    prompts = [p for p in PROMPTS if p.problem_id == problem]
    drawn = build_mixture(sampler_card(), []).sample(Scored(), prompts, count, 0, task="t")
    return sorted(drawn, key=lambda c: c.key.draw)


@pytest.mark.parametrize("kind", KINDS)
def test_n_answers_a_problem_are_kept_of_the_draws_of_the_plain_sampler(kind: str):
    model = Scored()
    found = answers(kind, model)
    assert found.keys() == {Key(p.problem_id, 0, d) for p in PROMPTS for d in range(4)}
    assert set(model.asked) == {Key(p.problem_id, 0, d) for p in PROMPTS for d in range(12)}
    for problem in "ak":
        drawn = {(c.text, c.seed) for c in pool(problem)}
        assert {(c.text, c.seed) for k, c in found.items() if k.problem == problem} <= drawn


def test_what_is_kept_is_the_choice_from_kernel_and_relevance():
    for problem in "abc":
        drawn = pool(problem)
        texts = [c.text for c in drawn]
        kernel, relevance = ngram_kernel(texts), np.exp([-0.01 * len(t) for t in texts])
        chosen = {
            "oversample-mmr": maximal_marginal_relevance(kernel, relevance, 4, trade=0.5),
            "oversample-dpp": greedy_dpp(kernel, relevance, 4),
        }
        for kind, places in chosen.items():
            found = answers(kind, Scored(), relevance="loglikelihood")
            assert [found[problem, 0, rank].text for rank in range(4)] == [texts[i] for i in places]


class Bench:
    """Aids for which the first word of an answer is graded, and nothing of one that begins with w0."""

    ranges = ()

    def graded(self, answers: Sequence[Completion]) -> list[Graded]:
        firsts = [c.text.split()[0] for c in answers]
        return [Graded("" if word == "w0" else word, word) for word in firsts]


def test_the_choice_compares_what_is_graded():
    for kind in KINDS:
        aided = sampler(kind, relevance="none").aided(Bench())  # type: ignore[arg-type]
        found = {c.key: c for c in aided.sample(Scored(), PROMPTS, 4, 0, task="t")}
        for problem in "abc":
            firsts = [c.text.split()[0] for c in pool(problem)]
            kept = [found[problem, 0, rank].text.split()[0] for rank in range(4)]
            assert len({*kept} - {"w0"}) == min(4, len({*firsts} - {"w0"}))  # other words behind a first one are no difference
            assert kept.count("w0") == max(0, 4 - sum(word != "w0" for word in firsts))


def test_the_choice_of_a_run_leaves_prose_beside_programs_out(call: Call, tmp_path: Path):
    row = {"task_id": "t/0", "prompt": 'def double(x):\n    """Twice x."""\n', "entry_point": "double"}
    row |= {"canonical_solution": "    return 2 * x\n", "test": "def check(candidate):\n    assert candidate(7) == 14\n"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "t.toml").write_text('description = "d"\nfile = "t.jsonl"\nversion = "1"\nprompt = "instruct"\n')
    bodies = ["return 2 * x", "return 2 * x", "return x + x", "return sum([x, x])"]
    beside = ["Of course, here it is:", "This one is quite short and good.", "", ""]
    replies = [
        {"text": f"{words}\n```python\ndef double(x):\n    {body}\n```\n", "draw": i}
        for i, (words, body) in enumerate(zip(beside, bodies, strict=True))
    ]
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    words = ["--sampler", "oversample-dpp", "--task", tmp_path / "t.toml", "--engine", "mock", "--n", "3", "--sandbox", SANDBOX]
    words += ["--set", "adapters=none", "--set", "options.pool=4", "--set", f"engine.replies={tmp_path / 'replies.jsonl'}"]
    done = call("run", *words, "--out", tmp_path / "runs")
    assert done.code == 0, done.err
    [folder] = (tmp_path / "runs").iterdir()
    kept = [json.loads(line)["graded"] for line in (folder / "records.jsonl").read_text().splitlines()]
    assert sorted(kept) == sorted({f"def double(x):\n    {body}" for body in bodies})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("oversample-mmr", {"pool": 6}),
        ("oversample-mmr", {"trade": 0.9}),
        ("oversample-mmr", {"relevance": "none"}),
        ("oversample-dpp", {"pool": 6}),
        ("oversample-dpp", {"relevance": "loglikelihood"}),
    ],
)
def test_every_option_matters(kind: str, options: dict[str, Any]):
    usual, changed = answers(kind, Scored()), answers(kind, Scored(), **options)
    assert [c.text for c in usual.values()] != [c.text for c in changed.values()]


@pytest.mark.parametrize("n", [1, 4, 12])
def test_the_tokens_spent_are_those_of_the_whole_pool(n: int):
    found = answers("oversample-dpp", Scored(failing=[3]), n)
    for problem in "ab":
        drawn = sum(c.tokens for c in pool(problem) if c.key.draw != 3) + 2
        assert sum(c.spent or 0 for k, c in found.items() if k.problem == problem) == drawn


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_that_failed_is_kept_only_where_too_few_did_not(kind: str):
    few = answers(kind, Scored(failing=range(10)))
    for problem in "ab":
        mine = [few[problem, 0, d] for d in range(4)]
        assert [c.failure for c in mine] == ["", "", "lost 0", "lost 1"]
        assert [c.finish for c in mine] == ["stop", "stop", "failed", "failed"]
    assert not any(c.failure for c in answers(kind, Scored(failing=range(8))).values())
    assert {c.finish for c in answers(kind, Scored(range(12), "skipped")).values()} == {"skipped"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_draw_is_kept_before_failures_alone(kind: str):
    """An empty text is unlike all others, so that a choice by difference would take it first of all."""

    class Silent(Scored):
        def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
            for c in super().generate(requests, members):
                yield replace(c, text=" \n", tokens=1) if c.key.draw in (3, 5) else c

    found = answers(kind, Silent(), relevance="none")
    assert all(c.text.strip() for c in found.values())
    few = answers(kind, Silent(failing=(0, 1, 2, 4, 6, 7, 8, 9)), relevance="none")
    assert [(few["a", 0, d].text.strip() != "", few["a", 0, d].failure) for d in range(4)] == [
        (True, ""),
        (True, ""),
        (False, ""),
        (False, ""),
    ]
    none = answers(kind, Silent(failing=(0, 1, 2, 4, 6, 7, 8, 9, 10, 11)), relevance="none")
    assert [none["a", 0, d].failure for d in range(4)] == ["", "", "lost 0", "lost 1"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_that_is_done_is_not_drawn_and_one_half_done_gives_what_is_missing(kind: str):
    whole = answers(kind, Scored())
    done = [Key("a", 0, d) for d in range(4)] + [Key("b", 0, 0), Key("b", 0, 2)]
    model = Scored()
    rest = answers(kind, model, done=done)
    assert "a" not in {key.problem for key in model.asked}
    assert rest == {k: c for k, c in whole.items() if k not in done}


def test_an_interrupted_sampler_has_yielded_the_problems_of_earlier_chunks():
    model = Scored()
    model._stop_after = 8 * 12 + 5
    found = sampler("oversample-dpp").sample(model, PROMPTS, 4, 0, task="t")
    assert {next(found).key.problem for _ in range(8 * 4)} == set("abcdefgh")
    with pytest.raises(KeyboardInterrupt):
        next(found)


@pytest.mark.parametrize("n", [0, 13])
def test_more_answers_than_the_pool_are_refused_before_anything_is_drawn(n: int):
    model = Scored()
    with pytest.raises(UsageError, match=rf"n is {n}, but mock-sampler keeps answers of a pool of 12"):
        answers("oversample-mmr", model, n)
    assert model.asked == []


def test_relevance_needs_a_tokenizer_and_says_what_to_do_without():
    class Bare:
        name, context, generate = "bare", 10, Scored().generate

    with pytest.raises(ModelError, match=r'needs a model with a tokenizer here.*set options\.relevance = "none"'):
        answers("oversample-mmr", Bare())
    assert answers("oversample-mmr", Bare(), relevance="none")


def test_relevance_needs_an_engine_that_scores():
    """A model without weights has a tokenizer, and may have no engine that scores: it drew a pool before that was said."""
    model = Scored()
    model.unable = {"score": "the weights are not loaded here"}  # type: ignore[misc]
    with pytest.raises(ModelError, match=r'the weights are not loaded here; set options\.relevance = "none"'):
        answers("oversample-mmr", model)
    assert not model.asked


def test_a_text_without_tokens_or_that_does_not_fit_has_no_relevance():
    model = Scored()
    requests = build_mixture(sampler_card(), []).requests(PROMPTS[:1], 3, 0, task="t")
    texts = ["", "abcde", "x" * model.context]
    found = token_probabilities(model, requests, texts, [])
    assert found.tolist() == [0.0, pytest.approx(np.exp(-0.05)), 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_tiny_model_gives_the_same_answers_in_any_order(kind: str, tiny_model: HFModel):
    card = sampler_card(
        kind=kind, decoding=DecodingCard(temperature=1.0), options=KINDS[kind](pool=6, relevance="loglikelihood")
    )
    made = sampler_kind(kind).build(card, [])
    whole = {c.key: c for c in made.sample(tiny_model, PROMPTS[:5], 3, 0, task="t")}
    again = {c.key: c for c in made.sample(tiny_model, PROMPTS[4::-1], 3, 0, task="t")}
    assert again == whole
    assert len({c.text for c in whole.values()}) > 10


def test_relevance_on_the_tiny_model_is_the_mean_over_tokens(tiny_model: HFModel):
    requests = build_mixture(sampler_card(), []).requests(PROMPTS[:1], 1, 0, task="t")
    text = "    return x\n"
    [logprobs] = tiny_model.next_token_logprobs([(PROMPTS[0].text, text)], [Member("b", None, requests[0].decoding)])
    tail = tiny_model.encode_pair("", text)[1][:-1]
    assert logprobs is not None
    mean = np.mean([logprobs[0, i, t] for i, t in enumerate(tail)])
    found = token_probabilities(tiny_model, requests, [text], [Member("b", None, requests[0].decoding)])
    assert found[0] == pytest.approx(np.exp(mean), abs=1e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("options.pool = 0", r"options\.pool is 0; it must be at least 1"),
        ('options.relevance = "likelihood"', r"options\.relevance is 'likelihood'; did you mean 'loglikelihood'\?"),
        ("options.trade = 2", r"options\.trade is 2\.0; it is a share between 0 and 1"),
        ("options.pol = 3", r"unknown key 'options\.pol' in .*; did you mean 'options\.pool'\?"),
        ('members = 2\nadapters = "seeds"', r"kind 'oversample-mmr' has one member, and the card has 2; set members = 1"),
    ],
)
def test_a_card_that_cannot_be_is_refused(tmp_path: Path, line: str, message: str):
    path = tmp_path / "card.toml"
    path.write_text(f'description = "x"\nkind = "oversample-mmr"\n{line}\n')
    with pytest.raises(CardError, match=message):
        load_sampler_card(str(path))


def test_a_run_says_in_its_spec_what_was_thrown_away(tmp_path: Path, three: Path, sandbox: Any):
    def answer(request: Request) -> str:
        return RIGHT[request.problem_id] if request.draw == 3 else WRONG

    options = oversample_dpp.DppOptions(pool=5)
    folder = mock_run(tmp_path / "runs", three, answer, n=2, kind="oversample-dpp", options=options)
    assert folder.spec["sampler"]["options"] == {"pool": 5, "relevance": "none"}
    records = folder.records()
    assert {r.raw for r in records.values() if r.problem == "three/add"} == {RIGHT["three/add"], WRONG}
    assert sum(r.spent or 0 for r in records.values()) == 3 * 5
