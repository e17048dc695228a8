"""Models from GGUF files: the same values as the network that was written, the same tokens, and what is refused."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Types
from safetensors import SafetensorError
from transformers import Gemma2Config, Lfm2Config, MambaConfig, MistralConfig, Qwen2MoeConfig, Starcoder2Config

import gguf_files
from doubles import Call
from spa_bench.errors import ModelError, SpaBenchError, UsageError
from spa_bench.models.hf.gguf import from_file
from spa_bench.models.hf.gguf_keys import check_config
from spa_bench.models.hf.gguf_tokenizer import SPLITS
from spa_bench.models.hf.loading import load_network
from spa_bench.models.hf.model import HFModel
from spa_bench.runs.reopen import ModelOptions, load_model
from spa_bench.support.cache import model_cache
from spa_bench.support.console import Reporter

QUIET = Reporter(quiet=True)
TEXTS = ("    x = 1234\n", "    12\n", "x = 12 12\n  12", "ab=1  2")


def loaded(path: Path) -> tuple[Any, Any]:
    return load_network(str(from_file(path, QUIET).folder), torch.float32, revision=None, trust_remote_code=False)


def pieces(path: Path, text: str) -> list[str]:
    _, tokenizer = loaded(path)
    return tokenizer.tokenize(text)


@pytest.mark.parametrize("quantised", [Types.F32, Types.Q8_0, Types.Q4_1], ids=lambda t: t.name)
def test_the_network_is_the_one_that_was_written(tmp_path: Path, quantised: Types):
    written = gguf_files.write(tmp_path / "m.gguf", quantised=quantised)
    network, _ = loaded(tmp_path / "m.gguf")
    for name, tensor in written.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    row = torch.tensor([[5, 9, 200, 31]])
    assert torch.equal(network(row).logits, written(row).logits)


def test_the_spec_says_the_file_and_what_was_done_to_its_weights(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf", quantised=Types.Q4_1)
    name = str(tmp_path / "m.gguf")
    model = load_model(name, ModelOptions(threads=1, device="cpu"))
    said = model.describe()
    assert (said["name"], said["file"], said["weights"]) == (name, "m.gguf", "dequantised from Q4_1")
    shutil.copy(tmp_path / "m.gguf", tmp_path / "other.gguf")
    copy = load_model(str(tmp_path / "other.gguf"), ModelOptions(threads=1, device="cpu")).describe()
    assert (copy["hash"], copy["file"]) == (said["hash"], "other.gguf")
    gguf_files.write(tmp_path / "m.gguf", quantised=Types.Q8_0)
    assert load_model(name, ModelOptions(threads=1, device="cpu")).describe()["hash"] != said["hash"]


def test_a_file_without_quantised_weights_is_read_and_not_dequantised(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf")
    assert from_file(tmp_path / "m.gguf", QUIET).weights == "read from F32"


def test_the_second_time_the_cache_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")
    first = from_file(tmp_path / "m.gguf", QUIET)
    monkeypatch.setattr("spa_bench.models.hf.gguf.convert", lambda *_, **__: pytest.fail("converted again"))
    assert from_file(tmp_path / "m.gguf", QUIET) == first


def test_answers_end_where_the_file_says(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf", stated={"tokenizer.ggml.eot_token_id": 0})
    network, tokenizer = loaded(tmp_path / "m.gguf")
    assert network.generation_config.eos_token_id == [0, 2]
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_start|>")


# the tokenizer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pre", "text", "wanted"),
    [
        ("smollm", "    12\n", ["ĠĠĠĠ", "1", "2", "Ċ"]),
        ("smollm", "x 12", ["x", "Ġ", "1", "2"]),
        ("gpt-2", "    12\n", ["ĠĠ", "Ġ", "Ġ1", "2", "Ċ"]),
        ("llama-bpe", "    12\n", ["ĠĠ", "Ġ", "Ġ", "12", "Ċ"]),
        ("qwen2", "    12\n", ["ĠĠ", "Ġ", "Ġ", "1", "2", "Ċ"]),
        ("deepseek-coder", "    12\n", ["ĠĠĠĠ", "1", "2", "Ċ"]),
    ],
)
def test_indented_numbers_are_split_as_the_named_pre_tokenizer_does(tmp_path: Path, pre: str, text: str, wanted: list[str]):
    gguf_files.write(tmp_path / "m.gguf", pre=pre)
    assert pieces(tmp_path / "m.gguf", text) == wanted


@pytest.mark.parametrize("pre", sorted(SPLITS))
def test_every_known_pre_tokenizer_gives_texts_back(tmp_path: Path, pre: str):
    gguf_files.write(tmp_path / "m.gguf", pre=pre)
    _, tokenizer = loaded(tmp_path / "m.gguf")
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize(
    ("pre", "stated", "wanted"),
    [("smollm", None, False), ("smollm", True, True), ("llama-bpe", None, True), ("llama-bpe", False, False)],
)
def test_a_text_begins_with_the_first_token_where_the_file_or_its_family_says_so(
    tmp_path: Path, pre: str, stated: bool | None, wanted: bool
):
    given = {} if stated is None else {"tokenizer.ggml.add_bos_token": stated}
    gguf_files.write(tmp_path / "m.gguf", pre=pre, stated=given)
    _, tokenizer = loaded(tmp_path / "m.gguf")
    assert (tokenizer("x")["input_ids"][0] == 1) is wanted


@pytest.mark.parametrize(("prefix", "wanted"), [(None, "▁"), (True, "▁"), (False, "")])
def test_sentencepiece_puts_a_space_in_front_where_the_file_says_so(tmp_path: Path, prefix: bool | None, wanted: str):
    given = {} if prefix is None else {"tokenizer.ggml.add_space_prefix": prefix}
    gguf_files.write(tmp_path / "m.gguf", kind="llama", pre=None, stated=given)
    _, tokenizer = loaded(tmp_path / "m.gguf")
    for text in ("x", "    x", "    12\n"):
        shown = "".join(tokenizer.tokenize(text)).replace("<0x0A>", "\n")
        assert shown == wanted + text.replace(" ", "▁")  # a text that begins with spaces gets one more
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_control_tokens_are_found_whatever_letters_they_have(tmp_path: Path, kind: str):
    pre = "deepseek-r1-qwen" if kind == "gpt2" else None
    added = dict.fromkeys((*DEEPSEEK, "<|end of turn|>", "[INST ]"), 3)
    count = len(gguf_files.vocabulary() if kind == "gpt2" else gguf_files.PIECES)
    ends = {"tokenizer.ggml.bos_token_id": count, "tokenizer.ggml.eos_token_id": count + 1}
    gguf_files.write(tmp_path / "m.gguf", kind=kind, pre=pre, added=added, stated=ends)
    network, tokenizer = loaded(tmp_path / "m.gguf")
    for i, text in enumerate(added):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == [count + i], text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (count, count + 1, count + 5)
    assert network.generation_config.eos_token_id == [count + 1]
    x = tokenizer.convert_tokens_to_ids("x")
    turn = tokenizer("<｜User｜>x<|end of turn|>", add_special_tokens=False)["input_ids"]
    assert (turn[0], turn[-2:]) == (count + 2, [x if kind == "gpt2" else tokenizer.convert_tokens_to_ids("▁x"), count + 3])


@pytest.mark.parametrize("pre", ["smollm", "mpt"])
def test_user_defined_tokens_are_found_as_they_are_spelled_and_steal_no_other_id(tmp_path: Path, pre: str):
    gguf_files.write(tmp_path / "m.gguf", pre=pre, added={"    ": 4, "\n\n": 4, "<tool>": 4})
    _, tokenizer = loaded(tmp_path / "m.gguf")
    spaces, lines, tool = 264, 265, 266
    one, x, space, four = (tokenizer.convert_tokens_to_ids(piece) for piece in ("1", "x", "Ġ", "ĠĠĠĠ"))
    assert four == gguf_files.vocabulary().index("ĠĠĠĠ")
    for text, ids in {"    1": [spaces, one], "     x": [spaces, space, x], "x\n\n<tool>x": [x, lines, tool, x]}.items():
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_user_defined_tokens_of_sentencepiece(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf", kind="llama", pre=None, added={"<tool>": 4, "\n\n": 4})
    _, tokenizer = loaded(tmp_path / "m.gguf")
    assert tokenizer("x<tool>\n\n", add_special_tokens=False)["input_ids"][1:] == [268, 269]
    assert tokenizer.tokenize("x<tool>") == ["▁x", "<tool>"]


def test_merges_of_sentencepiece_follow_the_scores(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf", kind="llama", pre=None, added={"=1": 1, "x=": 1})  # the first has the better score
    _, tokenizer = loaded(tmp_path / "m.gguf")
    assert tokenizer.tokenize("12x=1") == ["▁", "12", "x", "=1"]


# what is refused ----------------------------------------------------------------------------------------------------

STARCODER = {
    "starcoder2.attention.layer_norm_rms_epsilon": None,
    "starcoder2.attention.layer_norm_epsilon": 1e-5,
    "starcoder2.rope.freq_base": 10000.0,
}
REFUSED = [
    ({"pre": "smolm"}, "names the pre-tokenizer 'smolm'; did you mean 'smollm'?"),
    ({"pre": None}, "names no pre-tokenizer"),
    ({"pre": "default"}, "names the pre-tokenizer 'default'"),
    ({"kind": "rwkv"}, "its tokenizer is of kind 'rwkv'"),
    ({"arch": "clip"}, "architecture 'clip'"),
    ({"stated": {"llama.rope.scaling.type": "yarn"}}, "states llama.rope.scaling.type = yarn"),
    ({"arch": "starcoder2", "stated": STARCODER}, "it lacks 'model.layers.0.input_layernorm.bias'"),
    ({"stated": {"llama.attention.sliding_window": 64}}, "states llama.attention.sliding_window = 64, which is not read here"),
    ({"stated": {"llama.logit_scale": 0.5}}, "states llama.logit_scale = 0.5"),
    ({"extra": {"rope_freqs.weight": np.ones(4, dtype=np.float32)}}, "the scaled positions of Llama 3"),
    (
        {"kind": "llama", "pre": None, "stated": {"tokenizer.ggml.remove_extra_whitespaces": True}},
        "removes spaces",
    ),
]


KEYS = [  # of the architecture, each with what the line says of it
    ({"attention.sliding_window": [16, 16]}, "states llama.attention.sliding_window = [16, 16], which is not read here"),
    ({"attention.sliding_window_pattern": [True, False]}, "sliding_window_pattern = [True, False], which is not read here"),
    ({"rope.scaling.factors": [1.0, 2.0]}, "states llama.rope.scaling.factors = [1.0, 2.0], which is not read here"),
    ({"attention.causal": False}, "states llama.attention.causal = False, and transformers would read True"),
    ({"attention.key_length": 16}, "states llama.attention.key_length = 16, and transformers would read 8"),
    ({"attention.value_length": 16}, "states llama.attention.value_length = 16, and transformers would read 8"),
    ({"attention.scale": 0.5}, "states llama.attention.scale = 0.5, and transformers would read 0.35355"),
    ({"rope.scaling.factor": 2.0}, "states llama.rope.scaling.factor = 2.0, and transformers would read 1.0"),
    ({"expert_count": 4, "expert_used_count": 2}, "states llama.expert_count = 4, which is not read here"),
    ({"no_such_key": 0}, "states llama.no_such_key = 0, which is not read here"),
    ({"attention.layer_norm_rms_epsilon": None}, "states no llama.attention.layer_norm_rms_epsilon, and transformers would"),
    ({"context_length": None}, "states no llama.context_length, and transformers would take a default"),
    ({"block_count": None}, "states no llama.block_count"),
    ({"attention.head_count_kv": [2, 2]}, "states llama.attention.head_count_kv by layer, as [2, 2], and transformers"),
    ({"feed_forward_length": [64, 64]}, "states llama.feed_forward_length by layer, as [64, 64], and transformers"),
    (
        {"feed_forward_length": 128},
        "its tensor blk.0.ffn_gate.weight has the shape [64, 32], and by what the file",
    ),
    ({"embedding_length": 64}, "it must be [264, 64] (model.embed_tokens.weight)"),
    ({"block_count": 1}, "some would be left out"),
]
TOKENIZERS = [
    ({"lost": ["q"]}, "its vocabulary has no token for the byte 0x71 ('q')"),
    ({"lost": ["<0x0A>"], "kind": "llama", "pre": None}, "its vocabulary has no token for the byte 0x0A"),
    ({"lost": ["ĠĠ"]}, "its merge 'Ġ Ġ' needs the token 'ĠĠ', which it lacks"),
    ({"lost": ["merges"]}, "has no list of words in tokenizer.ggml.merges"),
    ({"lost": ["scores"], "kind": "llama", "pre": None}, "in tokenizer.ggml.scores, no list"),
    ({"lost": ["token_type"]}, "states 264 tokens and, in tokenizer.ggml.token_type, no list"),
    ({"stated": {"tokenizer.ggml.eos_token_id": 99999}}, "states tokenizer.ggml.eos_token_id = 99999, and it has 264 tokens"),
    ({"stated": {"tokenizer.ggml.eot_token_id": 264}}, "states tokenizer.ggml.eot_token_id = 264, and it has 264 tokens"),
    ({"stated": {"tokenizer.ggml.eos_token_id": None}}, "states no end token"),
    ({"added": {"    ": 1}}, "its token '    ' is marked as normal and is not spelled in bytes"),
    ({"added": {"é!": 4}}, "the user-defined token 264, 'é!', would be written as '\ufffd!'"),  # é is the letter of a byte
    ({"added": {"▁▁▁": 4}, "kind": "llama", "pre": None}, "the user-defined token 268, '   ', would be read as"),
    ({"stated": {"llama.vocab_size": 200}}, "its tensor token_embd.weight has the shape [264, 32]"),
    (
        {"stated": {"split.count": 2, "split.no": 0}},
        "is part 1 of 2 of a split GGUF; merge all of them (llama-gguf-split",
    ),
    ({"arch": "phi3"}, "cannot load"),
    ({"changed": {"blk.1.ffn_down.weight": np.ones((32, 32), "f4")}}, "blk.1.ffn_down.weight has the shape [32, 32]"),
    ({"changed": {"blk.1.attn_q.weight": np.ones((8, 32), "f4")}}, "blk.1.attn_q.weight has the shape [8, 32]"),
    ({"changed": {"blk.1.ffn_down.weight": np.ones((64, 32), "f4")}}, "blk.1.ffn_down.weight has the shape [64, 32]"),
]


@pytest.mark.parametrize(
    ("given", "said"),
    [*REFUSED, *(({"stated": {f"llama.{k}": v for k, v in keys.items()}}, said) for keys, said in KEYS), *TOKENIZERS],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_would_be_read_wrongly_is_refused_in_one_line(tmp_path: Path, given: dict[str, Any], said: str):
    gguf_files.write(tmp_path / "m.gguf", **given)
    with pytest.raises(ModelError) as error:
        from_file(tmp_path / "m.gguf", QUIET)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(model_cache().glob("*gguf-*"))


def test_keys_that_say_what_is_read_pass(tmp_path: Path):
    same = {
        "attention.key_length": 8, "attention.value_length": 8, "attention.causal": True, "attention.scale": 8**-0.5,
        "rope.scaling.factor": 1.0, "rope.scaling.type": "none", "expert_count": 0, "expert_used_count": 0,
        "attention.sliding_window": 0, "tensor_data_layout": "Meta AI original pth",
    }  # fmt: skip
    written = gguf_files.write(tmp_path / "m.gguf", stated={f"llama.{key}": value for key, value in same.items()})
    network, _ = loaded(tmp_path / "m.gguf")
    row = torch.tensor([[5, 9, 200, 31]])
    assert torch.equal(network(row).logits, written(row).logits)


def test_what_transformers_leaves_at_its_default_is_refused_where_the_file_states_another_value():
    config = Starcoder2Config(rope_theta=10000.0)
    check_config("starcoder2", {"rope.freq_base": 10000.0}, config, "m.gguf")
    with pytest.raises(ModelError, match=r"m.gguf states starcoder2.rope.freq_base = 999999.4, and .* would read 10000"):
        check_config("starcoder2", {"rope.freq_base": 999999.4}, config, "m.gguf")
    mistral = MistralConfig(sliding_window=4096)
    with pytest.raises(ModelError, match=r"states no mistral.attention.sliding_window, which stands for 0, and .* read 4096"):
        check_config("mistral", {}, mistral, "m.gguf")
    check_config("mistral", {"attention.sliding_window": 4096}, mistral, "m.gguf")
    check_config("mistral", {"attention.sliding_window": [4096, 4096]}, mistral, "m.gguf")  # one for each layer
    with pytest.raises(ModelError, match=r"states no mistral.attention.head_count_kv, which stands for 32, and .* read 8"):
        check_config("mistral", {"attention.sliding_window": 4096, "attention.head_count": 32}, mistral, "m.gguf")
    with pytest.raises(ModelError, match=r"states no mistral.rope.freq_base, which stands for 10000.0, and .* read 1000000"):
        check_config("mistral", {}, MistralConfig(sliding_window=None, rope_theta=1e6), "m.gguf")
    with pytest.raises(ModelError, match=r"states qwen2moe.expert_count = 8, and transformers would read 60"):
        check_config("qwen2moe", {"expert_count": 8}, Qwen2MoeConfig(num_experts=60), "m.gguf")


def test_keys_of_architectures_whose_layers_differ():
    """As llama.cpp's converter writes them: short convolutions, linear attention, windows in some layers."""
    lfm2 = Lfm2Config(num_hidden_layers=3, num_key_value_heads=8, layer_types=["conv", "conv", "full_attention"])
    check_config("lfm2", {"attention.head_count_kv": [0, 0, 8], "rope.freq_base": 1e6}, lfm2, "m.gguf")
    with pytest.raises(ModelError, match=r"states lfm2.attention.head_count_kv = \[0, 8, 8\], and .* read \[0, 0, 8\]"):
        check_config("lfm2", {"attention.head_count_kv": [0, 8, 8], "rope.freq_base": 1e6}, lfm2, "m.gguf")
    kinds = ["sliding_attention", "full_attention"] * 2
    gemma = Gemma2Config(num_hidden_layers=4, sliding_window=64, layer_types=kinds, head_dim=256, query_pre_attn_scalar=256)
    stated = {"attention.sliding_window": 64, "attention.key_length": 256, "attention.scale": 1 / 16}
    check_config("gemma2", {**stated, "attention.sliding_window_pattern": [True, False] * 2}, gemma, "m.gguf")
    with pytest.raises(ModelError, match=r"states gemma2.attention.sliding_window_pattern = \[True, True, True, False\]"):
        check_config("gemma2", {**stated, "attention.sliding_window_pattern": [True] * 3 + [False]}, gemma, "m.gguf")
    mamba = {"ssm.conv_kernel": 4, "ssm.inner_size": 1536, "ssm.dt_b_c_rms": False, "feed_forward_length": 0}
    check_config("mamba", mamba, MambaConfig(intermediate_size=1536), "m.gguf")
    with pytest.raises(ModelError, match=r"states mamba.ssm.dt_b_c_rms = True, which is not read here"):
        check_config("mamba", {**mamba, "ssm.dt_b_c_rms": True}, MambaConfig(intermediate_size=1536), "m.gguf")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.999])
