"""Machines that are not like ours: no home folder, odd paths, another locale, a narrow terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest

from doubles import RIGHT, InProcessJudge, mock_run
from spa_bench.cli import main as cli
from spa_bench.errors import UsageError
from spa_bench.support import cache, home

COMMAND = [sys.executable, "-m", "spa_bench"]
ODD = "odd place ünï 日本"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without a home folder; the folder for temporary files."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "SPA_BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return temporary


def test_without_a_home_the_cache_is_a_private_folder_and_a_line_says_so(nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "x")  # so that it is as it was after the test
    monkeypatch.delenv("HOME")
    private = nowhere / f"spa-bench-{os.getuid()}"
    assert cache.own_cache() == private / ".cache" / "spa-bench"
    assert private.stat().st_mode & 0o777 == 0o700
    said = f"the home folder cannot be written, so the cache is {private}/.cache/spa-bench; set SPA_BENCH_CACHE to keep it "
    assert cache.settle() == said + "elsewhere"
    assert os.environ["HOME"] == str(private)  # where other libraries keep theirs


def test_a_private_folder_that_others_can_open_is_refused(nowhere: Path):
    (nowhere / f"spa-bench-{os.getuid()}").mkdir()
    (nowhere / f"spa-bench-{os.getuid()}").chmod(0o755)
    with pytest.raises(UsageError, match=r"^no home folder can be written, and .* is open to others; remove it, or set HOME"):
        cache.own_cache()


def test_a_private_folder_that_is_a_link_is_refused(nowhere: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (nowhere / f"spa-bench-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is open to others"):
        cache.own_cache()


def test_a_home_that_cannot_be_written_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("XDG_CACHE_HOME", "SPA_BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc")  # where root cannot write either
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(home.os, "access", lambda place, mode: not str(place).startswith("/proc"))
    assert cache.user_cache() == Path("/proc/.cache")  # the hub's models may be there
    assert cache.own_cache() == tmp_path / f"spa-bench-{os.getuid()}" / "cache"


def test_a_cache_that_is_named_needs_no_home(nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_CACHE", "/somewhere")
    assert cache.own_cache() == Path("/somewhere")
    assert cache.settle() == ""


def test_the_home_of_nobody_is_an_error_of_the_user():
    with pytest.raises(
        UsageError, match=r"^~nobody-of-that-name/x: there is no home folder of that user; write the path without ~"
    ):
        home.expanded("~nobody-of-that-name/x")


def done(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    path = {"PYTHONPATH": str(Path(cli.__file__).parents[2]), "PATH": os.environ["PATH"]}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, env={**path, **environment}, capture_output=True)


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "no environment": {},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a locale that is not there": {"LC_ALL": "xx_YY.UTF-8"},
    "nine columns": {"TERM": "dumb", "COLUMNS": "9"},
}


@pytest.mark.parametrize(
    "environment",
    [pytest.param(e, id=name, marks=() if name == "ASCII" else pytest.mark.slow) for name, e in ENVIRONMENTS.items()],
)
def test_odd_paths_and_locales(environment: Mapping[str, str], sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = tmp_path / ODD
    folder.mkdir()
    run = mock_run(folder / "runs", three, lambda r: RIGHT[r.problem_id] + "    # é 日本\n")
    for arguments in (
        ["show", f"runs/{run.path.name}", "--problem", "three/add"],
        ["verify", f"runs/{run.path.name}"],
        ["leaderboard", "runs"],
    ):
        found = done(arguments, folder, {"HOME": str(tmp_path), **environment})
        assert (found.returncode, found.stderr) == (0, b""), arguments
        assert found.stdout
    found = done(["report", "runs", "--out", "ünï"], folder, {"HOME": str(tmp_path), **environment})
    assert (found.returncode, found.stderr) == (0, b"")
    assert "three" in (folder / "ünï" / "index.html").read_text(encoding="utf-8")


def on_a_terminal(arguments: list[str], columns: int, folder: Path) -> tuple[int, str]:
    """(exit code, what a command shows on a terminal that is so many columns wide)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                block = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            shown += block
    os.close(ours)
    return process.returncode, re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def test_help_fits_a_terminal_of_60_columns(tmp_path: Path):
    code, shown = on_a_terminal(["run", "--help"], 60, tmp_path)
    assert code == 0
    assert max(len(line) for line in shown.splitlines()) <= 60
    assert {"--sampler", "--task", "--noise-floor"} <= set(shown.replace("│", " ").split())


def test_an_error_is_one_line_whatever_the_width(tmp_path: Path):
    code, shown = on_a_terminal(["run", "--sampler", "temperatur", "--task", "mini-code"], 60, tmp_path)
    assert code == 2
    assert shown.count("\n") == 1
    assert shown.strip() == "spa-bench: unknown sampler 'temperatur'; did you mean 'temperature'?"
