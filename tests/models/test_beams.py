"""Diverse beam search: equal to a naive search over the whole vocabulary, alone and over the tiny transformer."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from spa_bench.models.base import BeamModel, Beams
from spa_bench.models.beams import Beam, BeamSearch, Groups, advance, candidates_needed, start
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.types import Decoding, Key, Member, Request
from tiny import random_adapter

PROMPTS = [
    f"def f{i}(nums):\n" + f'    """Return {"the sum of " * (i % 4)}the numbers above {i}."""\n' * (1 + i % 3) for i in range(7)
]
BASE = Member("base", None, Decoding())
Logprobs = Callable[[tuple[int, ...]], Sequence[float]]


def table(seed: int, vocabulary: int) -> Logprobs:
    """Log-probabilities of the next token after every prefix, at random."""

    @cache
    def after(prefix: tuple[int, ...]) -> list[float]:
        weights = [random.Random(f"{seed} {prefix} {t}").gauss(0, 1.5) for t in range(vocabulary)]
        total = math.log(sum(map(math.exp, weights)))
        return [w - total for w in weights]

    return after


def searched(after: Logprobs, search: BeamSearch, *, end: int, steps: int) -> Groups:
    """`advance` over the most likely tokens alone, as the network's search uses it."""
    groups = start(search)
    for step in range(steps):
        likely = {
            (g, b): sorted(enumerate(after(beam.tokens)), key=lambda pair: (-pair[1], pair[0]))[: candidates_needed(search)]
            for g, group in enumerate(groups)
            for b, beam in enumerate(group)
            if not beam.ended
        }
        if not likely:
            break
        moved = advance(groups, likely, search)
        last = step == steps - 1
        groups = tuple(tuple(replace(b, ended=b.tokens[-1] == end or last) for b in group) for group in moved)
    return groups


def naive(after: Logprobs, search: BeamSearch, *, end: int, steps: int) -> list[list[tuple[tuple[int, ...], float]]]:
    """The same by its definition: every token of the vocabulary, one group after the other."""
    groups: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(search.groups)]
    for _ in range(steps):
        taken: list[int] = []
        for g, group in enumerate(groups):
            found = []
            for tokens, score in group:
                if tokens and tokens[-1] == end:
                    found.append((tokens, score, False))
                else:
                    for token, logprob in enumerate(after(tokens)):
                        found.append(((*tokens, token), score + logprob - search.penalty * taken.count(token), True))
            found.sort(key=lambda f: -f[1] / len(f[0]) ** search.length_power)
            groups[g] = [(tokens, score) for tokens, score, _ in found[: search.width]]
            taken += [tokens[-1] for tokens, _, new in found[: search.width] if new]
    return groups


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("search", [BeamSearch(3, 2, 0.5), BeamSearch(2, 3, 2.0, 0.0), BeamSearch(4, 1, 0.3, 0.6)])
def test_the_search_is_the_naive_one(seed: int, search: BeamSearch):
    after = table(seed, 7)
    found = searched(after, search, end=0, steps=5)
    expected = naive(after, search, end=0, steps=5)
    assert [[b.tokens for b in group] for group in found] == [[tokens for tokens, _ in group] for group in expected]
    for group, same in zip(found, expected, strict=True):
        assert [b.score for b in group] == pytest.approx([score for _, score in same])


@pytest.mark.parametrize("seed", range(5))
def test_a_group_wide_enough_for_everything_finds_the_best_sequence(seed: int):
    after, vocabulary, steps = table(seed, 3), 3, 4

    def score(tokens: tuple[int, ...]) -> float:
        return sum(after(tokens[:i])[t] for i, t in enumerate(tokens)) / len(tokens)

    ended = [
        tokens
        for length in range(1, steps + 1)
        for tokens in itertools.product(range(vocabulary), repeat=length)
        if 0 not in tokens[:-1] and (tokens[-1] == 0 or length == steps)
    ]
    search = BeamSearch(1, vocabulary**steps, 0.0)
    [[best, *_]] = searched(after, search, end=0, steps=steps)
    assert best.tokens == max(ended, key=score)


def test_the_penalty_the_width_and_the_length_power_change_what_is_found():
    def found(**changes: float) -> list[list[tuple[int, ...]]]:
        search = replace(BeamSearch(3, 2, 0.5), **changes)  # type: ignore[arg-type]
        return [[b.tokens for b in group] for group in searched(table(1, 7), search, end=0, steps=6)]

    assert found() != found(penalty=0.0)
    assert found()[0] != found(length_power=0.0)[0]
    assert [group[0] for group in found()] != [group[0] for group in found(width=1)]


def test_without_a_penalty_all_groups_are_the_same_and_a_large_one_keeps_first_tokens_apart():
    same = searched(table(0, 7), BeamSearch(3, 1, 0.0), end=0, steps=4)
    assert len({group[0].tokens for group in same}) == 1
    apart = searched(table(0, 7), BeamSearch(3, 1, 100.0), end=0, steps=4)
    assert len({group[0].tokens[0] for group in apart}) == 3


def test_an_ended_beam_keeps_its_place_until_a_better_one_takes_it():
    search = BeamSearch(1, 1, 0.0)
    ended = ((Beam((0,), -1.0, True),),)
    assert advance(ended, {}, search)[0][0].tokens == (0,)
    two = ((Beam((0,), -1.0, True), Beam((1,), -0.2)),)
    assert advance(two, {(0, 1): [(2, -0.1)]}, search)[0][0].tokens == (1, 2)


# over the network ----------------------------------------------------------------------------------------------------


