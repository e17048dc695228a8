"""`spa-bench similarity triplets`: triplets from what the programs of runs do, each task by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import RIGHT, Call, InProcessJudge, Lines, MockModel, sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import UsageError
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.triplets import read_triplets, triplets_of_runs
from spa_bench.types import Request


def answer(request: Request) -> str:
    return [RIGHT[request.problem_id], f"    # twice\n{RIGHT[request.problem_id]}", "    return 7\n", ""][request.draw]


def run_of(card_file: Path, out: Path) -> RunFolder:
    card = load_task_card(str(card_file))
    job, task = Job(sampler=sampler_card(), task=card, n=4, seed=0), load_task(card)
    folder = generate(job, task, MockModel(answer), out=out, cache=out / "cache", console=Lines())  # type: ignore[arg-type]
    grade(folder, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    return folder


def with_other_probes(three: Path, folder: Path, name: str) -> Path:
    """The card of a task with the same ids and prompts as `three`, whose tests call other arguments."""
    folder.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in three.with_suffix(".jsonl").read_text().splitlines()]
    others = {"add": "(5, 2) == 7", "double": "(7) == 14", "last": "([3, 9]) == 9"}
    for one in rows:
        one["test"] = f"def check(candidate):\n    assert candidate{others[one['entry_point']]}\n"
    (folder / "three.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    card = folder / f"{name}.toml"
    card.write_bytes(three.read_bytes())
    return card


@pytest.fixture
def drawn(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> RunFolder:
    return run_of(three, tmp_path / "runs")


def test_triplets_of_a_run_have_equal_behaviour_near_and_another_far(drawn: RunFolder):
    made = triplets_of_runs([drawn], a_problem=10, seed=0)
    does = {
        (r.problem, r.graded.strip()): b.digest
        for r in drawn.record_log.rows()
        for b in drawn.behaviour_log.rows()
        if b.key == r.key
    }
    assert made
    for t in made:
        assert t.anchor != t.near
        assert does[t.group, t.anchor] == does[t.group, t.near] != does[t.group, t.far]
    assert triplets_of_runs([drawn], a_problem=10, seed=0) == made
    assert len(triplets_of_runs([drawn], a_problem=1, seed=0)) == len({t.group for t in made})


@pytest.mark.parametrize("name", ["three", "plus"])
def test_programs_are_compared_with_those_of_the_same_probes_alone(name: str, drawn: RunFolder, three: Path, tmp_path: Path):
    other = run_of(with_other_probes(three, tmp_path / "other", name), tmp_path / "others")
    runs = [drawn, other]
    does = {
        (f.spec["task"]["problems_hash"], r.problem, r.graded.strip()): b.digest
        for f in runs
        for r in f.record_log.rows()
        for b in f.behaviour_log.rows()
        if b.key == r.key
    }
    assert len({digest for digest, *_ in does}) == 2
    made = triplets_of_runs(runs, a_problem=10, seed=0)
    origins = {t.origin for t in made if t.origin}
    assert {o.problems_hash for o in origins} == {f.spec["task"]["problems_hash"] for f in runs}
    assert {o.task for o in origins} == {"three", name}
    for t in made:
        assert t.origin
        at = (t.origin.problems_hash, t.origin.problem)
        assert does[*at, t.anchor] == does[*at, t.near] != does[*at, t.far]
    assert {t.group for t in made} == {o.problem for o in origins}  # one problem in both tasks, held out in both
    assert triplets_of_runs(runs[::-1], a_problem=10, seed=0) == made
    assert len(triplets_of_runs(runs, a_problem=1, seed=0)) == len({(o.task, o.problem) for o in origins})


def test_a_text_that_does_different_things_on_the_same_probes_is_left_out(drawn: RunFolder, three: Path, tmp_path: Path):
    other = run_of(three, tmp_path / "others")
    changed = [replace(b, digest="f" * 16) if b.draw == 1 else b for b in other.behaviour_log.rows()]
    (other.path / "behaviours.jsonl").unlink()
    other.behaviour_log.append(changed)
    with pytest.raises(UsageError, match="no problem of 2 runs has two different programs that do the same"):
        triplets_of_runs([drawn, other], a_problem=10, seed=0)


def test_runs_that_other_versions_judged_stay_apart(drawn: RunFolder, three: Path, tmp_path: Path):
    other = run_of(three, tmp_path / "others")
    alone = triplets_of_runs([other], a_problem=10, seed=0)
    changed = [replace(b, digest=b.digest[::-1]) for b in other.behaviour_log.rows()]  # other digests of the same acts
    (other.path / "behaviours.jsonl").unlink()
    other.behaviour_log.append(changed)
    judged = other.read_json("judged.json") or {}
    other.write_json("judged.json", {"by": [{**by, "versions": {**by["versions"], "python": "3.99.0"}} for by in judged["by"]]})
    both = triplets_of_runs([drawn, other], a_problem=10, seed=0)
    assert {(t.anchor, t.near, t.far) for t in both} == {(t.anchor, t.near, t.far) for t in alone}


def test_the_command_names_the_tasks(drawn: RunFolder, call: Call, tmp_path: Path):
    done = call("similarity", "triplets", drawn.path, "--out", tmp_path / "t.jsonl")
    assert done.out.strip() == f"6 triplets of 3 problems of three in {tmp_path / 't.jsonl'}"
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert {(r["task"], r["problems_hash"]) for r in rows} == {("three", drawn.spec["task"]["problems_hash"])}
    assert list(read_triplets([tmp_path / "t.jsonl"]).triplets) == triplets_of_runs([drawn], a_problem=20, seed=0)


def test_a_run_that_is_not_graded_is_refused(drawn: RunFolder):
    (drawn.path / "behaviours.jsonl").unlink()
    with pytest.raises(UsageError, match="has no behaviours"):
        triplets_of_runs([drawn], a_problem=10, seed=0)
