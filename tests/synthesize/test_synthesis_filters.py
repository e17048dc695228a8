"""The filters between drafts and pairs: what falls where, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spa_bench.spa.data.near import NearIndex, shingles_of, words_of
from spa_bench.spa.synthesize.base import Draft
from spa_bench.spa.synthesize.filters import FILTERS, SURPLUS, Fate, Filters, Funnel, Limits
from spa_bench.spa.synthesize.programs import CodeFilter
from spa_bench.types import Example, Problem

LONG = "the quick brown fox jumps over the lazy dog and runs along the river to the old mill"


def no_run(programs: Sequence[str]) -> list[str]:
    return [""] * len(programs)


def filters(
    targets: Sequence[Example] = (),
    *,
    near: float = 0.8,
    limits: Limits | None = None,
    problems: Sequence[Problem] | None = None,
    level: str = "none",
) -> Filters:
    code = CodeFilter(level=level, programs=False, run=no_run)
    return Filters(targets=targets, code=code, near=near, limits=limits or Limits(), problems=problems)


def pair(prompt: str, completion: str) -> Draft:
    return Draft(text=prompt + completion, example=Example(prompt, completion))


def fell(drafts: Sequence[Draft], made: Filters, room: int = 100) -> list[tuple[str, str]]:
    return [(fate.fell, fate.why) for fate in made.sift(drafts, room)]


def test_each_filter_says_why():
    unlimited = Limits(fits=lambda one: len(one.completion) < 200, said="200 letters")
    problem = Problem(id="p", prompt=f"Say: {LONG}", reference="")
    target = pair("Who is first?", "Ann").example
    assert target
    drafts = [
        Draft(text="", failure="the reply was cut at its limit"),
        Draft(text="what"),
        pair(" \n", "Ann"),
        pair("Who?", ""),
        pair("Who?", "x" * 200),
        pair("Who is first? ", "Ann\n"),
        pair("Repeat", LONG),
        pair("Where?", "There"),
    ]
    assert fell(drafts, filters([target], limits=unlimited, problems=[problem])) == [
        ("readable", "the reply was cut at its limit"),
        ("readable", "there is no pair in it"),
        ("text", "the prompt is empty"),
        ("text", "the completion is empty"),
        ("fits", "longer than 200 letters"),
        ("exact", "equal to a target"),
        ("overlap", "ngram"),
        ("", ""),
    ]


def test_a_duplicate_of_an_earlier_round_falls():
    made = filters()
    assert fell([pair("a b", "c"), pair("a b", "c")], made) == [("", ""), ("exact", "equal to an earlier pair")]
    assert fell([pair("a b", "c")], made) == [("exact", "equal to an earlier pair")]


def test_remembered_pairs_are_those_of_an_earlier_process():
    made = filters()
    made.remember([Example("a b", "c")])
    assert fell([pair("a b", "c")], made) == [("exact", "equal to an earlier pair")]


@pytest.mark.parametrize(("near", "kept"), [(0.7, False), (0.95, True)])
def test_near_duplicates_fall_from_the_threshold_on(near: float, kept: bool):
    one, other = pair("Tell", LONG), pair("Tell", LONG + " again")
    a, b = (shingles_of(words_of(f"Tell\n{x.example.completion}")) for x in (one, other) if x.example)
    assert 0.9 < len(a & b) / len(a | b) < 0.95
    assert fell([one, other], filters(near=near))[1] == (("", "") if kept else ("near", "alike to an earlier pair"))


def test_a_valid_draft_may_follow_an_invalid_one_like_it():
    made = filters(level="parse")
    drafts = [pair("def f(x):\n", "    return (\n"), pair("def f(x):\n", "    return x\n")]
    assert fell(drafts, made) == [("code", "does not parse"), ("", "")]


def test_what_comes_when_there_are_enough_is_surplus():
    made = filters()
    assert fell([pair("a", "b"), pair("c", "d")], made, room=1) == [("", ""), (SURPLUS, "")]
    assert fell([pair("c", "d")], made, room=1) == [("", "")]  # it was not kept


def test_the_index_finds_what_brute_force_finds():
    words = LONG.split()
    texts = [" ".join(words[i:] + words[:i]) for i in range(len(words))] + ["a b", "a b c"]
    index = NearIndex(0.6)
    for text in texts:
        index.add(text)
    for text in [" ".join(words[:-2]), "a b", "nothing like it at all, nor near"]:
        own = shingles_of(words_of(text))
        all_of = [len(own & (s := shingles_of(words_of(t)))) / len(own | s) for t in texts]
        best = max(all_of)
        assert index.nearest(text) == ((all_of.index(best), best) if best >= 0.6 else None)


def test_texts_without_a_word_are_not_near_to_one_another():
    index = NearIndex(0.8)
    index.add("+ - *")
    assert index.nearest("?! ... $$") is None
    assert fell([pair("+ -", "*"), pair("?!", "$$")], filters()) == [("", ""), ("", "")]


def test_the_funnel_adds_up():
    funnel = Funnel()
    funnel.count([Fate("readable", "a"), Fate("readable", "a"), Fate("near", "b"), Fate(SURPLUS), Fate()])
    rows = {row["filter"]: row for row in funnel.rows()}
    assert list(rows) == list(FILTERS)
    assert (rows["readable"]["got"], rows["readable"]["kept"], rows["readable"]["fell"]) == (5, 3, {"a": 2})
    assert (rows["overlap"]["got"], rows["overlap"]["kept"], rows["overlap"]["share"]) == (2, 2, 1.0)
    assert funnel.said() == "2 readable: a, 1 near: b"


def test_a_share_of_nothing_is_none():
    assert {row["share"] for row in Funnel().rows()} == {None}
