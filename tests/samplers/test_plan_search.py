"""PlanSearch: observations, combinations of them, a plan for each leaf, and the program; with replies that hold none of it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from scripted import CODE, TEXT, Scripted, asked, lost
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError
from spa_bench.types import Completion, Key, Request

WORDS = {
    "first": "first {n} {prompt}",
    "second": "second {n} {prompt}\n{observations}",
    "plan": "plan {prompt}\n{observations}",
    "criticism": "criticise {plan} {prompt}",
    "revised": "revise {plan} {prompt} for {criticism}",
    "solution": "solve {prompt} by {plan} as {answer}",
}


def searched(request: Request) -> str:
    """Observations A and B; those derived of a combination have its name; plans repeat what they rest on."""
    asked = request.messages[-1][1]
    step = asked.split()[0]
    if step == "first":
        return "1. A\n2. B"
    rest = "+".join(re.findall(r"^- (.*)$", asked, re.MULTILINE)) or "none"
    if step == "second":
        return f"- of {rest}, one\n- of {rest}, two"
    if step == "plan":
        return f"plan on {rest}"
    return f"### Answer\n{asked}"


def search(model: Scripted, n: int = 4, prompts: Any = (TEXT,), **options: Any) -> dict[Key, Completion]:
    return asked("plan-search", model, prompts, n=n, **{**WORDS, "text": "T\n", **options})


def step(model: Scripted, name: str) -> list[str]:
    return [q for q in model.questions if q.startswith(name)]


def test_the_steps_are_asked_in_their_order_with_what_came_before():
    model = Scripted(searched)
    found = search(model, observations=7, derived=3)
    assert step(model, "first") == ["first 7 Name a colour."]
    seconds = step(model, "second")
    assert set(seconds) == {  # none, one or two of A and B together
        "second 3 Name a colour.\n(none: the task is enough)",
        "second 3 Name a colour.\n- A",
        "second 3 Name a colour.\n- B",
        "second 3 Name a colour.\n- A\n- B",
    }
    assert len(step(model, "plan")) == len(step(model, "solve")) == 4
    for solved in step(model, "solve"):
        assert re.fullmatch(r"solve Name a colour\. by plan on .+ as T", solved)
    assert sorted(c.text for c in found.values()) == sorted(step(model, "solve"))


def test_a_leaf_is_a_combination_or_what_is_derived_of_it_one_of_each_in_turn():
    model = Scripted(searched)
    search(model, n=20)
    own = {"A": {"A"}, "B": {"B"}, "A+B": {"A+B"}, "none": {"none"}}
    for name, leaves in own.items():
        derived = [f"of {name}, one", f"of {name}, two"]
        leaves |= {"+".join(c) for k in (1, 2) for c in combinations(derived, k)}
    order = [re.search(r"by plan on (.*) as T", q)[1] for q in step(model, "solve")]  # type: ignore[index]
    branch = {leaf: name for name, leaves in own.items() for leaf in leaves}
    assert sorted(order[:16]) == sorted(branch)  # 4 combinations with 4 leaves each, all once
    assert order[16:] == order[:4]
    for turn in range(4):
        assert {branch[leaf] for leaf in order[4 * turn : 4 * turn + 4]} == set(own)


def test_branches_and_sizes_bound_the_search():
    model = Scripted(searched)
    search(model, n=6, branches=2, size=1)
    assert len(step(model, "second")) == 2
    assert not any("A\n- B" in q for q in model.questions)
    model = Scripted(searched)
    search(model, n=3)
    assert len(step(model, "second")) == 3  # as many as there are answers


def test_replies_that_are_no_answer_have_a_limit_of_their_own():
    model = Scripted(searched)
    search(model, n=1, thought_tokens=500)
    assert [r.decoding.max_new_tokens for r in model.requests] == [500, 500, 500, 7]
    model = Scripted(searched)
    search(model, n=1)
    assert {r.decoding.max_new_tokens for r in model.requests} == {7}


@pytest.mark.parametrize("n", [1, 4, 5])
def test_the_tokens_of_every_step_are_spent(n: int):
    model = Scripted(searched)
    found = search(model, n=n)
    assert sum(c.spent or 0 for c in found.values()) == sum(len(searched(r)) for r in model.requests)


def test_without_observations_the_plan_rests_on_the_task_and_is_noted():
    model = Scripted(lambda r: "" if r.draw == 0 else searched(r))
    found = search(model, n=2)
    assert step(model, "second") == ["second 5 Name a colour.\n(none: the task is enough)"]
    assert {c.note for c in found.values()} == {"no observation could be read"}
    assert all(c.text for c in found.values())
    model = Scripted(lambda r: "I cannot." if r.messages[-1][1].startswith("second") else searched(r))
    found = search(model, n=2)
    assert {c.note for c in found.values()} == {"no second-order observation could be read"}
    order = {re.search(r"by plan on (.*) as T", q)[1] for q in step(model, "solve")}  # type: ignore[index]
    assert order <= {"A", "B", "A+B", "none"}


def test_failures_of_a_step_are_told():
    gone = search(Scripted(lambda r: lost(r, "no room", spent=4)), n=2)
    assert [(c.failure, c.finish) for c in gone.values()] == [("observations: no room", "skipped")] * 2
    assert sum(c.spent or 0 for c in gone.values()) == 4
    plans: list[str] = []

    def one_plan(request: Request) -> str | Completion:
        asked = request.messages[-1][1]
        if not asked.startswith("plan"):
            return searched(request)
        plans.append(asked)
        return {1: lost(request, "memory", finish="failed"), 2: " \n"}.get(len(plans), searched(request))

    model = Scripted(one_plan)
    found = search(model, n=4)
    failures = [c.failure for c in found.values()]
    assert sorted(failures) == ["", "", "plan: memory", "plan: the reply is empty"]
    assert len(step(model, "solve")) == 2
    solved = Scripted(lambda r: lost(r, "no room") if r.messages[-1][1].startswith("solve") else searched(r))
    assert {c.failure for c in search(solved, n=2).values()} == {"solution: no room"}


def test_a_program_is_asked_for_where_the_answers_are_programs():
    model = Scripted(
        lambda r: "### Answer\n```python\ndef f(x):\n    pass\n```" if "solve" in r.messages[-1][1] else searched(r)
    )
    found = search(model, n=2, prompts=(CODE,), program="PROGRAM\n")
    assert all(q.endswith("as PROGRAM") for q in step(model, "solve"))
    assert {(c.text, c.whole) for c in found.values()} == {("def f(x):\n    pass\n", True)}


def test_a_problem_that_was_stopped_gives_the_same_answers():
    whole = search(Scripted(searched), n=4, prompts=(TEXT, CODE))
    done = [Key("text", 0, d) for d in range(4)] + [Key("code", 0, 1)]
    model = Scripted(searched)
    assert search(model, n=4, prompts=(TEXT, CODE), done=done) == {k: c for k, c in whole.items() if k not in done}
    assert {r.problem_id for r in model.requests} == {"code"}


# criticism -----------------------------------------------------------------------------------------------------------


def criticised(request: Request) -> str:
    """As `searched`; a criticism and a second plan name the plan that they are of."""
    asked = request.messages[-1][1]
    what = re.match(r"(criticise|revise) plan on (.*?) Name a colour\.(?: for (.*))?", asked)
    if not what:
        return searched(request)
    return f"plan on {what[2]} mended as {what[3]}" if what[1] == "revise" else f"{what[2]} is wrong"


def by(found: dict[Key, Completion]) -> list[str]:
    return [re.search(r"by plan on (.*) as T", found[key].text)[1] for key in sorted(found)]  # type: ignore[index]


@pytest.mark.parametrize("n", [4, 5])
def test_a_criticism_makes_a_second_plan_of_each_and_both_are_carried_out(n: int):
    model = Scripted(criticised)
    found = search(model, n=n, criticise=True)
    first = by(found)[::2]
    assert len(set(first)) == -(-n // 2)
    assert by(found)[1::2] == [f"{plan} mended as {plan} is wrong" for plan in first[: n // 2]]
    assert [len(step(model, name)) for name in ("plan", "criticise", "revise", "solve")] == [-(-n // 2), n // 2, n // 2, n]
    assert sum(c.spent or 0 for c in found.values()) == sum(len(criticised(r)) for r in model.requests)
    assert {c.note for c in found.values()} == {None}


def test_criticisms_are_off_and_one_answer_has_none():
    model = Scripted(criticised)
    search(model, n=4)
    search(model, n=1, criticise=True)
    assert not step(model, "criticise")
    assert not step(model, "revise")


def test_a_stopped_search_with_criticisms_gives_the_same_answers():
    whole = search(Scripted(criticised), n=3, prompts=(TEXT, CODE), criticise=True)
    done = [Key("text", 0, 1)]
    model = Scripted(criticised)
    rest = search(model, n=3, prompts=(TEXT, CODE), done=done, criticise=True)
    assert rest == {k: c for k, c in whole.items() if k not in done}


def test_a_criticism_or_second_plan_that_fails_is_told_and_the_first_plan_stays():
    for what, said in (("criticise", "criticism"), ("revise", "second plan")):

        def failing(request: Request, what: str = what) -> str | Completion:
            return lost(request, "no room") if request.messages[-1][1].startswith(what) else criticised(request)

        found = search(Scripted(failing), n=4, criticise=True)
        assert [found[key].failure for key in sorted(found)] == ["", f"{said}: no room"] * 2
    gone = search(Scripted(lambda r: " " if r.messages[-1][1].startswith("plan") else criticised(r)), n=2, criticise=True)
    assert {c.failure for c in gone.values()} == {"plan: the reply is empty"}


def test_what_was_cut_is_noted_and_the_last_item_of_a_list_left_out():
    class Cut(Scripted):
        cuts = True

    model = Cut(lambda r: "1. A\n2. B and more" if r.draw == 0 else f"{criticised(r)}, and so on")
    found = search(model, n=2, prompts=(replace(TEXT, max_new_tokens=90),), thought_tokens=9, criticise=True)
    assert len(step(model, "second")) == 1  # as many as there are leaves
    assert not any("- B" in q for q in model.questions)
    lists = "the list of observations was cut at its limit; the list of second-order observations was cut at its limit"
    plans = "the plan was cut at its limit"
    more = "the criticism was cut at its limit; the second plan was cut at its limit"
    assert [found[key].note for key in sorted(found)] == [f"{lists}; {plans}", f"{lists}; {plans}; {more}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observations": 0}, "options.observations is 0; it must be between 1 and 1,000"),
        ({"size": 0}, "options.size is 0; it must be between 1 and 10"),
        (
            {"derived": 50, "size": 4},
            "options.derived is 50, which makes 251,176 combinations of at most 4; 20,000 are the most: set options.size or "
            "the number lower",
        ),
        ({"branches": -1}, "options.branches is -1; it must be between 0 and 1,000"),
        ({"thought_tokens": -1}, "options.thought_tokens is -1; it must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(CardError) as error:
        load_sampler_card("plan-search", {f"options.{k}": v for k, v in options.items()})
    assert str(error.value) == f"sampler 'plan-search': {message}"
