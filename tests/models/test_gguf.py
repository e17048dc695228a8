"""Models from GGUF files: the same values as the network that was written, the same tokens, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Types
from safetensors import SafetensorError

import gguf_files
from doubles import Call
from spa_bench.errors import ModelError, SpaBenchError, UsageError
from spa_bench.models.hf.gguf import converted, from_file
from spa_bench.models.hf.gguf_tokenizer import SPLITS
from spa_bench.models.hf.loading import load_network
from spa_bench.models.hf.model import HFModel
from spa_bench.runs.reopen import ModelOptions, load_model
from spa_bench.support.cache import model_cache
from spa_bench.support.console import Reporter
from spa_bench.support.provenance import hash_bytes, hash_folder

QUIET = Reporter(quiet=True)
TEXTS = ("    x = 1234\n", "    12\n", "x = 12 12\n  12", "ab=1  2")


def loaded(path: Path) -> tuple[Any, Any]:
    folder = str(from_file(path, QUIET).folder)
    return load_network(folder, torch.float32, revision=None, trust_remote_code=False)[:2]


def pieces(path: Path, text: str) -> list[str]:
    _, tokenizer = loaded(path)
    return tokenizer.tokenize(text)


@pytest.mark.parametrize("quantised", [Types.F32, Types.F16, Types.BF16, Types.Q8_0, Types.Q4_1], ids=lambda t: t.name)
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


@pytest.mark.parametrize("stored", [Types.F32, Types.F16, Types.BF16], ids=lambda t: t.name)
def test_a_file_without_quantised_weights_is_read_and_not_dequantised(tmp_path: Path, stored: Types):
    gguf_files.write(tmp_path / "m.gguf", quantised=stored)  # norms are F32 in each
    assert from_file(tmp_path / "m.gguf", QUIET).weights == f"read from {stored.name}"


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


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "ends"),
    [(CHATML, [0, 2]), (CHATML.replace("<|im_end|>", "\n\n"), [0]), ("{% for", [0]), (None, [0])],
    ids=["control token", "text", "broken", "none"],
)
def test_answers_end_with_the_control_token_of_the_chat_template_too(tmp_path: Path, template: str | None, ends: list[int]):
    """Many files state the end of a text alone, and an instruct model ends its turn with another token."""
    gguf_files.write(tmp_path / "m.gguf", stated={"tokenizer.ggml.eos_token_id": 0, "tokenizer.chat_template": template})
    network, _ = loaded(tmp_path / "m.gguf")
    assert network.generation_config.eos_token_id == ends


def test_a_model_that_ends_as_its_template_says_is_another_than_before_that_was_looked_for(tmp_path: Path):
    """What was made of a file by then is made anew, and the hash says that its answers end otherwise."""
    gguf_files.write(tmp_path / "m.gguf", stated={"tokenizer.ggml.eos_token_id": 0, "tokenizer.chat_template": CHATML})
    now = from_file(tmp_path / "m.gguf", QUIET)
    assert now.closing == 2
    assert now.hash == replace(now, file="x").hash != replace(now, closing=None).hash == hash_bytes(f"{now.sha256} 2".encode())
    kept = json.loads((now.folder / "ORIGIN").read_text())
    (now.folder / "generation_config.json").write_text('{"eos_token_id": [0]}')
    before = {**kept, "files": hash_folder(now.folder)}
    del before["closing"]
    (now.folder / "ORIGIN").write_text(json.dumps(before))
    of_package = converted(now.sha256, "p 1")
    assert of_package is not None
    assert of_package.closing is None
    assert from_file(tmp_path / "m.gguf", QUIET) == now
    assert json.loads((now.folder / "ORIGIN").read_text()) == kept


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


# files, disks and caches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.999])
def test_a_file_that_is_cut_is_refused_in_one_line(tmp_path: Path, share: float, call: Call, three: Path):
    gguf_files.write(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: int(len(content) * share)])
    done = call("run", "--sampler", "base", "--task", three, "--model", tmp_path / "m.gguf", "--until", "generate")
    assert "m.gguf" in done.error()
    assert "cut off or damaged" in done.error()


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        ((4).to_bytes(4, "little"), "is a GGUF file of version 4, and versions 2 and 3 are read here"),
        ((1).to_bytes(4, "little"), "is a GGUF file of version 1, and versions 2 and 3 are read here"),
        ((3).to_bytes(4, "big"), "is a big-endian GGUF file, which is not read here; get the little-endian one"),
    ],
)
def test_another_version_and_byte_order_are_not_taken_for_damage(tmp_path: Path, begin: bytes, said: str):
    gguf_files.write(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[:4] + begin + content[8:])
    with pytest.raises(ModelError, match=said):
        from_file(tmp_path / "m.gguf", QUIET)


def test_a_list_that_is_said_to_be_longer_than_the_file_is_refused_at_once(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf", stated={"general.tags": [True, False]})  # a byte each: no rest shows where it ends
    content = (tmp_path / "m.gguf").read_bytes()
    place = content.index(b"general.tags") + len(b"general.tags") + 8  # behind the types of list and items
    (tmp_path / "m.gguf").write_bytes(content[:place] + (1 << 40).to_bytes(8, "little") + content[place + 8 :])
    with pytest.raises(ModelError, match=r"cut off or damaged \(it states more than its \d+ bytes hold\)"):
        from_file(tmp_path / "m.gguf", QUIET)


def test_nothing_that_lies_beside_a_file_plays_a_part(tmp_path: Path):
    """transformers would take the adapter's base model in place of the file, and ask the hub for it."""
    written = gguf_files.write(tmp_path / "m.gguf")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b", "peft_type": "LORA"}')
    (tmp_path / "config.json").write_text("{broken")
    network, _ = loaded(tmp_path / "m.gguf")
    row = torch.tensor([[5, 9, 200, 31]])
    assert torch.equal(network(row).logits, written(row).logits)
    assert not list(from_file(tmp_path / "m.gguf", QUIET).folder.glob(".*"))


