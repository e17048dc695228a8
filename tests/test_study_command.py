"""`spa-bench study` from end to end, on runs of the tiny model without adapters or with few steps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, SANDBOX, WRONG, Call, Done, InProcessJudge, Lines, MockModel
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.compare.study import making, runner
from spa_bench.compare.study.designs import STUDIES
from spa_bench.errors import ModelError
from spa_bench.runs.divergence import known_divergence
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.generate import generate
from spa_bench.runs.job import Job, load_task
from spa_bench.support import lock
from spa_bench.types import Request

NAME = "temperature--three--mock"


def half_right(request: Request) -> str:
    """Right on even draws; with a temperature another wrong answer for each of the others."""
    wrong = f"    return {request.draw}\n" if request.decoding.temperature else WRONG
    return RIGHT[request.problem_id] if request.draw % 2 == 0 or not request.decoding.temperature else wrong


@pytest.fixture
def study(call: Call, three: Path, tmp_path: Path, sandbox: InProcessJudge, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The study of temperatures on three problems with a mock of the bare base, two seeds; later arguments win."""
    monkeypatch.setattr(making, "load_model_for", lambda *_: MockModel(half_right))
    monkeypatch.setattr(making, "pictures", lambda report: {"svg": b"", "png": b""})

    def called(name: str, *arguments: object) -> Done:
        options = ["--samplers", "single=base", "--grid", "0,1"] if name == "temperature" else []
        options += ["--task", three, "--model", "mock", "--seeds", "0,1", "--n", 4]
        places = ["--out", tmp_path / "runs", "--write", tmp_path / "pages", "--sandbox", SANDBOX]
        return call("study", name, *options, *places, *arguments)

    return called


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_its_own_roles_comes_as_far_as_its_model(name: str, call: Call, monkeypatch: pytest.MonkeyPatch):
    def reached(*_: object) -> None:
        raise ModelError("the model is wanted")

    monkeypatch.setattr(making, "load_model_for", reached)
    done = call("study", name, "--task", "mini-code", "--limit", 1)
    assert (done.code, done.err.splitlines()[-1]) == (2, "spa-bench: the model is wanted")


def test_a_study_makes_its_runs_and_writes_page_picture_and_rows(study: Call, tmp_path: Path):
    done = study("temperature")
    assert done.code == 0, done.err
    assert "runs: 4 (2 points × 2 seeds), 0 done, 48 answers in all" in done.err
    assert len(list((tmp_path / "runs").glob("three-base-s*/metrics.json"))) == 4
    assert sorted(bytes_of(tmp_path / "pages")) == [f"{NAME}.{suffix}" for suffix in ("json", "md", "png", "svg")]
    page = (tmp_path / "pages" / f"{NAME}.md").read_text()
    assert f"![Quality and diversity against temperature]({NAME}.svg)" in page
    assert "The paper's claim that with the temperature from 0 to 0 pass@1" not in page
    assert "**Fewer than 5 training seeds** (2): intervals are wide." in page
    assert "**Judged without a sandbox**" in page
    assert "Made by `spa-bench study temperature --task " in page
    content = json.loads((tmp_path / "pages" / f"{NAME}.json").read_text())
    assert [(row["sampler"], row["x"], row["n"], row["seeds"]) for row in content["rows"]] == [
        ("base", 0.0, 4, [0, 1]),
        ("base", 1.0, 4, [0, 1]),
    ]
    assert [row["metrics"]["pass@1"]["value"] for row in content["rows"]] == [1.0, 0.5]
    assert content["rows"][0]["metrics"]["diversity_score[exact]"]["value"] == 0  # greedy answers are all the same
    assert content["claims"][1]["outcome"] in page


