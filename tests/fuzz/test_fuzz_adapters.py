"""Adapters with odd headers, tensors, names and settings: they load, or there is one ModelError of one line."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from mutate import ODD_TEXTS, as_json, changed, damaged, texts
from prop import fuzzed

from spa_bench.errors import ModelError
from spa_bench.models.hf.model import HFModel
from spa_bench.models.vllm.shape import modules_of, rank_of
from tiny import random_adapter


@pytest.fixture
def good(tiny_model: HFModel, tmp_path: Path) -> Path:
    return random_adapter(tiny_model.network, tmp_path / "good", torch.Generator().manual_seed(0), rank=2, scale=0.1)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert "\n" not in said
    assert len(said) < 4000


def _read(model: HFModel, folder: Path) -> None:
    with _one_line(), model.hf.adapters.use([folder]):
        pass
    with _one_line():
        rank_of(folder)
        modules_of(folder)


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    [size] = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _copy(good: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    return folder


@fuzzed(data=st.data(), size=st.sampled_from([None, None, None, 0, 1, 2**20, 2**32, 2**63, 2**64 - 1]))
def test_odd_headers(data: st.DataObject, size: int | None, good: Path, tmp_path: Path, tiny_model: HFModel):
    folder = _copy(good, tmp_path)
    file = folder / "adapter_model.safetensors"
    header, body = _split(file.read_bytes())
    written = as_json(data.draw(changed(header)))
    file.write_bytes(struct.pack("<Q", len(written) if size is None else size) + written + body)
    _read(tiny_model, folder)


@fuzzed(data=st.data(), name=st.one_of(st.sampled_from(["../../x", "/etc/passwd", *ODD_TEXTS]), texts()))
def test_odd_names_and_shapes(data: st.DataObject, name: str, good: Path, tmp_path: Path, tiny_model: HFModel):
    folder = _copy(good, tmp_path)
    file = folder / "adapter_model.safetensors"
    header, body = _split(file.read_bytes())
    tensors = [key for key in header if key != "__metadata__"]
    one = data.draw(st.sampled_from(tensors))
    kind = data.draw(st.sampled_from(["name", "path", "shape", "dtype", "missing"]))
    if kind == "name":
        header[name] = header.pop(one)
    elif kind == "path":
        header[f"base_model.model.{name}.lora_A.weight"] = header[one]
        header[f"base_model.model.{name}.lora_B.weight"] = header.pop(one)
    elif kind == "shape":
        rows, columns = header[one]["shape"]
        shapes = [[columns, rows], [rows * columns], [1, rows, columns], [rows * columns, 1], [rows // 2, columns * 2]]
        header[one]["shape"] = data.draw(st.sampled_from(shapes))
    elif kind == "dtype":
        header[one]["dtype"] = data.draw(st.sampled_from(["I32", "U32", "F8_E4M3", "F64", "BOOL", "BF16", "C64"]))
    else:
        del header[one]
    written = as_json(header)
    file.write_bytes(struct.pack("<Q", len(written)) + written + body)
    _read(tiny_model, folder)


@fuzzed(data=st.data())
def test_odd_settings(data: st.DataObject, good: Path, tmp_path: Path, tiny_model: HFModel):
    folder = _copy(good, tmp_path)
    file = folder / "adapter_config.json"
    content = json.loads(file.read_bytes())
    file.write_bytes(as_json(data.draw(changed(content))))
    _read(tiny_model, folder)


@fuzzed(data=st.data(), name=st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
def test_damaged_files(data: st.DataObject, name: str, good: Path, tmp_path: Path, tiny_model: HFModel):
    folder = _copy(good, tmp_path)
    (folder / name).write_bytes(data.draw(damaged((folder / name).read_bytes())))
    _read(tiny_model, folder)
