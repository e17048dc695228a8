"""Runs of samplers that ask: from the command line, graded, stopped anywhere and resumed, repeated, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from doubles import SANDBOX, Call, mock_run
from scripted import Scripted, card_of
from spa_bench.cards.kinds import NoOptions
from spa_bench.cards.reading import card_names
from spa_bench.cards.registry import TABLES
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.publish.show import ending
from spa_bench.runs.folder import RunFolder, given_run
from spa_bench.samplers.asking import asker
from spa_bench.samplers.base import sampler_kind
from spa_bench.types import Request

ASKING = tuple(name for name in TABLES["sampler"] if TABLES["sampler"][name].startswith("spa_bench.samplers.asking"))
ONE_MODEL = tuple(name for name in ASKING if name != "moa")
CARDS = [
    name
    for name in card_names("baselines")
    if load_sampler_card(name).kind in ONE_MODEL and name != "qdhf"  # it needs a similarity: tests/samplers/test_qdaif.py
]
BODY = {"add": "a, b: a + b", "double": "x: 2 * x", "last": "xs: xs[-1]"}


def solved(request: Request) -> str:
    """A right program in every format: stated with a probability, as an item of a list, behind a marker."""
    name = request.problem_id.partition("/")[2]
    code = f"```python\n{name} = lambda {BODY[name]}  # {request.seed % 9}\n```"
    if "<probability>" in str(request.messages):
        return "".join(f"<response><text>\n{code}\n</text><probability>{p}</probability></response>" for p in (0.6, 0.04))
    if "numbered list" in request.messages[-1][1]:
        return f"1. one {request.seed % 5}\n2. two {request.seed % 7}"
    return f"### Answer\n{code}"


def asking_run(out: Path, three: Path, kind: str, model: Any = None, **more: Any) -> RunFolder:
    return mock_run(out, three, model or Scripted(solved), n=3, kind=kind, options=card_of(kind).options, **more)


def content(folder: RunFolder) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in ("records.jsonl", "grades.jsonl", "metrics.json")}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k == "qdaif" else k for k in ONE_MODEL])
def test_a_run_grades_the_programs(kind: str, tmp_path: Path, three: Path, sandbox: Any):
    folder = asking_run(tmp_path / "runs", three, kind)
    assert {str(g.verdict) for g in folder.grades().values()} == {"passed"}
    assert len(folder.records()) == 9
    assert all(r.whole for r in folder.records().values())


@pytest.mark.parametrize("kind", ONE_MODEL)
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bytes(
    kind: str, tmp_path: Path, three: Path, sandbox: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(asker, "CHUNK", 1)
    counting = Scripted(solved)
    whole = content(asking_run(tmp_path / "whole", three, kind, counting))
    for stop in range(0, len(counting.requests), 4):
        out = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            asking_run(out, three, kind, Scripted(solved, stop_after=stop))
        assert content(asking_run(out, three, kind)) == whole


def test_a_log_that_is_torn_anywhere_is_mended(tmp_path: Path, three: Path, sandbox: Any):
    folder = asking_run(tmp_path / "runs", three, "verbalized", graded=False)
    whole = (folder.path / "records.jsonl").read_bytes()
    for end in range(0, len(whole), 211):
        (folder.path / "records.jsonl").write_bytes(whole[:end])
        again = asking_run(tmp_path / "runs", three, "verbalized", graded=False)
        assert (again.path / "records.jsonl").read_bytes() == whole


def test_a_text_task_is_answered_in_words(tmp_path: Path, call: Call, sandbox: Any):
    """docs/examples/questions.toml: its own kind of task, whose answers are texts."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text(json.dumps({"text": "<response><text>yes</text><probability>1</probability></response>"}) + "\n")
    examples = Path(__file__).resolve().parents[2] / "docs" / "examples"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(examples))
        done = call(
            "run", "--sampler", "verbalized", "--task", examples / "questions.toml", "--engine", "mock", "--set",
            f"engine.replies={replies}", "--n", 2, "--limit", 2, "--out", tmp_path / "runs",
        )  # fmt: skip
    assert done.code == 0, done.err
    folder = given_run(next((tmp_path / "runs").iterdir()))
    assert {r.graded for r in folder.records().values()} == {"yes"}


# the command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def mock(call: Call, tmp_path: Path, sandbox: Any) -> Call:
    """`run` on mini-code with scripted replies of the mock engine: the format of all steps in one."""
    replies = tmp_path / "replies.jsonl"
    texts = [
        "### Answer\n```python\ndef f(x):\n    return x\n```\n",
        "<response><text>\ndef f(x):\n    return x\n</text><probability>0.05</probability></response>",
        *["1. Look at it.\n2. Count it.\n"] * 3,  # without a list, all answers of `guided` are refused
        "I cannot do that.",
        "",
    ]
    replies.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def called(*arguments: object) -> Any:
        engine = ["--engine", "mock", "--set", f"engine.replies={replies}", "--sandbox", SANDBOX]
        return call("run", "--task", "mini-code", *engine, "--out", tmp_path / "runs", "--n", 4, "--limit", 3, *arguments)

    return called


