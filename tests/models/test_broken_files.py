"""Whatever a model's folder holds, there is a model or one line that says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spa_bench.errors import ModelError
from spa_bench.models.chat import chat_text
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.weight_files import weight_notes
from tiny_tokenizers import around, byte_level, fast

CONFIG_KEYS = ["hidden_size", "num_hidden_layers", "vocab_size", "rms_norm_eps", "hidden_act", "model_type"]
BROKEN = {"cut": None, "empty": "", "no object": "[]", "null": "null", "no keys": "{}"}
Change = Callable[[Path], object]


def changed(source: Path, folder: Path, change: Change) -> str:
    shutil.copytree(source, folder)
    change(folder)
    return str(folder)


def refused(path: str) -> str:
    with pytest.raises(ModelError) as error:
        HFModel(path, HFOptions(device="cpu", threads=1))
    assert "\n" not in str(error.value)
    assert path in str(error.value)
    return str(error.value)


def setting(file: str, key: str, value: Any) -> Change:
    def change(folder: Path) -> None:
        known = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**known, key: value}))

    return change


@pytest.mark.parametrize("key", CONFIG_KEYS)
def test_a_null_in_a_config_is_one_line(key: str, tiny_folder: Path, tmp_path: Path):
    said = refused(changed(tiny_folder, tmp_path / "model", setting("config.json", key, None)))
    assert said.startswith("cannot load model")
    assert key in said or key == "model_type"


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_a_broken_file_is_one_line(file: str, content: str, tiny_folder: Path, tmp_path: Path):
    def broken(folder: Path) -> None:
        text = BROKEN[content]
        whole = (folder / file).read_text()
        (folder / file).write_text(whole[: len(whole) // 2] if text is None else text)

    assert refused(changed(tiny_folder, tmp_path / "model", broken)).startswith("cannot load model")


@pytest.mark.parametrize("key", ["model", "added_tokens", "decoder"])
def test_a_null_in_a_tokenizer_is_one_line(key: str, tiny_folder: Path, tmp_path: Path):
    refused(changed(tiny_folder, tmp_path / "model", setting("tokenizer.json", key, None)))


@pytest.mark.parametrize("name", ["LlamaTokenizer", "GPT2Tokenizer", "BertTokenizer", "NoSuchTokenizer", 5])
def test_a_tokenizer_whose_vocabulary_is_missing_is_one_line(name: Any, tiny_folder: Path, tmp_path: Path):
    def lacking(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        setting("tokenizer_config.json", "tokenizer_class", name)(folder)

    refused(changed(tiny_folder, tmp_path / "model", lacking))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError: division by zero"),
        ("{{ tools | length }}", "fails: TypeError: "),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "fails: RecursionError: "),
        ("{% include 'other' %}", "fails: TypeError: "),
        ("{% for", "has a syntax error: unexpected 'end of template'"),
        ("{{ raise_exception('no system role') }}", "refuses the messages: no system role"),
        ("{{ messages[9].content }}", "fails: UndefinedError: "),
        ("no message", "does not write messages as they are: it drops the last message ('Hi'); "),
        ("{{ messages[0].content | upper }}", "does not write messages as they are: it alters the last message ('Hi'); "),
    ],
)
def test_whatever_a_chat_template_raises_is_one_line(template: str, said: str):
    made = fast(byte_level())
    made.chat_template = template
    with pytest.raises(ModelError) as error:
        chat_text(made, "tiny", [("user", "Hi")])
    assert str(error.value).startswith(f"the chat template of model 'tiny' {said}")
    assert "--set task.prompt=completion" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}", "drops"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "alters"),
        ("{% for m in messages %}{{ m.content | replace('def', '') }}{% endfor %}", "alters"),
    ],
)
def test_a_template_that_does_not_write_how_the_answer_begins_is_one_line(template: str, said: str):
    made = fast(byte_level())
    made.chat_template = template
    with pytest.raises(ModelError) as error:
        chat_text(made, "tiny", [("user", "Hi"), ("assistant", "def f():\n")])
    assert f"does not write messages as they are: it {said} the last message ('def f():')" in str(error.value)
    assert "--set task.prompt=completion" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_template_may_strip_white_space_around_messages():
    made = fast(byte_level())
    made.chat_template = "{% for m in messages %}<{{ m.content | trim }}>{% endfor %}"
    assert chat_text(made, "tiny", [("user", " Hi\n")]) == "<Hi>"
    assert chat_text(made, "tiny", [("user", "Hi"), ("assistant", "\ndef f():\n    ")]) == "<Hi><def f():\n    "


def test_a_tokenizer_with_several_templates_and_no_usual_one_is_one_line():
    made = fast(byte_level())
    made.chat_template = {"tools": "x", "rag": "y"}
    with pytest.raises(ModelError, match=r"^the chat template of model 'tiny' fails: ValueError: "):
        chat_text(made, "tiny", [("user", "Hi")])


def weights_of(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def changing(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return changing


ATTENTION = "model.layers.1.self_attn"
LORA, IA3 = f"{ATTENTION}.q_proj.lora_A.default.weight", f"{ATTENTION}.k_proj.ia3_l.default"
WHOLE, WRAPPED = f"{ATTENTION}.q_proj.weight", f"{ATTENTION}.q_proj.base_layer.weight"
UNMERGED = {
    LORA: (1, lambda tensors: tensors | {LORA: torch.zeros(2, 4)}),
    IA3: (1, lambda tensors: tensors | {IA3: torch.ones(64, 1)}),
    WRAPPED: (1, lambda tensors: {WRAPPED if name == WHOLE else name: tensor for name, tensor in tensors.items()}),
    "base_model.model.lm_head.weight": (21, lambda tensors: {f"base_model.model.{n}": t for n, t in tensors.items()}),
}


@pytest.mark.parametrize("name", UNMERGED)
def test_an_adapter_that_was_not_merged_is_refused(name: str, tiny_folder: Path, tmp_path: Path):
    count, change = UNMERGED[name]
    said = refused(changed(tiny_folder, tmp_path / "model", weights_of(change)))
    assert f"it holds an adapter that was not merged ({name!r}, {count} such weights); merge it" in said


@pytest.mark.parametrize(
    "scale", ["weight_scale_inv", "weight_scale", "scales", "qzeros", "weight.absmax", "SCB", "weight_packed"]
)
def test_quantised_weights_of_which_the_config_says_nothing_are_refused(scale: str, tiny_folder: Path, tmp_path: Path):
    name = f"{ATTENTION}.q_proj.{scale}"
    said = refused(changed(tiny_folder, tmp_path / "model", weights_of(lambda tensors: tensors | {name: torch.ones(4, 4)})))
    assert f"it holds quantised weights ({name!r}, 1 such tensors), and config.json does not say how to read them" in said


def test_weights_without_a_place_in_the_network_are_named(tiny_folder: Path, tmp_path: Path):
    added = {f"{ATTENTION}.q_proj.bias": torch.ones(64), "model.layers.2.mlp.up_proj.weight": torch.ones(128, 64)}
    path = changed(tiny_folder, tmp_path / "model", weights_of(lambda tensors: tensors | added))
    [note] = HFModel(path, HFOptions(device="cpu", threads=1)).notes
    assert note == (
        "weights: 2 in the files have no place in the network that config.json describes, and are left out: "
        + ", ".join(sorted(added))
    )


@pytest.mark.parametrize(
    "name",
    [
        "transformer.h.0.attn.masked_bias",  # of GPT-2 and GPT-J
        "transformer.h.0.attn.attention.bias",  # of GPT-Neo
        "transformer.h.0.attn.causal_mask",  # of CodeGen
        "model.embed_positions.weights",  # of XGLM
        "roberta.pooler.dense.weight",
    ],
)
def test_masks_and_heads_of_other_uses_are_left_out_without_a_word(name: str):
    assert weight_notes({"unexpected_keys": {name}}, "m") == ()
    told = "weights: 1 in the files have no place in the network that config.json describes, and are left out: x.attn.q.bias"
    assert weight_notes({"unexpected_keys": {name, "x.attn.q.bias"}}, "m") == (told,)


def sharded(folder: Path) -> Path:
    """Makes two files and an index of the weights; returns the second one."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = [folder / f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    named = {name: files[i % 2].name for i, name in enumerate(sorted(tensors))}
    for file in files:
        save_file({n: tensors[n] for n, there in named.items() if there == file.name}, file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
    return files[1]


def test_a_file_beside_an_index_of_others_is_said(tiny_folder: Path, tmp_path: Path):
    shutil.copytree(tiny_folder, tmp_path / "model")
    sharded(tmp_path / "model")
    assert HFModel(str(tmp_path / "model"), HFOptions(device="cpu", threads=1)).notes == ()
    shutil.copy(tiny_folder / "model.safetensors", tmp_path / "model")
    [note] = HFModel(str(tmp_path / "model"), HFOptions(device="cpu", threads=1)).notes
    assert (
        note == "weights: model.safetensors is read, and not the files that are named in model.safetensors.index.json beside it"
    )


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "model-00002-of-00002.safetensors"])
def test_a_pointer_of_git_lfs_in_place_of_a_file_is_named(file: str, tiny_folder: Path, tmp_path: Path):
    def pointed(folder: Path) -> None:
        sharded(folder)
        (folder / file).write_text(POINTER)

    said = refused(changed(tiny_folder, tmp_path / "model", pointed))
    assert f"{file} is a pointer of Git LFS, not the file itself; fetch the files (git lfs pull)" in said


