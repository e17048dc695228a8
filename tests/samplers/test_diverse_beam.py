"""Diverse beam search as a sampler: which beams are the n answers, and what their search cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from doubles import MockModel, mock_run, sampler_card
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError, ModelError, UsageError
from spa_bench.models.base import Beams
from spa_bench.models.beams import BeamSearch
from spa_bench.models.hf.model import HFModel
from spa_bench.samplers.diverse_beam import DiverseBeam, DiverseBeamOptions, build
from spa_bench.types import Completion, Key, Member, Prompt, Request

PROMPTS = [
    Prompt(problem_id="a", text="def a():\n", max_new_tokens=8, stop=("\n\n",)),
    Prompt(problem_id="b", text="def b():\n", max_new_tokens=16, stop=()),
]


class Searcher(MockModel):
    """A mock whose beam b of group g is the text `gGbB`, or that fails for the problems it is told."""

    def __init__(self, failing: str = "") -> None:
        super().__init__(lambda request: "")
        self.failing = failing
        self.searches: list[tuple[Request, Member, BeamSearch]] = []

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        for request in reversed(requests):
            self.searches.append((request, member, search))
            if request.problem_id in self.failing:
                yield Beams(
                    request, ((Completion(key=request.key, text="", tokens=0, finish="failed", seed=0, failure="lost"),),), 5
                )
                continue
            groups = tuple(
                tuple(
                    Completion(key=request.key, text=f"g{g}b{b}", tokens=3, finish="stop", seed=0) for b in range(search.width)
                )
                for g in range(search.groups)
            )
            yield Beams(request, groups, 101)


def sampler(**options: Any) -> DiverseBeam:
    return build(sampler_card(kind="diverse-beam", options=DiverseBeamOptions(**options)), [])


def texts(n: int, **options: Any) -> list[str]:
    found = {c.key: c.text for c in sampler(**options).sample(Searcher(), PROMPTS, n, 0, task="t")}
    assert found.keys() == {Key(p, 0, d) for p in "ab" for d in range(n)}
    return [found["a", 0, d] for d in range(n)]


def test_the_answers_are_the_best_beams_of_as_many_groups():
    assert texts(3) == ["g0b0", "g1b0", "g2b0"]
    assert texts(1) == ["g0b0"]


def test_with_fewer_groups_the_second_beams_follow():
    assert texts(3, groups=2) == ["g0b0", "g1b0", "g0b1"]
    assert texts(3, groups=5) == ["g0b0", "g1b0", "g2b0"]


@pytest.mark.parametrize("n", [0, 5])
def test_more_answers_than_beams_are_refused_before_the_search(n: int):
    model = Searcher()
    with pytest.raises(UsageError, match=rf"n is {n}, but mock-sampler has 2 groups of 2 beams: choose n between 1 and 4"):
        list(sampler(groups=2).sample(model, PROMPTS, n, 0, task="t"))
    assert model.searches == []


def test_the_search_has_the_cards_options_and_the_tasks_limits():
    model = Searcher()
    list(sampler(groups=3, width=4, penalty=0.7, length_power=0.2).sample(model, PROMPTS, 3, 0, task="t"))
    assert {search for _, _, search in model.searches} == {BeamSearch(3, 4, 0.7, 0.2)}
    decodings = {r.problem_id: (r.decoding.max_new_tokens, r.decoding.stop) for r, _, _ in model.searches}
    assert decodings == {"a": (8, ("\n\n",)), "b": (16, ())}


def test_the_tokens_of_all_beams_are_accounted_for():
    found = list(sampler().sample(Searcher(), PROMPTS, 4, 0, task="t"))
    assert sum(c.spent or 0 for c in found if c.key.problem == "a") == 101


def test_a_search_that_failed_is_n_failures_with_its_cause():
    found = list(sampler().sample(Searcher("b"), PROMPTS, 3, 0, task="t"))
    lost = [c for c in found if c.key.problem == "b"]
    assert [(c.finish, c.failure, c.text) for c in lost] == [("failed", "lost", "")] * 3
    assert sum(c.spent or 0 for c in lost) == 5
    assert not any(c.failure for c in found if c.key.problem == "a")


def test_a_problem_that_is_done_is_not_searched_and_one_half_done_gives_what_is_missing():
    model, done = Searcher(), {Key("a", 0, 0), Key("a", 0, 1), Key("b", 0, 1)}
    rest = list(sampler().sample(model, PROMPTS, 2, 0, task="t", done=done))
    assert [r.problem_id for r, _, _ in model.searches] == ["b"]
    assert [(c.key, c.text) for c in rest] == [(Key("b", 0, 0), "g0b0")]


def test_a_model_that_cannot_search_is_named():
    with pytest.raises(ModelError, match=r"mock-sampler needs a model that can search with beams, and 'mock' cannot"):
        list(sampler().sample(MockModel(lambda r: ""), PROMPTS, 2, 0, task="t"))


def test_the_tiny_model_gives_the_same_answers_in_any_order(tiny_model: HFModel):
    whole = {c.key: c for c in sampler(penalty=2.0).sample(tiny_model, PROMPTS, 3, 0, task="t")}
    assert {c.key: c for c in sampler(penalty=2.0).sample(tiny_model, PROMPTS[::-1], 3, 5, task="t")}.keys() == whole.keys()
    done = {Key("a", 0, d) for d in range(3)}
    rest = {c.key: c for c in sampler(penalty=2.0).sample(tiny_model, PROMPTS, 3, 0, task="t", done=done)}
    assert rest == {k: c for k, c in whole.items() if k not in done}
    assert len({c.text for c in whole.values()}) > 3
    other_seed = {c.key: c.text for c in sampler(penalty=2.0).sample(tiny_model, PROMPTS[::-1], 3, 5, task="t")}
    assert other_seed == {k: c.text for k, c in whole.items()}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("options.groups = -1", r"options\.groups is -1; it must be at least 0"),
        ("options.width = 0", r"options\.width is 0; it must be at least 1"),
        ("options.penalty = -0.5", r"options\.penalty is -0\.5; it must be finite and not negative"),
        ("options.length_power = inf", r"options\.length_power is inf; it must be finite and not negative"),
        ("options.with = 2", r"unknown key 'options\.with' .*did you mean 'options\.width'\?"),
        ("decoding.temperature = 0.5", r"kind 'diverse-beam' searches and does not draw; remove \[decoding\]"),
        ('members = 2\nadapters = "seeds"', r"kind 'diverse-beam' has one member, and the card has 2"),
    ],
)
def test_a_card_that_cannot_be_is_refused(tmp_path: Path, line: str, message: str):
    path = tmp_path / "card.toml"
    path.write_text(f'description = "x"\nkind = "diverse-beam"\n{line}\n')
    with pytest.raises(CardError, match=message):
        load_sampler_card(str(path))


def test_a_run_has_the_options_in_its_spec(tmp_path: Path, three: Path, sandbox: Any):
    options = DiverseBeamOptions(penalty=0.7)
    folder = mock_run(tmp_path / "runs", three, Searcher(), n=3, kind="diverse-beam", options=options)
    assert folder.spec["sampler"]["options"] == {"groups": 0, "width": 2, "penalty": 0.7, "length_power": 1.0}
    assert len(folder.records()) == 9