@pytest.mark.parametrize("name", CARDS)
def test_every_card_runs_and_counts_what_went_wrong(name: str, mock: Call, call: Call, tmp_path: Path):
    done = mock("--sampler", name)
    assert done.code == 0, done.err
    folder = given_run(next((tmp_path / "runs").iterdir()))
    records = folder.records().values()
    assert len(records) == 12
    failures = folder.metrics()["failures"]
    assert sum(failures.values()) == sum(bool(r.failure) for r in records)
    notes = folder.metrics().get("notes", {})
    assert sum(notes.values()) == sum(bool(r.note) for r in records)
    frequent = sorted(notes, key=lambda why: (-notes[why], why))
    named = frequent[:3] if len(frequent) > 4 else frequent  # a single one more is said itself
    for why in named:
        assert f"{notes[why]} with an answer, but {why}" in done.out + done.err
    if named != frequent:
        left = sum(notes[why] for why in frequent[3:])
        assert f"{left} with an answer for {len(frequent) - 3} more reasons (metrics.json)" in done.out + done.err
    before = (folder.path / "records.jsonl").read_bytes()
    again = call("rerun", folder.path, "--out", tmp_path / "again", "--sandbox", SANDBOX)
    assert again.code == 0, again.err
    assert (next((tmp_path / "again").iterdir()) / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", CARDS)
def test_a_model_without_a_chat_template_is_refused_before_the_plan(name: str, run: Call, tmp_path: Path):
    done = run("--sampler", name, "--n", 2)
    assert "has no chat template, so it cannot be asked in messages; choose an instruct model" in done.error()
    assert "cost" not in done.err
    assert not (tmp_path / "runs").exists()


def test_the_words_of_a_run_are_in_its_spec_and_make_another_run(mock: Call, call: Call, tmp_path: Path):
    mine = tmp_path / "mine.txt"
    mine.write_text("{n} answers to {prompt}, please.\n")
    setting = ("--sampler", "verbalized", "--set", f"options.template={mine}")
    assert mock(*setting).code == 0
    [first] = (tmp_path / "runs").iterdir()
    assert given_run(first).spec["sampler"]["options"]["template"] == "{n} answers to {prompt}, please.\n"
    moved = tmp_path / "moved.txt"
    moved.write_text("{n} answers to {prompt}, please.\r\n\r\n")  # the same words
    assert mock("--sampler", "verbalized", "--set", f"options.template={moved}").code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1
    mine.write_text("{n} answers to {prompt}, now.\n")
    assert mock(*setting).code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
    mine.unlink()
    assert call("rerun", first, "--out", tmp_path / "again", "--sandbox", SANDBOX).code == 0  # the words are in the spec


def test_every_kind_that_asks_has_a_card_and_the_options_of_all():
    carded = {load_sampler_card(name).kind for name in card_names("baselines")}
    for name in ASKING:
        assert name in carded
        kind = sampler_kind(name)
        assert kind.together
        assert kind.options is not NoOptions
        assert {"system", "program", "text"} <= kind.options.__dataclass_fields__.keys()  # type: ignore[attr-defined]


def test_the_ending_line_names_the_most_frequent_reasons_and_counts_the_others():
    notes = {
        "one draft was cut": 5,
        "two drafts were cut": 9,
        "three drafts were cut": 7,
        "all were cut": 2,
        "none was read": 1,
    }
    content = {
        "verdicts": {"wrong": 24},
        "counts": {"truncated": 0, "failed": 0, "invalid": 0},
        "finish": {},
        "failures": {},
        "notes": notes,
        "marks": {},
    }
    spec = {"sampler": {"name": "self-moa"}, "seed": 1}
    folder = SimpleNamespace(metrics=lambda: content, read_json=lambda name: None, spec=spec, path=Path("runs/r"))
    line = ending(cast(RunFolder, folder))
    assert line.startswith(
        "self-moa, seed 1: 24 wrong; 9 with an answer, but two drafts were cut; 7 with an answer, but three drafts were cut; "
        "5 with an answer, but one draft was cut; 3 with an answer for 2 more reasons (metrics.json)"
    )
    del notes["none was read"]  # a single one more is said itself
    assert "2 with an answer, but all were cut" in ending(cast(RunFolder, folder))
