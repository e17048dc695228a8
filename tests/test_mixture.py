import pytest

from doubles import MockModel, sampler_card
from spa_bench.cards.sampler import DecodingCard
from spa_bench.errors import UsageError
from spa_bench.samplers.mixture import Mixture, build
from spa_bench.types import Decoding, Key, Member, Prompt

PROMPTS = [
    Prompt(problem_id="a", text="def a():\n", max_new_tokens=8, stop=("\n\n",)),
    Prompt(problem_id="b", text="def b():\n", max_new_tokens=16, stop=()),
]
FOUR = Mixture("four", [Member(str(i), None, Decoding(temperature=0.1 * i)) for i in range(4)])


@pytest.mark.parametrize("r", [1, 3])
def test_n_draws_are_r_of_each_member(r: int):
    keys = [request.key for request in FOUR.requests(PROMPTS, 4 * r, 0, task="t")]
    assert set(keys) == {Key(p, m, d) for p in "ab" for m in range(4) for d in range(r)}
    assert len(keys) == 8 * r


@pytest.mark.parametrize("n", [0, 2, 6, -4])
def test_another_n_than_a_multiple_of_the_members_is_refused(n: int):
    with pytest.raises(UsageError, match=rf"n is {n}, but four has 4 members: n must be a multiple of 4"):
        FOUR.requests(PROMPTS, n, 0, task="t")


def test_a_request_has_the_members_decoding_with_the_tasks_length_and_stops():
    by_key = {r.key: r for r in FOUR.requests(PROMPTS, 4, 0, task="t")}
    assert by_key["a", 3, 0].decoding == Decoding(temperature=0.1 * 3, max_new_tokens=8, stop=("\n\n",))
    assert by_key["b", 0, 0].decoding == Decoding(temperature=0.0, max_new_tokens=16, stop=())
    assert by_key["b", 0, 0].prompt == "def b():\n"


def test_sampling_leaves_out_what_is_done():
    model = MockModel(lambda request: request.problem_id)
    done = {Key("a", m, 0) for m in range(4)}
    answers = list(FOUR.sample(model, PROMPTS, 4, 0, task="t", done=done))
    assert {a.key.problem for a in answers} == {"b"}
    assert len(answers) == len(model.asked) == 4


def test_a_card_without_adapters_is_one_member_on_the_base_model():
    mixture = build(sampler_card(decoding=DecodingCard(temperature=0.7, top_p=0.9, top_k=5, min_p=0.1)), [])
    assert [(m.adapter, m.decoding) for m in mixture.members] == [
        (None, Decoding(temperature=0.7, top_p=0.9, top_k=5, min_p=0.1))
    ]


def test_each_adapter_is_a_member_in_order(tmp_path):
    folders = [tmp_path / "x", tmp_path / "y"]
    mixture = build(sampler_card(members=2, adapters="seeds"), folders)
    assert [m.adapter for m in mixture.members] == folders
    assert len({m.name for m in mixture.members}) == 2