def test_done_runs_are_not_made_again_and_the_page_has_the_same_bytes(study: Call, tmp_path: Path):
    study("temperature")
    before, times = bytes_of(tmp_path / "pages"), {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/*.json*")}
    again = study("temperature", "--seeds", "1,0")
    assert "4 done" in again.err
    assert bytes_of(tmp_path / "pages") == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert "[1/4]" not in again.err
    assert study("temperature", "--table-only").code == 0
    assert bytes_of(tmp_path / "pages") == before


def test_a_table_of_what_is_there_says_what_is_missing_and_takes_seeds_that_all_points_have(study: Call, tmp_path: Path):
    study("temperature", "--seeds", "0")
    study("temperature", "--grid", "1", "--seeds", "1")
    done = study("temperature", "--table-only")
    assert done.code == 0, done.err
    page = (tmp_path / "pages" / f"{NAME}.md").read_text()
    assert "training seeds 0." in page
    assert "**Not finished**: 2 of 4 runs are in this table." in page
    assert "(1): intervals are over problems alone" in page
    assert "no finished runs of this study" in study("temperature", "--table-only", "--out", tmp_path / "nothing").error()


def test_two_runs_of_one_point_and_seed_are_not_chosen_between(study: Call, tmp_path: Path):
    study("temperature", "--grid", "0")
    study("temperature", "--grid", "0", "--set", "task.seconds=2")
    error = study("temperature", "--grid", "0", "--table-only").error()
    assert "are of one sampler and seed (task.seconds: " in error


def test_points_on_other_problems_are_not_paired_in_a_table_of_what_is_there(study: Call, three: Path):
    study("temperature", "--grid", "0")
    problems = three.with_name("three.jsonl")
    problems.write_text(problems.read_text().replace("Return", "Give"))
    study("temperature", "--grid", "1")
    error = study("temperature", "--table-only").error()
    assert error.startswith("base[temperature=0] and base[temperature=1] cannot be paired, for they are on other problems")
    assert "task.problems_hash: " in error


def test_pages_below_a_file_are_one_line_and_the_runs_are_kept(study: Call, tmp_path: Path):
    (tmp_path / "file").write_text("")
    error = study("temperature", "--grid", "0", "--write", tmp_path / "file" / "pages").error()
    assert error == f"cannot make {tmp_path / 'file' / 'pages'}: Not a directory; use another --write"
    assert "2 done" in study("temperature", "--grid", "0").err


def test_json_prints_the_rows_and_nothing_else(study: Call):
    rows = json.loads(study("temperature", "--json").out)
    assert [(row["label"], row["axis"]) for row in rows] == [
        ("base[temperature=0]", "temperature"),
        ("base[temperature=1]", "temperature"),
    ]


def test_a_killed_study_goes_on_with_what_is_missing_to_the_same_page(
    study: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study("temperature", "--write", tmp_path / "whole", "--out", tmp_path / "at once")
    made: list[str] = []

    def dying(*arguments: Any, **options: Any) -> RunFolder:
        made.append("")
        if len(made) == 3:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(runner, "generate", dying)
    assert study("temperature").code == 130
    assert len(list((tmp_path / "runs").glob("*/metrics.json"))) == 2
    assert not (tmp_path / "pages").exists()
    again = study("temperature")
    assert "2 done" in again.err
    assert len(made) == 5
    ours, whole = (
        {name: re.sub(rb'"seconds": [0-9.]+', b"", content) for name, content in bytes_of(tmp_path / folder).items()}
        for folder in ("pages", "whole")
    )
    assert ours == whole


def test_a_run_that_another_process_makes_is_waited_for_and_not_made_twice(
    study: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study("temperature", "--grid", "0", "--seeds", "0")
    [run] = (tmp_path / "runs").glob("three-*")
    kept = (run / "metrics.json").rename(tmp_path / "kept.json")
    looks: list[float] = []

    def the_other_ends(seconds: float) -> None:
        """The other process ends while this one waits for the second time."""
        looks.append(seconds)
        if len(looks) == 2:
            kept.rename(run / "metrics.json")

    monkeypatch.setattr(runner.time, "sleep", the_other_ends)
    with lock.hold(tmp_path / "runs" / ".claims" / run.name):
        done = study("temperature", "--grid", "0", "--seeds", "0")
    assert looks == [runner._LOOK_AGAIN_SECONDS] * 2
    assert "waiting for another process, which makes 1 of these runs" in done.err
    assert "[1/1]" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["main", "--grid", "1"], "--grid: the study main varies nothing but the sampler"),
        (["members", "--grid", "2", "--members", "4"], "--grid and --members are the same in this study"),
        (["main", "--members", "2,4"], "--members takes one whole number from 2 on in the study main; got '2,4'"),
        (["temperature", "--grid", "low"], "--grid takes numbers with commas, such as 0,0.5,1; got 'low'"),
        (["temperature", "--grid", "inf"], "--grid takes finite numbers"),
        (["temperature", "--seeds", "0,0"], "--seeds names a seed twice"),
        (["temperature", "--limit", "0"], "limit is 0"),
    ],
)
def test_wrong_options_are_one_line(study: Call, arguments: list[str], message: str):
    assert message in study(*arguments).error()


