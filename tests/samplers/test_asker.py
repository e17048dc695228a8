"""What samplers that ask share: steps over problems side by side, seeds, an account of all tokens, failures, and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from doubles import sampler_card
from scripted import CODE, TEXT, Scripted, lost
from spa_bench.cards.kinds import NoOptions
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.mock import MockModel as MockEngine
from spa_bench.samplers.asking.asker import CHUNK, Asker, asking_kind
from spa_bench.samplers.asking.case import Answer, Case, Steps, failed
from spa_bench.samplers.asking.words import conversation, problem_text
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Completion, Decoding, Key, Member, Prompt, Request


@dataclass(frozen=True)
class Words:
    system: str = ""
    program: str = "PROGRAM\n"
    text: str = "TEXT\n"


def plan_then_drafts(case: Case) -> Steps:
    """A step of one question, then one of n."""
    [plan] = yield [case.ask("plan", limit=3)]
    drafts = yield [case.ask(f"draft {i} of {plan.text}") for i in range(case.n)]
    return [case.answer(d, step="draft") for d in drafts]


def sampled(
    procedure: Any, model: Any, prompts: Sequence[Prompt], n: int = 2, done: Sequence[Key] = (), **words: str
) -> list[Completion]:
    sampler = Asker(sampler_card(), [], procedure, wording=Words(**words))
    return list(sampler.sample(model, prompts, n, 5, task="t", done=done))


def prompts(count: int) -> list[Prompt]:
    return [replace(TEXT, problem_id=f"p{i}") for i in range(count)]


def test_a_step_of_all_problems_is_one_call_and_a_chunk_is_done_before_the_next():
    calls: list[list[str]] = []

    class Counting(Scripted):
        def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Any:
            calls.append([r.problem_id for r in requests])
            return super().generate(requests, members)

    found = sampled(plan_then_drafts, Counting(lambda r: "red"), prompts(CHUNK + 1))
    first = [f"p{i}" for i in range(CHUNK)]
    assert calls == [first, [p for p in first for _ in range(2)], [f"p{CHUNK}"], [f"p{CHUNK}"] * 2]
    assert {c.key for c in found} == {Key(f"p{i}", 0, d) for i in range(CHUNK + 1) for d in range(2)}


def test_questions_have_the_seed_of_their_place_and_keys_that_count():
    model = Scripted(lambda r: "red")
    sampled(plan_then_drafts, model, [TEXT])
    assert [(r.draw, r.seed) for r in model.requests] == [
        (0, derive_seed(5, "t", "text", "asking", 0, 0)),
        (1, derive_seed(5, "t", "text", "asking", 1, 0)),
        (2, derive_seed(5, "t", "text", "asking", 1, 1)),
    ]
    assert [r.decoding.max_new_tokens for r in model.requests] == [3, 7, 7]
    assert {r.decoding.stop for r in model.requests} == {()}
    assert {r.decoding.temperature for r in model.requests} == {0.8}


def test_a_problem_does_not_depend_on_the_others():
    def by_seed(request: Request) -> str:
        return f"colour {request.seed}"

    together = {c.key: c for c in sampled(plan_then_drafts, Scripted(by_seed), prompts(5))}
    for prompt in prompts(5):
        for alone in sampled(plan_then_drafts, Scripted(by_seed), [prompt]):
            assert together[alone.key] == alone


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_tokens_spent_are_all_that_were_drawn_failures_included(n: int):
    def answer(request: Request) -> str | Completion:
        return "a plan" if request.draw == 0 else lost(request, spent=5) if request.draw == 1 else "red"

    found = sampled(plan_then_drafts, Scripted(answer), [TEXT], n)
    assert sum(c.spent or 0 for c in found) == 6 + 5 + 3 * (n - 1)
    spent = [c.spent or 0 for c in found]
    assert max(spent) - min(spent) <= 1
    assert [c.tokens for c in found] == [0] + [3] * (n - 1)


@pytest.mark.parametrize("finish", ["skipped", "failed"])
def test_a_failed_question_is_the_failure_of_its_answer(finish: str):
    found = sampled(plan_then_drafts, Scripted(lambda r: lost(r, "memory", finish=finish) if r.draw == 2 else "red"), [TEXT])
    assert [(c.finish, c.failure, c.text) for c in found] == [("stop", "", "red"), (finish, "draft: memory", "")]


def test_what_is_done_is_left_out_and_a_problem_with_a_gap_is_asked_again():
    whole = {c.key: c for c in sampled(plan_then_drafts, Scripted(lambda r: str(r.seed)), prompts(3))}
    model = Scripted(lambda r: str(r.seed))
    done = [Key("p0", 0, 0), Key("p0", 0, 1), Key("p1", 0, 1)]
    rest = {c.key: c for c in sampled(plan_then_drafts, model, prompts(3), done=done)}
    assert rest == {k: c for k, c in whole.items() if k not in done}
    assert {r.problem_id for r in model.requests} == {"p1", "p2"}


def test_a_procedure_must_give_n_answers():
    def short(case: Case) -> Steps:
        yield [case.ask("x")]
        return [Answer(text="a", tokens=1)]

    with pytest.raises(ValueError, match="the procedure gave 1 answers for n = 2"):
        sampled(short, Scripted(lambda r: "red"), [TEXT])


def test_a_step_without_questions_is_passed_over():
    def idle(case: Case) -> Steps:
        nothing = yield []
        assert list(nothing) == []
        return [failed("nothing was asked")] * case.n

    assert [c.failure for c in sampled(idle, Scripted(lambda r: "red"), [TEXT])] == ["nothing was asked"] * 2


def test_choices_are_those_of_the_problem_and_their_name():
    seen: dict[tuple[str, str], list[int]] = {}

    def choosing(case: Case) -> Steps:
        for name in ("a", "b", "a"):
            numbers = case.choices(name).integers(1000, size=4).tolist()
            assert seen.setdefault((case.prompt.problem_id, name), numbers) == numbers
        yield []
        return [failed("")] * case.n

    sampled(choosing, Scripted(lambda r: ""), prompts(2))
    assert len({tuple(v) for v in seen.values()}) == 4


def test_another_temperature_is_of_its_question_alone():
    def two(case: Case) -> Steps:
        replies = yield [case.ask("x", temperature=0.0), case.ask("y")]
        return [case.answer(r) for r in replies]

    model = Scripted(lambda r: "red")
    sampled(two, model, [TEXT])
    assert [r.decoding.temperature for r in model.requests] == [0.0, 0.8]


def test_a_text_can_be_scored_as_the_answer_to_a_question():
    values: list[float | None] = []

    def scoring(case: Case) -> Steps:
        replies = yield [
            case.ask("x"),
            replace(case.ask("How good?"), scored="four"),
            replace(case.ask("y" * 5000), scored="too long"),
        ]
        values.extend(r.logprob for r in replies)
        return [case.answer(replies[0])] * case.n

    found = sampled(scoring, Scripted(lambda r: "red"), [TEXT])
    assert values == [None, -4.0, None]  # the double gives one nat less for each character
    assert sum(c.spent or 0 for c in found) == 3
    bare = type("Bare", (Scripted,), {"encode_pair": None, "name": "bare"})
    with pytest.raises(ModelError, match="'bare' has none"):
        sampled(scoring, bare(lambda r: "red"), [TEXT])


# answers -------------------------------------------------------------------------------------------------------------


def test_an_answer_stands_behind_its_marker_and_a_program_in_its_block():
    def once(case: Case) -> Steps:
        replies = yield [case.ask("x") for _ in range(case.n)]
        return [case.answer(r) for r in replies]

    said = "I think.\n### Answer\n```python\ndef f(x):\n    return 1\n```\n"
    [found] = sampled(once, Scripted(lambda r: said), [CODE], 1)
    assert (found.text, found.whole, found.finish) == ("def f(x):\n    return 1\n", True, "stop")
    assert found.tokens == round(len(said) * len(found.text) / len(said))
    assert found.spent == len(said)
    [text] = sampled(once, Scripted(lambda r: "Hm.\n**Final answer:** red\n"), [TEXT], 1)
    assert text.text == "red"
    [empty] = sampled(once, Scripted(lambda r: " \n"), [TEXT], 1)
    assert (empty.finish, empty.failure) == ("failed", "the reply holds no answer")


def test_a_program_that_begins_with_the_prompt_is_stored_without_it_unless_the_task_asks_in_messages():
    def once(case: Case) -> Steps:
        replies = yield [case.ask("x")]
        return [case.answer(r) for r in replies]

    whole = CODE.text.lstrip("\n") + "    return 1"
    [found] = sampled(once, Scripted(lambda r: whole), [CODE], 1)
    assert (found.text, found.whole) == ("    return 1", False)
    [chat] = sampled(once, Scripted(lambda r: whole), [replace(CODE, messages=(("user", "Write f."),))], 1)
    assert (chat.text, chat.whole) == (whole, True)


def test_the_limit_is_told_where_it_leaves_no_answer():
    def once(case: Case) -> Steps:
        replies = yield [case.ask("x", limit=2)]
        return [case.answer(r) for r in replies]

    model = Scripted(lambda r: "  red")
    model.cuts = True
    [cut] = sampled(once, model, [TEXT], 1)
    assert (cut.failure, cut.finish) == ("the reply holds no answer and was cut at its limit", "failed")
    model = Scripted(lambda r: "redder")
    model.cuts = True
    [part] = sampled(once, model, [TEXT], 1)
    assert (part.text, part.finish) == ("re", "length")


# words ---------------------------------------------------------------------------------------------------------------


def test_the_problem_is_the_beginning_of_the_program_or_the_last_turn_of_the_user():
    chat = (
        ("system", "be"),
        ("user", "1+1?"),
        ("assistant", "2"),
        ("user", "2+2?\nEnd with a number."),
        ("assistant", "It is"),
    )
    assert problem_text(CODE) == 'def f(x):\n    """{n} {answer}"""'
    assert problem_text(replace(CODE, messages=chat)) == problem_text(CODE)
    assert problem_text(TEXT) == "Name a colour."
    assert problem_text(replace(TEXT, messages=chat)) == "2+2?\nEnd with a number."


def test_earlier_turns_of_the_task_are_kept_and_system_messages_are_joined():
    turns = [("user", "mine")]
    assert conversation(TEXT, "", turns) == (("user", "mine"),)
    assert conversation(TEXT, "sys", turns) == (("system", "sys"), ("user", "mine"))
    chat = (("system", "be"), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "It is"))
    asked = replace(TEXT, messages=chat)
    assert conversation(asked, "", turns) == (("system", "be"), ("user", "1+1?"), ("assistant", "2"), ("user", "mine"))
    assert conversation(asked, "sys", turns)[0] == ("system", "sys\n\nbe")


def test_a_template_has_the_problem_and_the_words_for_its_kind_of_answer():
    said: list[str] = []

    def wording(case: Case) -> Steps:
        said.append(case.words('{prompt}|{answer}|{n}|{{n}}|{ "a": {} }', {"n": 3}))
        yield []
        return [failed("")] * case.n

    sampled(wording, Scripted(lambda r: ""), [CODE, TEXT])
    assert said == [
        'def f(x):\n    """{n} {answer}"""|PROGRAM|3|{n}|{ "a": {} }',
        'Name a colour.|TEXT|3|{n}|{ "a": {} }',
    ]


# members -------------------------------------------------------------------------------------------------------------


def test_answers_are_shared_out_to_the_members_in_order():
    card = sampler_card(members=2, adapters="served", served=("left", "right"))

    def each(case: Case) -> Steps:
        assert case.names == ("left", "right", "third")
        replies = yield [case.ask("x", member=i % 3) for i in range(case.n)]
        return [case.answer(r) for r in replies]

    sampler = Asker(card, [], each, wording=Words(), others=[Member("third", None, Decoding(temperature=0.5))])
    model = Scripted(lambda r: f"m{r.member}")
    found = {c.key: c.text for c in sampler.sample(model, [TEXT], 4, 0, task="t")}
    assert found == {Key("text", 0, 0): "m0", Key("text", 0, 1): "m1", Key("text", 1, 0): "m2", Key("text", 1, 1): "m0"}
    with pytest.raises(UsageError, match="n is 3; mock-sampler needs a positive multiple of its 2"):
        list(sampler.sample(model, [TEXT], 3, 0, task="t"))


def test_a_kind_that_asks_is_together_and_refuses_models_without_a_chat_template():
    kind = asking_kind(Words, lambda case, options: plan_then_drafts(case))
    assert kind.together
    assert not kind.goes_on
    assert kind.options is not NoOptions
    kind.check_model(sampler_card(), MockEngine())

    class Plain(MockEngine):
        def check_chat(self) -> None:
            raise ModelError("no chat template")

    with pytest.raises(ModelError, match="no chat template"):
        kind.check_model(sampler_card(), Plain())