def test_a_file_that_is_cut_is_refused_in_one_line(tmp_path: Path, share: float, call: Call, three: Path):
    gguf_files.write(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: int(len(content) * share)])
    done = call("run", "--sampler", "base", "--task", three, "--model", tmp_path / "m.gguf", "--until", "generate")
    assert "m.gguf" in done.error()
    assert "cut off or damaged" in done.error()


def test_a_file_that_is_no_gguf_and_one_that_is_not_there(tmp_path: Path):
    (tmp_path / "m.gguf").write_bytes(b"PK" * 100)
    with pytest.raises(ModelError, match="is no GGUF file"):
        from_file(tmp_path / "m.gguf", QUIET)
    with pytest.raises(ModelError, match=r"no GGUF file at .*other\.gguf"):
        from_file(tmp_path / "other.gguf", QUIET)


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1000))
    with pytest.raises(ModelError, match=r"MB free; make room, or let SPA_BENCH_CACHE"):
        from_file(tmp_path / "m.gguf", QUIET)
    assert not list(model_cache().glob("*gguf-*"))


def test_a_disk_that_is_full_in_the_middle_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(ModelError, match="No space left on device"):
            from_file(tmp_path / "m.gguf", QUIET)
    assert not list(model_cache().glob("*gguf-*"))
    assert from_file(tmp_path / "m.gguf", QUIET).folder.is_dir()


