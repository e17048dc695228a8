"""Ctrl-C once finishes the batch in hand, twice stops at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from doubles import Call
from spa_bench.support.console import handler_line
from spa_bench.support.interrupt import Flag, asked, patiently, pause_point


def test_the_first_signal_waits_for_a_pause_point():
    told: list[str] = []
    reached = []
    with patiently(told.append):
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("after the signal")
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            pause_point()
    assert reached == ["after the signal"]
    assert len(told) == 1
    assert not asked()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_does_not_wait(number: signal.Signals):
    reached = []
    with patiently(lambda text: reached.append(text)):
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert reached == ["finishing the batch in hand; once more to stop at once"]


def test_a_signal_that_comes_while_another_is_handled_waits_for_nothing():
    def watch(frame: FrameType, event: str, _: object) -> None:
        taken = event == "return" and frame.f_code is threading.Condition.__enter__.__code__  # the lock of an Event
        if taken or (event == "call" and frame.f_code is Flag.set.__code__):
            sys.setprofile(None)
            signal.raise_signal(signal.SIGTERM)

    def give_up(*_: object) -> None:
        raise TimeoutError("the second signal waits for a lock that the first one holds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    try:
        with patiently(lambda text: None):
            sys.setprofile(watch)
            signal.raise_signal(signal.SIGINT)
            assert asked()
    finally:
        sys.setprofile(None)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class _Interrupted(FileIO):
    """A file, at whose first write a signal comes."""

    def write(self, data: Any, /) -> int:
        if not asked():
            signal.raise_signal(signal.SIGINT)
        return super().write(data)


@pytest.mark.parametrize("write_through", [True, False])
def test_a_signal_that_comes_while_a_line_is_written_is_told_and_stops_nothing(
    write_through: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pipe = BufferedWriter(_Interrupted(tmp_path / "stderr", "w"))
    stream = TextIOWrapper(pipe, line_buffering=True, write_through=write_through)
    monkeypatch.setattr(sys, "stderr", stream)
    with patiently(handler_line), stream:
        print("a line", file=sys.stderr, flush=True)
        assert asked()
    written = (tmp_path / "stderr").read_text()
    assert "spa-bench: finishing the batch in hand; once more to stop at once\n" in written
    assert "a line" in written


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with patiently(lambda text: None):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_signal_pause_points_do_nothing():
    with patiently(lambda text: None):
        pause_point()
        assert not asked()


@pytest.mark.slow
def test_a_command_stopped_by_the_user_says_how_to_go_on_and_goes_on(call: Call, tmp_path: Path):
    command = [sys.executable, "-m", "spa_bench.cli.main", "run", "--sampler", "temperature", "--task", "mini-code", "--n", "4"]
    command += ["--limit", "2", "--threads", "1", "--batch-size", "8", "--until", "generate", "--out", str(tmp_path / "runs")]
    command += ["--set", "lora.steps=5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = ""
        while "run folder" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    lines = [line for line in rest.splitlines() if line.startswith("spa-bench: ")]
    assert lines[0] == "spa-bench: finishing the batch in hand; once more to stop at once"
    assert lines[-1].startswith("spa-bench: interrupted; nothing that was done is lost, resume with: spa-bench run --sampler")
    assert "Traceback" not in rest
    again = call(*command[3:])
    assert again.code == 0, again.err
    [records] = tmp_path.glob("runs/*/records.jsonl")
    assert len(records.read_text().splitlines()) == 8
