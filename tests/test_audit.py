"""Whole runs under bad conditions: a full disk, a read-only folder, two at once, other adapters, failures, noise."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, WRONG, Call, InProcessJudge, Lines, MockModel, mock_run, sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.cards.training import LoraCard
from spa_bench.errors import StoreError
from spa_bench.runs.folder import open_run
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.noise_floor import chosen, problems_for, rows_for
from spa_bench.spa.stages import Stages
from spa_bench.types import Completion, Key, Member, Prompt, Request
from test_log import files_no_larger_than


def half_right(request: Request) -> str:
    return RIGHT[request.problem_id] if request.draw % 2 == 0 else WRONG


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in {"timings.json", ".lock"}}


@pytest.mark.parametrize("room", [300, 1000, 1500, 2500, 4000])
def test_a_disk_that_is_full_stops_a_run_in_one_line_and_more_room_lets_it_go_on(
    room: int, sandbox: InProcessJudge, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.runs.log._BATCH", 2)
    whole = mock_run(tmp_path / "whole", three, half_right, n=8)
    with files_no_larger_than(room), pytest.raises(StoreError, match=r"cannot write .*: File too large; ") as error:
        mock_run(tmp_path / "full", three, half_right, n=8)
    assert "\n" not in str(error.value)
    kept = sum(len(p.read_bytes().splitlines()) for p in (tmp_path / "full").glob("*/records.jsonl"))
    rest = MockModel(half_right)
    again = mock_run(tmp_path / "full", three, rest, n=8)
    assert len(rest.asked) == 24 - kept
    assert contents(again.path) == contents(whole.path)


def test_a_folder_that_cannot_be_written_ends_in_one_line_and_code_2(run: Call):
    done = run("--limit", 1, "--until", "generate", "--out", "/sys/kernel/runs")
    said = done.error()
    assert said.startswith("cannot make the run folder /sys/kernel/runs")
    assert said.endswith("use another --out")


def _in_a_process(out: Path, card: str, said: Any) -> None:
    """A run whose model takes longer over an answer than the test lives."""

    def slow(request: Request) -> str:
        said.put("begun")
        time.sleep(60)
        return half_right(request)

    loaded = load_task_card(card)
    generate(
        Job(sampler=sampler_card(), task=loaded, n=2, seed=0),
        load_task(loaded),
        MockModel(slow),
        out=out,
        cache=out / "c",
        console=Lines(),
    )  # type: ignore[arg-type]


def test_of_two_processes_on_one_run_the_second_is_told_who_has_it(three: Path, tmp_path: Path):
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    first = context.Process(target=_in_a_process, args=(tmp_path / "runs", str(three), said))
    first.start()
    assert said.get(timeout=60) == "begun"
    with pytest.raises(StoreError, match=rf"process {first.pid} on .* works on .*; wait for it or use another --out"):
        mock_run(tmp_path / "runs", three, half_right, graded=False)
    first.kill()
    first.join()
    assert len(mock_run(tmp_path / "runs", three, half_right, graded=False).records()) == 6


@pytest.fixture
def pair(sandbox: InProcessJudge, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs of two members whose training is left out; their adapters are files that a test can change."""
    for name in ("zero", "one"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_text(name)
    monkeypatch.setattr(Stages, "adapters", lambda self: [tmp_path / "zero", tmp_path / "one"])
    settings = {"members": 2, "adapters": "seeds", "lora": LoraCard(steps=1)}
    return lambda model: mock_run(tmp_path / "pair", three, model, n=4, **settings)


def test_samples_whose_adapters_are_not_known_are_not_gone_on_with(pair: Callable[..., Any], tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        pair(MockModel(half_right, stop_after=5))
    [path] = (tmp_path / "pair").glob("*/adapters.json")
    path.unlink()
    with pytest.raises(StoreError, match=r"adapters\.json is missing, .*; use another --out"):
        pair(MockModel(half_right))


def test_a_run_is_not_gone_on_with_by_other_adapters(pair: Callable[..., Any], tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        pair(MockModel(half_right, stop_after=5))
    (tmp_path / "one" / "adapter_model.safetensors").write_text("trained otherwise")
    with pytest.raises(StoreError, match=r"was begun with other adapters .*; use another --out"):
        pair(MockModel(half_right))
    (tmp_path / "one" / "adapter_model.safetensors").write_text("one")
    assert len(pair(MockModel(half_right)).records()) == 12


# failures ------------------------------------------------------------------------------------------------------------


class Failing(MockModel):
    """A model that has no answer for draw 0, and is cut short on draw 1."""

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        for completion in super().generate(requests, members):
            if completion.key.draw == 0:
                yield replace(completion, text="", finish="failed", failure="out of memory", tokens=0)
            elif completion.key.draw == 1:
                yield replace(completion, finish="length")
            else:
                yield completion


def test_a_failure_has_a_cause_is_wrong_and_different_from_nothing(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path, three, Failing(lambda r: RIGHT[r.problem_id]), n=4)
    content = folder.read_json("metrics.json")
    assert content["failures"] == {"out of memory": 3}
    assert content["counts"] == {
        "samples": 12, "failed": 3, "truncated": 3, "refused": 3, "timed out": 0, "out of memory": 0, "crashed": 0,
        "invalid": 0,
    }  # fmt: skip
    assert content["values"]["pass@1"] == [0.75] * 3
    assert content["values"]["diversity_score[exact]"] == [0.0] * 3  # three equal answers, and one that is none
    assert content["values"]["distinct_k[exact]"] == [1.0] * 3
    assert folder.grades()[Key("three/add", 0, 0)].message == "out of memory"


def test_texts_that_are_no_program_are_counted(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path, three, lambda r: "    return (" if r.draw else RIGHT[r.problem_id], n=2)
    assert folder.read_json("metrics.json")["counts"]["invalid"] == 3


# noise ---------------------------------------------------------------------------------------------------------------


class Noisy(MockModel):
    """A model whose answers depend on how many are asked for at once, as numerics can make them."""

    def batch_free(self, prompts: Sequence[tuple[str, int]]) -> bool:
        return False

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        for completion in super().generate(requests, members):
            yield replace(completion, text=completion.text + f"    {len(requests)}  # {len(requests)}\n")


def test_the_noise_floor_is_that_of_one_draw_in_other_batches(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path / "noisy", three, Noisy(lambda r: RIGHT[r.problem_id]), n=4, noise_floor=True)
    assert folder.spec["noise_floor"] == 3
    noise = folder.noise_log.rows()
    assert [(r.problem, r.draw) for r in noise] == [(p, d) for p in RIGHT for d in (0, 1)]
    assert len({(r.problem, r.seed) for r in noise}) == 3
    # the first time in one call of three, the second time in one of two and one of one
    assert sorted(r.raw.rpartition("# ")[2].strip() for r in noise if r.draw) == ["1", "2", "2"]
    found = folder.read_json("metrics.json")["estimates"]["noise_floor[diversity_score,exact]"]
    assert found["value"] == 1


def test_where_too_few_answers_pay_for_it_the_noise_floor_is_null_with_a_reason(
    sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder = mock_run(tmp_path, three, Noisy(lambda r: RIGHT[r.problem_id]), n=4)
    assert folder.spec["noise_floor"] == 0
    assert folder.spec["noise_floor"] is not False
    assert not (folder.path / "noise.jsonl").exists()
    found = folder.read_json("metrics.json")["estimates"]["noise_floor[diversity_score,exact]"]
    assert found["value"] is None
    assert "fewer than 4 problems" in found["reason"]


@pytest.mark.parametrize(
    ("problems", "n", "count"), [(164, 1, 0), (164, 4, 8), (60, 8, 6), (60, 4, 0), (12, 100, 12), (1000, 10, 20), (80, 4, 4)]
)
def test_as_many_problems_as_five_percent_pay_for_are_drawn_twice(problems: int, n: int, count: int):
    found = problems_for(problems, n)
    assert found == count
    assert 2 * rows_for(found, problems, n) <= 0.05 * problems * n or found == 0


def test_the_problems_of_the_noise_floor_are_seeded():
    prompts = [Prompt(problem_id=str(i), text="x", stop=(), max_new_tokens=1) for i in range(50)]
    some = chosen(prompts, 10, 3)
    assert some == chosen(prompts, 10, 3) == sorted(some, key=lambda p: int(p.problem_id))
    assert len({p.problem_id for p in some}) == 10
    assert some != chosen(prompts, 10, 4)


def test_rows_of_noise_in_specs_of_earlier_revisions():
    assert (rows_for(True, 60, 8), rows_for(False, 60, 8), rows_for(7, 60, 8)) == (480, 0, 14)


def test_a_model_that_batches_do_not_move_has_a_noise_floor_of_zero_when_asked_for(
    sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    loaded = load_task_card(str(three))
    task, model = load_task(loaded), MockModel(lambda r: RIGHT[r.problem_id])
    todo = Job(sampler=sampler_card(), task=loaded, n=2, seed=0, noise_floor=True)
    folder = generate(todo, task, model, out=tmp_path, cache=tmp_path / "c", console=Lines())  # type: ignore[arg-type]
    grade(folder, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    assert folder.read_json("metrics.json")["values"]["noise_floor[diversity_score,exact]"] == [0.0] * 3


def test_without_need_no_noise_is_measured(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path, three, half_right)
    assert folder.spec["noise_floor"] is False
    assert not (folder.path / "noise.jsonl").exists()


# the commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_is_verified_and_repeated_from_its_spec(
    elsewhere: bool, bwrap: str, call: Call, three: Path, tiny_folder: Path, tmp_path: Path
):
    words = ["run", "--sampler", "base", "--task", three, "--model", tiny_folder, "--threads", "1", "--device", "cpu"]
    words += ["--n", "2", "--out", tmp_path / "runs", "--noise-floor", "yes"]
    if elsewhere:  # what follows is another process
        made = subprocess.run([sys.executable, "-m", "spa_bench.cli.main", *words], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    else:
        assert (done := call(*words)).code == 0, done.err
    [path] = (tmp_path / "runs").iterdir()
    assert (open_run(path).spec["code"]["source"] or "") != ""
    whole = call("verify", path, "--json")
    assert (whole.code, json.loads(whole.out)) == (0, {str(path): []})
    again = call("rerun", path, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["same"] is True
    itself = call("rerun", path, "--out", path.parent)
    assert itself.code == 2
    assert "is where the run itself lies" in itself.err
    twice = call("rerun", path)
    assert twice.code == 2
    assert "is there already, and finished" in twice.err
    records = path / "records.jsonl"
    records.write_bytes(records.read_bytes().replace(b'"tokens": ', b'"tokens":  ', 1))
    damaged = call("verify", tmp_path / "nowhere", path)
    assert damaged.code == 2  # one of the two could not be checked
    assert "nowhere is not there" in damaged.err
    assert "records.jsonl, line 1 is damaged" in damaged.out
