"""The command line as a whole: help in groups with examples, completion by the shell, slips, start-up."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts.completion.detect import ShellDetectionError

from doubles import Call
from spa_bench.cli.commands import COMMANDS, EXAMPLES, FAMILIES
from spa_bench.cli.completion import INSTALL, WHAT
from spa_bench.cli.main import build, main

SECOND = [[first, name] for first, (*_, seconds) in FAMILIES.items() for name in seconds]
WORDS = [*([name] for name in COMMANDS), *([first] for first in FAMILIES), *SECOND, [INSTALL]]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_shows_what_a_command_does(words: list[str], call: Call):
    if words[0] in FAMILIES:
        what = FAMILIES[words[0]][3][words[1]][1] if words[1:] else FAMILIES[words[0]][1]
    else:
        what = WHAT if words == [INSTALL] else COMMANDS[words[0]][2]
    assert what in call(*words, "--help").out


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_examples_of_help_can_be_pasted_from_a_terminal_of_80_columns(
    words: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    names = [" ".join(w) for w in SECOND if w[0] == words[0]] if words[0] in FAMILIES and not words[1:] else [" ".join(words)]
    shown = call(*words, "--help").out.partition("\nExamples:\n")[2]
    assert all(line.count("'") % 2 == 0 for line in shown.splitlines())  # a shell joins no lines within quotes
    pasted = shown.replace("\\\n", "").splitlines()
    assert [shlex.split(line) for line in pasted] == [shlex.split(example) for name in names for example in EXAMPLES[name]]


def test_every_example_is_shown_and_an_option_stays_with_its_value(call: Call, monkeypatch: pytest.MonkeyPatch):
    assert sorted(EXAMPLES) == sorted(" ".join(words) for words in WORDS if words[0] not in FAMILIES or words[1:])
    monkeypatch.setenv("COLUMNS", "80")
    assert "--samples \\\n      --measured-by 'A. Person, Some Lab'\n" in call("leaderboard", "--help").out
    assert "--task mini-code \\\n      --set decoding.temperature=0.5 --n 8" in call("run", "--help").out


@pytest.mark.parametrize("words", [words for words in WORDS if words[0] not in FAMILIES or words[1:]], ids=" ".join)
def test_help_shows_every_argument_and_option(words: list[str], call: Call):
    app = build()
    for word in words:
        app = app[word]
    shown = call(*words, "--help").out
    for argument in app.assemble_argument_collection():
        if not argument.children:  # those that have some are groups of options
            assert re.search(rf"^│ (\* )? *{argument.name}\b", shown, re.MULTILINE), argument.name


def test_help_of_run_is_in_groups(call: Call):
    shown = call("run", "--help").out
    places = [shown.index(f" {title} ") for title in ("What to run", "Where it runs", "How it is graded", "Output")]
    assert places == sorted(places)
    assert shown.index("--sampler") < places[1] < shown.index("--threads") < places[2] < shown.index("--sandbox") < places[3]


@pytest.mark.parametrize("example", [e for examples in EXAMPLES.values() for e in examples])
def test_every_example_is_a_command_line_that_can_be_read(example: str):
    command, given, _ = build().parse_args(shlex.split(example)[1:], exit_on_error=False, print_error=False)
    assert command.__name__ in example or command.__name__ == "show_list"
    assert given.args or given.kwargs or command.__name__ in {"doctor", "demo", "real", "install"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["run", "--sampler", "spa-inf"], "spa-influence"),
        (["run", "--task", "mini-c"], "mini-code"),
        (["check", "x", "--metrics", "pass"], "pass@1"),
        (["leaderboard", "x", "--reference", "spa-r"], "spa-random"),
        (["show", ""], "runs/mini-code-base-s0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_the_shell_completes_names(words: list[str], wanted: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mini-code-base-s0").mkdir(parents=True)
    (tmp_path / "runs" / "mini-code-base-s0" / "spec.json").write_text("{}")
    assert wanted in call("__complete", *words).out.splitlines()


def test_completion_is_for_the_shell_that_is_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call("--install-completion", "--shell", "bash", "--output", tmp_path / "completion").code == 0
    assert "complete -F" in (tmp_path / "completion").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["completion"]  # and no start file of the shell
    assert call("--install-completion", "--shell", "bash").code == 0
    assert "spa-bench" in (tmp_path / ".bashrc").read_text()
    assert ".bashrc" in call("--install-completion", "--help").out
    below = tmp_path / "completion" / "more"
    said = call("--install-completion", "--shell", "bash", "--output", below).error()
    assert said == f"cannot write {tmp_path / 'completion'}: File exists; name another file with --output"


def test_completion_for_a_shell_that_is_not_known_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch):
    def unknown() -> str:
        raise ShellDetectionError

    monkeypatch.setattr("cyclopts.completion.detect.detect_shell", unknown)
    assert call("--install-completion").error() == "the shell is none of bash, zsh and fish; name one with --shell"


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["spa", "adapt", "--help"], ["--version"], ["list", "tasks"]])
def test_a_reader_that_has_ended_is_no_error(words: list[str]):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "spa_bench", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("code", [0, 1])
def test_a_command_whose_reader_ends_first_has_its_own_exit_code(code: int):
    """`spa-bench check ... | head -1` must not turn red into green."""
    program = (
        "import sys; from spa_bench.support.console import keep_exit_code; keep_exit_code()\n"
        f"for _ in range(50):\n    print('x' * 10_000)\nprint('end', file=sys.stderr); sys.exit({code})"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.read(1) == "x"
        run.stdout.close()
        assert run.stderr is not None
        assert run.stderr.read() == "end\n"
    assert run.returncode == code


def test_a_command_outlives_the_reader_of_its_messages_too():
    program = (
        "import sys; from spa_bench.support.console import keep_exit_code; keep_exit_code()\n"
        "for _ in range(50):\n    print('x' * 10_000, file=sys.stderr)\nprint('end')"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        assert run.stderr.read(1) == "x"
        run.stderr.close()
        assert run.stdout is not None
        assert run.stdout.read() == "end\n"
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [(["check", "nowhere", "--against", "nowhere.json"], 2), (["--version"], 0), (["list", "tasks", "--jsn"], 2)],
)
def test_messages_that_a_full_disk_does_not_take_change_no_exit_code(words: list[str], code: int):
    """Exit code 1 is a red check; a log on a full disk once gave it."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "spa_bench", *words]
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=full, check=False).returncode == code


