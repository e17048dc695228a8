"""A run from end to end with a model and a sandbox in this process."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import RIGHT, WRONG, InProcessJudge, Lines, MockModel, mock_run, sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.cards.training import LoraCard
from spa_bench.compare.leaderboard.page import LEGEND
from spa_bench.errors import DataError, UsageError
from spa_bench.metrics.suite import AT_SIZES, METRICS
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, check_draws, load_task
from spa_bench.spa.stages import Stages
from spa_bench.types import Request


def half_right(request: Request) -> str:
    """The right answer on even draws, None on odd ones; a second function follows, as models like to write."""
    return (RIGHT[request.problem_id] if request.draw % 2 == 0 else WRONG) + "\ndef more():\n    pass\n"


def measured(folder: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = folder.read_json("metrics.json")
    return content


def answers(folder: RunFolder) -> dict[Any, Any]:
    return dict(sorted(folder.records().items()))


@pytest.fixture
def whole(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> RunFolder:
    return mock_run(tmp_path / "whole", three, half_right, n=4)


def test_a_run_has_n_records_a_problem_and_a_grade_for_each(whole: RunFolder):
    assert len(whole.records()) == 12
    assert whole.grades().keys() == whole.records().keys()
    assert {g.draw % 2: str(g.verdict) for g in whole.grades().values()} == {0: "passed", 1: "wrong"}


def test_the_text_that_is_graded_is_cut_and_the_raw_text_is_kept(whole: RunFolder):
    record = whole.records()["three/add", 0, 0]
    assert record.graded == "    return a + b"
    assert record.raw.endswith("def more():\n    pass\n")


def test_metrics_are_those_of_the_verdicts(whole: RunFolder):
    content = measured(whole)
    values = content["values"]
    assert content["problems"] == list(RIGHT)
    assert (content["n"], content["k"], content["members"]) == (4, 4, 1)
    assert content["verdicts"] == {"passed": 6, "wrong": 6}
    assert content["finish"] == {"stop": 12}
    assert [by["sandbox"] for by in whole.read_json("judged.json")["by"]] == ["bwrap"]
    assert values["pass@1"] == [0.5] * 3
    assert values["pass@K"] == [1.0] * 3
    assert values["diversity_score[exact]"] == pytest.approx([1 - 2 / 6] * 3)
    assert values["distinct_correct[ast]"] == [1.0] * 3
    assert content["estimates"]["pass@1"]["value"] == 0.5
    assert content["estimates"]["diversity_score"] == content["estimates"]["diversity_score[exact]"]


def test_texts_are_compared_after_stripping_as_their_metrics_say(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    def indented_once(request: Request) -> str:
        return RIGHT[request.problem_id] if request.draw == 0 else RIGHT[request.problem_id].strip()  # no program

    three.write_text(three.read_text() + 'sanitiser = "stop"\n')  # the default one mends the first line's indent
    content = measured(mock_run(tmp_path / "runs", three, indented_once, n=2))
    assert content["verdicts"] == {"passed": 3, "raised": 3}
    assert content["values"]["diversity_score[exact]"] == [0.0] * 3
    assert content["values"]["distinct_k[exact]"] == [1.0] * 3
    assert content["values"]["majority_vote[exact]"] == [0.5] * 3
    described = {m.name: m.description for m in (*METRICS, *AT_SIZES)}
    for name in ("diversity_score[exact]", "distinct_k[exact]", "majority_vote[exact]"):
        assert "compared after stripping" in described[name]
    assert "compared after stripping" in LEGEND


def test_one_member_has_no_divergence_and_a_reason(whole: RunFolder):
    found = measured(whole)["estimates"]["average_kl"]
    assert found["value"] is None
    assert "one member" in found["reason"]


def test_the_spec_holds_what_can_change_a_number_and_nothing_that_cannot(whole: RunFolder):
    spec = whole.spec
    assert (spec["n"], spec["seed"], spec["limit"], spec["sandbox"]) == (4, 0, None, "bwrap")
    assert spec["model"] == {"name": "mock", "hash": "mock"}
    assert spec["numerics"] == {"device": "cpu", "dtype": "float32"}
    assert spec["sampler"]["decoding"]["temperature"] == 0.8
    assert "lora" not in spec["sampler"]  # nothing is trained
    assert spec["data"] == {}
    assert {"python", "torch", "spa-bench"} <= spec["versions"].keys()
    assert "description" not in spec["sampler"]
    assert "three.jsonl" not in json.dumps(spec)  # where the problems lay does not matter


def test_times_are_outside_the_spec(whole: RunFolder):
    timings = whole.read_json("timings.json")
    assert timings["seconds"] >= 0
    assert {"generation", "grading", "metrics"} <= timings["stages"].keys()


def test_the_commit_of_a_model_of_the_hub_is_outside_the_spec(whole: RunFolder, three: Path, tmp_path: Path):
    class OfTheHub(MockModel):
        commit: str | None = "0a1b2c"

    folder = mock_run(tmp_path, three, OfTheHub(half_right), n=4)
    assert folder.timings()["model_commit"] == "0a1b2c"
    assert folder.hash == whole.hash
    assert "model_commit" not in whole.timings()


@pytest.mark.parametrize("stop_after", [0, 1, 5, 11])
def test_an_interrupted_run_goes_on_to_the_same_records_and_metrics(
    stop_after: int, whole: RunFolder, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.runs.log._BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        mock_run(tmp_path / "again", three, MockModel(half_right, stop_after=stop_after), n=4)
    rest = MockModel(half_right)
    again = mock_run(tmp_path / "again", three, rest, n=4)
    assert stop_after - 2 <= 12 - len(rest.asked) <= stop_after  # a batch of records may be lost, no more
    assert again.hash == whole.hash
    assert answers(again) == answers(whole)
    assert measured(again) == measured(whole)


def test_a_torn_record_is_drawn_again(whole: RunFolder, three: Path, tmp_path: Path):
    before = answers(whole)
    path = whole.path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    model = MockModel(half_right)
    again = mock_run(tmp_path / "whole", three, model, n=4)
    assert len(model.asked) == 1
    assert answers(again) == before


def test_a_finished_run_asks_neither_model_nor_sandbox_again(
    whole: RunFolder, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    sandbox.programs.clear()
    model = MockModel(half_right)
    again = mock_run(tmp_path / "whole", three, model, n=4)
    assert again.path == whole.path
    assert model.asked == []
    assert sandbox.programs == []


def test_grading_goes_on_where_it_stopped(whole: RunFolder, sandbox: InProcessJudge, three: Path):
    metrics = measured(whole)
    path = whole.path / "grades.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:6]))
    missing = {(r.problem, r.graded) for key, r in whole.records().items() if key not in whole.grades()}
    sandbox.programs.clear()
    task = load_task(load_task_card(str(three)))
    grade(open_run(whole.path), task, Lines(), sandbox=None, workers=1)
    assert len(sandbox.programs) == len(missing)
    assert measured(whole) == metrics


def test_the_sandboxes_that_graded_are_named(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path, three, half_right, graded=False)
    task = load_task(load_task_card(str(three)))
    grade(folder, task, Lines(), sandbox="none-i-trust-this-code", workers=1)
    assert [by["sandbox"] for by in folder.read_json("judged.json")["by"]] == ["none-i-trust-this-code"]
    assert folder.spec["sandbox"] == "bwrap"


def test_draws_do_not_depend_on_n_or_limit(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    few = mock_run(tmp_path, three, half_right, n=1).records()
    many = mock_run(tmp_path, three, half_right, n=3).records()
    assert few.items() <= many.items()


def test_the_limit_takes_the_first_problems(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    loaded = load_task_card(str(three))
    task = load_task(loaded)
    model = MockModel(half_right)
    folder = generate(
        Job(sampler=sampler_card(), task=loaded, n=2, seed=0, limit=2),
        task,
        model,
        out=tmp_path,
        cache=tmp_path / "cache",
        console=Lines(),
    )
    assert {key.problem for key in model.asked} == {"three/add", "three/double"}
    grade(folder, task, Lines(), sandbox=None, workers=1)
    assert measured(folder)["problems"] == ["three/add", "three/double"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused_before_anything_is_written(limit: int, three: Path, tmp_path: Path):
    loaded = load_task_card(str(three))
    job = Job(sampler=sampler_card(), task=loaded, n=2, seed=0, limit=limit)
    with pytest.raises(UsageError, match=rf"limit is {limit}; it must be at least 1"):
        generate(job, load_task(loaded), MockModel(half_right), out=tmp_path / "out", cache=tmp_path / "cache", console=Lines())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("n", "why"),
    [
        (0, "; it must be at least 1"),
        (-3, "; it must be at least 1"),
        (4, ", but trio has 3 members: n must be a multiple of 3"),
        (7, ", but trio has 3 members: n must be a multiple of 3"),
    ],
)
def test_n_must_be_a_positive_multiple_of_the_members(n: int, why: str):
    card = sampler_card("trio", members=3, adapters="seeds")
    with pytest.raises(UsageError, match=rf"n is {n}{why}$"):
        check_draws(card, n)
    check_draws(card, 6)


def test_an_empty_answer_is_refused_and_counts_as_wrong(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path, three, lambda r: "" if r.draw else RIGHT[r.problem_id])
    assert measured(folder)["verdicts"] == {"passed": 3, "refused": 3}
    assert measured(folder)["values"]["pass@1"] == [0.5] * 3


def test_measuring_an_unfinished_run_names_the_problem_and_the_remedy(
    sandbox: InProcessJudge, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.runs.log._BATCH", 1)
    with pytest.raises(KeyboardInterrupt):
        mock_run(tmp_path, three, MockModel(half_right, stop_after=3))
    [path] = [p.parent for p in tmp_path.glob("*/spec.json")]
    with pytest.raises(DataError, match=r"has 3 of 6 samples: it is not finished; the same `spa-bench run` again, "):
        grade(open_run(path), load_task(load_task_card(str(three))), Lines(), sandbox=None, workers=1)
    assert not (path / "metrics.json").exists()


# members -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(sandbox: InProcessJudge, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of two members whose training is left out: member 0 is right, member 1 is not."""
    for name in ("zero", "one"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(Stages, "adapters", lambda self: [tmp_path / "zero", tmp_path / "one"])
    card = {"members": 2, "adapters": "seeds", "lora": LoraCard(steps=1)}
    return mock_run(tmp_path / "pair", three, lambda r: WRONG if r.member else RIGHT[r.problem_id], n=4, **card)


def test_the_draws_are_shared_evenly_by_the_members(pair: RunFolder):
    assert sorted(k[1:] for k in pair.records() if k.problem == "three/add") == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_pass_at_k_is_estimated_by_members(pair: RunFolder):
    content = measured(pair)
    assert (content["members"], content["k"]) == (2, 2)
    assert content["values"]["pass@1"] == [0.5] * 3
    assert content["values"]["pass@K"] == [1.0] * 3  # any pair of members holds the right one; pooled draws would give 5/6


def test_divergence_is_the_kl_between_the_members_next_tokens(pair: RunFolder):
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    expected = float((p * np.log(p / q)).sum())
    stored = {d.problem: d for d in pair.divergence_log.rows()}
    assert len(stored) == 3
    assert stored["three/add"].tokens == 2
    assert stored["three/add"].matrices["kl"][0][1] == pytest.approx(expected, abs=1e-6)
    assert stored["three/add"].matrices["kl"][0][0] == 0
    assert measured(pair)["estimates"]["average_kl"]["value"] == pytest.approx(expected, abs=1e-6)


def test_the_data_of_a_sampler_that_trains_is_in_the_spec(pair: RunFolder):
    data = pair.spec["data"]
    assert data["examples"] == "mini"
    assert data["examples_n"] + data["skipped_too_long"] == 768
    assert pair.spec["sampler"]["lora"]["steps"] == 1
    assert math.isfinite(measured(pair)["estimates"]["average_kl"]["value"])


# the price -----------------------------------------------------------------------------------------------------------


def test_the_price_grows_with_the_seconds_and_is_outside_the_spec(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    loaded = load_task_card(str(three))
    task, job = load_task(loaded), Job(sampler=sampler_card(), task=loaded, n=2, seed=0)
    model = MockModel(lambda r: RIGHT[r.problem_id])
    folder = generate(job, task, model, out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines(), price=3.6e6)  # type: ignore[arg-type]
    first = folder.read_json("timings.json")
    assert first["price"] == pytest.approx(1000 * first["seconds"], rel=0.05, abs=2)
    assert first["price"] > 0
    assert first["priced_seconds"] == first["seconds"]
    grade(folder, task, Lines(), sandbox=None, workers=1, price=7.2e6)  # type: ignore[arg-type]
    second = folder.read_json("timings.json")
    later = second["seconds"] - first["seconds"]
    assert second["price"] - first["price"] == pytest.approx(2000 * later, rel=0.05, abs=4)
    assert "price" not in (folder.path / "spec.json").read_text()


def test_without_a_price_there_is_none_and_a_part_without_one_is_told_apart(
    sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder = mock_run(tmp_path / "runs", three, lambda r: "")
    plain = folder.read_json("timings.json")
    assert not {"price", "priced_seconds"} & plain.keys()
    task = load_task(load_task_card(str(three)))
    grade(folder, task, Lines(), sandbox=None, workers=1, price=0.0)  # type: ignore[arg-type]
    after = folder.read_json("timings.json")
    assert after["price"] == 0
    assert after["priced_seconds"] < after["seconds"]
