"""Losses chunk by chunk are those of whole logits, with their gradients; adapters in training are those of plain autograd."""

from typing import Any

import pytest
import torch

from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import attach, target_modules, use_factors
from spa_bench.models.hf.trained_lora import train_factors
from spa_bench.spa import losses
from spa_bench.spa.attribution.gradients import drawn_labels
from spa_bench.spa.losses import chunked_head, token_losses

IDS = torch.arange(48).view(2, 24) % 29
WHERE = torch.tensor([3, 4, 5, 9, 10, 30, 31, 40])
TARGETS = IDS.flatten()[WHERE + 1]


def network(kind: str) -> Any:
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = {
        "Llama": lambda: transformers.LlamaConfig(**sizes, **heads),
        "Gemma2": lambda: transformers.Gemma2Config(**sizes, **heads, final_logit_softcapping=2.0),
        "Cohere": lambda: transformers.CohereConfig(**sizes, **heads, logit_scale=0.25, pad_token_id=0, eos_token_id=0),
    }[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        made.get_output_embeddings().weight.data *= 30  # far from uniform, so that a cap shows
    return made


def with_gradient(net: Any, labels: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses, gradient of their weighted sum at the embeddings)."""
    seen: list[torch.Tensor] = []
    hook = net.get_input_embeddings().register_forward_hook(lambda _, __, out: seen.append(out.requires_grad_()) or seen[-1])
    try:
        found = token_losses(net, IDS, WHERE, labels)
    finally:
        hook.remove()
    return found.detach(), torch.autograd.grad((found * torch.arange(1.0, 9.0)).sum(), seen[-1])[0]


@pytest.mark.parametrize("kind", ["Llama", "Gemma2", "Cohere"])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_chunks_give_the_losses_and_gradients_of_whole_logits(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch):
    net = network(kind)
    whole = with_gradient(net, lambda _, part: TARGETS[part])
    monkeypatch.setattr(losses, "CHUNK_BYTES", {"cpu": rows * 64 * 4})
    chunked = with_gradient(net, lambda _, part: TARGETS[part])
    assert (chunked_head(net, IDS) is not None) is (kind == "Llama")  # the others change what their output layer gives
    torch.testing.assert_close(chunked[0], whole[0], rtol=1e-5, atol=1e-5)
    # sums of float32 in another order: how far apart depends on the width of the CPU's vectors
    torch.testing.assert_close(chunked[1], whole[1], rtol=1e-3, atol=1e-4)


def test_no_more_logits_than_a_chunk_are_ever_made(monkeypatch: pytest.MonkeyPatch):
    net, sizes = network("Llama"), []
    monkeypatch.setattr(losses, "CHUNK_BYTES", {"cpu": 3 * 64 * 4})
    net.lm_head.register_forward_hook(lambda _, __, out: sizes.append(out.numel() // 64))

    def labels(logits: torch.Tensor, part: slice) -> torch.Tensor:
        sizes.append(len(logits))
        return TARGETS[part]

    token_losses(net, IDS, WHERE, labels)
    assert max(sizes) == 3
    assert sum(sizes[-3:]) == 8


def test_drawn_labels_are_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch):
    net, uniform = network("Llama"), torch.rand(8, generator=torch.Generator().manual_seed(0))
    whole = token_losses(net, IDS, WHERE, drawn_labels(uniform))
    monkeypatch.setattr(losses, "CHUNK_BYTES", {"cpu": 3 * 64 * 4})
    torch.testing.assert_close(token_losses(net, IDS, WHERE, drawn_labels(uniform)), whole, rtol=1e-5, atol=1e-5)


def factors_of(layers: Any, members: int, generator: torch.Generator) -> list[dict[str, torch.Tensor]]:
    """[A, B] of rank 4 for each of `layers`, to be trained."""
    widths = ({p: x.base.in_features for p, x in layers.items()}, {p: x.base.out_features for p, x in layers.items()})
    drawn = ({p: torch.randn(members, 4, wide, generator=generator) * 0.1 for p, wide in side.items()} for side in widths)
    return [{p: factor.requires_grad_() for p, factor in side.items()} for side in drawn]


@pytest.mark.parametrize("using", [use_factors, train_factors])
def test_several_members_in_training_have_the_losses_of_whole_logits(using: Any, monkeypatch: pytest.MonkeyPatch):
    """Of a network that is read for the first time; a large vocabulary makes chunks."""
    net = network("Llama")
    layers = attach(net, target_modules(net))
    generator = torch.Generator().manual_seed(2)
    down, up = factors_of(layers, 4, generator)
    ids, found = IDS.repeat(2, 1), []
    for chunk in (1 << 20, 3 * 64 * 4):
        monkeypatch.setattr(losses, "CHUNK_BYTES", {"cpu": chunk})
        with using(layers, down, up):
            loss = token_losses(net, ids, WHERE, lambda _, part: TARGETS[part])
            found.append((loss, *torch.autograd.grad(loss.sum(), [*up.values()])))
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("members", [1, 3])
def test_layers_in_training_are_those_of_plain_autograd(members: int, tiny_model: HFModel):
    layers = tiny_model.lora_layers("all-linear")
    generator = torch.Generator().manual_seed(2)
    down, up = factors_of(layers, members, generator)
    factors = [*down.values(), *up.values()]
    ids = torch.randint(3, 900, (2 * members, 17), generator=generator)
    found = []
    for using in (use_factors, train_factors):
        with using(layers, down, up):
            loss = tiny_model.network(input_ids=ids, labels=ids).loss
            found.append((loss, *torch.autograd.grad(loss, factors)))
    for mine, theirs in zip(*reversed(found), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert all(layer.tap is None for layer in layers.values())
