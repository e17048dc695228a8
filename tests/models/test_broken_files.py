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
from tiny_tokenizers import byte_level, fast

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


def unmerged(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.q_proj.lora_A.default.weight"] = torch.zeros(2, 4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def wrapped(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    path = "model.layers.1.self_attn.q_proj"
    tensors[f"{path}.base_layer.weight"] = tensors.pop(f"{path}.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


LEFT = {unmerged: "q_proj.lora_A.default.weight", wrapped: "q_proj.base_layer.weight"}


@pytest.mark.parametrize("change", LEFT)
def test_an_adapter_that_was_not_merged_is_refused(change: Change, tiny_folder: Path, tmp_path: Path):
    said = refused(changed(tiny_folder, tmp_path / "model", change))
    assert "it holds an adapter that was not merged ('model.layers.1.self_attn." in said
    assert f"{LEFT[change]}', 1 such weights); merge it" in said