@pytest.mark.parametrize("file", ["consolidated.safetensors", "model.fp32.safetensors", "tokenizer.model"])
def test_a_pointer_in_place_of_a_file_that_is_not_read_is_none_of_our_business(file: str, tiny_folder: Path, tmp_path: Path):
    path = changed(tiny_folder, tmp_path / "model", lambda folder: (folder / file).write_text(POINTER))
    assert HFModel(path, HFOptions(device="cpu", threads=1)).notes == ()


@pytest.mark.parametrize(("content", "why"), [("{", "JSONDecodeError: "), ("{}", "KeyError: 'weight_map'")])
def test_a_broken_index_of_the_weights_is_named(content: str, why: str, tiny_folder: Path, tmp_path: Path):
    def broken(folder: Path) -> None:
        sharded(folder)
        (folder / "model.safetensors.index.json").write_text(content)

    said = refused(changed(tiny_folder, tmp_path / "model", broken))
    assert f"or model.safetensors.index.json is broken ({why}" in said


def test_a_tokenizer_in_which_rust_panics_is_one_line(tiny_folder: Path, tmp_path: Path):
    """A panic is no Exception in Python: the template has a token that is not among its own."""

    def panicking(folder: Path) -> None:
        around(byte_level(), front=True, behind=False).save(str(folder / "tokenizer.json"))
        known = json.loads((folder / "tokenizer.json").read_text())
        known["post_processor"]["special_tokens"].clear()
        (folder / "tokenizer.json").write_text(json.dumps(known))

    assert "cannot encode a text: PanicException: no entry found for key" in refused(
        changed(tiny_folder, tmp_path / "model", panicking)
    )


