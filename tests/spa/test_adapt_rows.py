"""Which tokens count, how long a row may be, packed rows, and activations in half precision or computed twice."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf.checkpointing import checkpointed
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import Adapter, use_factors
from spa_bench.spa import packing
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.batches import Encoded, encode, fitting, pad, token_mean_losses
from spa_bench.spa.packing import Sample, check_blind, collate, first_fit, sample_losses
from spa_bench.types import Example

PAIRS = [
    Example(f"def f{i}(nums):\n" + "    # note\n" * (i % 5), f"    return sum(nums[{i}:])\n" * (1 + i % 3)) for i in range(12)
]
CARD = LoraCard(rank=3, alpha=6.0, targets=("q_proj", "up_proj"), steps=3, batch=6, learning_rate=5e-3, warmup=1)


def train(model: HFModel, **changes: Any) -> Adapter:
    [adapter] = train_adapters(model, [PAIRS], replace(CARD, **changes), [3], progress=ignore)
    return adapter


def distance(a: Adapter, b: Adapter) -> float:
    return max(float((a.factors[p][i] - b.factors[p][i]).abs().max()) for p in a.factors for i in (0, 1))


def samples(model: HFModel, pairs: list[Example] = PAIRS, **options: Any) -> list[Sample]:
    return [Sample(row, i) for i, row in enumerate(encode(model, pairs, "pair", **options))]


def tiny(kind: str) -> Any:
    """A random network of another architecture."""
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "intermediate_size": 64}
    made = {
        "GPT2": lambda: transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0),
        "Bloom": lambda: transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4),
        "Mamba": lambda: transformers.MambaConfig(**sizes, state_size=4),
        "Gemma2": lambda: transformers.Gemma2Config(**sizes, **heads, num_key_value_heads=4, head_dim=8, sliding_window=16),
    }[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(made).eval().requires_grad_(False)


SHORT = [Encoded((5, 9, 2, 7, 3, 3, 8), 3), Encoded((4, 1, 6, 2), 2)]


# which tokens --------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_sample_is_the_mean_over_its_completion(tiny_model: HFModel):
    rows = samples(tiny_model)
    ids, labels = pad([s.pair for s in rows])
    with torch.no_grad():
        mine = sample_losses(tiny_model.network, collate([rows]))
        theirs = token_mean_losses(tiny_model.network(input_ids=ids).logits, labels)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_all_tokens_are_all_but_the_first(tiny_model: HFModel):
    rows = samples(tiny_model, PAIRS[:3], loss="all")
    with torch.no_grad():
        mine = sample_losses(tiny_model.network, collate([rows]))
        theirs = [tiny_model.network(input_ids=(t := torch.tensor([s.pair.ids])), labels=t).loss for s in rows]
    torch.testing.assert_close(mine, torch.stack(theirs), atol=1e-4, rtol=1e-4)


def test_which_tokens_count_changes_the_adapter(tiny_model: HFModel):
    assert distance(train(tiny_model), train(tiny_model, loss="all")) > 1e-3


def test_logits_are_computed_for_the_tokens_that_count(tiny_model: HFModel):
    shapes = []
    hook = tiny_model.network.lm_head.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    batch = collate([samples(tiny_model)])
    with torch.no_grad():
        sample_losses(tiny_model.network, batch)
    hook.remove()
    assert shapes == [(sum(batch.counts), 1024)]
    assert sum(batch.counts) < batch.ids.numel() / 2
    assert not tiny_model.network.lm_head._forward_pre_hooks


@pytest.mark.parametrize("kind", ["GPT2", "Gemma2"])  # Gemma caps its logits behind the output layer
def test_other_architectures_have_the_same_loss_from_fewer_logits(kind: str):
    network = tiny(kind)
    with torch.no_grad():
        mine = sample_losses(network, collate([[Sample(p) for p in SHORT]]))
        alone = [network(input_ids=torch.tensor([p.ids])).logits[0] for p in SHORT]
    theirs = [
        torch.nn.functional.cross_entropy(logits[p.head - 1 : -1], torch.tensor(p.ids[p.head :]))
        for logits, p in zip(alone, SHORT, strict=True)
    ]
    torch.testing.assert_close(mine, torch.stack(theirs), atol=1e-5, rtol=1e-5)


# how long ------------------------------------------------------------------------------------------------------------


def test_length_leaves_out_what_is_longer_and_the_context_is_the_most(tiny_model: HFModel):
    lengths = [len(s.pair.ids) for s in samples(tiny_model)]
    most = sorted(lengths)[5]
    assert fitting(tiny_model, PAIRS, most) == [i for i, n in enumerate(lengths) if n <= most]
    assert fitting(tiny_model, PAIRS) == fitting(tiny_model, PAIRS, 10**6) == list(range(12))
    long = Example("1" * 1020, "12345")
    assert fitting(tiny_model, [long]) == fitting(tiny_model, [long], 10**6) == []


def test_a_row_that_is_longer_than_the_card_says_is_named(tiny_model: HFModel):
    with pytest.raises(DataError, match=r"part 0, example 0 has \d+ tokens; lora\.length is 8; remove or shorten it"):
        train(tiny_model, length=8)


# packed --------------------------------------------------------------------------------------------------------------


def test_packs_take_the_longest_first_and_are_never_overfull():
    lengths = [3, 9, 1, 5, 4, 12]
    packs = first_fit(lengths, 10)
    assert packs == [[5], [1, 2], [3, 4], [0]]
    assert first_fit(lengths, 0) == [[0], [1], [2], [3], [4], [5]]
    assert sorted(i for p in packs for i in p) == list(range(6))


def test_a_pack_has_the_losses_and_gradients_of_its_pairs_alone(tiny_model: HFModel):
    layers = tiny_model.lora_layers("all-linear")
    rows = samples(tiny_model)
    found = []
    generator = torch.Generator().manual_seed(0)
    down = {p: torch.randn(1, 2, x.base.in_features, generator=generator) * 0.1 for p, x in layers.items()}
    up = {p: torch.randn(1, 2, x.base.out_features, generator=generator) * 0.1 for p, x in layers.items()}
    for capacity in (0, 120):
        batch = collate([rows], capacity)
        factors = [f.requires_grad_() for f in (*down.values(), *up.values())]
        with use_factors(layers, down, up):
            losses = sample_losses(tiny_model.network, batch)
            gradients = torch.autograd.grad(losses.sum(), factors)
        by_seed = {span[3]: i for i, span in enumerate(batch.spans)}
        found.append((batch.ids.shape, losses[[by_seed[i] for i in range(12)]].detach(), gradients))
    (apart, alone, theirs), (together, packed, mine) = found
    assert together[0] < apart[0] == 12
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_packing_changes_no_adapter(tiny_model: HFModel, dropout: float):
    assert distance(train(tiny_model, dropout=dropout), train(tiny_model, dropout=dropout, packing=True, length=150)) < 1e-4


def test_packing_takes_fewer_columns_where_lengths_differ():
    rows = [Sample(Encoded(tuple(range(n)), 1)) for n in (100, *[10] * 20)]
    assert collate([rows]).ids.shape == (21, 100)
    assert collate([rows], 100).ids.shape == (3, 100)


@pytest.mark.parametrize("kind", ["GPT2", "Gemma2"])
def test_architectures_that_keep_pairs_apart_are_let_through(kind: str):
    check_blind(tiny(kind), SHORT, kind)


@pytest.mark.parametrize("kind", ["Mamba", "Bloom"])
def test_architectures_that_cannot_keep_pairs_apart_are_refused(kind: str):
    with pytest.raises(ModelError, match=rf"^{kind} cannot be trained on packed rows \(.+\); use lora\.packing = false$"):
        check_blind(tiny(kind), SHORT, kind)


def test_a_training_on_packed_rows_looks_first(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "_places", lambda batch: {})  # a network that is not told where a pair begins
    with pytest.raises(ModelError, match="tiny cannot be trained on packed rows"):
        train(tiny_model, packing=True)


# activations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {"packing": True}, {"precision": "bfloat16"}], ids=str)
def test_activations_computed_twice_give_the_same_adapter(tiny_model: HFModel, changes: dict[str, Any]):
    plain, again = (train(tiny_model, gradient_checkpointing=g, **changes) for g in (False, True))
    assert distance(plain, again) < 1e-6


def test_activations_are_not_kept_for_the_backward_pass(tiny_model: HFModel):
    batch = collate([samples(tiny_model)])
    embedding = tiny_model.network.get_input_embeddings()
    kept = {}
    for again in (False, True):
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        hook = embedding.register_forward_hook(lambda _, __, out: out.requires_grad_())
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            if again:
                with checkpointed(tiny_model.network, "tiny"):
                    sample_losses(tiny_model.network, batch)
            else:
                sample_losses(tiny_model.network, batch)
        hook.remove()
        kept[again] = sum(sizes)
    assert kept[True] < kept[False] / 2


def test_the_network_is_as_it_was_behind_the_block(tiny_model: HFModel):
    with checkpointed(tiny_model.network, "tiny"):
        assert all("forward" in vars(layer) for layer in tiny_model.network.model.layers)
    assert not any("forward" in vars(m) for m in tiny_model.network.modules())
    assert not tiny_model.network.training


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ModelError, match=r"plain has no blocks .*; use lora\.gradient_checkpointing = false"):  # noqa: SIM117
        with checkpointed(torch.nn.Linear(2, 2), "plain"):
            pass


def test_half_precision_is_of_the_activations_alone(tiny_model: HFModel):
    seen = []
    [layer] = [tiny_model.lora_layers("all-linear")["model.layers.0.self_attn.q_proj"]]
    hook = layer.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    half = train(tiny_model, precision="bfloat16")
    hook.remove()
    whole = train(tiny_model)
    assert set(seen) == {torch.bfloat16}
    assert {f.dtype for pair in half.factors.values() for f in pair} == {torch.float32}
    assert distance(half, whole) > 1e-5
    cosine = torch.nn.functional.cosine_similarity(
        *(torch.cat([a.factors[p][1].flatten() for p in a.factors]) for a in (half, whole)), dim=0
    )
    assert cosine > 0.9
