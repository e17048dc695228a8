"""What a user sees of a stage: a bar on a terminal, lines in a log."""

import pytest

from spa_bench.support import console
from spa_bench.support.console import Reporter


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    reporter = Reporter()
    with reporter.stage("work") as progress:
        for second in range(0, 130, 10):
            now = float(second)
            progress(second, 130)
    assert capsys.readouterr().err.splitlines() == ["work: 60 of 130, 60 s", "work: 120 of 130, 120 s", "work: 120.0 s"]
    assert reporter.seconds == {"work": 120.0}


def test_a_quiet_one_says_nothing_and_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    reporter = Reporter(quiet=True)
    with reporter.stage("work") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""
    assert set(reporter.seconds) == {"work"}


def test_names_between_colons_and_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]):
    Reporter().note("sampler: a:b: a:b, [red]x[/red] :smile: mine:on:KIND")
    assert capsys.readouterr().err == "sampler: a:b: a:b, [red]x[/red] :smile: mine:on:KIND\n"
