"""What an earlier version wrote (tests/golden) is still read, and its command still gives the same samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from doubles import Call
from spa_bench.compare.leaderboard.migrate import migrated
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.reopen import ModelOptions, job_of, load_model, task_of
from spa_bench.samplers.mixture import build

GOLDEN = Path(__file__).parent / "golden"
FIRST, SECOND = "mini-code-spa-random-s0-2752396f", "mini-code-spa-random-s1-5c32aacb"
RESULT = "mini-code--spa-random--7f4c5882.json"
STAGE = "adapters-56214129b6e9897e"
SET = ["members=2", "lora.rank=1", "lora.steps=4", "decoding.temperature=0.8"]
COMMAND = ["run", "--sampler", "spa-random", "--task", "mini-code", "--limit", "6", "--first", "--seed", "0", "--threads", "1"]
COMMAND += [word for setting in SET for word in ("--set", setting)]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the golden folder, which is also the cache: commands make locks beside what they read."""
    folder = shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.setenv("SPA_BENCH_CACHE", str(folder))
    return folder


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a log without their checksums, whose salt is the spec's hash and so the source's."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "sum"} for row in found]


def near(ours: object, theirs: object, where: str = "") -> None:
    """Equal in all texts and whole numbers, and in other numbers to 1e-6."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            near(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        assert len(ours) == len(theirs), where
        for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            near(our, their, f"{where}[{i}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-6, rel=1e-6), where
    else:
        assert ours == theirs, where


def same_numerics(folder: RunFolder, numerics: object) -> None:
    if numerics != folder.spec["numerics"]:
        pytest.skip(f"the golden run was made with {folder.spec['numerics']}, this machine has {numerics}")


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_golden_run_opens(name: str, there: Path):
    folder = open_run(there / "runs" / name)
    assert len(folder.records()) == len(folder.grades()) == 24
    assert len(folder.divergence_log.rows()) == 6
    assert len(folder.behaviour_log.rows()) == 24
    assert folder.metrics()["values"]["pass@1"]
    assert folder.timings()["seconds"] > 0
    assert folder.record_log.faults() == folder.grade_log.faults() == []


def test_golden_runs_verify_to_every_byte_the_adapters_too(there: Path, call: Call):
    runs = [there / "runs" / name for name in (FIRST, SECOND)]
    done = call("verify", *runs, "--json")
    assert (done.code, json.loads(done.out)) == (0, {str(path): [] for path in runs})
    weights = there / "stages" / STAGE / "member-1" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert call("verify", runs[0], "--json").code == 1


def test_golden_runs_pool_to_the_golden_result(there: Path, call: Call):
    theirs = migrated(json.loads((there / "results" / RESULT).read_text()))
    for places in (["runs"], ["results"], ["runs", f"results/{RESULT}"]):
        done = call("leaderboard", *(there / place for place in places), "--format", "json")
        assert done.code == 0, done.err
        [ours] = json.loads(done.out)
        assert ours["seeds"] == [0, 1]
        near({name: {k: v for k, v in e.items() if k != "at_n"} for name, e in ours["metrics"].items()}, theirs["metrics"])
    assert call("leaderboard", there / "results" / RESULT, "--submit").code == 0


def test_a_golden_run_is_shown(there: Path, call: Call):
    done = call("show", there / "runs" / FIRST, "--problem", "mini-code/0")
    assert done.code == 0, done.err
    for record in open_run(there / "runs" / FIRST).records().values():
        if record.problem == "mini-code/0":
            assert all(line.strip()[:40] in done.out for line in record.graded.splitlines())  # long ones are wrapped


@pytest.mark.parametrize("to", ["evalplus", "lm-eval"])
def test_a_golden_run_is_exported(to: str, there: Path, tmp_path: Path, call: Call):
    done = call("export", there / "runs" / FIRST, "--to", to, "--out", tmp_path / "exported")
    assert done.code == 0, done.err
    assert any((tmp_path / "exported").rglob("*.json*"))


def test_golden_runs_are_compared_and_reported(there: Path, tmp_path: Path, call: Call):
    first, second = (there / "runs" / name for name in (FIRST, SECOND))
    done = call("compare", first, second)
    assert done.code == 0, done.err
    assert "seed" in done.out
    pytest.importorskip("altair")
    done = call("report", first, second, "--out", tmp_path / "page")
    assert done.code == 0, done.err


def test_golden_adapters_give_the_golden_texts(there: Path):
    folder = open_run(there / "runs" / FIRST)
    model = load_model(EMBEDDED, ModelOptions(device="cpu", threads=1))
    job = job_of(folder)
    sampler = build(job.sampler, [there / "stages" / STAGE / f"member-{k}" for k in range(2)])
    found = sampler.sample(model, task_of(folder).prompts(6), job.n, job.seed, task="mini-code")
    texts = {completion.key: completion.text for completion in found}
    same_numerics(folder, model.numerics())
    assert texts == {key: record.raw for key, record in folder.records().items()}


def test_the_command_of_a_golden_run_gives_the_same_rows(bwrap: str, there: Path, tmp_path: Path, call: Call, monkeypatch: Any):
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))  # trained again, not taken from there
    done = call(*COMMAND, "--device", "cpu", "--sandbox", "bwrap", "--out", tmp_path / "again")
    assert done.code == 0, done.err
    [path] = (tmp_path / "again").iterdir()
    ours, theirs = open_run(path), open_run(there / "runs" / FIRST)
    same_numerics(theirs, ours.spec["numerics"])
    other = {"code", "versions", "engine", "engines", "unable"}  # the last three are younger than the golden run
    assert ours.spec["engine"] == {}
    assert {k: v for k, v in ours.spec.items() if k not in other} == {k: v for k, v in theirs.spec.items() if k not in other}
    for name in ("records.jsonl", "grades.jsonl", "behaviours.jsonl"):
        assert rows(path / name) == rows(theirs.path / name), name
    near(rows(path / "divergence.jsonl"), rows(theirs.path / "divergence.jsonl"))
    near(ours.metrics()["estimates"], theirs.metrics()["estimates"])