def request(prompt: str, decoding: Decoding, problem: str = "p") -> Request:
    return Request(problem_id=problem, member=0, draw=0, kind="generate", prompt=prompt, decoding=decoding, seed=0)


def beams(model: HFModel, requests: Sequence[Request], search: BeamSearch, member: Member = BASE) -> dict[str, Beams]:
    found = {b.request.problem_id: b for b in model.diverse_beams(requests, member, search)}
    assert len(found) == len(requests)
    return found


@pytest.fixture(scope="module")
def adapted(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Member:
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder))
    folder, generator = tmp_path_factory.mktemp("adapter"), torch.Generator().manual_seed(0)
    random_adapter(network, folder, generator, rank=4, scale=0.3, targets=["q_proj", "down_proj"])
    return Member("adapted", folder, Decoding())


def test_the_tiny_model_is_one_that_can_search(tiny_model: HFModel):
    assert isinstance(tiny_model, BeamModel)


@pytest.mark.parametrize("stop", [(), ("re", "\n"), ("(",)])
def test_one_group_of_one_beam_without_a_penalty_is_greedy(stop: tuple[str, ...], tiny_model: HFModel, adapted: Member):
    decoding = Decoding(max_new_tokens=20, stop=stop)
    requests = [request(p, decoding, str(i)) for i, p in enumerate(PROMPTS)]
    for member in (BASE, adapted):
        greedy = {c.key.problem: c for c in tiny_model.generate(requests, [member])}
        found = beams(tiny_model, requests, BeamSearch(1, 1, 0.0), member)
        assert {problem: b.groups[0][0] for problem, b in found.items()} == greedy


@pytest.mark.parametrize("search", [BeamSearch(3, 2, 0.5), BeamSearch(2, 1, 3.0, 0.0)])
def test_the_beams_are_those_of_a_naive_search_over_plain_forward_passes(search: BeamSearch, tiny_model: HFModel):
    prompt = tiny_model.codec.prompt(PROMPTS[2])

    @cache
    def after(tokens: tuple[int, ...]) -> list[float]:
        with torch.inference_mode():
            logits = tiny_model.network(torch.tensor([[*prompt, *tokens]])).logits[0, -1]
        return torch.log_softmax(logits, -1).tolist()

    expected = naive(after, search, end=0, steps=5)
    found = beams(tiny_model, [request(PROMPTS[2], Decoding(max_new_tokens=5))], search)["p"]
    texts = [[tiny_model.codec.text(tokens) for tokens, _ in group] for group in expected]
    assert [[c.text for c in group] for group in found.groups] == texts
    assert len({t for group in texts for t in group}) > 1


@pytest.mark.parametrize("size", [1, 12, 64])
def test_beams_do_not_depend_on_what_is_searched_together(size: int, tiny_model: HFModel, tiny_folder: Path, adapted: Member):
    search = BeamSearch(3, 2, 0.5)
    requests = [request(p, Decoding(max_new_tokens=14 + i, stop=("\n ",)), str(i)) for i, p in enumerate(PROMPTS)]
    together = beams(tiny_model, requests, search, adapted)
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=size))
    assert beams(model, requests[::-1], search, adapted) == together
    assert beams(model, requests[2:3], search, adapted) == {"2": together["2"]}
    assert len({c.finish for b in together.values() for group in b.groups for c in group}) == 2


def test_the_penalty_makes_the_groups_differ(tiny_model: HFModel):
    requests = [request(p, Decoding(max_new_tokens=12), str(i)) for i, p in enumerate(PROMPTS)]
    for penalty, different in ((0.0, 1), (50.0, 4)):
        for found in beams(tiny_model, requests, BeamSearch(4, 1, penalty)).values():
            assert len({group[0].text for group in found.groups}) == different


def test_stop_strings_and_limits_are_those_of_generate(tiny_model: HFModel):
    decoding, alone = Decoding(max_new_tokens=30), BeamSearch(1, 1, 0.0)
    texts = {prompt: beams(tiny_model, [request(prompt, decoding)], alone)["p"].groups[0][0] for prompt in PROMPTS}
    prompt, whole = max(texts.items(), key=lambda found: len(found[1].text))
    for place in (2, 9, 15):
        stop = whole.text[place : place + 3]
        found = beams(tiny_model, [request(prompt, replace(decoding, stop=(stop,)))], BeamSearch(3, 1, 0.5))
        for answer in itertools.chain(*found["p"].groups):
            assert stop not in answer.text
            assert answer.tokens <= 30
        assert found["p"].groups[0][0].text == whole.text[: whole.text.index(stop)]
        assert found["p"].groups[0][0].finish == "stop"


def test_the_tokens_drawn_are_those_of_all_beams(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiny_model.codec, "ends", frozenset())  # no beam ends early
    found = beams(tiny_model, [request(PROMPTS[0], Decoding(max_new_tokens=6))], BeamSearch(3, 2, 0.5))["p"]
    assert found.drawn == 6 * 3 * 2


def test_a_prompt_without_room_is_skipped_and_does_not_disturb_its_company(tiny_model: HFModel):
    decoding = Decoding(max_new_tokens=6)
    found = beams(tiny_model, [request("1" * 2000, decoding, "long"), request(PROMPTS[0], decoding)], BeamSearch(2, 2, 0.5))
    [[skipped]] = found["long"].groups
    assert (skipped.key, skipped.finish, skipped.text) == (Key("long", 0, 0), "skipped", "")
    assert found["p"] == beams(tiny_model, [request(PROMPTS[0], decoding)], BeamSearch(2, 2, 0.5))["p"]
