"""`spa-bench doctor --attack`: it says what a sandbox holds, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doubles import ignore
from spa_bench.cli import main as cli
from spa_bench.cli.doctor import attack as command
from spa_bench.cli.doctor.attack import Attempt, attempts_in, table
from spa_bench.errors import SandboxError
from spa_bench.sandbox import SANDBOXES, Sandbox, choose
from spa_bench.sandbox.attacks import ADDS_ONE, Attack, all_attacks, attempt

READS = Attack(goal="read files", name="a file", source=attempt("open('VICTIM/file').read()"))
CHANGES = Attack(goal="change files", name="a file", source=attempt("open('VICTIM/file', 'w'); raise OSError"))
LEAVES = Attack(goal="leave", name="a", source="import sys\nsys.left = 1\n" + ADDS_ONE, then="assert False\n" + ADDS_ONE)
RIGHT = command._RIGHT[0]


def tried(sandbox: Sandbox, *attacks: Attack, folder: Path) -> dict[str, tuple[bool, str]]:
    return {a.goal: (a.held, a.found) for a in attempts_in(sandbox, attacks, folder, ignore)}


def test_without_a_sandbox_attacks_succeed_and_what_they_did_is_said(tmp_path: Path):
    found = tried(choose("none-i-trust-this-code"), RIGHT, READS, CHANGES, LEAVES, folder=tmp_path)
    assert found == {
        "run a right program": (True, "passed"),
        "read files": (False, "passed"),
        "change files": (False, "it changed files of this machine"),
        "leave": (False, "raised: AssertionError"),
        "leave files": (True, "nothing"),
    }


def test_a_sandbox_holds_them(jail: Sandbox, tmp_path: Path):
    found = tried(jail, RIGHT, READS, CHANGES, folder=tmp_path)
    assert {goal: held for goal, (held, _) in found.items()} == dict.fromkeys(found, True)
    assert found["read files"][1].startswith("raised: ")


def test_a_sandbox_that_fails_a_right_program_holds_nothing(jail: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wrong = Attack(goal=RIGHT.goal, name=RIGHT.name, source="def f(x):\n    return 0\n")
    monkeypatch.setattr(command, "_RIGHT", (wrong,))
    held, found = tried(jail, wrong, folder=tmp_path)[RIGHT.goal]
    assert not held
    assert found.startswith("wrong: ")


def test_every_attack_has_a_name_of_its_own_and_those_that_do_harm_are_marked():
    attacks = all_attacks()
    assert len({(a.goal, a.name) for a in attacks}) == len(attacks)
    assert {a.name for a in attacks if a.harmful} >= {"rmtree of the root", "everyone", "the first process", "a fork bomb"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only three attacks, one of them harmful."""
    harmful = Attack(goal="read files", name="never run", source="1 / 0", harmful=True)
    monkeypatch.setattr(command, "all_attacks", lambda: [READS, CHANGES, harmful])


def test_the_command_ends_with_0_where_all_is_held(few: None, bwrap: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor", "--attack"]) == 0
    said = capsys.readouterr().out
    assert "read files" in said
    assert "1 held" in said
    assert "SUCCEEDED" not in said
    assert said.endswith("left out: 1 attacks that would harm this machine where nothing stops them\n")


def test_the_command_ends_with_1_where_an_attack_succeeds(
    few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "_working", lambda: [choose("none-i-trust-this-code")])
    assert cli.main(["doctor", "--attack", "--json"]) == 1
    said = capsys.readouterr()
    assert [row["held"] for row in json.loads(said.out)] == [True, True, False, False, True]
    assert said.err.endswith("2 of 5 attacks succeeded: do not grade programs that you do not trust there\n")


def test_without_any_sandbox_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def missing() -> Sandbox:
        raise SandboxError("not here")

    monkeypatch.setattr("spa_bench.sandbox.SANDBOXES", dict.fromkeys(SANDBOXES, missing))
    assert cli.main(["doctor", "--attack"]) == 2
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith("spa-bench: no sandbox works here, so there is nothing to attack")
    )


def test_an_attack_that_succeeds_has_a_line_of_its_own():
    held = {"a": True, "b": False}
    rows = [Attempt(sandbox="bwrap", goal="read files", name=name, held=held[name], found="passed") for name in held]
    said = table(rows).splitlines()
    assert said[2].split("  ")[0] == "read files"
    assert said[2].endswith("1 of 2 SUCCEEDED")
    assert said[-1].split() == ["bwrap", "read", "files", "b", "passed"]
