"""The report of a fault of ours: what is in it, what is not, and where it lies."""

from __future__ import annotations

import errno
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from report_runs import made_run
from spa_bench import __version__
from spa_bench.cli import fault
from spa_bench.cli import main as cli
from spa_bench.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "ada"))


def _ends(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: RunFolder | None = None
) -> str:
    """The last line on stderr of a command in which something of ours fails."""

    def fails(argv: object = None) -> int:
        held, secret = folder, "an answer of the user"  # noqa: F841
        raise KeyError("a prompt of the user")

    monkeypatch.setattr(cli, "main", fails)
    monkeypatch.setattr(sys, "argv", ["spa-bench", *words])
    with pytest.raises(SystemExit) as end:
        cli.entry()
    assert end.value.code == 70
    return capsys.readouterr().err.splitlines()[-1]


def test_the_report_says_versions_command_and_where_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    last = _ends(["show", "runs/a"], monkeypatch, capsys)
    [file] = (tmp_path / "here").iterdir()
    assert last == f"spa-bench: this is a fault of spa-bench; please report it with the file {file.name}"
    text = file.read_text()
    for part in (f"spa-bench {__version__}", f"Python {platform.python_version()}", platform.platform(), "torch ", "numpy "):
        assert part in text
    assert "command: spa-bench show runs/a\n" in text
    assert 'File "test_fault.py"' in text
    assert "in fails" in text
    assert "builtins.KeyError" in text
    assert "spec of the run" not in text


def test_the_report_holds_no_data_no_key_and_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OPENAI_API_KEY", "verysecretvalue")
    home = tmp_path / "home" / "ada"
    words = ["run", "--set", "engine.api_key=topsecret", "--token", "abc123", "--model", str(home / "model")]
    words += ["--set", "engine.base_url=https://user:pw@host/v1", "--data", "verysecretvalue", "--queries", "hf_abcdefghijkl"]
    _ends(words, monkeypatch, capsys)
    [file] = (tmp_path / "here").iterdir()
    text = file.read_text()
    for part in (
        "topsecret",
        "abc123",
        str(home),
        "user:pw",
        "verysecretvalue",
        "hf_abcdefghijkl",
        "a prompt of",
        "an answer of",
    ):
        assert part not in text
    assert "--model '~/model'" in text or "--model ~/model" in text
    assert "engine.api_key=***" in text
    assert "--token" in text
    assert "OPENAI_API_KEY" not in text


def test_the_report_lies_beside_the_run_and_has_its_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = made_run(tmp_path / "runs", name="single")
    last = _ends(["grade", str(folder.path)], monkeypatch, capsys, folder)
    [file] = (tmp_path / "runs").glob("spa-bench-fault-*.txt")
    assert last.endswith(f"with the file {file}")
    text = file.read_text()
    assert '"sampler": {' in text
    assert '"name": "single"' in text
    assert list((tmp_path / "here").iterdir()) == []


def test_long_texts_of_a_spec_are_counted_and_not_shown():
    assert fault._plain({"a": ["x" * 201, "y"], "api_key": "z", "n": 3}) == {
        "a": ["(a text of 201 characters)", "y"], "api_key": "***", "n": 3
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_leaves_the_report_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "here").rmdir()  # the current folder is gone
    last = _ends(["show"], monkeypatch, capsys)
    [file] = (tmp_path / "temporary").iterdir()
    assert last.endswith(f"with the file {file}")


def test_where_nothing_can_be_written_the_fault_still_ends_with_70_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "here").rmdir()
    (tmp_path / "temporary").rmdir()
    last = _ends(["show"], monkeypatch, capsys)
    assert last == "spa-bench: this is a fault of spa-bench; please report it with the lines above"


class OutOfMemoryError(RuntimeError):
    """As torch's class for CUDA's allocator."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory; "),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory (Unable to allocate 9 TiB); "),
        (OutOfMemoryError("Tried to\nallocate 2 GiB"), "out of memory (Tried to allocate 2 GiB); "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory (DefaultCPUAllocator: can't allocate"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory ([Errno 12] Cannot allocate memory); "),
    ],
)
def test_memory_that_ends_is_one_line_and_no_fault(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr("spa_bench.cli.list.catalogue", fails)
    assert cli.main(["list", "samplers"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"spa-bench: {said}")
    assert line.endswith("run it again: what was done is kept")


def test_errors_behind_an_error_are_traced():
    try:
        try:
            raise ValueError("data")
        except ValueError as error:
            raise TypeError("more data") from error
    except TypeError as error:
        text = "\n".join(fault._trace(error))
    assert text.index("builtins.ValueError") < text.index("which led to:") < text.index("builtins.TypeError")
    assert "data)" not in text.replace("your data)", "")
