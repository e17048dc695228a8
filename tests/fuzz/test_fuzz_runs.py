"""Run folders with any of their files damaged, or changed with checksums that fit, read by every command that reads runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from doubles_here import StillJudge, StillModel
from hypothesis import strategies as st
from mutate import changed, damaged, texts
from prop import Bench, fuzzed

from doubles import RIGHT, SANDBOX, WRONG, mock_run
from report_runs import made_run
from spa_bench.publish.view.answers import Responses
from spa_bench.publish.view.folder import Runs
from spa_bench.runs.folder import LOGS, TIMINGS, spec_hash
from spa_bench.types import Request

FILES = (
    "spec.json", "records.jsonl", "grades.jsonl", "behaviours.jsonl", "divergence.jsonl", "metrics.json", "judged.json",
    "task_file.json", "timings.json", "added.json", "embeddings.json", "adapters.json", "overlap.json", "noise.jsonl",
    "choices.jsonl", "data_files.json",
)  # fmt: skip
COMMANDS = (
    ("show", "{run}"), ("show", "{run}", "--problem", "three/add"), ("verify", "{run}"), ("verify", "{run}", "--json"),
    ("leaderboard", "{run}"), ("leaderboard", "{run}", "{other}", "--format", "json"), ("compare", "{run}", "{other}"),
    ("check", "{run}", "--against", "{other}"), ("power", "--pilot", "{run}", "{other}"),
    ("grade", "{run}", "--sandbox", SANDBOX), ("rerun", "{run}", "--out", "{out}/again", "--sandbox", SANDBOX),
    ("export", "{run}", "--to", "evalplus", "--out", "{out}/export"), ("export", "{run}", "--to", "lm-eval", "--out",
    "{out}/export"),
    ("leaderboard", "{run}", "--save", "{out}/results"), ("report", "{run}", "-o", "{out}/report"),
)  # fmt: skip


def _half_right(request: Request) -> str:
    return RIGHT[request.problem_id] if request.draw % 2 == 0 else WRONG


@pytest.fixture
def runs(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two finished runs, of which the first is to be changed in a copy."""
    monkeypatch.setattr("spa_bench.runs.grade.make_judge", lambda *_: StillJudge())
    first = mock_run(tmp_path / "good", three, _half_right, n=4).path
    return first, mock_run(tmp_path / "good", three, _half_right, n=4, name="other").path


def _framed(run_hash: str, content: Any) -> bytes:
    """A JSON file of a run with a checksum that fits."""
    body = json.dumps(content, sort_keys=True)
    checksum = hashlib.blake2b(f"{run_hash}\0{body}".encode(), digest_size=8).hexdigest()
    return (json.dumps({**content, "sum": checksum} if isinstance(content, dict) else content, indent=1) + "\n").encode()


def _lines(run_hash: str, name: str, rows: list[Any]) -> bytes:
    """A log of a run with checksums that fit."""
    salt = f"{run_hash}/{name}".encode()
    found = []
    for row in rows:
        body = json.dumps(row)
        checksum = hashlib.blake2b(salt + b"\0" + body.encode(), digest_size=8).hexdigest()
        found.append(f'{body[:-1]}, "sum": "{checksum}"}}\n')
    return "".join(found).encode()


def _contents(run: Path) -> dict[str, Any]:
    """The contents of all files of a run without their checksums."""
    found: dict[str, Any] = {}
    for path in run.iterdir():
        if path.name in LOGS:
            found[path.name] = [
                {k: v for k, v in json.loads(line).items() if k != "sum"} for line in path.read_text().splitlines()
            ]
        elif path.suffix == ".json":
            content = json.loads(path.read_bytes())
            found[path.name] = {k: v for k, v in content.items() if k != "sum"}
    return found


def _write(run: Path, contents: dict[str, Any]) -> None:
    """A run folder with these contents; every checksum fits."""
    run.mkdir(parents=True)
    spec = contents["spec.json"]
    run_hash = spec_hash(spec)
    for name, content in contents.items():
        if name in LOGS:
            data = _lines(run_hash, name, content if isinstance(content, list) else [content])
        elif name in ("spec.json", TIMINGS):
            data = json.dumps(content, indent=1).encode()
        else:
            data = _framed(run_hash, content)
        (run / name).write_bytes(data)


def _use(bench: Bench, tmp_path: Path, run: Path, other: Path, command: tuple[str, ...]) -> None:
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    allowed = Bench(tmp_path / "out", run, tmp_path / "cache", tmp_path / "temporary")
    allowed.call(*(word.format(run=run, other=other, out=tmp_path / "out") for word in command))