def test_a_folder_that_is_a_run_or_a_file_is_refused(study: Call, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text("{}")
    assert "which is a run; name a folder for the runs" in study("temperature", "--out", tmp_path / "run").error()
    (tmp_path / "file").write_text("")
    assert "--write is " in study("temperature", "--write", tmp_path / "file").error()


# runs with adapters --------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(
    three: Path, tiny_model: Any, tmp_path: Path, sandbox: InProcessJudge
) -> Callable[..., tuple[RunFolder, list[str]]]:
    """Runs of two adapters of one step each, and the stages they went through."""
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"def f{i}(x):\n", "completion": f"    return x + {i}\n"} for i in range(8)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_task_card(str(three))

    def made(temperature: float, siblings: list[RunFolder], **settings: object) -> tuple[RunFolder, list[str]]:
        overrides = {"data.examples": str(pairs), "lora.steps": 1, "lora.batch": 2, "members": 2, "data.queries": "sample:4"}
        card = load_sampler_card("spa-random", {**overrides, "decoding.temperature": temperature, **settings})
        console = Lines()
        job = Job(sampler=card, task=loaded, n=2, seed=0)
        folder = generate(
            job, load_task(loaded), tiny_model, out=tmp_path / "runs", cache=tmp_path / "c", console=console, siblings=siblings
        )  # type: ignore[arg-type]
        return folder, console.stages

    return made


def test_divergence_between_the_same_adapters_is_copied_and_is_what_measuring_gives(trained: Any, tmp_path: Path):
    first, stages = trained(0.0, [])
    assert "divergence" in stages
    second, stages = trained(0.5, [first])
    assert "divergence" not in stages
    assert second.divergence_log.rows() == first.divergence_log.rows() != []
    copied = (second.path / "divergence.jsonl").read_bytes()
    (second.path / "divergence.jsonl").unlink()
    _, stages = trained(0.5, [])
    assert "divergence" in stages
    assert (second.path / "divergence.jsonl").read_bytes() == copied


def test_divergence_between_other_adapters_is_not_copied(trained: Any):
    first, _ = trained(0.0, [])
    other, stages = trained(0.0, [first], **{"lora.learning_rate": 1e-3})
    assert "divergence" in stages
    assert known_divergence(other, [first], set()) == []
    assert known_divergence(other, [other], set()) == []


def test_a_run_that_a_study_made_is_an_ordinary_one(study: Call, call: Call, tmp_path: Path, three: Path):
    study("temperature", "--grid", "1", "--seeds", "0")
    [run] = (tmp_path / "runs").glob("three-*")
    assert open_run(run).spec["sampler"]["decoding"]["temperature"] == 1.0
    assert call("verify", run).code == 0


def test_samplers_with_and_without_queries_are_one_study(
    call: Call, three: Path, tmp_path: Path, sandbox: InProcessJudge, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(making, "pictures", lambda report: {"svg": b"", "png": b""})
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "cache"))
    pairs = [{"prompt": f"def f{i}(x):\n", "completion": f"    return x + {i}\n"} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    settings = ("lora.steps=1", "lora.batch=2", "task.max_new_tokens=4")
    options: list[object] = ["--samplers", "random,single,lexical,influence", "--seeds", "0", "--threads", 1, "--task", three]
    options += ["--model", tiny_folder, "--data", tmp_path / "pairs.jsonl", "--members", 2, "--sandbox", SANDBOX]
    options += [part for setting in settings for part in ("--set", setting)]
    options += ["--out", tmp_path / "runs", "--write", tmp_path / "pages"]
    done = call("study", "main", *options)
    assert done.code == 0, done.err
    before = bytes_of(tmp_path / "pages")
    again = call("study", "main", *options)
    assert again.code == 0, again.err
    assert "4 done" in again.err
    assert bytes_of(tmp_path / "pages") == before
    assert len(list((tmp_path / "runs").glob("*/metrics.json"))) == 4


def test_no_answers_a_problem_are_refused(study: Call):
    assert "n is 0" in study("temperature", "--n", 0).error()