def test_a_copy_in_the_cache_that_was_changed_is_not_used(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf")
    weights = from_file(tmp_path / "m.gguf", QUIET).folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="was changed since it was made; remove that folder"):
        from_file(tmp_path / "m.gguf", QUIET)


def test_all_files_of_a_converted_model_can_be_read_by_the_same_users(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf")
    (tmp_path / "usual").touch()
    folder = from_file(tmp_path / "m.gguf", QUIET).folder
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {(tmp_path / "usual").stat().st_mode & 0o777}


@pytest.mark.parametrize("place", ["cache", "cache/models"])
def test_a_cache_that_is_a_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    gguf_files.write(tmp_path / "m.gguf")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("a file")
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError) as error:
        from_file(tmp_path / "m.gguf", QUIET)
    assert f"{tmp_path / place} is a file and no folder; set SPA_BENCH_CACHE to another folder" in str(error.value)


def test_an_error_of_the_library_that_writes_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(ModelError, match=r"cannot write .*No space left on device .*; make room"):
        from_file(tmp_path / "m.gguf", QUIET)


def test_a_revision_of_a_file_is_refused(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match=r"--revision main names a version on the hub, and .*m\.gguf is no model of the hub"):
        load_model(str(tmp_path / "m.gguf"), ModelOptions(device="cpu", threads=1, revision="main"))


def test_a_run_with_a_gguf_file_says_so_in_plan_and_spec(tmp_path: Path, call: Call, three: Path):
    gguf_files.write(tmp_path / "m.gguf", quantised=Types.Q8_0)
    place = tmp_path / "m.gguf"
    done = call(
        "run", "--sampler", "base", "--task", three, "--model", place, "--until", "generate", "--out", tmp_path / "runs",
        "--set", "task.max_new_tokens=4", "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert f"model: {place} (dequantised from Q8_0):" in " ".join(done.err.split("\n"))


def test_the_embedded_model_has_no_origin():
    assert issubclass(ModelError, SpaBenchError)
    assert "weights" not in load_model("embedded", ModelOptions(threads=1, device="cpu")).describe()
    assert isinstance(load_model("embedded", ModelOptions(threads=1, device="cpu")), HFModel)
