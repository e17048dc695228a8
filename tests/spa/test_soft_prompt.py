"""Soft prompts: their forms, gradients, files, and what the frozen model reads of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.soft_prompt import SoftDraw, SoftPrompts
from spa_bench.spa.synthesize.layout import Code, Pairs, layout_of
from spa_bench.spa.synthesize.softsrv.forms import form_of, make_form, parameter_count
from spa_bench.spa.synthesize.softsrv.options import FORMS, SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.steered import plain_nll, text_losses, text_tokens
from spa_bench.types import Decoding, Example
from tiny import save_tiny

TEXTS = ["def f(x):\n    return x\n", "def total(nums):\n    return sum(nums)\n", "x = 1\n"]
WIDTH = 5  # of z


def z_of(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def form_at(name: str, soft: SoftPrompts, *, length: int = 3) -> nn.Module:
    """A form in the middle of training: every parameter matters."""
    options = SoftSRVOptions(form=name, length=length, prompts=2, hidden=4)
    tokens: Callable[[int], Tensor] = lambda n: soft.rows(range(5, 5 + n)).float()  # noqa: E731
    form = make_form(options, tokens, width=WIDTH, scale=soft.scale(), seed=3)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in form.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return form


@pytest.fixture(scope="module")
def soft(tiny_model: HFModel) -> SoftPrompts:
    return SoftPrompts(tiny_model)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded GPT-2, all of whose arithmetic is in the type of its weights; Llama's norms are in float32."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = save_tiny(tmp_path_factory.mktemp("gpt2"))
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GPT2LMHeadModel(config)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(str(folder))
    return folder


def loss64(soft: SoftPrompts, prompts: Tensor, rows: list[tuple[int, ...]]) -> Tensor:
    """The mean loss of some rows in float64, by cross-entropy over all logits, one row at a time."""
    losses = []
    for i, row in enumerate(rows):
        with soft.read(prompts[i : i + 1]) as ids:
            logits = soft.network(input_ids=torch.tensor([[*ids[0], *row]]), use_cache=False).logits[0]
        assert logits.dtype is torch.float64
        length = prompts.shape[1]
        losses.append(nn.functional.cross_entropy(logits[length - 1 : -1], torch.tensor(row)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", FORMS)
def test_the_gradient_of_a_form_is_that_of_central_finite_differences(name: str, gpt2: Path):
    model = HFModel(str(gpt2), HFOptions(device="cpu", threads=1), name="gpt2")
    soft32 = SoftPrompts(model)
    form = form_at(name, soft32)
    rows = text_tokens(model, TEXTS, "text", room=3)
    text_losses(soft32, form_of(form)(z_of(3)), rows).mean().backward()
    trained = {n: p.grad.clone() for n, p in form.named_parameters() if p.grad is not None}
    model.network.double()
    form.double()
    soft64, z = SoftPrompts(model), z_of(3, torch.float64)
    form.zero_grad()
    loss64(soft64, form_of(form)(z), rows).backward()
    rng = np.random.default_rng(0)
    for parameter_name, parameter in form.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-7, parameter_name
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for place in rng.choice(len(flat), size=min(6, len(flat)), replace=False):
            value, step, ends = flat[place].item(), 1e-5, []
            for sign in (1, -1):
                flat[place] = value + sign * step
                with torch.no_grad():
                    ends.append(float(loss64(soft64, form_of(form)(z), rows)))
            flat[place] = value
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(slope[place]), rel=1e-4, abs=1e-9)
        # what training computes, in float32 and in padded batches, is the same gradient
        torch.testing.assert_close(trained[parameter_name].double(), parameter.grad, rtol=2e-3, atol=1e-6)


def test_the_forms_are_their_equations(soft: SoftPrompts):
    z = z_of(2).double()
    nsp, mpk, mc = (form_at(name, soft).double() for name in FORMS)
    scale = float(nsp.scale)
    assert torch.equal(form_of(nsp)(z)[0], form_of(nsp)(z)[1])
    logits = z @ mpk.weights.T / WIDTH**0.5 + mpk.bias
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    mixed = sum(shares[:, i, None, None] * mpk.prompts[i] * scale for i in range(2))
    torch.testing.assert_close(form_of(mpk)(z), mixed)
    for row in range(2):
        for place in range(3):
            hidden = nn.functional.gelu(mc.into @ z[row] / WIDTH**0.5 + mc.places[place])
            vector = (mc.prompt[place] + mc.out @ hidden / 4**0.5) * scale
            torch.testing.assert_close(form_of(mc)(z)[row, place], vector)
    width = soft.width
    sizes = {"nsp": 3 * width, "mpk": 2 * (3 * width + WIDTH + 1), "mc": 3 * width + 4 * (WIDTH + 3 + width)}
    assert {name: parameter_count(form) for name, form in zip(FORMS, (nsp, mpk, mc), strict=True)} == sizes


def test_a_form_starts_as_embeddings_of_tokens(soft: SoftPrompts):
    options = SoftSRVOptions(form="mc", length=4)
    form = make_form(options, lambda n: soft.rows(range(9, 9 + n)), width=WIDTH, scale=soft.scale(), seed=0)
    torch.testing.assert_close(form_of(form)(z_of(2))[1], soft.rows([9, 10, 11, 12]))


@pytest.mark.parametrize("name", ["mpk", "mc"])
def test_rows_of_one_batch_have_their_own_prompts_and_the_losses_that_they_have_alone(name: str, soft: SoftPrompts):
    prompts = form_of(form_at(name, soft))(z_of(3)).detach()
    assert not torch.allclose(prompts[0], prompts[1])
    rows = text_tokens(soft.model, [TEXTS[0]] * 3, "text", room=3)
    same_text = text_losses(soft, prompts, rows).detach()
    assert len({round(float(x), 4) for x in same_text}) == 3  # different contexts
    rows = text_tokens(soft.model, TEXTS, "text", room=3)
    together = text_losses(soft, prompts, rows).detach()
    for i, row in enumerate(rows):
        alone = text_losses(soft, prompts[i : i + 1], [row]).detach()
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_the_network_reads_a_soft_prompt_as_input_embeddings(soft: SoftPrompts):
    prompts = form_of(form_at("mc", soft))(z_of(1)).detach()
    [row] = text_tokens(soft.model, TEXTS[:1], "text", room=3)
    embedding = soft.network.get_input_embeddings()  # type: ignore[operator]
    given = torch.cat([prompts, embedding(torch.tensor([row]))], 1)
    with torch.no_grad():
        logits = soft.network(inputs_embeds=given).logits[0, 2:-1]
    expected = nn.functional.cross_entropy(logits, torch.tensor(row))
    torch.testing.assert_close(text_losses(soft, prompts, [row])[0], expected)
    assert "forward" not in vars(embedding)  # nothing stays behind


def test_texts_that_are_drawn_together_are_those_drawn_alone(soft: SoftPrompts):
    prompts = form_of(form_at("mc", soft))(z_of(6)).detach()
    decoding = Decoding(temperature=1.0, max_new_tokens=12)
    draws = [SoftDraw(prompt=i, seed=100 + i, limit=12) for i in range(6)]
    together = dict(soft.draw(prompts, draws, decoding))
    assert len({one.text for one in together.values()}) > 3
    for i, draw in enumerate(draws):
        alone = dict(soft.draw(prompts[i : i + 1], [SoftDraw(prompt=0, seed=draw.seed, limit=12)], decoding))
        assert alone[0] == together[i]
    same_seed = dict(soft.draw(prompts, [SoftDraw(prompt=i, seed=1, limit=12) for i in range(6)], decoding))
    assert len({one.text for one in same_seed.values()}) > 1  # the prompt matters, too


def test_greedy_text_is_the_likeliest_token_after_token(soft: SoftPrompts):
    prompts = form_of(form_at("mpk", soft))(z_of(1)).detach()
    [(_, drawn)] = soft.draw(prompts, [SoftDraw(prompt=0, seed=0, limit=5)], Decoding(max_new_tokens=5))
    embedding = soft.network.get_input_embeddings()  # type: ignore[operator]
    new: list[int] = []
    with torch.no_grad():
        while len(new) < 5 and 0 not in new:
            given = torch.cat([prompts, embedding(torch.tensor([new], dtype=torch.long))], 1)
            new.append(int(soft.network(inputs_embeds=given).logits[0, -1].argmax()))
    assert (drawn.text, drawn.tokens, drawn.ended) == (soft.model.codec.text(new), len(new), 0 in new)


def test_a_network_that_reads_token_ids_twice_is_refused(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="twice")
    network = model.network
    own, table = network.forward, torch.nn.Embedding(model.vocabulary, 1)

    def forward(input_ids: Tensor, **more: object) -> object:
        table(input_ids)
        return own(input_ids=input_ids, **more)

    monkeypatch.setattr(network, "forward", forward)
    with pytest.raises(ModelError, match=r"'twice' \(LlamaForCausalLM\) uses token ids beside its input embedding"):
        SoftPrompts(model)


def test_a_prompt_that_leaves_no_room_is_refused(tiny_model: HFModel):
    longest = len(text_tokens(tiny_model, TEXTS, "target", room=3)[1])
    most = tiny_model.context - longest
    text_tokens(tiny_model, TEXTS, "target", room=most)
    with pytest.raises(DataError, match=rf"length is {most + 1}, and target 2 has {longest} tokens.*at most {most}$"):
        text_tokens(tiny_model, TEXTS, "target", room=most + 1)


def test_the_loss_of_the_model_as_it_is_counts_every_token_of_a_text(tiny_model: HFModel):
    nats, tokens = plain_nll(tiny_model, TEXTS)
    for text, total, count in zip(TEXTS, nats, tokens, strict=True):
        head, tail = tiny_model.encode_pair("", text)
        with torch.no_grad():
            logits = tiny_model.network(input_ids=torch.tensor([[*head, *tail]])).logits[0]
        expected = nn.functional.cross_entropy(logits[len(head) - 1 : -1], torch.tensor(tail), reduction="sum")
        assert (total, count) == (pytest.approx(float(expected), rel=1e-4), len(tail))


CODE = Example('def f(x):\n    """Do: it (well)."""\n', "    return x\n")


@pytest.mark.parametrize(
    "prompt",
    [
        CODE.prompt,
        "def g(a: int, b=(1, 2)) -> dict[str, int]:\n    '''Two\n    lines.'''\n",
        "import math\n\nasync def h(\n    x,\n):\n",
    ],
)
def test_a_function_is_read_back_into_its_head_and_its_body(prompt: str):
    pair = Example(prompt, '    y = "x"\n    return """\n    z"""\n')
    assert Code().read(Code().text(pair)) == pair
    assert layout_of("auto", [pair, CODE]).name == "code"


@pytest.mark.parametrize("text", ["", "return 1", 'def f(x):\n    """Only a head."""\n', "def f(x)\n    return x\n"])
def test_a_text_without_a_function_is_no_pair(text: str):
    assert Code().read(text) is None


def test_other_pairs_have_headings():
    pairs = [CODE, Example("What is 2 + 2?", "It is 4.\n\nReally.")]
    assert layout_of("auto", pairs).name == "pairs"
    text = Pairs().text(pairs[1])
    assert Pairs().read(text) == pairs[1]
    assert Pairs().read(text.replace("Response", "Answer")) is None
    assert Pairs().read("Well: " + text) is None
    with pytest.raises(DataError, match=r"target 2 cannot be read back from its text in the layout code"):
        layout_of("code", pairs)
    with pytest.raises(DataError, match=r"target 1 cannot be read back from its text in the layout auto"):
        layout_of("auto", [Example("a\n\n### Response:\nb", "c")])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"form": "mlp"}, "form is 'mlp'; use nsp, mpk or mc"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"form": "mpk", "prompts": 1}, "a mixture of one prompt"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"encoder": "tf-idf"}, "whose width is that of the words"),
    ],
)
def test_options_that_cannot_be_are_refused(given: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        SoftSRVOptions(**given)  # type: ignore[arg-type]