def test_a_folder_may_have_the_name_of_a_file(tmp_path: Path):
    gguf_files.write(tmp_path / "m.gguf")
    shutil.copytree(from_file(tmp_path / "m.gguf", QUIET).folder, tmp_path / "folder.gguf")
    assert "file" not in load_model(str(tmp_path / "folder.gguf"), ModelOptions(device="cpu", threads=1)).describe()


def test_a_folder_that_holds_a_file_alone_names_it(tmp_path: Path):
    gguf_files.write(tmp_path / "M.GGUF")
    with pytest.raises(ModelError, match=rf"no config.json in that folder; .*, or the GGUF file {tmp_path / 'M.GGUF'}$"):
        load_model(str(tmp_path), ModelOptions(device="cpu", threads=1))


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


def test_what_a_killed_process_left_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")
    folder = from_file(tmp_path / "m.gguf", QUIET).folder
    left = folder.with_name(f".{folder.name}.new")
    folder.rename(left)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 0 if left.exists() else 1 << 40))
    assert from_file(tmp_path / "m.gguf", QUIET).folder == folder


@pytest.mark.parametrize("kept", ["{", "{}", "[]", "null"])
def test_a_damaged_note_of_the_cache_is_one_line(tmp_path: Path, kept: str):
    gguf_files.write(tmp_path / "m.gguf")
    folder = from_file(tmp_path / "m.gguf", QUIET).folder
    (folder / "ORIGIN").write_text(kept)
    with pytest.raises(ModelError, match=rf"cannot read the model in {folder} \(.*\); remove that folder and run it again"):
        from_file(tmp_path / "m.gguf", QUIET)


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


def test_a_disk_that_is_full_while_the_tokenizer_is_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")

    def full(self: Any, folder: Path) -> None:
        (folder / "tokenizer_config.json").write_text("{}")
        self.backend_tokenizer.save("/dev/full")  # raises Exception itself

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)
    with pytest.raises(ModelError, match=r"cannot write .*No space left on device .*; make room"):
        from_file(tmp_path / "m.gguf", QUIET)
    assert not list(model_cache().glob("*gguf-*"))


def test_another_error_of_the_tokenizer_is_not_taken_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_files.write(tmp_path / "m.gguf")

    def broken(*_: object) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", broken)
    with pytest.raises(TypeError, match="a fault"):
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