@fuzzed(data=st.data(), command=st.sampled_from(COMMANDS))
def test_damaged_files(data: st.DataObject, command: tuple[str, ...], runs: tuple[Path, Path], bench: Bench, tmp_path: Path):
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(runs[0], run)
    there = [name for name in FILES if (run / name).exists()]
    for name in data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=2, unique=True)):
        act = data.draw(st.sampled_from(["damage", "damage", "damage", "remove", "folder"]))
        content = (run / name).read_bytes()
        (run / name).unlink()
        if act == "damage":
            (run / name).write_bytes(data.draw(damaged(content)))
        elif act == "folder":
            (run / name).mkdir()
    _use(bench, tmp_path, run, runs[1], command)


@fuzzed(data=st.data(), command=st.sampled_from(COMMANDS))
def test_odd_values_with_checksums_that_fit(
    data: st.DataObject, command: tuple[str, ...], runs: tuple[Path, Path], bench: Bench, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    contents = _contents(runs[0])
    for name in data.draw(st.lists(st.sampled_from(sorted(contents)), min_size=1, max_size=2, unique=True)):
        contents[name] = data.draw(changed(contents[name]))
        if not contents[name] and data.draw(st.booleans()) and name != "spec.json":
            del contents[name]
    _write(run, contents)
    _use(bench, tmp_path, run, runs[1], command)


@fuzzed(data=st.data(), members=st.sampled_from([1, 2]), choices=st.sampled_from([0, 3]))
@pytest.mark.slow
def test_pages_and_tables_of_odd_runs(
    data: st.DataObject, members: int, choices: int, bench: Bench, tmp_path: Path, runs: tuple[Path, Path]
):
    shutil.rmtree(tmp_path / "made", ignore_errors=True)
    run = made_run(tmp_path / "made", members=members, choices=choices, n=4).path
    contents = _contents(run)
    name = data.draw(st.sampled_from(sorted(contents)))
    contents[name] = data.draw(changed(contents[name]))
    shutil.rmtree(run)
    _write(run, contents)
    for command in (("leaderboard", "{run}"), ("report", "{run}", "-o", "{out}/report"), ("compare", "{run}", "{other}")):
        _use(bench, tmp_path, run, runs[1], command)


@fuzzed(data=st.data(), name=st.sampled_from(["spec.json", "records.jsonl", "grades.jsonl"]))
def test_odd_runs_are_repeated_with_a_model(
    data: st.DataObject, name: str, runs: tuple[Path, Path], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.runs.rerun.model_of", lambda *_: StillModel())
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    contents = _contents(runs[0])
    contents[name] = data.draw(changed(contents[name], 1))
    _write(run, contents)
    _use(bench, tmp_path, run, runs[1], ("rerun", "{run}", "--out", "{out}/again", "--sandbox", SANDBOX))


@fuzzed(data=st.data(), study=st.sampled_from(["main", "temperature", "members", "data-fraction"]))
def test_pages_of_studies_of_odd_runs(
    data: st.DataObject, study: str, runs: tuple[Path, Path], bench: Bench, tmp_path: Path, three: Path
):
    run = tmp_path / "out-runs" / "one"
    shutil.rmtree(run, ignore_errors=True)
    contents = _contents(runs[0])
    name = data.draw(st.sampled_from(sorted(contents)))
    contents[name] = data.draw(changed(contents[name]))
    _write(run, contents)
    command = ("study", study, "--table-only", "--task", str(three), "--seeds", "0", "--out", "{out}/../out-runs")
    _use(bench, tmp_path, run, runs[1], (*command, "--write", "{out}/pages"))


ADDRESSES = st.one_of(
    texts(), st.sampled_from(["/", "/api/runs", "/report", "/report?run=", "/api/runs?run=../..", "/page.css", "/%00", "//x"])
)


@fuzzed(data=st.data(), address=ADDRESSES)
def test_pages_that_view_serves_of_odd_runs(
    data: st.DataObject, address: str, runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.publish.view.answers._made", lambda *_: b"a page")  # report has a test of its own
    run = tmp_path / "viewed" / "one"
    shutil.rmtree(run, ignore_errors=True)
    contents = _contents(runs[0])
    name = data.draw(st.sampled_from(sorted(contents)))
    contents[name] = data.draw(changed(contents[name]))
    _write(run, contents)
    if data.draw(st.booleans()):
        (run / name).write_bytes(data.draw(damaged((run / name).read_bytes())))
    answers = Responses(Runs(tmp_path / "viewed"))
    rows = json.loads(answers.answer("/api/runs", {}).body)["runs"]
    assert len(rows) <= 1
    path, _, query = address.partition("?")
    ids = [row["id"] for row in rows]
    for found in (answers.answer(path, {"run": [query]}), answers.answer("/report", {"run": ids}), answers.answer("/", {})):
        assert found.status in (200, 403, 404, 500)
        assert b"Traceback" not in found.body
