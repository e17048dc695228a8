"""Command lines made of real commands and options with anything as values, and of anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles_here import StillJudge, StillModel
from hypothesis import strategies as st
from mutate import ODD_NUMBERS, texts
from prop import Bench, fuzzed

from spa_bench.cli.commands import COMMANDS, FAMILIES
from spa_bench.cli.main import build

# these start a server or work for long, or are about this machine
LEFT_OUT = {"view", "demo", "real", "study", "doctor", "model"}
NAMES = [name for name in COMMANDS if name not in LEFT_OUT]
SECONDS = [name for *_, seconds in FAMILIES.values() for name in seconds]
KEYS = (
    "decoding.temperature", "decoding.top_p", "members", "draws", "adapters", "lora.rank", "lora.steps",
    "data.share", "options",
    "data.examples", "attribution.method", "partition.method", "kind", "name", "description", "task.seconds", "task.stop",
    "task.shuffle", "task.packages", "task.sha256", "task.version", "task.name", "task.options.x",
    "engine.concurrency", "engine",
    "served", "", ".", "decoding.", "..", "decoding.temperature.x", "data.columns.prompt",
)  # fmt: skip


def _options() -> dict[str, list[str]]:
    """The options of each command."""
    app, found = build(), {}
    for name in NAMES:
        arguments = app[name].assemble_argument_collection()
        found[name] = sorted({n for argument in arguments for n in argument.names if n.startswith("--")})
    return found


OPTIONS = _options()
VALUES = st.one_of(
    texts(),
    st.sampled_from([str(number) for number in ODD_NUMBERS]),
    st.sampled_from(
        ["base", "single", "mini-code", "mock", "{here}/afile", "{here}/empty", "{here}", "{here}/bad.json", "0,1", "none"]
    ),
    st.builds("{}={}".format, st.sampled_from(KEYS), texts()),
    st.builds("{}={}".format, st.sampled_from(KEYS), st.sampled_from([str(number) for number in ODD_NUMBERS])),
)


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("spa_bench.runs.perform.load_model_for", lambda *_: StillModel())
    monkeypatch.setattr("spa_bench.runs.grade.make_judge", lambda *_: StillJudge())
    (tmp_path / "empty").mkdir()
    (tmp_path / "afile").write_text("x\n")
    (tmp_path / "bad.json").write_text("{")


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(NAMES))
    words = [name]
    if name == "run":
        words += ["--sampler", "base", "--task", "mini-code", "--model", "mock", "--limit", "1", "--until", "generate"]
    if name == "run" or "--sandbox" in OPTIONS[name]:
        words += ["--sandbox", "none-i-trust-this-code"]
    words += draw(st.lists(VALUES, max_size=2))
    for _ in range(draw(st.integers(0, 3)) if OPTIONS[name] else 0):
        option, value = draw(st.sampled_from(OPTIONS[name])), draw(VALUES)
        words += draw(st.sampled_from([[option, value], [f"{option}={value}"], [option], [option[:-1], value]]))
    return words


def _placed(words: list[str], tmp_path: Path) -> list[str]:
    return [word.replace("{here}", str(tmp_path)) for word in words]


@fuzzed(words=lines())
def test_odd_values_of_options(words: list[str], bench: Bench, tmp_path: Path):
    allowed = Bench(tmp_path)
    if any(word.startswith(("--num-workers", "--executor", "--ray", "--devices", "--gpus", "--engine")) for word in words):
        return  # these start processes
    if any(len(word) > 6 for word in words if word.removeprefix("--n=").lstrip("-").isdigit()):
        return  # so many answers take as long as they take
    allowed.call(*_placed(words, tmp_path))


@fuzzed(key=st.sampled_from(KEYS), value=VALUES)
def test_odd_settings(key: str, value: str, bench: Bench, tmp_path: Path):
    common = ["--sampler", "base", "--task", "mini-code", "--model", "mock", "--limit", 1, "--until", "generate"]
    bench.call("run", *common, "--out", tmp_path / "out", f"--set={key}={value}")


@fuzzed(
    words=st.lists(st.one_of(st.sampled_from([*NAMES, *SECONDS, *FAMILIES, "--help", "--version", "--"]), texts()), max_size=4)
)
def test_words_at_random(words: list[str], bench: Bench, tmp_path: Path):
    Bench(tmp_path).call(*words)