def test_a_tokenizer_in_which_rust_panics_over_tokens_is_one_line():
    from tokenizers import decoders

    from spa_bench.models.hf.spelling import Spelling

    made = byte_level()
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 0, 1)])  # panics at an empty text
    with pytest.raises(ModelError, match=r"^the tokenizer of model .* cannot give the text of tokens: PanicException: index"):
        Spelling(fast(made), frozenset()).decode([])


def test_a_tokenizer_that_transformers_reads_otherwise_than_its_file_is_said(tiny_folder: Path, tmp_path: Path):
    from tokenizers import Regex, pre_tokenizers

    def threes(name: str) -> Change:
        def change(folder: Path) -> None:
            made = byte_level(split=False)  # as Qwen2Tokenizer takes the vocabulary, but splits by its own expression
            bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("x"), "isolated"), bytes_])
            made.save(str(folder / "tokenizer.json"))
            settings = {"tokenizer_class": name, "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 1024}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))

        return change

    for name, notes in (("PreTrainedTokenizerFast", 0), ("Qwen2Tokenizer", 1)):
        model = HFModel(changed(tiny_folder, tmp_path / name, threes(name)), HFOptions(device="cpu", threads=1))
        assert len(model.notes) == notes, model.notes
    said = "tokenizer: Qwen2Tokenizer, as which transformers loads it, has other tokens for a text than the model's "
    assert model.notes[0].startswith(said + "tokenizer.json; the answers are those of plain transformers")
