"""A probe at load finds how a network can be read right, what its context is, and which layers LoRA can change."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.hf import probe as probing
from spa_bench.models.hf import rounding
from spa_bench.models.hf.context import context_of
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.probe import Probed, known_probe, probe
from spa_bench.models.hf.reading import Way
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear, attach, target_modules, write_adapter
from spa_bench.types import Completion, Decoding, Member, Request

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from architecture_parts.networks import ARCHITECTURES, SMALL, Architecture, save, small_network  # noqa: E402

DECODER = Architecture("roberta", "roberta", {"is_decoder": True})
BY_NAME = {architecture.name: architecture for architecture in (*ARCHITECTURES, DECODER)}
CPU = torch.device("cpu")


def probed(name: str, *, context: int = 384, **settings: Any) -> Probed:
    known = BY_NAME[name]
    network = small_network(Architecture(name, known.kind, known.settings | settings))
    return probe(network, vocabulary=1024, context=context, device=CPU)


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., HFModel]:
    """Makes a tiny model of an architecture and loads it."""

    def made(name: str, context: int | None = None, **settings: Any) -> HFModel:
        known = BY_NAME[name]
        folder = tmp_path / name
        save(Architecture(name, known.kind, known.settings | settings), folder)
        return HFModel(str(folder), HFOptions(device="cpu", threads=1, context=context), name=name)

    return made


# the way -------------------------------------------------------------------------------------------------------------


def test_a_plain_llama_takes_masked_columns_in_the_middle_and_has_the_same_bytes_in_company():
    assert probed("llama") == Probed(Way(same_bytes=True))


@pytest.mark.parametrize("name", ["falcon, ALiBi", "bloom"])
def test_where_distances_are_counted_over_the_mask_a_masked_column_is_none(name: str):
    found = probed(name)
    assert (found.way.block, found.way.cache, found.way.positions, found.notes) == (16, "growing", False, ())


@pytest.mark.parametrize("name", ["mistral", "gpt_neo", "mpt"])
def test_where_a_masked_column_counts_as_a_distance_it_stands_on_the_left(name: str):
    found = probed(name)
    assert (found.way.block, found.way.masked, found.way.cache, found.notes) == (0, True, "growing", ())
    assert not found.way.same_bytes


@pytest.mark.parametrize("name", ["mamba", "openai-gpt"])
def test_a_network_without_a_usable_cache_reads_its_rows_again_and_says_so(name: str):
    found = probed(name)
    assert found.way.cache == "none"
    [line] = found.notes
    assert "with a cache its logits are not those of a plain reading" in line
    assert "reads its row again: right, and slower" in line


def test_where_no_column_is_masked_the_padding_stands_behind_the_row():
    found = probed("rwkv")
    assert (found.way.masked, found.way.cache) == (False, "none")
    assert "masked columns count in its rows" in found.notes[0]


@pytest.mark.parametrize("name", ["llama, longrope", "phi3, longrope"])
def test_rope_that_depends_on_the_longest_row_ends_the_context(name: str):
    found = probed(name)
    assert found.way.context == 128
    assert "a row of more than 128 tokens changes the logits of the rows beside it" in found.notes[0]
    assert "the context is 128 tokens and not 384" in found.notes[0]


def test_dynamic_ntk_is_caught_where_the_context_goes_over_its_positions():
    assert probed("llama, dynamic NTK rope", max_position_embeddings=128).way.context == 128
    assert probed("llama, dynamic NTK rope", max_position_embeddings=128, context=128).way.context is None


@pytest.mark.parametrize("name", ["bert", "xlnet"])
def test_a_network_that_sees_the_tokens_behind_is_refused_in_one_line(name: str):
    with pytest.raises(
        ModelError, match="cannot be evaluated: a row has other logits beside longer rows than alone"
    ) as refused:
        probed(name)
    assert "\n" not in str(refused.value)


def test_a_network_that_cannot_be_read_is_refused_in_one_line():
    network = small_network(BY_NAME["llama"])
    network.model.layers[0].mlp.down_proj = nn.Linear(5, 48)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM cannot be evaluated: it does not read a plain row of tokens \("):
        probe(network, vocabulary=1024, context=384, device=CPU)


def test_positions_that_do_not_begin_at_zero_are_left_to_the_network():
    found = probed("roberta", context=383)
    assert (found.way.positions, found.way.context) == (False, None)


def test_logits_that_are_not_finite_are_left_to_the_answers():
    network = small_network(BY_NAME["llama"])
    network.lm_head.weight.data.fill_(torch.nan)
    assert probe(network, vocabulary=1024, context=384, device=CPU) == Probed(Way())


def test_the_probe_changes_nothing_and_draws_no_global_random_number():
    network = small_network(BY_NAME["qwen3"])
    before, state = {n: p.clone() for n, p in network.state_dict().items()}, torch.get_rng_state()
    probe(network, vocabulary=1024, context=384, device=CPU)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[n], p) for n, p in network.state_dict().items())


@pytest.mark.parametrize("context", [2, 5, 17, 40])
def test_a_short_context_is_probed_too(context: int):
    assert probed("llama", context=context).way.cache == "growing"


# rounding ------------------------------------------------------------------------------------------------------------


def short(name: str, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    return small_network(BY_NAME[name]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["llama", "mistral", "mpt", "mamba", "rwkv", "phi3, longrope"])
def test_a_short_type_finds_what_float32_finds(name: str, dtype: torch.dtype):
    in_full = probed(name)
    found = probe(short(name, dtype), vocabulary=1024, context=384, device=CPU)
    assert replace(found, way=replace(found.way, same_bytes=in_full.way.same_bytes)) == in_full


def test_a_fault_that_the_rounding_of_a_short_type_hides_is_found_in_float32(monkeypatch: pytest.MonkeyPatch):
    network = short("mistral")
    monkeypatch.setitem(rounding._LEAST, torch.bfloat16, 10.0)  # nothing is seen in bfloat16
    assert probe(network, vocabulary=1024, context=384, device=CPU).way.block == 0
    monkeypatch.setattr(probing, "fits_float32", lambda _: False)
    found = probe(network, vocabulary=1024, context=384, device=CPU)
    assert "read in bfloat16 alone, as memory does not hold it in float32: what rounding hides is not seen" in found.notes[-1]


def test_what_rounding_does_is_measured_and_allowed(monkeypatch: pytest.MonkeyPatch):
    """A pretrained network in bfloat16 (SmolLM2) rounds its logits by more than any number that suits seeded ones."""
    monkeypatch.setitem(rounding._LEAST, torch.bfloat16, 0.0)
    assert probe(short("llama"), vocabulary=1024, context=384, device=CPU).way.block == 16
    monkeypatch.setattr(rounding, "_of_last_bit", lambda *_: 0.0)
    with pytest.raises(ModelError, match="a row has other logits beside longer rows than alone"):
        probe(short("llama"), vocabulary=1024, context=384, device=CPU)


def test_a_network_is_float32_for_a_while_and_the_same_tensors_afterwards():
    network = short("llama")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in network.state_dict().items()}
    with rounding.in_float32(network):
        assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    after = network.state_dict()
    assert all(after[n].data_ptr() == place and torch.equal(after[n], kept) for n, (place, kept) in before.items())


def test_the_result_for_a_large_network_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(probing, "_LARGE", 0)
    calls: list[int] = []
    monkeypatch.setattr(probing, "probe", lambda network, **setting: calls.append(1) or probe(network, **setting))
    network = small_network(BY_NAME["phi3, longrope"])

    def ask(key: str) -> Probed:
        return known_probe(network, lambda: key, vocabulary=1024, context=384, device=CPU)

    first = ask("a")
    assert ask("a") == first
    assert first.way.context == 128
    assert len(calls) == 1
    ask("b")
    assert len(calls) == 2
    assert ask("a") == first
    assert len(calls) == 2  # in memory
    monkeypatch.setattr(probing, "_FOUND", {})  # as in another process
    assert ask("a") == first
    assert len(calls) == 2  # on the disk
    monkeypatch.setattr(probing, "_FOUND", {})
    for file in (tmp_path / "probes").iterdir():
        file.write_text("{")
    assert ask("a") == first
    assert len(calls) == 3


def test_networks_of_two_classes_are_not_taken_for_one_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "_FOUND", {})
    calls: list[int] = []
    monkeypatch.setattr(probing, "probe", lambda network, **setting: calls.append(1) or Probed(Way()))
    network = small_network(BY_NAME["llama"])
    other = type("Other", (type(network),), {})(network.config)
    for one in (network, other, network):
        known_probe(one, lambda: "a", vocabulary=1024, context=384, device=CPU)
    assert len(calls) == 2


# answers at the last position ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "opt", "mpt", "bloom", "openai-gpt", "mamba", "gpt_neo", "roberta"])
def test_answers_end_at_the_last_position_and_are_those_of_the_prompt_alone(name: str, model: Callable[..., HFModel]):
    sizes = {
        **dict.fromkeys(("gpt2", "openai-gpt"), "n_positions"),
        **dict.fromkeys(("opt", "gpt_neo"), "max_position_embeddings"),
        "mpt": "max_seq_len",
        "roberta": "max_position_embeddings",
    }
    small = {sizes[name]: 65 if name == "roberta" else 64} if name in sizes else {}  # its first position is that of padding
    tiny = model(name, context=None if small else 64, **small)
    assert tiny.context == 64
    decoding = Decoding(max_new_tokens=100)
    prompts = {"long": "x = 1\n" * 11, "short": "def f(x):\n", "middle": "# one\n" * 8}
    requests = [
        Request(problem_id=i, member=0, draw=0, kind="generate", prompt=p, decoding=decoding, seed=1)
        for i, p in prompts.items()
    ]
    base = [Member("base", None, decoding)]
    together: dict[str, Completion] = {c.key.problem: c for c in tiny.generate(requests, base)}
    for request in requests:
        [alone] = tiny.generate([request], base)
        assert together[request.problem_id].text == alone.text
        length = len(tiny.codec.prompt(request.prompt))
        assert length < 64
        assert alone.finish == "stop" or alone.tokens == 64 - length


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo"])
def test_rows_with_more_columns_than_positions_are_read_as_each_alone(name: str, model: Callable[..., HFModel]):
    """GPT-Neo masks by a table of as many columns as it has positions; rows with the answer on the right have more together."""
    tiny = model(name, **{"n_positions" if name == "gpt2" else "max_position_embeddings": 64})
    assert tiny.hf._parts.reads.way.columns == (64 if name == "gpt_neo" else None)
    pairs = [("x = 1\n" * 9, "y\n"), ("def f(x):\n", "    return x + 1\n" * 5)]
    members = [Member("base", None, Decoding())]
    ids = [tiny.encode_pair(*pair) for pair in pairs]
    assert max(len(head) for head, _ in ids) + max(len(tail) for _, tail in ids) > 64
    for (head, tail), got in zip(ids, tiny.next_token_logprobs(pairs, members), strict=True):
        with torch.inference_mode():
            logits = tiny.network(input_ids=torch.tensor([[*head, *tail]])).logits[0, len(head) - 1 : -1]
        assert got is not None
        torch.testing.assert_close(torch.from_numpy(got[0]), logits.log_softmax(-1), atol=1e-4, rtol=1e-4)


# context -------------------------------------------------------------------------------------------------------------


class Tokenizer:
    """A tokenizer with a maximal length, 10^30 as transformers writes it for none."""

    def __init__(self, length: int = 10**30):
        self.model_max_length = length


class Bare(nn.Module):
    """A network that is a config and, where it is learned, a table of positions."""

    def __init__(self, table: int = 0, **settings: object):
        super().__init__()
        self.settings = settings
        self.wte = nn.Embedding(1024, 4)
        if table:
            self.wpe = nn.Embedding(table, 4)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> torch.Tensor:
        """The states of a row of text, with its positions where they are learned."""
        states: torch.Tensor = self.wte(input_ids)
        return states + self.wpe(torch.arange(input_ids.shape[1])) if hasattr(self, "wpe") else states

    @property
    def config(self) -> Any:
        return self

    def get_text_config(self) -> Any:
        return self

    def to_dict(self) -> dict[str, object]:
        return self.settings


@pytest.mark.parametrize(
    "name", ["max_position_embeddings", "max_seq_len", "n_positions", "n_ctx", "seq_length", "max_sequence_length"]
)
def test_the_context_is_found_under_each_of_its_names(name: str):
    assert context_of(Bare(**{name: 128}), Tokenizer(), None) == (128, "")


def test_a_table_of_positions_is_a_context():
    assert context_of(Bare(table=96), Tokenizer(), None) == (96, "")
    assert context_of(Bare(table=66, max_position_embeddings=64), Tokenizer(), None) == (64, "")  # OPT's table has two more
    assert context_of(Bare(table=32, n_positions=64), Tokenizer(), None) == (32, "")


def test_the_places_of_a_picture_are_no_positions_of_text():
    two = Bare(table=96, max_position_embeddings=128)
    two.tower = nn.ModuleDict({"position_embedding": nn.Embedding(4, 4)})
    assert context_of(two, Tokenizer(), None) == (96, "")
    unread = Bare(max_position_embeddings=128)  # neither is a table that no row is read with
    unread.position_embedding = nn.Embedding(4, 4)
    assert context_of(unread, Tokenizer(), None) == (128, "")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_model_of_pictures_and_text_has_the_context_of_its_text(device: str):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {**SMALL, "num_hidden_layers": 1, "bos_token_id": 0, "sliding_window": 32}
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text, vision_config={**tower, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=4)
    with torch.device(device):
        network = Gemma3ForConditionalGeneration(config)
    assert network.model.vision_tower.embeddings.position_embedding.num_embeddings == 4
    assert context_of(network, Tokenizer(), None) == (384, "")


def test_a_context_that_nothing_names_is_said_and_never_huge():
    context, line = context_of(Bare(), Tokenizer(), None)
    assert context == 2048
    assert line == "context: 2048 tokens, as neither config nor tokenizer names one; another one with --context N"
    context, line = context_of(Bare(max_position_embeddings=None), Tokenizer(512), None)
    assert context == 512
    assert "512 tokens, from the tokenizer" in line


def test_the_users_own_context_is_taken_up_to_what_there_is():
    assert context_of(Bare(n_positions=64), Tokenizer(), 32) == (32, "")
    assert context_of(Bare(), Tokenizer(), 100_000) == (100_000, "")
    with pytest.raises(UsageError, match="--context is 65; it must be between 2 and 64, the positions of this model"):
        context_of(Bare(n_positions=64), Tokenizer(), 65)
    with pytest.raises(UsageError, match="--context is 0; it must be at least 2"):
        context_of(Bare(), Tokenizer(), 0)


# adapters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "odd"), [("jamba", "dt_proj"), ("llama4_text", "router"), ("phimoe", "router")])
def test_layers_that_are_not_called_as_linear_are_left_out_and_named(name: str, odd: str, model: Callable[..., HFModel]):
    tiny = model(name)
    layers = tiny.lora_layers("all-linear")
    assert layers
    assert not any(path.endswith(f".{odd}") for path in layers)
    line = tiny.lora_note("all-linear")
    assert line.startswith("LoRA leaves out 2 linear layers: ")
    assert odd in line
    with pytest.raises(ModelError, match=f"no layer of .* can be adapted: {odd} "):
        tiny.lora_layers([odd])


def test_a_model_whose_layers_are_all_linear_has_nothing_to_say(tiny_model: HFModel):
    assert tiny_model.lora_note("all-linear") == ""
    assert len(tiny_model.lora_layers("all-linear")) == 14


def test_an_adapter_of_a_layer_that_cannot_be_changed_is_refused(model: Callable[..., HFModel], tmp_path: Path):
    tiny = model("jamba")
    path = next(n for n, _ in tiny.network.named_modules() if n.endswith("dt_proj"))
    layer = tiny.network.get_submodule(path)
    factors = {path: (torch.ones(2, layer.in_features), torch.ones(layer.out_features, 2))}
    write_adapter(Adapter(factors, 2, 4.0), tmp_path / "odd", base_model="tiny")
    decoding = Decoding(max_new_tokens=2)
    request = Request(problem_id="p", member=0, draw=0, kind="generate", prompt="x", decoding=decoding, seed=1)
    with pytest.raises(ModelError, match="dt_proj', which is not called in JambaForCausalLM"):
        list(tiny.generate([request], [Member("odd", tmp_path / "odd", decoding)]))


def adapter_of(tiny: HFModel, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(3)
    factors = {
        path: (
            torch.randn(4, layer.in_features, generator=generator) * 0.1,
            torch.randn(layer.out_features, 4, generator=generator) * 0.1,
        )
        for path, layer in tiny.lora_layers("all-linear").items()
    }
    write_adapter(Adapter(factors, 4, 8.0), folder, base_model="tiny", network=tiny.network)
    return folder


@pytest.mark.parametrize("name", ["ctrl", "qwen3", "phimoe", "jamba"])
def test_peft_reads_what_was_written(name: str, model: Callable[..., HFModel], tmp_path: Path):
    tiny = model(name)
    assert tiny.peft_differs(adapter_of(tiny, tmp_path / "adapter")) == ""


def test_layers_have_their_last_names_where_these_are_theirs_alone(model: Callable[..., HFModel], tmp_path: Path):
    for name, whole in (("ctrl", True), ("qwen3", False)):
        config = json.loads((adapter_of(model(name), tmp_path / f"a-{name}") / "adapter_config.json").read_text())
        assert any("." in target for target in config["target_modules"]) is whole


def test_what_peft_cannot_read_is_told_with_its_reason_and_leaves_the_network_as_it_was(
    model: Callable[..., HFModel], tmp_path: Path
):
    tiny = model("mamba")
    folder = adapter_of(tiny, tmp_path / "adapter")
    layers, ids = tiny.lora_layers("all-linear"), torch.arange(1, 9)[None]
    with torch.inference_mode():
        before = tiny.network(input_ids=ids).logits
        assert "incompatible with Mamba-based models" in tiny.peft_differs(folder)
        assert torch.equal(tiny.network(input_ids=ids).logits, before)
    assert all(tiny.network.get_submodule(path) is layer for path, layer in layers.items())


def test_an_adapter_that_peft_reads_otherwise_is_told(model: Callable[..., HFModel], tmp_path: Path):
    tiny = model("qwen3")
    folder = adapter_of(tiny, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj"]}))
    first = "model.layers.0.self_attn.k_proj"
    assert tiny.peft_differs(folder) == f"it gives other logits: it leaves out 12 of 14 layers, such as {first!r}"


def test_a_stack_that_mixes_members_is_left_out():
    from spa_bench.models.hf.lora_probe import check_stacked, seeded_ids

    network = small_network(BY_NAME["llama"])
    paths, ids = target_modules(network), seeded_ids(network, 1024)
    odd = "model.layers.0.mlp.up_proj"
    real = network.get_submodule(odd)

    class Turned(nn.Linear):
        """A layer that sees the rows in another order than they are in the batch."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    turned = Turned(real.in_features, real.out_features, bias=False)
    turned.weight = real.weight
    network.model.layers[0].mlp.up_proj = turned
    forward = network.model.layers[0].mlp.forward
    network.model.layers[0].mlp.forward = lambda x: forward(x.flip(0)).flip(0)
    mixed = check_stacked(network, paths, ids, torch.float32)
    assert set(mixed) == {f"model.layers.{i}.mlp.{n}_proj" for i in (0, 1) for n in ("gate", "up", "down")}
    assert set(mixed.values()) == {"mixes the rows of members"}


def test_a_wrapped_layer_shows_its_weight_to_a_parent_that_reads_it():
    network = small_network(BY_NAME["llama"])
    path = "model.layers.0.mlp.up_proj"
    layer = network.get_submodule(path)
    wrapped = attach(network, [path])[path]
    assert isinstance(wrapped, StackedLinear)
    assert wrapped.weight is layer.weight
    assert wrapped.bias is layer.bias
    assert (wrapped.in_features, wrapped.out_features) == (layer.in_features, layer.out_features)


# adapters in a model's folder ------------------------------------------------------------------------------------------


def test_an_adapter_beside_a_model_is_refused_in_one_line(tiny_folder: Path, tmp_path: Path):
    folder = tmp_path / "both"
    shutil.copytree(tiny_folder, folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelError, match=r"an adapter of PEFT lies beside the model \(adapter_config.json\)") as refused:
        HFModel(str(folder))
    assert "\n" not in str(refused.value)


def test_a_folder_that_holds_an_adapter_alone_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelError, match="the folder holds an adapter of PEFT alone; merge it into its base model"):
        HFModel(str(tmp_path))
