"""One process a folder; a dead one's lock is free, on file systems that lock and on those that do not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spa_bench.errors import StoreError
from spa_bench.support import interrupt, lock

HOLD = (
    "import sys, pathlib; from spa_bench.support import lock\n"
    "with lock.hold(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def other(tmp_path: Path) -> Any:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_message_names_who_has_it(tmp_path: Path, other: Any):
    with (
        pytest.raises(StoreError, match=rf"process {other.pid} on {platform.node()} works on .*; wait for it"),
        lock.hold(tmp_path),
    ):
        pass


def test_whoever_waits_is_told_once_and_gets_it_in_the_end(tmp_path: Path, other: Any, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    def sleep(seconds: float) -> None:
        if told and other.poll() is None:
            other.kill()
            other.wait()

    monkeypatch.setattr(lock.time, "sleep", sleep)
    with lock.hold(tmp_path, wait=told.append):
        assert told == [f"process {other.pid} on {platform.node()}"]


def test_ctrl_c_ends_the_wait_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looks = iter(range(3))

    def looked(_: float) -> None:
        next(looks)

    def told(_: str) -> None:
        monkeypatch.setattr(interrupt._asked, "is_set", lambda: True)

    monkeypatch.setattr(lock.time, "sleep", looked)
    with lock.hold(tmp_path), pytest.raises(KeyboardInterrupt), lock.hold(tmp_path, wait=told):
        pass


def test_it_is_free_after_the_block_although_a_process_that_was_forked_within_has_the_file_open(tmp_path: Path):
    with lock.hold(tmp_path):
        [held] = [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(tmp_path / ".lock")]
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[int(held.name)])
    with child, lock.hold(tmp_path):
        assert child.poll() is None


def test_it_is_free_again_after_the_block(tmp_path: Path):
    for _ in range(2):
        with lock.hold(tmp_path):
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_a_file_stands_in(tmp_path: Path, no_flock: None):
    with lock.hold(tmp_path):
        with (
            pytest.raises(StoreError, match=rf"process {os.getpid()} .*works on .*or remove .*lock-owner"),
            lock.hold(tmp_path),
        ):
            pass
        assert (tmp_path / ".lock-owner").exists()
    assert not (tmp_path / ".lock-owner").exists()


@pytest.mark.parametrize("change", [{"pid": 4194399}, {"started": "1"}])
def test_without_locks_a_stale_file_is_recognised(tmp_path: Path, no_flock: None, change: dict[str, object]):
    (tmp_path / ".lock-owner").write_text(json.dumps({**lock._me(), **change}))
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / ".lock-owner").read_text()) == lock._me()


def test_without_locks_only_one_takes_the_place_of_a_process_that_has_ended(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / ".lock-owner"
    file.write_text(json.dumps({**lock._me(), "pid": 4194399}))
    read, quicker = lock._owner, lock.hold(tmp_path)

    def read_slowly(path: Path) -> dict[str, object]:
        """What the file says; another one takes the place before the reader goes on."""
        owner = read(path)
        if path == file and lock._is_gone(owner):
            monkeypatch.setattr(lock, "_owner", read)
            quicker.__enter__()
        return owner

    monkeypatch.setattr(lock, "_owner", read_slowly)
    with pytest.raises(StoreError, match=rf"(process {os.getpid()} .* works on|has just taken) "), lock.hold(tmp_path):
        pass
    assert file.exists()
    quicker.__exit__(None, None, None)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("when", [0.0, 4e9])  # the latter by a clock that was set back later
def test_without_locks_a_process_that_ended_while_it_took_a_place_is_in_the_way_for_a_minute(
    when: float, tmp_path: Path, no_flock: None
):
    (tmp_path / ".lock-owner").write_text(json.dumps({**lock._me(), "pid": 4194399}))
    (removal := tmp_path / ".lock-owner-removal").touch()
    for old in (False, True):
        with pytest.raises(StoreError, match=r"another process removes .*lock-owner just now"), lock.hold(tmp_path):
            pass
        assert removal.exists() is not old
        if not old:
            os.utime(removal, (when, when))
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / ".lock-owner").read_text()) == lock._me()


def test_without_locks_another_hosts_file_is_not_taken_for_stale(tmp_path: Path, no_flock: None):
    (tmp_path / ".lock-owner").write_text(json.dumps({**lock._me(), "host": "elsewhere", "pid": 4194399}))
    with pytest.raises(StoreError, match="process 4194399 on elsewhere"), lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("locks", [True, False])
def test_a_full_disk_is_one_line_and_leaves_the_folder_free(locks: bool, tmp_path: Path, request: pytest.FixtureRequest):
    if not locks:
        request.getfixturevalue("no_flock")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the kernel refuses each byte, as it does where there is no room
    try:
        with pytest.raises(StoreError, match=r"cannot write .*\.lock.*: File too large; make room"), lock.hold(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with lock.hold(tmp_path):
        assert lock.state(tmp_path) == "held"


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(StoreError, match=r"cannot write to /sys/kernel: .*use another --out"), lock.hold(Path("/sys/kernel")):
        pass
    there = lock.hold(Path("/sys/kernel"), instead="grade a copy of it elsewhere")
    with pytest.raises(StoreError, match=r"cannot write to /sys/kernel: [A-Za-z ]+; grade a copy of it elsewhere$"), there:
        pass
