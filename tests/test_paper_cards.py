"""The cards of the SPA paper's recipes have its numbers."""

import pytest

from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.training import LoraCard
from spa_bench.errors import CardError

METHODS = ("influence", "lexical", "random", "single")
CARDS = {(domain, method): load_sampler_card(f"paper-{domain}-{method}") for domain in ("code", "nlu") for method in METHODS}
SPA = [(domain, method) for domain, method in CARDS if method != "single"]


@pytest.mark.parametrize("method", METHODS)
def test_code_adapters_are_trained_as_in_the_paper(method: str):
    lora = CARDS["code", method].lora
    assert (lora.rank, lora.alpha, lora.steps, lora.warmup) == (16, 16.0, 400, 20)
    assert (lora.batch, lora.accumulation) == (1, 20 * 3)
    assert (lora.learning_rate, lora.schedule, lora.precision) == (2e-4, "cosine", "bfloat16")


@pytest.mark.parametrize("method", METHODS)
def test_text_adapters_are_trained_as_in_the_paper(method: str):
    lora = CARDS["nlu", method].lora
    assert (lora.steps, lora.batch, lora.accumulation, lora.learning_rate, lora.warmup) == (400, 1, 4, 1e-4, 20)
    assert (lora.rank, lora.alpha, lora.schedule, lora.precision) == (16, 16.0, "cosine", "bfloat16")


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda c: c.name)
def test_what_the_paper_does_not_say_is_our_default(card: SamplerCard):
    ours = LoraCard()
    for key in ("dropout", "targets", "weight_decay", "clip", "loss", "length", "packing", "epochs", "together"):
        assert getattr(card.lora, key) == getattr(ours, key)


@pytest.mark.parametrize(("domain", "method"), SPA)
def test_spa_has_eight_members_of_one_greedy_answer_each(domain: str, method: str):
    card = CARDS[domain, method]
    assert (card.members, card.draws, card.adapters, card.decoding.temperature) == (8, 8, "parts", 0.0)


@pytest.mark.parametrize(("domain", "method"), CARDS)
def test_data_and_queries_are_the_domains(domain: str, method: str):
    data = CARDS[domain, method].data
    names = {"code": "hub:ise-uiuc/Magicoder-OSS-Instruct-75K", "nlu": "hub:garage-bAInd/Open-Platypus"}
    assert data.examples == names[domain]
    if method != "single":
        assert data.queries == {"code": "code", "nlu": "text"}[domain]


@pytest.mark.parametrize(("domain", "repeats"), [("code", 500), ("nlu", 200)])
def test_influence_is_the_papers_estimator_with_its_settings(domain: str, repeats: int):
    card = CARDS[domain, "influence"]
    attribution = card.attribution
    assert (attribution.method, attribution.curvature) == ("influence", "lissa")
    assert (attribution.damping, attribution.damping_kind) == (0.001, "absolute")
    assert (attribution.depth, attribution.repeats) == (120, repeats)
    assert attribution.checkpoints == (card.lora.steps,)  # one adapter that was trained on all data
    assert (card.partition.method, card.partition.scale) == ("argmax", "zscore")


@pytest.mark.parametrize("domain", ["code", "nlu"])
def test_the_other_methods_are_bm25_random_parts_and_one_adapter(domain: str):
    lexical, parts, single = (CARDS[domain, method] for method in METHODS[1:])
    assert (lexical.attribution.method, lexical.attribution.variant) == ("bm25", "plus")
    assert (lexical.partition.method, lexical.partition.scale) == ("argmax", "zscore")
    assert (parts.attribution.method, parts.partition.method, parts.partition.capacity) == ("random", "balanced", 1.0)
    assert (single.members, single.adapters, single.decoding.temperature, single.draws) == (1, "all", 0.1, 8)


@pytest.mark.parametrize("domain", ["code", "nlu"])
def test_the_recipes_of_a_domain_differ_in_the_parts_alone(domain: str):
    assert len({CARDS[domain, method].lora for method in METHODS}) == 1
    assert len({CARDS[domain, method].data for method in METHODS[:3]}) == 1


def test_damping_is_relative_unless_a_card_says_otherwise():
    assert load_sampler_card("spa-influence").attribution.damping_kind == "relative"
    with pytest.raises(CardError, match=r"attribution\.damping_kind is 'absolut'; did you mean 'absolute'\?"):
        load_sampler_card("spa-influence", {"attribution.damping_kind": "absolut"})