def test_an_output_that_a_full_disk_does_not_take_is_an_error():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "spa_bench", "list", "tasks"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: COMMAND; see spa-bench --help"),
        (["spa"], "the following arguments are required: STAGE; see spa-bench spa --help"),
        (["rnu"], "argument COMMAND: invalid choice: 'rnu' (choose from 'run', "),
        (["gate", "runs/new"], "invalid choice: 'gate' (choose from "),
        (["gate", "runs/new"], "; did you mean 'check'?; see spa-bench --help"),
        (["run", "--samp", "base"], "unrecognized arguments: --samp; did you mean --sampler?; see spa-bench run --help"),
        (["run", "--smapler=base"], "unrecognized arguments: --smapler=base; did you mean --sampler?"),
        (["run"], "the following arguments are required: --sampler"),
        (["run", "--sampler"], "argument --sampler: expected one argument"),
        (["run", "--sampler", "base", "--task", "mini-code", "extra"], "unrecognized arguments: extra"),
        (["run", "--sampler", "base", "--task", "mini-code", "--until", "never"], "invalid choice: 'never'"),
        (["run", "--sampler", "base", "--task", "mini-code", "--seed", "1", "--seeds", "1,2"], "--seed and --seeds both"),
        (["check", "x", "--against", "x", "--alpha", "much"], "argument --alpha: 'much' is not a number"),
        (["power", "--pilot", "a"], "argument --pilot: expected 2 arguments"),
        (
            ["list", "moels"],
            "invalid choice: 'moels' (choose from 'samplers', 'tasks', 'metrics', 'models', 'engines')",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_slip_is_one_line_that_names_it(words: list[str], said: str, call: Call):
    assert said in call(*words).error()


def test_the_last_of_a_repeated_option_wins(call: Call):
    assert "unknown sampler 'last'" in call("run", "--sampler", "first", "--task", "mini-code", "--sampler", "last").error()


def test_options_that_take_many_take_them_at_once_or_one_by_one(call: Call):
    at_once = call("power", "--problems", 50, 164).out
    assert at_once == call("power", "--problems", 50, "--problems", 164).out
    assert len(at_once.splitlines()) > len(call("power", "--problems", 50).out.splitlines())


def test_version_is_a_line(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("spa-bench 0.")


def test_help_loads_nothing_that_computes(tmp_path: Path):
    script = (
        "import sys; from spa_bench.cli.main import main; main(['--help']); "
        "print(sorted({'torch', 'transformers', 'numpy', 'scipy'} & sys.modules.keys()), file=sys.stderr)"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stderr == "[]\n"
